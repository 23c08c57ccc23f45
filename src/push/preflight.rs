//! What has to be true at the far side before one blob is sent.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::baselines::Place;
use crate::digest::Digest;
use crate::failure::{Hinted, Vanished};
use crate::payload::index::{Blob, Travels};
use crate::reference::{RepositoryName, TagOrDigest};
use crate::registry;

use super::report::{Incomplete, MissingBlob, PushedImage};
use super::targets::{Target, Targets, needs, repositories};
use super::{OnMissing, Push};

/// What pre-flight found.
pub(super) struct Preflight {
    /// For each blob that is there already, a repository that holds it.
    pub(super) holders: BTreeMap<Digest, RepositoryName>,
    /// Where the baselines of deltas are read.
    pub(super) places: BTreeMap<Digest, Place>,
    pub(super) incomplete: Vec<Incomplete>,
    pub(super) skipped_and_present: Vec<PushedImage>,
    pub(super) skipped_and_missing: Vec<String>,
}

impl Push {
    /// Looks for every blob that the payload expects, and for every image that it skipped.
    pub(super) async fn preflight(&self, targets: &Targets<'_>) -> anyhow::Result<Preflight> {
        self.registry.check().await?;
        let (mut holders, mut missing) = self.look_for_expected(targets).await?;
        let deltas = self.look_for_baselines(targets).await?;
        holders.extend(deltas.holders);
        missing.extend(deltas.missing);
        let mut incomplete: Vec<Incomplete> = targets
            .carried
            .iter()
            .filter_map(|target| {
                let lacks = target.blobs.iter().filter_map(|blob| missing.get(&blob.digest));
                let mut missing: Vec<MissingBlob> = Vec::new();
                for blob in lacks.flatten() {
                    if !missing.contains(blob) {
                        missing.push(blob.clone());
                    }
                }
                let (name, position) = (target.image.name.clone(), target.position);
                (!missing.is_empty()).then_some(Incomplete { position, name, missing })
            })
            .collect();
        let looks = targets.skipped.iter().map(|target| self.look_for_skipped(target));
        let found: Vec<Option<PushedImage>> =
            stream::iter(looks).buffered(2 * self.jobs).try_collect().await?;
        let mut skipped_and_missing = Vec::new();
        for (target, found) in targets.skipped.iter().zip(&found) {
            let (position, name) = (target.position, target.image.name.clone());
            match (found, self.on_missing) {
                (Some(_), _) => {}
                (None, OnMissing::Fail) => {
                    incomplete.push(Incomplete { position, name, missing: Vec::new() });
                }
                (None, OnMissing::PushOthers) => {
                    self.reporter.warn(format!(
                        "`{name}` was skipped as already transferred, but `{}` does not have it",
                        self.registry.host()
                    ));
                    skipped_and_missing.push(name);
                }
            }
        }
        let skipped_and_present = found.into_iter().flatten().collect();
        let places = deltas.places;
        Ok(Preflight { holders, places, incomplete, skipped_and_present, skipped_and_missing })
    }

    async fn look_for_expected(
        &self,
        targets: &Targets<'_>,
    ) -> anyhow::Result<(BTreeMap<Digest, RepositoryName>, BTreeMap<Digest, Vec<MissingBlob>>)>
    {
        let needs = needs(&targets.carried);
        let expected = needs
            .into_iter()
            .filter(|need| matches!(need.blob.travels, Travels::Expected { .. }))
            .map(|need| {
                let mut candidates =
                    targets.expected.get(&need.blob.digest).cloned().unwrap_or_default();
                let more: Vec<_> = need
                    .repositories
                    .into_iter()
                    .filter(|repository| !candidates.contains(repository))
                    .collect();
                candidates.extend(more);
                self.look_for(need.blob, candidates)
            });
        let found: Vec<_> = stream::iter(expected).buffered(2 * self.jobs).try_collect().await?;
        let mut holders = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for found in found {
            match found {
                Ok((digest, repository)) => drop(holders.insert(digest, repository)),
                Err(blob) => drop(missing.insert(blob.digest.clone(), vec![blob])),
            }
        }
        Ok((holders, missing))
    }

