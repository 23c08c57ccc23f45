//! Pushing some volumes of a payload: what they hold goes to the far side now, and whoever sees that all
//! volumes have arrived publishes. docs/payload-format.md, section "Volumes at the far side".
//!
//! Nothing but the far registry is shared with whoever pushes the other volumes. Every step can be
//! done twice, and by two at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::baselines::Place;
use crate::digest::Digest;
use crate::failure::{Hinted, VolumeVanished};
use crate::manifest::{Descriptor, Manifest};
use crate::payload::index::{Blob, Travels};
use crate::payload::{ContentReader, delta_entry_name};
use crate::progress::Event;
use crate::rebuild::rebuild_all;
use crate::reference::{RepositoryName, TagOrDigest};
use crate::registry::RemoteBlob;
use crate::replace::Replacement;
use crate::restore::{HINT_DISK, OpenDelta, Restorer};
use crate::verified::VerifiedReader;

use super::marker::{self, Marker};
use super::report::{PushReport, Sent};
use super::source::Joined;
use super::targets::{Need, Target, Targets, needs, repositories};
use super::{OnMissing, Push};

/// A part or delta that waits at the far side, by the entry that it was in a volume.
type StagedEntries = BTreeMap<String, Descriptor>;

/// A delta that waits at the far side for its baselines, in a temporary file.
struct WaitingDelta<'a> {
    need: Need<'a>,
    entry: Arc<File>,
    entry_bytes: u64,
}

impl Push {
    /// Brings the volumes at hand, and publishes if they were the last ones.
    pub(super) async fn run_volumes(
        &self,
        targets: Targets<'_>,
        receipt: Option<Replacement>,
    ) -> anyhow::Result<PushReport> {
        let Some(home) = targets.carried.first().map(|target| target.repository.clone()) else {
            return self.run(targets, receipt).await;
        };
        self.reporter.phase(format!("looking at `{}`", self.registry.host()));
        self.registry.check().await?;
        if self.is_published(&targets).await? {
            return self.run_to_the_end(targets, receipt).await;
        }
        self.tell_missing(&targets).await?;
        self.refuse_unwritable(&targets.carried).await?;
        let sent = self.bring_volumes(&targets, &home).await?;
        let needed = self.volumes_needed(&home).await?;
        if needed.is_empty() {
            return self.publish(targets, receipt, &home, sent).await;
        }
        // Somebody who saw all of them may have published and removed them meanwhile.
        if self.is_published(&targets).await? {
            return self.run_to_the_end(targets, receipt).await;
        }
        Ok(PushReport { sent, volumes_needed: needed, ..PushReport::default() })
    }

    /// Goes on as with any payload, and removes the markers of its volumes when nothing is left to do.
    pub(super) async fn run_to_the_end(
        &self,
        targets: Targets<'_>,
        receipt: Option<Replacement>,
    ) -> anyhow::Result<PushReport> {
        let repositories = repositories(&targets.carried);
        let report = self.run(targets, receipt).await?;
        let is_done = report.incomplete.is_empty()
            && report.refused_tags.is_empty()
            && report.kept_tags.is_empty();
        if is_done {
            self.remove_markers(&repositories).await;
        }
        Ok(report)
    }

