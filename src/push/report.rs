//! How a push went.

use std::fmt;

use serde::Serialize;

use crate::digest::Digest;
use crate::failure::{BaselineMissing, ExitCode};
use crate::reference::{RepositoryName, Tag};

/// How a push went. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushReport {
    /// The images that are at the far side now, in the order of the payload, those included that were
    /// named as already transferred and are there.
    pub pushed: Vec<PushedImage>,
    /// Images that lack something at the far side and were left.
    pub incomplete: Vec<Incomplete>,
    /// Images that were named as already transferred and are not at the far side.
    pub skipped_and_missing: Vec<String>,
    /// Tags that the registry refused to set.
    pub refused_tags: Vec<RefusedTag>,
    /// Tags that were left alone because somebody else moved them.
    pub kept_tags: Vec<KeptTag>,
    /// What was sent.
    pub sent: Sent,
    /// The volumes that have to be pushed too before anything is published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_needed: Vec<u32>,
}

/// An image that is at the far side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PushedImage {
    /// The image's place in the payload.
    #[serde(skip)]
    pub(super) position: usize,
    /// The name as typed when the payload was made.
    pub name: String,
    /// The repository at the far side.
    pub repository: RepositoryName,
    /// Its tags there, and what they name.
    pub tags: Vec<(Tag, Digest)>,
    /// The digest of the image; absent where it was only looked for by its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// An image that lacks something at the far side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incomplete {
    /// The image's place in the payload.
    #[serde(skip)]
    pub(super) position: usize,
    /// The image's name as typed.
    pub name: String,
    /// The blobs that should be at the far side; empty for an image that was skipped when the
    /// payload was made and is not there itself.
    pub missing: Vec<MissingBlob>,
}

/// A blob that is not where the payload expects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingBlob {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it was looked for.
    pub repositories: Vec<RepositoryName>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.missing.is_empty() {
            return write!(
                f,
                "`{}` was skipped as already transferred, and is not there",
                self.name
            );
        }
        write!(f, "`{}` lacks", self.name)?;
        for (n, blob) in self.missing.iter().enumerate() {
            let repositories: Vec<_> =
                blob.repositories.iter().map(|repository| format!("`{repository}`")).collect();
            let separator = if n == 0 { "" } else { "," };
            write!(
                f,
                "{separator} blob `{}` expected in {}",
                blob.digest,
                repositories.join(" or ")
            )?;
        }
        Ok(())
    }
}

/// What `incomplete` images lack, as an error.
pub(super) fn baseline_missing(incomplete: &[Incomplete]) -> BaselineMissing {
    BaselineMissing {
        images: incomplete.iter().map(ToString::to_string).collect(),
        lacks_image: incomplete.iter().any(|image| image.missing.is_empty()),
    }
}

/// A tag that the registry refused to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedTag {
    /// The image's name as typed.
    pub name: String,
    /// The repository at the far side.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What the registry said.
    pub reason: String,
}

/// A tag that was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptTag {
    /// The image's name as typed.
    pub name: String,
    /// The repository at the far side.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub found: Digest,
    /// What it was to name.
    pub wanted: Digest,
}

/// Numbers of blobs by how they got to their repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Were there already.
    pub present_blobs: u64,
    /// Mounted from another repository.
    pub mounted_blobs: u64,
    /// Sent from the payload.
    pub uploaded_blobs: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Streamed from another repository of the far registry.
    pub copied_blobs: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Rebuilt from deltas, and sent.
    pub rebuilt_blobs: u64,
    /// Their bytes.
    pub rebuilt_bytes: u64,
}

impl PushReport {
    /// How the run ends: incomplete images weigh more than tags that could not be set. An image
    /// that was only skipped and is missing does not count.
    pub fn exit_code(&self) -> ExitCode {
        if !self.incomplete.is_empty() {
            ExitCode::BaselineMissing
        } else if !self.refused_tags.is_empty() || !self.kept_tags.is_empty() {
            ExitCode::Registry
        } else {
            ExitCode::Done
        }
    }

    /// Adds skipped images that are there, in the order of the payload.
    pub(super) fn add_present(&mut self, present: Vec<PushedImage>) {
        self.pushed.extend(present);
        self.pushed.sort_by_key(|image| image.position);
    }
}
