//! Blobs: there already, mounted, sent from the payload, rebuilt from a delta, or copied inside the far
//! registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::digest::Digest;
use crate::failure::{FarContent, VolumeVanished};
use crate::manifest::Descriptor;
use crate::payload::BlobReader;
use crate::payload::index::{Blob, Travels};
use crate::progress::{Arrival, Event};
use crate::reference::RepositoryName;
use crate::registry::{BlobSource, Error, Mount};
use crate::restore::Restorer;

use super::Push;
use super::marker;
use super::report::Sent;
use super::source::{Content, Joined};
use super::targets::{Need, Target, needs};

impl Push {
    /// Brings every blob into every repository that needs it. `holders` says where expected blobs are.
    pub(super) async fn send_blobs(
        &self,
        targets: &[Target<'_>],
        holders: &BTreeMap<Digest, RepositoryName>,
        restorer: &Arc<Restorer>,
    ) -> anyhow::Result<Sent> {
        self.send_needs(needs(targets), holders, restorer).await
    }

    /// Brings each blob that is needed to where it is.
    pub(super) async fn send_needs(
        &self,
        needs: Vec<Need<'_>>,
        holders: &BTreeMap<Digest, RepositoryName>,
        restorer: &Arc<Restorer>,
    ) -> anyhow::Result<Sent> {
        let places = needs.iter().map(|need| need.repositories.len() as u64).sum();
        // The sizes of expected blobs are only what the payload says, and may be anything.
        let bytes = needs.iter().fold(0_u64, |sum, need| {
            sum.saturating_add(need.blob.size.saturating_mul(need.repositories.len() as u64))
        });
        self.reporter.report(Event::Total { blobs: places, bytes });
        let sends = needs.into_iter().map(|need| {
            let holder = holders.get(&need.blob.digest).cloned();
            self.send_blob(need, holder, restorer)
        });
        let all: Vec<Sent> = stream::iter(sends).buffer_unordered(self.jobs).try_collect().await?;
        Ok(all.into_iter().fold(Sent::default(), Sent::plus))
    }

    /// Brings a blob whose parts are in the `home` repository to where it is needed.
    pub(super) async fn send_joined(
        &self,
        need: Need<'_>,
        home: &RepositoryName,
        source: Arc<Joined>,
    ) -> anyhow::Result<Sent> {
        let Blob { media_type, digest, size, .. } = need.blob;
        let descriptor = Descriptor::new(media_type.clone(), digest.clone(), *size);
        let (mut sent, mut holder) = (Sent::default(), None::<RepositoryName>);
        self.reporter.report(Event::Total { blobs: 1, bytes: *size });
        for repository in need.repositories {
            let bytes = *size;
            self.reporter.report(Event::BlobStarted { digest: digest.clone(), bytes });
            let from: Arc<dyn BlobSource> = match &holder {
                None => Arc::clone(&source) as _,
                Some(holder) => Arc::new(self.registry.blob(holder, &descriptor)),
            };
            let from = async { Ok((from, Arrival::Copied)) };
            let how = self
                .bring_from(&descriptor, &repository, holder.as_ref(), from)
                .await
                .map_err(|error| blamed_on_far(error, home))
                .with_context(|| format!("cannot join blob `{digest}` in `{repository}`"))?;
            sent.count(how, bytes);
            self.reporter.report(Event::BlobFinished { digest: digest.clone(), how });
            holder.get_or_insert(repository);
        }
        Ok(sent)
    }

    /// Brings an entry of the payload as a blob of its own.
    pub(super) async fn bring_entry(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
        content: &BlobReader,
    ) -> anyhow::Result<Arrival> {
        self.bring_content(descriptor, repository, Content::Payload(Box::new(content.clone())))
            .await
    }

    /// Sends a few bytes as a blob.
    pub(super) async fn send_bytes(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
        bytes: &'static [u8],
    ) -> anyhow::Result<()> {
        self.bring_content(descriptor, repository, Content::Bytes(bytes)).await?;
        Ok(())
    }

    async fn bring_content(
        &self,
        descriptor: &Descriptor,
        repository: &RepositoryName,
        content: Content,
    ) -> anyhow::Result<Arrival> {
        let source: Arc<dyn BlobSource> = Arc::new(content);
        let source = async { Ok((source, Arrival::Uploaded)) };
        self.bring_from(descriptor, repository, None, source).await
    }

    /// Brings a blob, unless it is there or can be mounted; only then `source` is waited for.
    async fn bring_from(
        &self,
        descriptor: &Descriptor,
        repository: &RepositoryName,
        holder: Option<&RepositoryName>,
        source: impl Future<Output = anyhow::Result<(Arc<dyn BlobSource>, Arrival)>>,
    ) -> anyhow::Result<Arrival> {
        let digest = &descriptor.digest;
        if holder == Some(repository)
            || self.registry.blob_size(repository, digest).await?.is_some()
        {
            // Its upload may have been completed by another, or without its answer.
            if let Some(journal) = &self.upload.journal {
                self.registry.forget_upload(journal, repository, digest);
            }
            return Ok(Arrival::Present);
        }
        let mut session = None;
        if let Some(holder) = holder {
            match self.registry.mount_blob(repository, digest, holder).await? {
                Mount::Mounted => return Ok(Arrival::Mounted),
                Mount::Refused(opened) => session = opened,
            }
        }
        let (source, how) = source.await?;
        let progress = |bytes: i64| self.report_progress(digest, bytes);
        let sent = self
            .registry
            .upload_blob(repository, descriptor, session, source, &self.upload, &progress)
            .await;
        match (sent, how, holder) {
            (Ok(()), _, _) => Ok(how),
            (Err(error), Arrival::Copied, Some(holder)) if error.is_damaged_source() => {
                let repository = holder.clone();
                Err(anyhow::Error::new(error).context(FarContent { repository }))
            }
            (Err(error), _, _) => Err(error.into()),
        }
    }

    /// Brings one blob into its repositories, one after the other: from the second on it can be
    /// mounted from the first.
    async fn send_blob(
        &self,
        need: Need<'_>,
        mut holder: Option<RepositoryName>,
        restorer: &Arc<Restorer>,
    ) -> anyhow::Result<Sent> {
        let mut sent = Sent::default();
        for repository in need.repositories {
            self.upload.stop.pass().await;
            let (digest, bytes) = (need.blob.digest.clone(), need.blob.size);
            self.reporter.report(Event::BlobStarted { digest: digest.clone(), bytes });
            let how = self
                .bring(need.blob, &repository, holder.as_ref(), restorer)
                .await
                .with_context(|| format!("cannot bring blob `{digest}` into `{repository}`"))?;
            sent.count(how, bytes);
            self.reporter.report(Event::BlobFinished { digest, how });
            holder.get_or_insert(repository);
        }
        Ok(sent)
    }

    async fn bring(
        &self,
        blob: &Blob,
        repository: &RepositoryName,
        holder: Option<&RepositoryName>,
        restorer: &Arc<Restorer>,
    ) -> anyhow::Result<Arrival> {
        let descriptor = Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
        let source = self.source_of(blob, holder, restorer);
        self.bring_from(&descriptor, repository, holder, source).await
    }

    /// Where the bytes come from: the payload, the repository at the far side that has them, or a file
    /// that they are rebuilt into.
    async fn source_of(
        &self,
        blob: &Blob,
        holder: Option<&RepositoryName>,
        restorer: &Arc<Restorer>,
    ) -> anyhow::Result<(Arc<dyn BlobSource>, Arrival)> {
        match (&blob.travels, self.payload.blob(&blob.digest), holder) {
            (Travels::Carried, Some(reader), _) => {
                Ok((Arc::new(Content::Payload(Box::new(reader))), Arrival::Uploaded))
            }
            (Travels::Delta { .. }, _, None) => {
                let file = self.restore(restorer, &blob.digest).await?;
                let size_bytes = blob.size;
                Ok((Arc::new(Content::File { file, size_bytes }), Arrival::Rebuilt))
            }
            (_, _, Some(holder)) => {
                let (media_type, digest) = (blob.media_type.clone(), blob.digest.clone());
                let descriptor = Descriptor::new(media_type, digest, blob.size);
                Ok((Arc::new(self.registry.blob(holder, &descriptor)), Arrival::Copied))
            }
            (_, _, None) => {
                let (index, digest) = (self.payload.index(), blob.digest.clone());
                let volumes = marker::volumes_of(index, &digest);
                if volumes.is_empty() {
                    return Err(anyhow!("nobody at the far side holds the blob"));
                }
                Err(VolumeVanished { digest, volumes }.into())
            }
        }
    }

    fn report_progress(&self, digest: &Digest, bytes: i64) {
        let (digest, amount) = (digest.clone(), bytes.unsigned_abs());
        self.reporter.report(if bytes < 0 {
            Event::BlobRewound { digest, bytes: amount }
        } else {
            Event::BlobAdvanced { digest, bytes: amount }
        });
    }
}

/// Says that it is the far side whose content is damaged, where it is.
fn blamed_on_far(error: anyhow::Error, repository: &RepositoryName) -> anyhow::Error {
    let is_damage = error.downcast_ref::<Error>().is_some_and(Error::is_damaged_source);
    if is_damage { error.context(FarContent { repository: repository.clone() }) } else { error }
}

impl Sent {
    pub(super) fn count(&mut self, how: Arrival, bytes: u64) {
        match how {
            Arrival::Present => self.present_blobs += 1,
            Arrival::Mounted => self.mounted_blobs += 1,
            Arrival::Packed | Arrival::Saved | Arrival::Read | Arrival::Verified => {}
            Arrival::Uploaded => {
                self.uploaded_blobs += 1;
                self.uploaded_bytes += bytes;
            }
            Arrival::Copied => {
                self.copied_blobs += 1;
                self.copied_bytes += bytes;
            }
            Arrival::Rebuilt => {
                self.rebuilt_blobs += 1;
                self.rebuilt_bytes += bytes;
            }
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            present_blobs: self.present_blobs + other.present_blobs,
            mounted_blobs: self.mounted_blobs + other.mounted_blobs,
            uploaded_blobs: self.uploaded_blobs + other.uploaded_blobs,
            uploaded_bytes: self.uploaded_bytes + other.uploaded_bytes,
            copied_blobs: self.copied_blobs + other.copied_blobs,
            copied_bytes: self.copied_bytes + other.copied_bytes,
            rebuilt_blobs: self.rebuilt_blobs + other.rebuilt_blobs,
            rebuilt_bytes: self.rebuilt_bytes + other.rebuilt_bytes,
        }
    }
}
