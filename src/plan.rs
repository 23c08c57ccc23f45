//! What travels and what is expected: wanted images minus the baseline.
//!
//! Pure: everything that a registry had to say stands in the arguments. The plan is the same for the
//! same arguments, and everything that is written later follows its order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::digest::Digest;
use crate::manifest::{Content, Descriptor, Manifest};
use crate::payload::index::{BaselineBlob, Image, ImageState, Referrer, TagTarget, Travels};
use crate::platform::Platform;
use crate::reference::{Reference, RepositoryName, Tag};
use crate::schema1::Converted;

mod written;

#[cfg(test)]
mod tests;

pub use written::InvalidPlan;

/// The most bytes that the blobs of one payload may have together: more than any disk that crosses a
/// gap holds, and so little that no sum of sizes overflows.
const BLOBS_MAX_BYTES: u64 = 1 << 50;

/// The most repositories that are noted for one blob: push-payload asks one after the other, and that
/// of the image itself anyway.
const REPOSITORIES_MAX: usize = 16;

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

/// What the far side is known to hold.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// In the order in which they were named.
    blobs: Vec<HeldBlob>,
    blob_at: HashMap<Digest, usize>,
    tags: BTreeMap<(RepositoryName, Tag), Vec<Digest>>,
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

    fn held(&self, digest: &Digest) -> Option<&HeldBlob> {
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

/// What becomes of layers that their distributor serves from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignLayers {
    /// They stay out of the payload; clients fetch them.
    #[default]
    LeaveOut,
    /// They are fetched from their URLs and carried.
    Fetch,
}

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

/// Images that cannot travel, or not together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Two manifests give one blob different sizes: one of them lies.
    #[error(
        "expected blob `{digest}` to have {expected} bytes as `{first}` says, found {found} in `{second}`"
    )]
    Size {
        /// The blob.
        digest: Digest,
        /// The size that was said first, in bytes.
        expected: u64,
        /// Which image said so.
        first: String,
        /// The other size, in bytes.
        found: u64,
        /// Which image said that.
        second: String,
    },
    /// Sizes that cannot be true.
    #[error(
        "expected blobs of at most {BLOBS_MAX_BYTES} bytes together, found blob `{digest}` of {size} bytes in `{image}`"
    )]
    TooLarge {
        /// The blob that is too much.
        digest: Digest,
        /// Its size as its manifest says, in bytes.
        size: u64,
        /// The image that names it.
        image: String,
    },
    /// Two images would set one tag at the far side to different manifests.
    #[error("`{first}` and `{second}` would both set the tag `{repository}:{tag}` at the far side")]
    Tag {
        /// The far repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The image that sets it first.
        first: String,
        /// The image that sets it to something else.
        second: String,
    },
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