    /// Whether everything of the payload is where it belongs: every tag names what it should, be it an index that
    /// was written anew, and every manifest is there.
    async fn is_published(&self, targets: &Targets<'_>) -> anyhow::Result<bool> {
        for target in &targets.carried {
            let rebuilt = rebuilt_of(target)?;
            for wanted in &target.image.tags {
                let which = TagOrDigest::Tag(wanted.tag.clone());
                let found = self.registry.manifest_digest(&target.repository, &which).await?;
                let new = wanted.digest.as_ref().and_then(|digest| rebuilt.get(digest));
                let mut right = wanted.digest.iter().chain(new.map(Manifest::digest));
                if !found.is_some_and(|found| right.any(|right| *right == found)) {
                    return Ok(false);
                }
            }
            for &manifest in target.manifests.iter().chain(&target.referrers) {
                let forms = [Some(manifest), rebuilt.get(manifest.digest())];
                let mut is_there = false;
                for form in forms.into_iter().flatten() {
                    is_there = is_there || self.is_there(&target.repository, form).await?;
                }
                if !is_there {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Says what the payload expects at the far side and does not find. Other volumes may be pushed all the
    /// same: it may come before the last of them does.
    async fn tell_missing(&self, targets: &Targets<'_>) -> anyhow::Result<()> {
        let preflight = self.preflight(targets).await?;
        let index = self.payload.index();
        let travelling = index
            .blobs
            .iter()
            .filter(|blob| matches!(blob.travels, Travels::Carried | Travels::Delta { .. }));
        let travelling: BTreeSet<&Digest> = travelling.map(|blob| &blob.digest).collect();
        let mut incomplete = preflight.incomplete;
        for image in &mut incomplete {
            image.missing.retain(|blob| !travelling.contains(&blob.digest));
        }
        incomplete.retain(|image| !image.missing.is_empty());
        if self.on_missing == OnMissing::Fail && !incomplete.is_empty() {
            let images = incomplete.iter().map(ToString::to_string).collect();
            return Err(crate::failure::BaselineMissing { images }.into());
        }
        for image in incomplete {
            self.reporter.warn(format!("{image}: it cannot be published without"));
        }
        Ok(())
    }

    /// Brings what the volumes at hand hold, and marks them as arrived.
    async fn bring_volumes(
        &self,
        targets: &Targets<'_>,
        home: &RepositoryName,
    ) -> anyhow::Result<Sent> {
        let contents = self.payload.contents();
        let is_whole = |content: &&ContentReader| !content.name.starts_with("parts/");
        let whole: BTreeSet<&Digest> =
            contents.iter().filter(is_whole).map(|content| &content.blob).collect();
        let found = self.look_for_baselines(targets).await?;
        let (mut now, mut staged) = (Vec::new(), BTreeSet::new());
        for need in needs(&targets.carried) {
            let digest = &need.blob.digest;
            let is_ready = match &need.blob.travels {
                Travels::Delta { .. } => !found.missing.contains_key(digest),
                _ => true,
            };
            match (whole.contains(digest), is_ready) {
                (true, true) => now.push(need),
                (true, false) => drop(staged.insert(digest.clone())),
                (false, _) => {}
            }
        }
        let waits = |content: &&ContentReader| !is_whole(content) || staged.contains(&content.blob);
        let waiting: Vec<&ContentReader> = contents.iter().filter(waits).collect();
        let restorer = self.restorer_of(&now, &found.holders, &found.places).await?;
        let brought: Vec<(Digest, Vec<RepositoryName>)> =
            now.iter().map(|need| (need.blob.digest.clone(), need.repositories.clone())).collect();
        let mut sent = self.send_needs(now, &found.holders, &restorer).await?;
        sent = sent.plus(self.stage(home, &waiting).await?);
        for volume in self.payload.volumes() {
            self.mark(targets, home, volume, &contents, &brought, &waiting).await?;
        }
        Ok(sent)
    }

    /// Sends entries as blobs of their own.
    async fn stage(
        &self,
        home: &RepositoryName,
        waiting: &[&ContentReader],
    ) -> anyhow::Result<Sent> {
        let bytes = waiting.iter().map(|content| content.content.size_bytes()).sum();
        self.reporter.report(Event::Total { blobs: waiting.len() as u64, bytes });
        let sends = waiting.iter().map(|content| async move {
            let descriptor = marker::staged(content)?;
            let (digest, bytes) = (descriptor.digest.clone(), descriptor.size);
            self.reporter.report(Event::BlobStarted { digest: digest.clone(), bytes });
            let how = self
                .bring_entry(home, &descriptor, &content.content)
                .await
                .with_context(|| format!("cannot bring `{}` into `{home}`", content.name))?;
            self.reporter.report(Event::BlobFinished { digest, how });
            let mut sent = Sent::default();
            sent.count(how, bytes);
            anyhow::Ok(sent)
        });
        let all: Vec<Sent> = stream::iter(sends).buffer_unordered(self.jobs).try_collect().await?;
        Ok(all.into_iter().fold(Sent::default(), Sent::plus))
    }

    /// Marks a volume as arrived in every repository, the home last.
    async fn mark(
        &self,
        targets: &Targets<'_>,
        home: &RepositoryName,
        volume: u32,
        contents: &[ContentReader],
        brought: &[(Digest, Vec<RepositoryName>)],
        waiting: &[&ContentReader],
    ) -> anyhow::Result<()> {
        let of_volume: BTreeSet<&Digest> = contents
            .iter()
            .filter(|content| content.volume == Some(volume))
            .map(|content| &content.blob)
            .collect();
        let sizes = self.payload.index().sizes();
        let mut all = repositories(&targets.carried);
        all.remove(home);
        for repository in all.iter().chain([home]) {
            let here = brought.iter().filter(|(digest, repositories)| {
                of_volume.contains(digest) && repositories.contains(repository)
            });
            let mut held: Vec<Descriptor> =
                here.map(|(digest, _)| marker::whole(digest, sizes.get(digest).copied())).collect();
            if repository == home {
                let staged = waiting.iter().filter(|content| content.volume == Some(volume));
                for content in staged {
                    held.push(marker::staged(content)?);
                }
            }
            let marker = Marker::new(self.payload.index(), volume, &held)?;
            self.put_marker(repository, &marker).await.with_context(|| {
                format!("cannot mark volume {volume} as arrived in `{repository}`")
            })?;
        }
        Ok(())
    }

    async fn put_marker(&self, repository: &RepositoryName, marker: &Marker) -> anyhow::Result<()> {
        if self.registry.blob_size(repository, &marker.config.digest).await?.is_none() {
            self.send_bytes(repository, &marker.config, marker::CONFIG).await?;
        }
        let tag = TagOrDigest::Tag(marker.tag.clone());
        self.registry.put_manifest(repository, &tag, &marker.manifest).await?;
        Ok(())
    }

    /// The volumes that are not marked as arrived.
    async fn volumes_needed(&self, home: &RepositoryName) -> anyhow::Result<Vec<u32>> {
        let index = self.payload.index();
        let last = u32::try_from(index.volumes.len())?;
        let looks = (1..=last).map(|volume| async move {
            let tag = TagOrDigest::Tag(marker::tag(index, volume)?);
            let found = self.registry.manifest_digest(home, &tag).await?;
            anyhow::Ok(found.is_none().then_some(volume))
        });
        let looked: Vec<Option<u32>> =
            stream::iter(looks).buffered(2 * self.jobs).try_collect().await?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// All volumes have arrived: joins, rebuilds and goes on as with any payload.
    async fn publish(
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
    async fn remove_markers(&self, repositories: &BTreeSet<RepositoryName>) {
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

    async fn restorer_of(
        &self,
        needs: &[Need<'_>],
        holders: &BTreeMap<Digest, RepositoryName>,
        places: &BTreeMap<Digest, Place>,
    ) -> anyhow::Result<Arc<Restorer>> {
        let is_delta = |blob: &&Blob| {
            matches!(blob.travels, Travels::Delta { .. }) && !holders.contains_key(&blob.digest)
        };
        let blobs = needs.iter().map(|need| need.blob).filter(is_delta);
        let deltas: Result<Vec<_>, _> =
            blobs.map(|blob| OpenDelta::new(&self.payload, blob)).collect();
        self.feed_deltas(deltas?, places).await
    }
}

/// The indexes of an image of which not all children travel, as they may have been written anew.
fn rebuilt_of(target: &Target<'_>) -> anyhow::Result<BTreeMap<Digest, Manifest>> {
    let travelling: BTreeSet<&Digest> =
        target.manifests.iter().map(|manifest| manifest.digest()).collect();
    rebuild_all(target.manifests.iter().copied(), |digest| travelling.contains(digest))
}
