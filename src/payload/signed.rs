//! The signature over a payload's index, which lists every other entry with its hash.
//!
//! Read with the payload, so that what is checked later is the very index that was read.

use std::io;

use super::directory::Directory;
use super::fault::Fault;
use super::reader::Format;
use crate::digest::Digest;
use crate::minisign::{Forged, Prehash, PublicKey, SIGNATURE_MAX_BYTES, SecretKey, Signature};
use crate::printable::escaped;

/// The entry that holds the signature, by the name that minisign gives it.
pub const SIGNATURE_NAME: &str = "kharon.json.minisig";

/// Fixed, so that the same payload and key give the same bytes: there is no clock in a payload.
const UNTRUSTED_COMMENT: &str = "verify with: minisign -Vm kharon.json -p KEY.pub";
const TRUSTED_COMMENT: &str = "index of a kharon payload";

/// The signature's entry for an index: its name and its bytes, of which there are always as many.
///
/// # Errors
/// None that a key can cause.
pub(crate) fn sign_index(key: &SecretKey, json: &[u8]) -> io::Result<(String, Vec<u8>)> {
    let signature = key.sign(&Prehash::of(json), UNTRUSTED_COMMENT, TRUSTED_COMMENT)?;
    Ok((SIGNATURE_NAME.to_owned(), signature.to_text().into_bytes()))
}

/// What the bytes of an index are known by.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) digest: Digest,
    pub(super) signature: Option<(Signature, Prehash)>,
}

impl Seal {
    /// Of an index that nobody can have signed.
    pub(super) fn unsigned(json: &[u8]) -> Self {
        Self { digest: Digest::of(json), signature: None }
    }

    /// Of the index `json`, with the signature that stands beside it.
    pub(super) fn read(directory: &Directory, json: &[u8]) -> Result<Self, Fault> {
        let mut seal = Self::unsigned(json);
        if let Some((_, entry)) = directory.get(SIGNATURE_NAME) {
            let (limit, found) = (SIGNATURE_MAX_BYTES, entry.extent.size_bytes);
            if found > limit {
                return Err(Fault::SignatureTooLarge { limit, found });
            }
            let signature = Signature::parse(&directory.read_checked(entry)?);
            seal.signature = Some((signature.map_err(Fault::Signature)?, Prehash::of(json)));
        }
        Ok(seal)
    }

    /// Whether `key` signed the index.
    pub(super) fn check(
        &self,
        payload: &str,
        format: Format,
        key: &PublicKey,
    ) -> Result<(), NotSigned> {
        let payload = || escaped(payload);
        match &self.signature {
            None => Err(NotSigned::Unsigned { payload: payload(), format, key: key.id() }),
            Some((signature, prehash)) => key
                .check(prehash, signature)
                .map_err(|forged| NotSigned::Forged { payload: payload(), forged }),
        }
    }
}

/// A payload that was not signed by the key that was named.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    /// There is no signature.
    #[error("payload `{payload}`: expected a signature by the key `{key}`, found none")]
    Unsigned {
        /// The payload.
        payload: String,
        /// Its format, of which docker-charon's has no signatures.
        format: Format,
        /// The key that was named.
        key: crate::minisign::KeyId,
    },
    /// There is another one.
    #[error("payload `{payload}`: in the index: {forged}")]
    Forged {
        /// The payload.
        payload: String,
        /// What it is instead.
        forged: Forged,
    },
}

impl NotSigned {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Unsigned { format: Format::Charon, .. } => {
                "docker-charon's format has no signatures: make the payload with kharon's own format and `--sign`"
            }
            Self::Unsigned { .. } => "make the payload with `--sign`",
            Self::Forged { forged: Forged::OtherKey { .. }, .. } => {
                "name the public key that belongs to this signature, if you trust it"
            }
            Self::Forged { .. } => {
                "the payload was changed after it was signed, or damaged on its way: do not use it; copy it again, or have it made anew"
            }
        };
        hint.to_owned()
    }
}
