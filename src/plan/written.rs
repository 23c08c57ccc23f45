//! A plan that was written down: as the index of a payload and its manifests.

use std::collections::{BTreeMap, HashMap};

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::index::{Index, OldBlob, Travels};
use crate::reference::{Reference, RegistryHost};

use super::{DeltaEntry, HeldBlob, Plan, PlannedBlob};

/// A written plan that cannot be taken up again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// An image is called something that is no reference.
    #[error("expected a full reference, found `{0}`")]
    Reference(String),
    /// No image names a blob.
    #[error("expected an image that names blob `{0}`, found none")]
    Nameless(Digest),
}

impl Plan {
    /// The plan that `index` and its `manifests` were made by; `delta_of` knows the entries of deltas. The configs of
    /// converted images are not in it.
    ///
    /// # Errors
    /// [`InvalidPlan`] where the two do not belong together.
    pub fn of_index(
        index: &Index,
        manifests: Vec<Manifest>,
        delta_of: impl Fn(&Digest) -> Option<DeltaEntry>,
    ) -> Result<Self, InvalidPlan> {
        let named = named_blobs(index, &manifests)?;
        let blobs = index.blobs.iter().map(|blob| {
            let (descriptor, source) = named
                .get(&blob.digest)
                .ok_or_else(|| InvalidPlan::Nameless(blob.digest.clone()))?;
            let delta = match blob.travels {
                Travels::Delta { .. } => delta_of(&blob.digest),
                _ => None,
            };
            Ok(PlannedBlob {
                descriptor: (*descriptor).clone(),
                travels: blob.travels.clone(),
                source: source.clone(),
                delta,
            })
        });
        let blobs = blobs.collect::<Result<_, InvalidPlan>>()?;
        let (images, baselines) = (index.images.clone(), index.baselines.clone());
        Ok(Self { images, manifests, blobs, baselines, made: BTreeMap::new() })
    }
}

/// Each blob as the first image names it that has it, or where one leaves it out that carries it.
fn named_blobs<'a>(
    index: &Index,
    manifests: &'a [Manifest],
) -> Result<HashMap<&'a Digest, (&'a Descriptor, Reference)>, InvalidPlan> {
    let manifests: HashMap<&Digest, &Manifest> =
        manifests.iter().map(|manifest| (manifest.digest(), manifest)).collect();
    let mut named: HashMap<&Digest, (&Descriptor, Reference)> = HashMap::new();
    for image in &index.images {
        let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
        let own = image.manifests.iter().chain(referrers);
        for manifest in own.filter_map(|digest| manifests.get(digest)) {
            let source = parse_reference(&image.reference)?;
            for blob in manifest.blobs() {
                let known = named.entry(&blob.digest).or_insert_with(|| (blob, source.clone()));
                if known.0.is_foreign() && !blob.is_foreign() {
                    *known = (blob, source.clone());
                }
            }
        }
    }
    Ok(named)
}

fn parse_reference(text: &str) -> Result<Reference, InvalidPlan> {
    Reference::parse(text, &RegistryHost::docker_hub())
        .map_err(|_| InvalidPlan::Reference(text.to_owned()))
}

impl HeldBlob {
    /// As it is written down.
    pub fn to_old_blob(&self) -> OldBlob {
        OldBlob {
            descriptor: self.descriptor.clone(),
            repositories: self.repositories.clone(),
            sources: self.sources.iter().map(ToString::to_string).collect(),
        }
    }

    /// As it was written down.
    ///
    /// # Errors
    /// [`InvalidPlan::Reference`] for a source that is no reference.
    pub fn of_old_blob(old: &OldBlob) -> Result<Self, InvalidPlan> {
        let sources: Result<_, _> =
            old.sources.iter().map(|source| parse_reference(source)).collect();
        Ok(Self {
            descriptor: old.descriptor.clone(),
            repositories: old.repositories.clone(),
            sources: sources?,
        })
    }
}
