//! Wanted images minus the baseline, blob by blob.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::index::{Image, ImageState, TagTarget, Travels};
use crate::reference::{Reference, RepositoryName, Tag};
use crate::schema1::Converted;

use super::baseline::Baseline;
use super::contradiction::{BLOBS_MAX_BYTES, Contradiction};
use super::wanted::{Choice, Resolved, Wanted};
use super::{Plan, PlannedBlob};

/// What becomes of layers that their distributor serves from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignLayers {
    /// They stay out of the payload; clients fetch them.
    #[default]
    LeaveOut,
    /// They are fetched from their URLs and carried.
    Fetch,
}

impl Plan {
    /// Decides for each blob of `wanted` how it travels.
    ///
    /// # Errors
    /// [`Contradiction`] if two manifests give one blob different sizes or any gives an impossible
    /// one, or if two images set one tag.
    pub fn new(
        wanted: Vec<Wanted>,
        baseline: &Baseline,
        foreign_layers: ForeignLayers,
    ) -> Result<Self, Contradiction> {
        let mut planner = Planner {
            baseline,
            foreign_layers,
            plan: Self::empty(),
            blob_at: HashMap::new(),
            blobs_bytes: 0,
        };
        let mut seen = BTreeSet::new();
        for image in wanted {
            planner.add(image, &mut seen)?;
        }
        refuse_shared_tags(&planner.plan.images)?;
        Ok(planner.plan)
    }

    fn empty() -> Self {
        Self {
            images: Vec::new(),
            manifests: Vec::new(),
            blobs: Vec::new(),
            baselines: Vec::new(),
            made: BTreeMap::new(),
        }
    }
}

struct Planner<'a> {
    baseline: &'a Baseline,
    foreign_layers: ForeignLayers,
    plan: Plan,
    blob_at: HashMap<Digest, usize>,
    /// The sizes of all blobs so far.
    blobs_bytes: u64,
}

impl Planner<'_> {
    fn add(&mut self, image: Wanted, seen: &mut BTreeSet<Digest>) -> Result<(), Contradiction> {
        let Wanted { name, reference, repository, choice } = image;
        let resolved = match choice {
            Choice::Carry(resolved) => *resolved,
            Choice::Skip => {
                self.plan.images.push(skipped(name, &reference, repository));
                return Ok(());
            }
        };
        let absent = absent(&resolved);
        let tags = resolved.tags.into_iter().map(|(tag, digest)| {
            let known = self.baseline.tags.get(&(repository.clone(), tag.clone()));
            let former = known.cloned().unwrap_or_default();
            TagTarget { tag, digest: Some(digest), former }
        });
        self.plan.images.push(Image {
            tags: tags.collect(),
            absent,
            name,
            reference: reference.to_string(),
            state: ImageState::Carried,
            resolved: Some((&resolved.root).into()),
            platforms: resolved.platforms,
            manifests: resolved
                .manifests
                .iter()
                .map(|manifest| manifest.digest().clone())
                .collect(),
            referrers: resolved.referrers.iter().map(|(referrer, _)| referrer.clone()).collect(),
            converted_from: resolved.converted.as_ref().map(|converted| converted.former.clone()),
            repository,
        });
        if let Some(Converted { config, .. }) = resolved.converted {
            self.plan.made.insert(Digest::of(&config), config);
        }
        let referrers = resolved.referrers.into_iter().map(|(_, manifest)| manifest);
        for manifest in resolved.manifests.into_iter().chain(referrers) {
            if seen.insert(manifest.digest().clone()) {
                self.add_blobs(&manifest, &reference)?;
                self.plan.manifests.push(manifest);
            }
        }
        Ok(())
    }

    fn add_blobs(&mut self, manifest: &Manifest, source: &Reference) -> Result<(), Contradiction> {
        for descriptor in manifest.blobs() {
            let travels = self.travels(descriptor);
            let Some(&at) = self.blob_at.get(&descriptor.digest) else {
                self.blobs_bytes = self.blobs_bytes.saturating_add(descriptor.size);
                if self.blobs_bytes > BLOBS_MAX_BYTES {
                    let (digest, size) = (descriptor.digest.clone(), descriptor.size);
                    return Err(Contradiction::TooLarge {
                        digest,
                        size,
                        image: source.to_string(),
                    });
                }
                self.blob_at.insert(descriptor.digest.clone(), self.plan.blobs.len());
                self.plan.blobs.push(PlannedBlob {
                    descriptor: descriptor.clone(),
                    travels,
                    source: source.clone(),
                    delta: None,
                });
                continue;
            };
            let known = &mut self.plan.blobs[at];
            if known.descriptor.size != descriptor.size {
                return Err(Contradiction::Size {
                    digest: descriptor.digest.clone(),
                    expected: known.descriptor.size,
                    first: known.source.to_string(),
                    found: descriptor.size,
                    second: source.to_string(),
                });
            }
            if matches!(known.travels, Travels::LeftOut { .. }) && travels == Travels::Carried {
                *known = PlannedBlob {
                    descriptor: descriptor.clone(),
                    travels,
                    source: source.clone(),
                    delta: None,
                };
            }
        }
        Ok(())
    }

    fn travels(&self, descriptor: &Descriptor) -> Travels {
        if let Some(held) = self.baseline.held(&descriptor.digest) {
            Travels::Expected { repositories: held.repositories.clone() }
        } else if descriptor.is_foreign() && self.foreign_layers == ForeignLayers::LeaveOut {
            Travels::LeftOut { urls: descriptor.urls.clone() }
        } else {
            Travels::Carried
        }
    }
}

