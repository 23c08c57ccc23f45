//! Why a delta cannot be read or applied.

use std::io;

use crate::digest::Digest;

/// A delta that cannot be used, or the world around it that failed meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The first bytes are not those of a delta.
    #[error("expected a delta, found other bytes")]
    Magic,
    /// The delta has a version that this kharon does not know.
    #[error("expected delta version `{expected}`, found `{found}`")]
    Version {
        /// The one version that is known.
        expected: u8,
        /// The version that the delta names.
        found: u8,
    },
    /// The delta ends in the middle.
    #[error("expected more bytes in the delta's `{part}`, found its end")]
    Truncated {
        /// Which part was being read.
        part: &'static str,
    },
    /// Bytes follow the delta's last frame.
    #[error("expected the end of the delta, found more bytes")]
    Trailing,
    /// A number is beyond the format's limit for it.
    #[error("expected at most {limit} for the delta's `{what}`, found {found}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The most that the format allows.
        limit: u64,
        /// What the delta asks for.
        found: u64,
    },
    /// A part of the delta contradicts the format or another part.
    #[error("expected {expected} in the delta's `{part}`")]
    Invalid {
        /// Which part is wrong.
        part: &'static str,
        /// What the format wants there.
        expected: &'static str,
    },
    /// The spool was made for the needs of another delta.
    #[error("expected a spool with this delta's needs, found one with others")]
    OtherNeeds,
    /// The delta does not need this blob.
    #[error("expected a blob that the delta needs, found `{digest}`")]
    NotNeeded {
        /// The blob that was offered.
        digest: Digest,
    },
    /// A baseline blob ended before the last byte that is needed.
    #[error("expected {expected} plain bytes in baseline `{digest}`, found only {found}")]
    BaselineShort {
        /// The baseline blob.
        digest: Digest,
        /// Where its last needed range ends.
        expected: u64,
        /// How many plain bytes it has.
        found: u64,
    },
    /// A baseline blob was never spooled.
    #[error("expected the bytes of baseline `{digest}`, found none")]
    BaselineMissing {
        /// The baseline blob.
        digest: Digest,
    },
    /// All was applied, but the result is not what the delta was made from.
    #[error("expected plain bytes with SHA-256 `{expected}`, found `{found}`")]
    Output {
        /// The digest that the delta promises.
        expected: Digest,
        /// The digest of what came out.
        found: Digest,
    },
    /// The delta, or a baseline, could not be read.
    #[error("cannot read")]
    Read(#[source] io::Error),
    /// The result could not be written.
    #[error("cannot write the rebuilt bytes")]
    Write(#[source] io::Error),
    /// A temporary file failed.
    #[error("cannot use a temporary file in the work directory")]
    Workdir(#[source] io::Error),
}

impl DeltaError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("use a newer kharon at this side".to_owned()),
            Self::BaselineShort { digest, .. } | Self::BaselineMissing { digest } => {
                Some(format!("check that the far registry holds `{digest}` unharmed"))
            }
            Self::Workdir(_) => Some("free space there, or name another `--workdir`".to_owned()),
            Self::Read(_) | Self::Write(_) | Self::NotNeeded { .. } | Self::OtherNeeds => None,
            _ => Some("the payload is damaged, carry it again".to_owned()),
        }
    }

    /// Whether the delta, or what it was applied to, is at fault rather than a disk or the caller.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            Self::Read(_)
                | Self::Write(_)
                | Self::Workdir(_)
                | Self::NotNeeded { .. }
                | Self::OtherNeeds
                | Self::BaselineMissing { .. }
        )
    }
}

/// Refuses `found` where it is more than `limit`.
pub(super) fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), DeltaError> {
    if found > limit { Err(DeltaError::Limit { what, limit, found }) } else { Ok(()) }
}
