//! Publishing a payload of which all volumes have arrived: what was cut is joined, what waited is rebuilt,
//! and the rest goes as with any payload. docs/payload-format.md, section "Volumes at the far side".

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::failure::{Hinted, VolumeVanished};
use crate::manifest::{Descriptor, Manifest};
use crate::payload::delta_entry_name;
use crate::payload::index::Travels;
use crate::reference::{RepositoryName, TagOrDigest};
use crate::registry::RemoteBlob;
use crate::replace::Replacement;
use crate::restore::{HINT_DISK, OpenDelta};
use crate::verified::VerifiedReader;

use super::Push;
use super::marker;
use super::report::{PushReport, Sent};
use super::source::Joined;
use super::targets::{Need, Targets, needs};

/// A part or delta that waits at the far side, by the entry that it was in a volume.
type StagedEntries = BTreeMap<String, Descriptor>;

/// A delta that waits at the far side for its baselines, in a temporary file.
struct WaitingDelta<'a> {
    need: Need<'a>,
    entry: Arc<File>,
    entry_bytes: u64,
}

impl Push {
    /// All volumes have arrived: joins, rebuilds and goes on as with any payload.
    pub(super) async fn publish(
        &self,
        targets: Targets<'_>,
        receipt: Option<Replacement>,
        home: &RepositoryName,
        sent: Sent,
    ) -> anyhow::Result<PushReport> {
        let sent = match self.complete(&targets, home).await {
            Ok(completed) => sent.plus(completed),
            // Somebody else saw all of them too, was sooner, and has removed the marks.
            Err(_) if self.is_published(&targets).await? => sent,
            Err(error) => return Err(error),
        };
        let mut report = self.run_to_the_end(targets, receipt).await?;
        report.sent = sent.plus(report.sent);
        Ok(report)
    }

    /// Brings what waited for other volumes to where it is needed.
    async fn complete(&self, targets: &Targets<'_>, home: &RepositoryName) -> anyhow::Result<Sent> {
        let staged = self.staged_entries(home).await?;
        let joined = self.join_parts(targets, home, &staged).await?;
        Ok(joined.plus(self.rebuild_waiting(targets, home, &staged).await?))
    }

    /// What the markers say is staged in the home repository.
    async fn staged_entries(&self, home: &RepositoryName) -> anyhow::Result<StagedEntries> {
        let index = self.payload.index();
        let last = u32::try_from(index.volumes.len())?;
        let reads = (1..=last).map(|volume| async move {
            let tag = TagOrDigest::Tag(marker::tag(index, volume)?);
            anyhow::Ok(self.registry.find_manifest(home, &tag).await?)
        });
        let markers: Vec<Option<Manifest>> =
            stream::iter(reads).buffered(self.jobs).try_collect().await?;
        Ok(markers.iter().flatten().flat_map(marker::staged_in).collect())
    }

    /// Joins the parts of raw blobs into their repositories.
    async fn join_parts(
        &self,
        targets: &Targets<'_>,
        home: &RepositoryName,
        staged: &StagedEntries,
    ) -> anyhow::Result<Sent> {
        let mut sent = Sent::default();
        for need in needs(&targets.carried) {
            let parts = match need.blob.travels {
                Travels::Carried => marker::parts_of(self.payload.index(), &need.blob.digest),
                _ => continue,
            };
            if parts.is_empty() || self.is_everywhere(&need).await? {
                continue;
            }
            let parts = self.staged_blobs(home, &need.blob.digest, &parts, staged)?;
            let source = Arc::new(Joined(parts));
            sent = sent.plus(self.send_joined(need, home, source).await?);
        }
        Ok(sent)
    }

    /// The entries as blobs of the home repository.
    fn staged_blobs(
        &self,
        home: &RepositoryName,
        digest: &Digest,
        names: &[(u32, &str)],
        staged: &StagedEntries,
    ) -> anyhow::Result<Vec<RemoteBlob>> {
        let blob = |(volume, name): &(u32, &str)| {
            let vanished = || VolumeVanished { digest: digest.clone(), volumes: vec![*volume] };
            let descriptor = staged.get(*name).ok_or_else(vanished)?;
            Ok(self.registry.blob(home, descriptor))
        };
        names.iter().map(blob).collect()
    }

