//! What travels and what is expected: wanted images minus the baseline.
//!
//! Pure: everything that a registry had to say stands in the arguments. The plan is the same for the
//! same arguments, and everything that is written later follows its order.

mod baseline;
mod contradiction;
mod planner;
mod wanted;
mod written;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::digest::Digest;
use crate::manifest::{Content, Descriptor, Manifest};
use crate::payload::index::{BaselineBlob, Image, Travels};
use crate::reference::Reference;

pub use baseline::{Baseline, HeldBlob};
pub use contradiction::Contradiction;
pub use planner::ForeignLayers;
pub use wanted::{Choice, Resolved, Wanted};
pub use written::InvalidPlan;

/// The plan of one payload.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The images as the payload's index lists them.
    pub images: Vec<Image>,
    /// Every manifest that travels, once.
    pub manifests: Vec<Manifest>,
    /// Every blob that these manifests name, once.
    pub blobs: Vec<PlannedBlob>,
    /// Blobs at the far side that only deltas need.
    pub baselines: Vec<BaselineBlob>,
    /// The configs of converted images, which no registry has.
    pub made: BTreeMap<Digest, Bytes>,
}

/// A blob, how it travels, and where it is read.
#[derive(Clone, Debug)]
pub struct PlannedBlob {
    /// What the first manifest that names it says.
    pub descriptor: Descriptor,
    /// How it gets to the far side.
    pub travels: Travels,
    /// The reference of the image that names it first.
    pub source: Reference,
    /// The delta that it travels as.
    pub delta: Option<DeltaEntry>,
}

impl PlannedBlob {
    /// What the entry that brings it takes in the payload, in bytes.
    pub fn packed_bytes(&self) -> u64 {
        self.delta.as_ref().map_or(self.descriptor.size, |delta| delta.size_bytes)
    }
}

/// The entry of a delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaEntry {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Plan {
    /// The configs of converted images, whether their bytes are known or not.
    pub fn made_configs(&self) -> BTreeSet<&Digest> {
        let converted = self.images.iter().filter(|image| image.converted_from.is_some());
        converted.filter_map(|image| self.config_of(image)).collect()
    }

    /// The config of an image, if it is a single one.
    pub fn config_of(&self, image: &Image) -> Option<&Digest> {
        let root = &image.resolved.as_ref()?.digest;
        let manifest = self.manifests.iter().find(|manifest| manifest.digest() == root)?;
        match &manifest.content {
            Content::Image { config, .. } => config.as_ref().map(|config| &config.digest),
            Content::Index { .. } => None,
        }
    }

    /// The blobs that travel raw or as deltas, in the order in which the payload holds them. A blob
    /// whose bytes are those of a manifest is in the payload already.
    pub fn packed(&self) -> impl Iterator<Item = &PlannedBlob> {
        let manifests: BTreeSet<&Digest> = self.manifests.iter().map(Manifest::digest).collect();
        self.blobs.iter().filter(move |blob| {
            matches!(blob.travels, Travels::Carried | Travels::Delta { .. })
                && !manifests.contains(&blob.descriptor.digest)
        })
    }

    /// Has carried blobs travel as deltas: `delta_of` says for each the delta's entry and what it is
    /// made against, which is one of `old` or carried raw.
    pub fn carry_as_deltas(
        &mut self,
        old: &[HeldBlob],
        delta_of: impl Fn(&Digest) -> Option<(DeltaEntry, Vec<Digest>)>,
    ) {
        let old: HashMap<&Digest, &HeldBlob> =
            old.iter().map(|held| (&held.descriptor.digest, held)).collect();
        let named = self.blobs.iter().map(|blob| &blob.descriptor.digest);
        let only = self.baselines.iter().map(|blob| &blob.digest);
        let mut listed: HashSet<Digest> = named.chain(only).cloned().collect();
        for blob in &mut self.blobs {
            let Some((delta, baselines)) = delta_of(&blob.descriptor.digest) else {
                continue;
            };
            for digest in &baselines {
                if let Some(held) = old.get(digest)
                    && listed.insert(digest.clone())
                {
                    self.baselines.push(BaselineBlob {
                        media_type: held.descriptor.media_type.clone(),
                        digest: digest.clone(),
                        size: held.descriptor.size,
                        repositories: held.repositories.clone(),
                    });
                }
            }
            blob.travels = Travels::Delta { baselines };
            blob.delta = Some(delta);
        }
    }
}
