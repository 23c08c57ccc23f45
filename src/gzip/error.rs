//! What can go wrong while a gzip stream is taken apart or built again.

use std::io;

/// Why a gzip stream has no recipe, or a recipe no gzip stream.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gzip stream could not be read.
    #[error("cannot read the gzip stream")]
    ReadGzip(#[source] io::Error),
    /// The plain bytes could not be read.
    #[error("cannot read the plain bytes")]
    ReadPlain(#[source] io::Error),
    /// The recipe could not be read.
    #[error("cannot read the recipe")]
    ReadRecipe(#[source] io::Error),
    /// The plain bytes could not be written.
    #[error("cannot write the plain bytes")]
    WritePlain(#[source] io::Error),
    /// The recipe could not be written.
    #[error("cannot write the recipe")]
    WriteRecipe(#[source] io::Error),
    /// The gzip stream could not be written.
    #[error("cannot write the gzip stream")]
    WriteGzip(#[source] io::Error),
    /// The stream does not begin as RFC 1952 says.
    #[error("expected a gzip stream, found {found}")]
    NotGzip {
        /// What stood there instead.
        found: &'static str,
    },
    /// The gzip stream ends in the middle.
    #[error("expected more of the gzip stream after {plain_bytes} plain bytes, found its end")]
    Truncated {
        /// How many plain bytes came out of it so far.
        plain_bytes: u64,
    },
    /// The gzip stream breaks a rule of RFC 1951 or RFC 1952.
    #[error("expected a valid gzip stream, found {found} after {plain_bytes} plain bytes")]
    Corrupt {
        /// Which rule.
        found: &'static str,
        /// How many plain bytes came out of it so far.
        plain_bytes: u64,
    },
    /// The recipe would be too large to pay.
    #[error(
        "expected a recipe of a few bytes, found {recipe_bytes} bytes for {gzip_bytes} bytes of gzip"
    )]
    NotWorthIt {
        /// How large the recipe had become.
        recipe_bytes: u64,
        /// For how much of the gzip stream, in bytes.
        gzip_bytes: u64,
    },
    /// The recipe's first bytes say another format or a version this program does not know.
    #[error("expected a recipe of version {expected}, found {found}")]
    Version {
        /// The version that this program reads.
        expected: u8,
        /// What stood there.
        found: String,
    },
    /// The recipe says something that cannot be.
    #[error("expected a valid recipe, found {found}")]
    Recipe {
        /// What it says.
        found: &'static str,
    },
    /// The plain bytes are not those that the recipe was made for.
    #[error("expected more plain bytes after {plain_bytes}, found their end")]
    PlainTooShort {
        /// How many there were.
        plain_bytes: u64,
    },
    /// Plain bytes are left when the recipe is done.
    #[error("expected {plain_bytes} plain bytes, found more")]
    PlainTooLong {
        /// How many the recipe wants.
        plain_bytes: u64,
    },
    /// The recipe makes more than the caller allows.
    #[error("expected at most {limit_bytes} bytes of gzip from the recipe, found more")]
    TooLarge {
        /// What the caller allowed.
        limit_bytes: u64,
    },
    /// The part of the stream that is looked at to choose a model is used up. Never leaves this module.
    #[error("expected more of the sample, found its end")]
    SampleEnd,
}

impl Error {
    /// Advice for a person, where there is any.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotWorthIt { .. } | Self::NotGzip { .. } => {
                Some("carry the blob as it is".to_owned())
            }
            Self::Version { .. } => Some("use a newer kharon on this side".to_owned()),
            _ => None,
        }
    }
}
