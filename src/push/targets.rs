//! Which content of a payload belongs into which repository of the far registry. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::names::{self, Collision, TargetNames};
use crate::payload::Payload;
use crate::payload::index::{Blob, Image, ImageState, Travels};
use crate::reference::{InvalidReference, RepositoryName};

use super::report::Incomplete;

/// The images of a payload with the repositories that they go to.
#[derive(Debug)]
pub(super) struct Targets<'a> {
    /// The images that travel.
    pub(super) carried: Vec<Target<'a>>,
    /// The images that were only named as already transferred.
    pub(super) skipped: Vec<Target<'a>>,
    /// For each blob that should be there already, the repositories that should hold it.
    pub(super) expected: BTreeMap<&'a Digest, Vec<RepositoryName>>,
}

/// An image and the repository that it goes to.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub(super) image: &'a Image,
    /// Its place in the payload.
    pub(super) position: usize,
    pub(super) repository: RepositoryName,
    /// The image's own manifests, children before parents.
    pub(super) manifests: Vec<&'a Manifest>,
    /// What refers to it, in an order in which each may be pushed.
    pub(super) referrers: Vec<&'a Manifest>,
    /// The blobs that all these name and that the registry must hold, each once.
    pub(super) blobs: Vec<&'a Blob>,
}

/// Names under which the payload cannot be pushed.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidTargets {
    #[error("a repository cannot be renamed so: {0}")]
    Name(#[from] InvalidReference),
    #[error(transparent)]
    Collision(#[from] Collision),
}

/// A blob that is needed, and the repositories that need it, in the order of the images.
#[derive(Debug)]
pub(super) struct Need<'a> {
    pub(super) blob: &'a Blob,
    pub(super) repositories: Vec<RepositoryName>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(payload: &'a Payload, names: &TargetNames) -> Result<Self, InvalidTargets> {
        let index = payload.index();
        let blobs: BTreeMap<&Digest, &Blob> =
            index.blobs.iter().map(|blob| (&blob.digest, blob)).collect();
        let mut expected = BTreeMap::new();
        for blob in index.expected() {
            let there: Result<Vec<_>, _> =
                blob.repositories.iter().map(|repository| names.of(repository)).collect();
            expected.insert(blob.digest, there?);
        }
        let mut targets = Self { carried: Vec::new(), skipped: Vec::new(), expected };
        for (position, image) in index.images.iter().enumerate() {
            let repository = names.of(&image.repository)?;
            let target = Target::new(payload, position, image, repository, &blobs);
            match image.state {
                ImageState::Carried => targets.carried.push(target),
                ImageState::Skipped => targets.skipped.push(target),
            }
        }
        let all = targets.carried.iter().chain(&targets.skipped);
        names::refuse_collisions(
            all.map(|target| (&target.repository, target.image.repository.to_string())),
        )?;
        Ok(targets)
    }

    /// The same without the images that are incomplete, and without those that were skipped.
    pub(super) fn without(&self, incomplete: &[Incomplete]) -> Vec<Target<'a>> {
        let left: BTreeSet<usize> = incomplete.iter().map(|image| image.position).collect();
        let complete = self.carried.iter().filter(|target| !left.contains(&target.position));
        complete.cloned().collect()
    }
}

impl<'a> Target<'a> {
    fn new(
        payload: &'a Payload,
        position: usize,
        image: &'a Image,
        repository: RepositoryName,
        blobs: &BTreeMap<&Digest, &'a Blob>,
    ) -> Self {
        let manifests: Vec<&Manifest> =
            image.manifests.iter().filter_map(|digest| payload.manifest(digest)).collect();
        let referrers: Vec<&Manifest> = image
            .referrers
            .iter()
            .filter_map(|referrer| payload.manifest(&referrer.digest))
            .collect();
        let mut seen = BTreeSet::new();
        let named = manifests.iter().chain(&referrers).flat_map(|manifest| manifest.blobs());
        let needed = named
            .filter(|blob| seen.insert(&blob.digest))
            .filter_map(|blob| blobs.get(&blob.digest).copied())
            .filter(|blob| !matches!(blob.travels, Travels::LeftOut { .. }));
        let blobs = needed.collect();
        Self { image, position, repository, manifests, referrers, blobs }
    }
}

/// Each blob that `targets` need, once, in the order in which they need it.
pub(super) fn needs<'a>(targets: &[Target<'a>]) -> Vec<Need<'a>> {
    let mut needs: Vec<Need<'a>> = Vec::new();
    let mut at: BTreeMap<&Digest, usize> = BTreeMap::new();
    for target in targets {
        for &blob in &target.blobs {
            let at = *at.entry(&blob.digest).or_insert_with(|| {
                needs.push(Need { blob, repositories: Vec::new() });
                needs.len() - 1
            });
            let repositories = &mut needs[at].repositories;
            if !repositories.contains(&target.repository) {
                repositories.push(target.repository.clone());
            }
        }
    }
    needs
}

/// The repositories of `targets`, each once.
pub(super) fn repositories(targets: &[Target<'_>]) -> BTreeSet<RepositoryName> {
    targets.iter().map(|target| target.repository.clone()).collect()
}