/// The children of an image's indexes that its registry did not have. Where platforms were chosen,
/// children of its own indexes are missing on purpose; those of referrers are lost all the same.
fn absent(image: &Resolved) -> Vec<Digest> {
    let own = image.manifests.iter().map(Manifest::digest);
    let own: BTreeSet<&Digest> = own.collect();
    let referring = || image.referrers.iter().map(|(_, manifest)| manifest);
    let there: BTreeSet<&Digest> =
        own.iter().copied().chain(referring().map(Manifest::digest)).collect();
    let whole = image.manifests.iter().filter(|_| image.platforms.is_empty());
    let whole = whole.chain(referring().filter(|manifest| !own.contains(manifest.digest())));
    let named: BTreeSet<&Digest> =
        whole.flat_map(Manifest::children).map(|child| &child.digest).collect();
    named.difference(&there).map(|digest| (*digest).clone()).collect()
}

fn refuse_shared_tags(images: &[Image]) -> Result<(), Contradiction> {
    let mut set: BTreeMap<(&RepositoryName, &Tag), (&Image, Option<&Digest>)> = BTreeMap::new();
    for image in images {
        for target in &image.tags {
            let place = (&image.repository, &target.tag);
            let (first, digest) = *set.entry(place).or_insert((image, target.digest.as_ref()));
            if digest != target.digest.as_ref() {
                return Err(Contradiction::Tag {
                    repository: image.repository.clone(),
                    tag: target.tag.clone(),
                    first: first.name.clone(),
                    second: image.name.clone(),
                });
            }
        }
    }
    Ok(())
}

fn skipped(name: String, reference: &Reference, repository: RepositoryName) -> Image {
    let tags = reference.tag.iter().map(|tag| TagTarget {
        tag: tag.clone(),
        digest: reference.digest.clone(),
        former: Vec::new(),
    });
    Image {
        tags: tags.collect(),
        name,
        reference: reference.to_string(),
        repository,
        state: ImageState::Skipped,
        resolved: None,
        platforms: Vec::new(),
        manifests: Vec::new(),
        absent: Vec::new(),
        referrers: Vec::new(),
        converted_from: None,
    }
}
