//! Detached signatures: the four lines of a `.minisig`.

use super::KeyId;
use super::crypto::SIGNATURE_BYTES;
use super::error::InvalidText;
use super::text::{TRUSTED, UNTRUSTED, decode, encode, take};

/// The largest signature that is read, in bytes: minisign allows comments of 1 KiB and 8 KiB.
pub const SIGNATURE_MAX_BYTES: u64 = 16 * 1024;

pub(super) const PREHASHED: [u8; 2] = *b"ED";
const FORMER: [u8; 2] = *b"Ed";

/// A signature, which proves nothing before [`PublicKey::check`](super::PublicKey::check) has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub(super) untrusted_comment: String,
    pub(super) key_id: KeyId,
    pub(super) of_content: [u8; SIGNATURE_BYTES],
    pub(super) trusted_comment: String,
    pub(super) of_comment: [u8; SIGNATURE_BYTES],
}

impl Signature {
    /// The key that it says has made it.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The comment that is signed.
    pub fn trusted_comment(&self) -> &str {
        &self.trusted_comment
    }

    /// Reads the four lines.
    ///
    /// # Errors
    /// [`InvalidText`] if they are something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidText> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidText::Signature)?;
        let mut lines = text.lines();
        let mut algorithm = [0; 2];
        let mut read = || {
            let untrusted_comment = lines.next()?.strip_prefix(UNTRUSTED)?.to_owned();
            let bytes: [u8; 74] = decode(lines.next()?)?;
            let rest = &mut &bytes[..];
            algorithm = take(rest)?;
            Some(Self {
                untrusted_comment,
                key_id: KeyId(take(rest)?),
                of_content: take(rest)?,
                trusted_comment: lines.next()?.strip_prefix(TRUSTED)?.to_owned(),
                of_comment: decode(lines.next()?)?,
            })
        };
        match (read(), algorithm) {
            (Some(signature), PREHASHED) => Ok(signature),
            (_, FORMER) => Err(InvalidText::Former),
            _ => Err(InvalidText::Signature),
        }
    }

    /// The four lines.
    pub fn to_text(&self) -> String {
        let signature = encode(&[&PREHASHED, &self.key_id.0, &self.of_content]);
        let of_comment = encode(&[&self.of_comment]);
        format!(
            "{UNTRUSTED}{}\n{signature}\n{TRUSTED}{}\n{of_comment}\n",
            self.untrusted_comment, self.trusted_comment
        )
    }

    /// What the second signature is over.
    pub(super) fn signed_comment(&self) -> Vec<u8> {
        [&self.of_content[..], self.trusted_comment.as_bytes()].concat()
    }
}
