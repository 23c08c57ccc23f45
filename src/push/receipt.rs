//! The receipt: what a push has proved to be at the far side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::baselines::Place;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::names::TargetNames;
use crate::payload::index::Index;
use crate::receipt::{Kind, Receipt, Repository};
use crate::reference::{InvalidReference, RepositoryName, Tag};

use super::Push;
use super::manifests::Rebuilt;
use super::preflight::Preflight;
use super::targets::Target;

/// A tag at the far side, and what it names.
pub(super) struct ProvedTag {
    pub(super) repository: RepositoryName,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
}

/// What the repositories of a payload are called in it, by their names at the far registry.
pub(super) type PayloadNames = BTreeMap<RepositoryName, RepositoryName>;

/// The names of all repositories that the payload writes or expects something in.
pub(super) fn payload_names(
    index: &Index,
    names: &TargetNames,
) -> Result<PayloadNames, InvalidReference> {
    let images = index.images.iter().map(|image| &image.repository);
    let mut payload_names = PayloadNames::new();
    for name in images.chain(index.expected().flat_map(|blob| blob.repositories)) {
        payload_names.entry(names.of(name)?).or_insert_with(|| name.clone());
    }
    Ok(payload_names)
}

impl Push {
    /// What is proved: the images of `targets` as they were looked at right before tags were set,
    /// `tags`, and what pre-flight found.
    pub(super) fn receipt(
        &self,
        targets: &[Target<'_>],
        rebuilt: &Rebuilt,
        tags: &[ProvedTag],
        preflight: &Preflight,
    ) -> Receipt {
        let mut proved = Proved::new(&self.payload_names);
        for target in targets {
            let repository = &target.repository;
            for &manifest in target.manifests.iter().chain(&target.referrers) {
                let there = rebuilt.get(repository, manifest.digest()).unwrap_or(manifest);
                proved.add(repository, |listed| &mut listed.manifests, &there.descriptor);
            }
            for blob in &target.blobs {
                let blob = Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
                proved.add(repository, |listed| &mut listed.blobs, &blob);
            }
        }
        let named = self.named_blobs();
        for (digest, repository) in preflight.found() {
            if let Some(blob) = named.get(digest) {
                proved.add(repository, |listed| &mut listed.blobs, blob);
            }
        }
        let present = preflight.skipped_and_present.iter().flat_map(|image| {
            image.tags.iter().map(|(tag, digest)| (&image.repository, tag, digest))
        });
        let set = tags.iter().map(|proved| (&proved.repository, &proved.tag, &proved.digest));
        for (repository, tag, digest) in present.chain(set) {
            if let Some(listed) = proved.repository(repository) {
                listed.tags.insert(tag.clone(), digest.clone());
            }
        }
        let registry = self.registry.host().clone();
        let repositories = proved.repositories.into_values().collect();
        Receipt::new(Kind::Receipt, registry, SystemTime::now(), repositories)
    }

    /// All blobs that the payload's index knows.
    fn named_blobs(&self) -> BTreeMap<&Digest, Descriptor> {
        let index = self.payload.index();
        let blobs = index.blobs.iter().map(|blob| (&blob.media_type, &blob.digest, blob.size));
        let only = index.baselines.iter().map(|blob| (&blob.media_type, &blob.digest, blob.size));
        let all = blobs.chain(only).map(|(media_type, digest, size)| {
            (digest, Descriptor::new(media_type.clone(), digest.clone(), size))
        });
        all.collect()
    }
}

impl Preflight {
    /// The blobs that were there, each with a repository that has it.
    fn found(&self) -> impl Iterator<Item = (&Digest, &RepositoryName)> {
        let read = self.places.iter().filter_map(|(digest, place)| match place {
            Place::Repository(repository) => Some((digest, repository)),
            Place::Payload | Place::Folder(_) => None,
        });
        self.holders.iter().chain(read)
    }
}

/// Repositories as the receipt lists them.
struct Proved<'a> {
    payload_names: &'a PayloadNames,
    repositories: BTreeMap<RepositoryName, Repository>,
    listed: BTreeSet<(RepositoryName, Digest)>,
}

impl<'a> Proved<'a> {
    fn new(payload_names: &'a PayloadNames) -> Self {
        Self { payload_names, repositories: BTreeMap::new(), listed: BTreeSet::new() }
    }

    /// `None` for one that the payload does not name, such as one of `--baseline-repository`.
    fn repository(&mut self, name: &RepositoryName) -> Option<&mut Repository> {
        let payload_name = self.payload_names.get(name)?;
        let new = || Repository::new(name.clone(), payload_name);
        Some(self.repositories.entry(name.clone()).or_insert_with(new))
    }

    fn add(
        &mut self,
        name: &RepositoryName,
        list: fn(&mut Repository) -> &mut Vec<Descriptor>,
        descriptor: &Descriptor,
    ) {
        if self.listed.insert((name.clone(), descriptor.digest.clone()))
            && let Some(repository) = self.repository(name)
        {
            let Descriptor { media_type, digest, size, .. } = descriptor;
            list(repository).push(Descriptor::new(media_type.clone(), digest.clone(), *size));
        }
    }
}
