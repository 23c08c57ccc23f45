//! Pushing some volumes of a payload: what they hold goes to the far side now, and whoever sees that all
//! volumes have arrived publishes. docs/payload-format.md, section "Volumes at the far side".
//!
//! Nothing but the far registry is shared with whoever pushes the other volumes. Every step can be
//! done twice, and by two at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::baselines::Place;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::ContentReader;
use crate::payload::index::{Blob, Travels};
use crate::progress::Event;
use crate::rebuild::rebuild_all;
use crate::reference::{RepositoryName, TagOrDigest};
use crate::replace::Replacement;
use crate::restore::{OpenDelta, Restorer};

use super::marker::{self, Marker};
use super::report::{PushReport, Sent};
use super::targets::{Need, Target, Targets, needs, repositories};
use super::{OnMissing, Push};

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
    pub(super) async fn is_published(&self, targets: &Targets<'_>) -> anyhow::Result<bool> {
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
            return Err(super::report::baseline_missing(&incomplete).into());
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
