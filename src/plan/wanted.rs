//! Images that were asked for, and what registries said about them.

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::index::Referrer;
use crate::platform::Platform;
use crate::reference::{Reference, RepositoryName, Tag};
use crate::schema1::Converted;

/// An image that was asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name as typed.
    pub name: String,
    /// What the name means.
    pub reference: Reference,
    /// The repository at the far side.
    pub repository: RepositoryName,
    /// What is to become of it.
    pub choice: Choice,
}

/// Whether a wanted image travels.
#[derive(Clone, Debug)]
pub enum Choice {
    /// It travels as resolved.
    Carry(Box<Resolved>),
    /// It was also named as already transferred.
    Skip,
}

/// What a registry said about a wanted image.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the reference named; where one platform was chosen of an index, that manifest.
    pub root: Descriptor,
    /// The platforms that were chosen; empty for all.
    pub platforms: Vec<Platform>,
    /// The tags to set at the far side, and what they are to name.
    pub tags: Vec<(Tag, Digest)>,
    /// The image's manifests that travel, children before parents.
    pub manifests: Vec<Manifest>,
    /// What refers to them, in an order in which each may be pushed.
    pub referrers: Vec<(Referrer, Manifest)>,
    /// What it was made from and with, where its registry has it as Docker's schema 1 only.
    pub converted: Option<Converted>,
}
