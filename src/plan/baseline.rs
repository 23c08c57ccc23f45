//! What the far side is known to hold.

use std::collections::{BTreeMap, HashMap};

use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::{Reference, RepositoryName, Tag};

/// The most repositories that are noted for one blob: push-payload asks one after the other, and that
/// of the image itself anyway.
const REPOSITORIES_MAX: usize = 16;

/// What the far side is known to hold.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// In the order in which they were named.
    blobs: Vec<HeldBlob>,
    blob_at: HashMap<Digest, usize>,
    pub(super) tags: BTreeMap<(RepositoryName, Tag), Vec<Digest>>,
}

/// A blob that the far side is known to hold.
#[derive(Clone, Debug)]
pub struct HeldBlob {
    /// What the first manifest that names it says.
    pub descriptor: Descriptor,
    /// Far repositories that hold it, up to sixteen.
    pub repositories: Vec<RepositoryName>,
    /// The images at the connected side that may still have it.
    pub sources: Vec<Reference>,
}

impl Baseline {
    /// Notes that `repository` holds a blob, which came from the image `source` if that is known.
    pub fn add_blob(
        &mut self,
        descriptor: &Descriptor,
        repository: RepositoryName,
        source: Option<&Reference>,
    ) {
        let at = *self.blob_at.entry(descriptor.digest.clone()).or_insert_with(|| {
            self.blobs.push(HeldBlob {
                descriptor: descriptor.clone(),
                repositories: Vec::new(),
                sources: Vec::new(),
            });
            self.blobs.len() - 1
        });
        let held = &mut self.blobs[at];
        let is_full = held.repositories.len() >= REPOSITORIES_MAX;
        if !is_full && !held.repositories.contains(&repository) {
            held.repositories.push(repository);
        }
        if let Some(source) = source.filter(|source| !held.sources.contains(source)) {
            held.sources.push(source.clone());
        }
    }

    /// The blobs that the far side holds, in the order in which they were named.
    pub fn blobs(&self) -> &[HeldBlob] {
        &self.blobs
    }

    pub(super) fn held(&self, digest: &Digest) -> Option<&HeldBlob> {
        self.blob_at.get(digest).map(|at| &self.blobs[*at])
    }

    /// Notes that `tag` may name `digest` in `repository`. Baselines come in any order, so that the
    /// latest word is not known: all of them count.
    pub fn add_tag(&mut self, repository: RepositoryName, tag: Tag, digest: Digest) {
        let digests = self.tags.entry((repository, tag)).or_default();
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.tags.is_empty()
    }
}
