//! Why a blob has no layer delta, or a layer delta gives no blob.

use std::io;

use crate::delta::DeltaError;
use crate::digest::Mismatch;
use crate::gzip;

/// A layer delta that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The entry does not begin as a layer delta does.
    #[error("expected {0} at the beginning of a layer delta")]
    Head(&'static str),
    /// A newer kharon wrote it.
    #[error("expected a layer delta of version 1, found version {found}")]
    Version {
        /// The version that it names.
        found: u8,
    },
    /// The entry cannot be read.
    #[error("cannot read the layer delta")]
    Entry(#[source] io::Error),
    /// It promises more plain bytes than the blob can hold.
    #[error("expected at most {limit} plain bytes for a blob of this size, found {found}")]
    TooLarge {
        /// The most that a blob of this size can hold.
        limit: u64,
        /// How many the delta gives.
        found: u64,
    },
    /// The payload's index says other baselines than the delta itself.
    #[error("expected the delta to need the baselines that the payload lists, found others")]
    OtherBaselines,
    /// The blob is packed by something that cannot be reproduced.
    #[error("expected gzip or plain bytes, found zstd, which cannot be rebuilt exactly")]
    Zstd,
    /// The delta's part of it.
    #[error("cannot use the delta of the plain bytes")]
    Delta(#[from] DeltaError),
    /// The recipe's part of it.
    #[error("cannot use the recipe of the gzip stream")]
    Gzip(#[from] gzip::Error),
    /// What came out is another blob.
    #[error("the rebuilt blob is not the one that was promised")]
    Rebuilt(#[source] Mismatch),
    /// The rebuilt blob or a temporary file cannot be written.
    #[error("cannot write a temporary file")]
    Write(#[source] io::Error),
}

impl LayerError {
    /// Whether the entry or what it was applied to is at fault, rather than a disk.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Head(_)
            | Self::Version { .. }
            | Self::TooLarge { .. }
            | Self::OtherBaselines
            | Self::Rebuilt(_) => true,
            Self::Delta(error) => error.is_damage(),
            Self::Gzip(error) => matches!(
                error,
                gzip::Error::Version { .. }
                    | gzip::Error::Recipe { .. }
                    | gzip::Error::PlainTooShort { .. }
                    | gzip::Error::PlainTooLong { .. }
                    | gzip::Error::TooLarge { .. }
            ),
            Self::Entry(_) | Self::Zstd | Self::Write(_) => false,
        }
    }

    /// Whether a temporary file failed, so that no other blob would fare better.
    pub fn is_disk(&self) -> bool {
        match self {
            Self::Write(_) => true,
            Self::Delta(error) => matches!(error, DeltaError::Workdir(_) | DeltaError::Write(_)),
            Self::Gzip(error) => {
                matches!(error, gzip::Error::WritePlain(_) | gzip::Error::WriteRecipe(_))
            }
            _ => false,
        }
    }
}
