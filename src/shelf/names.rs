//! What the payloads' manifests are called, as push-payload would call them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::Digest;
use crate::failure::Usage;
use crate::names::{TargetNames, refuse_collisions};
use crate::payload::{ImageState, Payload};
use crate::reference::{RepositoryName, Tag, TagOrDigest};

/// All names.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<RepositoryName, Repository>);

#[derive(Debug, Default)]
struct Repository {
    tags: BTreeMap<Tag, Digest>,
    /// With the payload that has it.
    manifests: BTreeMap<Digest, usize>,
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Names {
    /// The names of all images that travel in `payloads`. A later payload's tag counts before an earlier one's.
    pub(super) fn of(payloads: &[Payload], names: &TargetNames) -> Result<Self, Usage> {
        let cannot_name = |error: &dyn fmt::Display| {
            Usage::new(error.to_string()).with_hint("change `--rename` or `--prefix`")
        };
        let mut all = Self::default();
        let mut sources = Vec::new();
        for (at, payload) in payloads.iter().enumerate() {
            for image in &payload.index().images {
                let far = names.of(&image.repository).map_err(|error| cannot_name(&error))?;
                sources.push((far.clone(), image.repository.to_string()));
                if image.state == ImageState::Skipped {
                    continue;
                }
                let repository = all.0.entry(far).or_default();
                let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
                for digest in image.manifests.iter().chain(referrers) {
                    let Some(manifest) = payload.manifest(digest) else { continue };
                    repository.manifests.insert(digest.clone(), at);
                    if let Some(subject) = &manifest.subject {
                        let known = repository.referrers.entry(subject.digest.clone()).or_default();
                        known.insert(digest.clone());
                    }
                }
                let tags = image.tags.iter().filter_map(|it| Some((&it.tag, it.digest.as_ref()?)));
                let companions =
                    image.referrers.iter().filter_map(|it| Some((it.tag.as_ref()?, &it.digest)));
                for (tag, digest) in tags.chain(companions) {
                    repository.tags.insert(tag.clone(), digest.clone());
                }
            }
        }
        refuse_collisions(sources.iter().map(|(far, source)| (far, source.clone())))
            .map_err(|error| cannot_name(&error))?;
        Ok(all)
    }

    pub(super) fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.0.keys()
    }

    pub(super) fn tags(&self, repository: &RepositoryName) -> Option<impl Iterator<Item = &Tag>> {
        Some(self.0.get(repository)?.tags.keys())
    }

    /// The manifest's digest, and the payload that has it.
    pub(super) fn find(
        &self,
        repository: &RepositoryName,
        what: &TagOrDigest,
    ) -> Option<(&Digest, usize)> {
        let repository = self.0.get(repository)?;
        let digest = match what {
            TagOrDigest::Tag(tag) => repository.tags.get(tag)?,
            TagOrDigest::Digest(digest) => digest,
        };
        repository.manifests.get_key_value(digest).map(|(digest, payload)| (digest, *payload))
    }

    pub(super) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> impl Iterator<Item = &Digest> {
        let found = self.0.get(repository).and_then(|found| found.referrers.get(subject));
        found.into_iter().flatten()
    }
}
