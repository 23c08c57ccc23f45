//! Digests, and the one place where bytes are hashed.
//!
//! A [`Digest`] exists only if its text is valid by the OCI image-spec (section "Digests"), and bytes
//! count as a blob only after a [`Verifier`] has seen all of them.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// The registered digest algorithms of the OCI image-spec that registries use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`, 64 hexadecimal digits.
    Sha256,
    /// `sha512`, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon of a digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A content digest such as `sha256:…`, always valid and in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// A text that is not a digest kharon can check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// The algorithm is none of those that kharon knows.
    #[error("expected a sha256 or sha512 digest, found `{0}`")]
    Algorithm(String),
    /// The part behind the colon is not lower-case hexadecimal of the right length.
    #[error(
        "expected {expected} lower-case hexadecimal digits after `{algorithm}:`, found `{found}`"
    )]
    Hex {
        /// The algorithm's name.
        algorithm: &'static str,
        /// How many digits it has.
        expected: usize,
        /// What stood there.
        found: String,
    },
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest of `bytes` under the same algorithm as this one.
    #[must_use]
    pub fn same_algorithm_of(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits after the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Where the OCI image-layout keeps this content: `blobs/<algorithm>/<hex>`.
    pub fn blob_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm.name(), self.hex)
    }

    /// The digest as a tag (`sha256-<hex>`), as the referrers fallback and cosign write it.
    /// The distribution-spec cuts the hexadecimal part at 64 characters so that it stays a tag.
    pub fn tag_form(&self) -> String {
        format!("{}-{}", self.algorithm.name(), &self.hex[..64])
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (name, hex) =
            text.split_once(':').ok_or_else(|| InvalidDigest::Algorithm(text.to_owned()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(InvalidDigest::Algorithm(text.to_owned())),
        };
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(is_hex) {
            return Err(InvalidDigest::Hex {
                algorithm: algorithm.name(),
                expected: algorithm.hex_len(),
                found: hex.to_owned(),
            });
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes a stream of bytes under one algorithm.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// An empty hash under `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything taken.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, to_hex(&state.finalize())),
            State::Sha512(state) => (Algorithm::Sha512, to_hex(&state.finalize())),
        };
        Digest { algorithm, hex }
    }
}

/// Takes what is written, and never fails.
impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In hexadecimal digits, two for each byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// Checks a stream of bytes against the digest and size that were promised for it.
#[derive(Debug)]
pub struct Verifier {
    digest: Digest,
    size_bytes: u64,
    seen_bytes: u64,
    hasher: Hasher,
}

/// Content that is not what its descriptor promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// All bytes came, but they are others.
    #[error("expected content with digest `{expected}`, found `{found}`")]
    Digest {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The content ended early.
    #[error("expected {expected} bytes for `{digest}`, found only {found}")]
    TooShort {
        /// The digest that was promised.
        digest: Digest,
        /// The size that was promised, in bytes.
        expected: u64,
        /// How many bytes came.
        found: u64,
    },
    /// More content came than was promised.
    #[error("expected {expected} bytes for `{digest}`, found more")]
    TooLong {
        /// The digest that was promised.
        digest: Digest,
        /// The size that was promised, in bytes.
        expected: u64,
    },
}

impl Verifier {
    /// Expects `size_bytes` bytes with `digest`.
    pub fn new(digest: Digest, size_bytes: u64) -> Self {
        let hasher = Hasher::new(digest.algorithm());
        Self { digest, size_bytes, seen_bytes: 0, hasher }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Mismatch::TooLong`] as soon as more came than was promised.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        self.seen_bytes += bytes.len() as u64;
        if self.seen_bytes > self.size_bytes {
            return Err(Mismatch::TooLong {
                digest: self.digest.clone(),
                expected: self.size_bytes,
            });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// How many bytes are still to come.
    pub fn remaining_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.seen_bytes)
    }

    /// Ends the check.
    ///
    /// # Errors
    /// [`Mismatch`] if bytes are missing or the digest is another.
    pub fn finish(self) -> Result<(), Mismatch> {
        if self.seen_bytes < self.size_bytes {
            return Err(Mismatch::TooShort {
                digest: self.digest,
                expected: self.size_bytes,
                found: self.seen_bytes,
            });
        }
        let found = self.hasher.finish();
        if found != self.digest {
            return Err(Mismatch::Digest { expected: self.digest, found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_valid_digests_exist() {
        assert_eq!(EMPTY.parse::<Digest>().expect("valid").to_string(), EMPTY);
        for text in [
            "",
            "sha256",
            "sha256:",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "sha256:../../etc/passwd",
            &EMPTY[..70],
            &EMPTY.to_uppercase(),
            &EMPTY.replace('e', "E"),
            &format!("{EMPTY}0"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn both_algorithms_hash_as_their_standards_say() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        let sha512 = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().expect("valid");
        let abc = sha512.same_algorithm_of(b"abc");
        assert!(abc.hex().starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(abc.tag_form().len(), "sha512-".len() + 64);
    }

    #[test]
    fn a_verifier_refuses_short_long_and_other_bytes() {
        let digest = Digest::of(b"abc");
        let check = |parts: &[&[u8]]| {
            let mut verifier = Verifier::new(digest.clone(), 3);
            for part in parts {
                verifier.update(part)?;
            }
            verifier.finish()
        };
        assert_eq!(check(&[b"a", b"", b"bc"]), Ok(()));
        assert!(matches!(check(&[b"ab"]), Err(Mismatch::TooShort { found: 2, .. })));
        assert!(matches!(check(&[b"abc", b"d"]), Err(Mismatch::TooLong { .. })));
        assert!(matches!(check(&[b"abd"]), Err(Mismatch::Digest { .. })));
    }
}
