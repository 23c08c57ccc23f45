//! What the manifests of one repository name, each once. Pure.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};

/// In the order in which manifests name it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) manifests: Vec<Descriptor>,
    pub(super) blobs: Vec<Descriptor>,
    /// The digests of both.
    listed: BTreeSet<Digest>,
    /// Children that were not asked for yet.
    children: Vec<Digest>,
}

impl Found {
    /// Adds what is new in a manifest, and says how much it names.
    pub(super) fn add(&mut self, manifest: &Manifest) -> usize {
        if !self.listed.insert(manifest.digest().clone()) {
            return 0;
        }
        self.manifests.push(plain(&manifest.descriptor));
        let before = self.blobs.len();
        for blob in manifest.blobs() {
            if self.listed.insert(blob.digest.clone()) {
                self.blobs.push(Descriptor { urls: blob.urls.clone(), ..plain(blob) });
            }
        }
        let children = manifest.children();
        self.children.extend(children.iter().map(|child| child.digest.clone()));
        1 + self.blobs.len() - before + children.len()
    }

    /// Adds those blobs that are new, and says how many these are.
    pub(super) fn add_blobs(&mut self, blobs: &[Descriptor]) -> usize {
        let before = self.blobs.len();
        for blob in blobs {
            if self.listed.insert(blob.digest.clone()) {
                self.blobs.push(plain(blob));
            }
        }
        self.blobs.len() - before
    }

    /// The children that are not listed yet, each once.
    pub(super) fn take_children(&mut self) -> Vec<Digest> {
        let mut seen = BTreeSet::new();
        let mut children = std::mem::take(&mut self.children);
        children.retain(|child| !self.listed.contains(child) && seen.insert(child.clone()));
        children
    }
}

/// The three properties that every descriptor has.
pub(super) fn plain(descriptor: &Descriptor) -> Descriptor {
    let Descriptor { media_type, digest, size, .. } = descriptor;
    Descriptor::new(media_type.clone(), digest.clone(), *size)
}
