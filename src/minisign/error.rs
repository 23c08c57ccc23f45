//! Why a key or a signature is of no use.

use super::KeyId;

/// Text that is no key or signature of minisign's formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// No public key.
    #[error("expected a public key of minisign, found something else")]
    PublicKey,
    /// No secret key.
    #[error("expected a secret key of minisign, found something else")]
    SecretKey,
    /// A secret key that is cut or changed.
    #[error("expected an intact secret key, found a damaged one")]
    Checksum,
    /// No signature.
    #[error("expected a signature of minisign in four lines, found something else")]
    Signature,
    /// A signature of minisign's former kind.
    #[error("expected a signature over a hash (`ED`), found one of minisign's former kind (`Ed`)")]
    Former,
}

impl InvalidText {
    /// What a person can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::PublicKey => "name the `.pub` file that `kharon keygen` or `minisign -G` wrote",
            Self::SecretKey | Self::Checksum => {
                "name the `.key` file that `kharon keygen` or `minisign -G` wrote"
            }
            Self::Signature => "make the payload anew, or sign its `kharon.json` again",
            Self::Former => "sign again without minisign's `-l`",
        }
    }
}

/// A secret key that its password does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// The password is another one, or the file is damaged.
    #[error("expected the password of the key, found another")]
    Password,
    /// It asks for more memory or time than any key of minisign's.
    #[error("expected a key that asks for at most 1 GiB of memory, found one that asks for more")]
    Cost,
}

/// A signature that does not prove what it is asked to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// Another key made it.
    #[error("expected a signature by the key `{expected}`, found one by the key `{found}`")]
    OtherKey {
        /// The key that was named.
        expected: KeyId,
        /// The key that the signature names.
        found: KeyId,
    },
    /// What was signed is something else, or the signature was changed.
    #[error("expected what the key `{0}` signed, found something else")]
    Content(KeyId),
    /// The signature is right, its comment is not the one that was signed.
    #[error("expected the comment that the key `{0}` signed, found another")]
    Comment(KeyId),
}
