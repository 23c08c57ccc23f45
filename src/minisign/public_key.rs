//! Public keys: `NAME.pub`, or its second line alone.

use std::str::FromStr;

use super::KeyId;
use super::crypto::{KEY_BYTES, Prehash, is_signed};
use super::error::{Forged, InvalidText};
use super::signature::Signature;
use super::text::{UNTRUSTED, decode, encode, take};

const ALGORITHM: [u8; 2] = *b"Ed";

/// What signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub(super) id: KeyId,
    pub(super) point: [u8; KEY_BYTES],
}

impl PublicKey {
    /// The number that it shares with its signatures.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key in one line, as minisign's `-P` takes it.
    pub fn to_line(&self) -> String {
        encode(&[&ALGORITHM, &self.id.0, &self.point])
    }

    /// The file.
    pub fn to_text(&self) -> String {
        format!("{UNTRUSTED}minisign public key {}\n{}\n", self.id, self.to_line())
    }

    /// Whether `signature` is this key's, of what has the hash `prehash`.
    ///
    /// # Errors
    /// [`Forged`] says what it is instead.
    pub fn check(&self, prehash: &Prehash, signature: &Signature) -> Result<(), Forged> {
        let (expected, found) = (self.id, signature.key_id());
        if expected != found {
            return Err(Forged::OtherKey { expected, found });
        }
        if !is_signed(&self.point, &prehash.0, &signature.of_content) {
            return Err(Forged::Content(self.id));
        }
        if !is_signed(&self.point, &signature.signed_comment(), &signature.of_comment) {
            return Err(Forged::Comment(self.id));
        }
        Ok(())
    }
}

/// Reads the file, or the line alone.
impl FromStr for PublicKey {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let mut lines = text.lines();
        let line = match lines.next() {
            Some(first) if first.starts_with(UNTRUSTED) => lines.next(),
            first => first,
        };
        let read = || {
            let bytes: [u8; 42] = decode(line?)?;
            let rest = &mut &bytes[..];
            (take(rest)? == ALGORITHM).then_some(())?;
            Some(Self { id: KeyId(take(rest)?), point: take(rest)? })
        };
        read().ok_or(InvalidText::PublicKey)
    }
}
