//! Blobs that travel as deltas: where their baselines are, and how they are rebuilt here.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;

use crate::baselines::Place;
use crate::digest::Digest;
use crate::failure::Hinted;
use crate::payload::index::Travels;
use crate::reference::RepositoryName;
use crate::restore::{HINT_DISK, OpenDelta, Restorer};

use super::Push;
use super::report::MissingBlob;
use super::targets::{Need, Target, Targets, needs};

/// What was found out about deltas.
#[derive(Default)]
pub(super) struct FoundBaselines {
    /// Blobs that are there already, so that their deltas are not needed.
    pub(super) holders: BTreeMap<Digest, RepositoryName>,
    /// Where the baselines of the others are.
    pub(super) places: BTreeMap<Digest, Place>,
    /// For each blob that cannot be rebuilt, the baselines that are missing.
    pub(super) missing: BTreeMap<Digest, Vec<MissingBlob>>,
}

impl Push {
    /// Looks for the blobs that travel as deltas, and where one is not there yet, for its baselines.
    pub(super) async fn look_for_baselines(
        &self,
        targets: &Targets<'_>,
    ) -> anyhow::Result<FoundBaselines> {
        let mut found = FoundBaselines::default();
        // Of a payload that is split, baselines that travel raw may be at the far side already.
        let needed: BTreeMap<&Digest, Vec<RepositoryName>> = needs(&targets.carried)
            .into_iter()
            .map(|need| (&need.blob.digest, need.repositories))
            .collect();
        let deltas =
            needs(&targets.carried).into_iter().filter_map(|need| match &need.blob.travels {
                Travels::Delta { baselines } => Some((need, baselines)),
                _ => None,
            });
        let looks = deltas.map(|(need, baselines)| async move {
            Ok::<_, anyhow::Error>((self.holder(&need).await?, need, baselines))
        });
        let looked: Vec<_> = stream::iter(looks).buffered(2 * self.jobs).try_collect().await?;
        let mut wanted: BTreeMap<&Digest, Vec<RepositoryName>> = BTreeMap::new();
        for (holder, need, baselines) in &looked {
            if let Some(holder) = holder {
                found.holders.insert(need.blob.digest.clone(), holder.clone());
                continue;
            }
            for baseline in *baselines {
                let candidates = wanted.entry(baseline).or_default();
                let named = targets.expected.get(baseline).into_iter();
                let named = named.chain(needed.get(baseline)).flatten();
                let named =
                    named.chain(&need.repositories).chain(&self.finder.baselines.repositories);
                for repository in named {
                    if !candidates.contains(repository) {
                        candidates.push(repository.clone());
                    }
                }
            }
        }
        let looks = wanted.iter().map(|(digest, candidates)| async move {
            Ok::<_, anyhow::Error>((*digest, self.finder.place(digest, candidates).await?))
        });
        let places: BTreeMap<&Digest, Option<Place>> =
            stream::iter(looks).buffered(2 * self.jobs).try_collect().await?;
        let sizes = self.payload.index().sizes();
        for (_, need, baselines) in looked.iter().filter(|(holder, ..)| holder.is_none()) {
            let lost = baselines.iter().filter(|digest| places[digest].is_none());
            let lost: Vec<MissingBlob> = lost
                .map(|digest| MissingBlob {
                    digest: digest.clone(),
                    size: sizes.get(digest).copied().unwrap_or_default(),
                    repositories: wanted[digest].clone(),
                })
                .collect();
            if !lost.is_empty() {
                found.missing.insert(need.blob.digest.clone(), lost);
            }
        }
        let there = places.into_iter().filter_map(|(digest, place)| Some((digest.clone(), place?)));
        found.places = there.collect();
        Ok(found)
    }

    /// A repository that needs the blob and has it.
    async fn holder(&self, need: &Need<'_>) -> anyhow::Result<Option<RepositoryName>> {
        for repository in &need.repositories {
            if self.registry.blob_size(repository, &need.blob.digest).await?.is_some() {
                return Ok(Some(repository.clone()));
            }
        }
        Ok(None)
    }

    /// Reads the baselines of all deltas that `targets` need, so that each can be rebuilt.
    pub(super) async fn read_baselines(
        &self,
        targets: &[Target<'_>],
        holders: &BTreeMap<Digest, RepositoryName>,
        places: &BTreeMap<Digest, Place>,
    ) -> anyhow::Result<Arc<Restorer>> {
        let blobs = needs(targets).into_iter().map(|need| need.blob).filter(|blob| {
            matches!(blob.travels, Travels::Delta { .. }) && !holders.contains_key(&blob.digest)
        });
        let deltas: Result<_, _> = blobs.map(|blob| OpenDelta::new(&self.payload, blob)).collect();
        self.feed_deltas(deltas?, places).await
    }

    /// Reads the baselines of `deltas`.
    pub(super) async fn feed_deltas(
        &self,
        deltas: Vec<OpenDelta>,
        places: &BTreeMap<Digest, Place>,
    ) -> anyhow::Result<Arc<Restorer>> {
        let workdir = &self.finder.baselines.workdir;
        let restorer = Arc::new(Restorer::new(&self.payload, deltas, workdir));
        if !restorer.baselines().is_empty() {
            self.finder.feed_all(&restorer, places, self.jobs).await?;
            self.reporter.phase("sending blobs".to_owned());
        }
        Ok(restorer)
    }

    /// Rebuilds a blob into a temporary file and checks its digest.
    pub(super) async fn restore(
        &self,
        restorer: &Arc<Restorer>,
        digest: &Digest,
    ) -> anyhow::Result<Arc<File>> {
        let _turn = self.rebuilding.acquire().await?;
        let (restorer, digest) = (Arc::clone(restorer), digest.clone());
        let workdir = self.finder.baselines.workdir.clone();
        let restore = move || {
            let file = tempfile::tempfile_in(&workdir).with_context(|| {
                Hinted::new(format!("cannot write to `{}`", workdir.display()), HINT_DISK)
            })?;
            restorer.restore(&digest, &file)?;
            anyhow::Ok(Arc::new(file))
        };
        spawn_blocking(restore).await?
    }
}