    async fn look_for(
        &self,
        blob: &Blob,
        candidates: Vec<RepositoryName>,
    ) -> anyhow::Result<Result<(Digest, RepositoryName), MissingBlob>> {
        for repository in &candidates {
            match self.registry.blob_size(repository, &blob.digest).await {
                Ok(Some(_)) => return Ok(Ok((blob.digest.clone(), repository.clone()))),
                Ok(None) => {}
                // A robot that may not read another project cannot mount from it either.
                Err(error) if error.is_unauthorized() && candidates.len() > 1 => {
                    self.reporter.warn(format!("cannot look into `{repository}`: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (digest, size) = (blob.digest.clone(), blob.size);
        Ok(Err(MissingBlob { digest, size, repositories: candidates }))
    }

    async fn look_for_skipped(&self, target: &Target<'_>) -> anyhow::Result<Option<PushedImage>> {
        let repository = &target.repository;
        let mut tags = Vec::new();
        for wanted in &target.image.tags {
            let which = TagOrDigest::Tag(wanted.tag.clone());
            let found = self.registry.manifest_digest(repository, &which).await?;
            let Some(digest) = found else { return Ok(None) };
            tags.push((wanted.tag.clone(), digest));
        }
        let mut digest = tags.first().map(|(_, digest)| digest.clone());
        if let (None, Some((_, text))) = (&digest, target.image.reference.split_once('@')) {
            let which = TagOrDigest::Digest(text.parse()?);
            digest = self.registry.manifest_digest(repository, &which).await?;
            if digest.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(PushedImage {
            position: target.position,
            name: target.image.name.clone(),
            repository: repository.clone(),
            digest,
            tags,
        }))
    }

    /// Opens an upload session in each repository and cancels it: a missing project or a robot that
    /// may only read shows now.
    pub(super) async fn refuse_unwritable(&self, targets: &[Target<'_>]) -> anyhow::Result<()> {
        let checks = repositories(targets).into_iter().map(|repository| async move {
            let written = self.try_to_write(&repository).await;
            (repository, written)
        });
        let results: Vec<_> = stream::iter(checks).buffered(self.jobs).collect().await;
        let mut refused = results
            .into_iter()
            .filter_map(|(repository, written)| Some((repository, written.err()?)));
        let Some((first, error)) = refused.next() else { return Ok(()) };
        let others: Vec<String> =
            refused.map(|(repository, _)| format!("`{repository}`")).collect();
        let others = match others.as_slice() {
            [] => String::new(),
            list => format!(", nor to {}", list.join(", ")),
        };
        let cannot = format!("cannot write to repository `{first}`{others}; nothing was sent");
        let is_refused = error.is_refusal();
        let error = anyhow::Error::new(error);
        if !is_refused {
            return Err(error.context(cannot));
        }
        Err(error.context(Hinted::new(
            cannot,
            "the project or repository may have to be created first, and the account needs the right to push",
        )))
    }

    async fn try_to_write(&self, repository: &RepositoryName) -> Result<(), registry::Error> {
        let session = self.registry.start_upload(repository).await?;
        self.registry.cancel_upload(session).await
    }

    /// Looks once more for every blob, right before tags move: a garbage collector may have run.
    pub(super) async fn look_again(&self, targets: &[Target<'_>]) -> anyhow::Result<()> {
        let looks = needs(targets).into_iter().flat_map(|need| {
            let digest = &need.blob.digest;
            need.repositories.into_iter().map(move |repository| async move {
                match self.registry.blob_size(&repository, digest).await? {
                    Some(_) => Ok(()),
                    None => Err(Vanished { digest: digest.clone(), repository }.into()),
                }
            })
        });
        stream::iter(looks).buffer_unordered(2 * self.jobs).try_collect().await
    }
}
