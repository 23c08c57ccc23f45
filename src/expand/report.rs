//! What came of expanding.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::digest::Digest;
use crate::failure::ExitCode;
use crate::units::{count, format_bytes};

/// What was expanded, and what was not. Its JSON has these fields in camel case; keys may be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpandReport {
    /// The folder.
    pub folder: PathBuf,
    /// How many manifests and indexes are there.
    pub manifests: u64,
    /// How many blobs are files.
    pub files: u64,
    /// How many layers are trees.
    pub trees: u64,
    /// How many paths the layers have.
    pub paths: u64,
    /// How many of them were written down and not created.
    pub not_created: u64,
    /// How much was written, in bytes.
    pub bytes: u64,
    /// How many blobs the images have that no payload brings.
    pub absent: u64,
    /// Layers that could not be made trees, so that a scanner sees them packed at best.
    pub packed: Vec<Incomplete>,
    /// Blobs of which a baseline was not to be had.
    pub not_rebuilt: Vec<Incomplete>,
    /// Blobs that are not what their digests say. They were not left in the folder.
    pub damaged: Vec<Incomplete>,
}

/// A blob that was not expanded, or not completely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Incomplete {
    /// The blob.
    pub digest: Digest,
    /// The images that use it.
    pub images: Vec<String>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}: {}", self.digest, self.images.join(", "), self.reason)
    }
}

impl ExpandReport {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..Self::default() }
    }

    /// How a run that came to this ends.
    pub fn exit_code(&self) -> ExitCode {
        match (self.damaged.is_empty(), self.not_rebuilt.is_empty()) {
            (false, _) => ExitCode::PayloadDamaged,
            (true, false) => ExitCode::BaselineMissing,
            (true, true) => ExitCode::Done,
        }
    }
}

/// One line, for people.
impl fmt::Display for ExpandReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expanded into {}: {} with {}, {}, {} ({}); {} not created, {} not in the payload",
            self.folder.display(),
            count(self.trees, "layer"),
            count(self.paths, "path"),
            count(self.files, "other blob"),
            count(self.manifests, "manifest"),
            format_bytes(self.bytes),
            count(self.not_created, "path"),
            count(self.absent, "blob"),
        )
    }
}
