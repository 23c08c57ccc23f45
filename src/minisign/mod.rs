//! Keys and detached signatures in minisign's own formats, so that minisign can use them and kharon can
//! use minisign's.
//!
//! Pure but for random numbers: text in, text out. A signature is Ed25519 over the BLAKE2b-512 of what is
//! signed (minisign's `ED`), and over its trusted comment. Promises that the same key and the same bytes
//! give the same signature, and that no secret shows in any `Debug` or message. Refuses minisign's former
//! signatures (`Ed`), which are not over a hash.

mod crypto;
mod error;
mod public_key;
mod secret_key;
mod signature;
mod text;

use std::fmt;

pub use crypto::Prehash;
pub use error::{Forged, InvalidText, Locked};
pub use public_key::PublicKey;
pub use secret_key::{Password, SecretKey, StoredKey};
pub use signature::{SIGNATURE_MAX_BYTES, Signature};

/// The largest key file that is read, in bytes: two lines, of which minisign allows the first 1 KiB.
pub const KEY_MAX_BYTES: u64 = 4 * 1024;

/// The number that a key and its signatures share. It names a key and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

/// As minisign writes it.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