    async fn is_everywhere(&self, need: &Need<'_>) -> anyhow::Result<bool> {
        for repository in &need.repositories {
            if self.registry.blob_size(repository, &need.blob.digest).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rebuilds what waits for baselines of other volumes, or came in parts. What still lacks a
    /// baseline is left to pre-flight to name.
    async fn rebuild_waiting(
        &self,
        targets: &Targets<'_>,
        home: &RepositoryName,
        staged: &StagedEntries,
    ) -> anyhow::Result<Sent> {
        let found = self.look_for_baselines(targets).await?;
        let mut waiting = Vec::new();
        for need in needs(&targets.carried) {
            let digest = need.blob.digest.clone();
            let is_delta = matches!(need.blob.travels, Travels::Delta { .. });
            let is_there = found.holders.contains_key(&digest);
            if !is_delta || is_there || found.missing.contains_key(&digest) {
                continue;
            }
            let names = marker::entries_of(self.payload.index(), &digest);
            let parts = self.staged_blobs(home, &digest, &names, staged)?;
            let (entry, entry_bytes) = self.download(&digest, parts).await?;
            waiting.push(WaitingDelta { need, entry, entry_bytes });
        }
        if waiting.is_empty() {
            return Ok(Sent::default());
        }
        let deltas = waiting.iter().map(|delta| {
            OpenDelta::of_entry(Arc::clone(&delta.entry), delta.entry_bytes, delta.need.blob)
        });
        let deltas = deltas.collect::<Result<Vec<_>, _>>()?;
        let restorer = self.feed_deltas(deltas, &found.places).await?;
        let needs = waiting.into_iter().map(|delta| delta.need).collect();
        self.send_needs(needs, &found.holders, &restorer).await
    }

    /// Fetches a staged delta into a temporary file.
    async fn download(
        &self,
        blob: &Digest,
        parts: Vec<RemoteBlob>,
    ) -> anyhow::Result<(Arc<File>, u64)> {
        let workdir = self.finder.baselines.workdir.clone();
        let runtime = Handle::current();
        let fetch = move || {
            let cannot =
                || Hinted::new(format!("cannot write to `{}`", workdir.display()), HINT_DISK);
            let mut file = tempfile::tempfile_in(&workdir).with_context(cannot)?;
            let mut bytes = 0;
            for part in parts {
                let Descriptor { digest, size, .. } = part.descriptor().clone();
                let raw = part.blocking(runtime.clone());
                let mut verified = VerifiedReader::new(raw, digest, size);
                bytes += io::copy(&mut verified, &mut file)?;
            }
            anyhow::Ok((Arc::new(file), bytes))
        };
        spawn_blocking(fetch)
            .await?
            .with_context(|| format!("cannot fetch `{}` from the far side", delta_entry_name(blob)))
    }

    /// Removes the markers of all volumes, where the registry lets us.
    pub(super) async fn remove_markers(&self, repositories: &BTreeSet<RepositoryName>) {
        let index = self.payload.index();
        let last = u32::try_from(index.volumes.len()).unwrap_or_default();
        let places = repositories
            .iter()
            .flat_map(|repository| (1..=last).map(move |volume| (repository, volume)));
        // What a registry refuses once it refuses always.
        let is_refused = &AtomicBool::new(false);
        let removals = places.map(|(repository, volume)| async move {
            if is_refused.load(Ordering::Relaxed) {
                return;
            }
            let Ok(tag) = marker::tag(index, volume) else { return };
            let tag = TagOrDigest::Tag(tag);
            if !matches!(self.registry.delete_manifest(repository, &tag).await, Ok(true)) {
                is_refused.store(true, Ordering::Relaxed);
            }
        });
        stream::iter(removals).buffer_unordered(self.jobs).collect::<Vec<()>>().await;
        if is_refused.load(Ordering::Relaxed) {
            self.reporter.note(format!(
                "the marks of volumes stay, as the registry does not delete them: tags that begin with `{}` can be removed",
                marker::prefix(index)
            ));
        }
    }
}
