//! The old blobs that a payload's deltas are applied to: found, and fed to a [`Restorer`].

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::delta::DeltaError;
use crate::digest::Digest;
use crate::disk;
use crate::failure::{FarContent, Hinted};
use crate::manifest::{Descriptor, MediaType};
use crate::payload::Payload;
use crate::progress::{Arrival, Event, Reporter};
use crate::reference::RepositoryName;
use crate::registry::Registry;
use crate::restore::{HINT_DISK, Restorer};
use crate::units::{count, format_bytes};
use crate::verified::mismatch_in;
use crate::verify::Problem;
use crate::watched::Watched;

/// Where the old blobs are that deltas are applied to, beside the repositories that the payload names.
#[derive(Clone, Debug)]
pub struct Baselines {
    /// More repositories of the far registry.
    pub repositories: Vec<RepositoryName>,
    /// OCI image layouts.
    pub folders: Vec<PathBuf>,
    /// Where temporary files lie.
    pub workdir: PathBuf,
}

impl Default for Baselines {
    fn default() -> Self {
        Self { repositories: Vec::new(), folders: Vec::new(), workdir: std::env::temp_dir() }
    }
}

/// Where a baseline is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Raw in the payload.
    Payload,
    /// In an OCI image layout.
    Folder(PathBuf),
    /// In a repository of the far registry.
    Repository(RepositoryName),
}

/// Finds and reads baselines.
pub(crate) struct Finder {
    pub(crate) payload: Arc<Payload>,
    pub(crate) registry: Option<Registry>,
    pub(crate) baselines: Baselines,
    pub(crate) reporter: Arc<dyn Reporter>,
}

impl Finder {
    /// Where the baseline `digest` can be read: in the payload, a folder, or one of these repositories of the
    /// registry and those that were named for all. Nowhere is `None`.
    pub(crate) async fn place(
        &self,
        digest: &Digest,
        repositories: &[RepositoryName],
    ) -> anyhow::Result<Option<Place>> {
        if self.payload.blob(digest).is_some() {
            return Ok(Some(Place::Payload));
        }
        let mut paths = self.baselines.folders.iter().map(|folder| folder.join(digest.blob_path()));
        if let Some(path) = paths.find(|path| path.is_file()) {
            return Ok(Some(Place::Folder(path)));
        }
        let Some(registry) = &self.registry else { return Ok(None) };
        for repository in repositories {
            match registry.can_read_blob(repository, digest).await {
                Ok(true) => return Ok(Some(Place::Repository(repository.clone()))),
                Ok(false) => {}
                // A robot may not be allowed to look everywhere.
                Err(error) if error.is_unauthorized() && repositories.len() > 1 => {
                    self.reporter.warn(format!("cannot look into `{repository}`: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Reads all baselines that `restorer` needs from their places, each once, `jobs` at a time.
    pub(crate) async fn feed_all(
        &self,
        restorer: &Arc<Restorer>,
        places: &BTreeMap<Digest, Place>,
        jobs: usize,
    ) -> anyhow::Result<()> {
        let baselines = restorer.baselines();
        if baselines.is_empty() {
            return Ok(());
        }
        tempfile::tempfile_in(&self.baselines.workdir).with_context(|| self.no_room())?;
        let needed = restorer.disk_bytes(jobs);
        let why = format!("rebuilding layers takes up to {}", format_bytes(needed));
        disk::refuse_full(&self.baselines.workdir, needed, &why, HINT_DISK)?;
        let bytes = baselines.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
        let number = count(baselines.len() as u64, "old blob");
        self.reporter.phase(format!("reading {number} ({})", format_bytes(bytes)));
        self.reporter.report(Event::Total { blobs: baselines.len() as u64, bytes });
        let reads = baselines.iter().map(|(digest, size)| async move {
            let place = places.get(digest);
            let place = place.ok_or_else(|| anyhow!("baseline `{digest}` was not looked for"))?;
            self.feed(restorer, digest, *size, place).await
        });
        // A closure across an await would keep the future from being sent.
        let reads: Vec<_> = reads.collect();
        stream::iter(reads).buffer_unordered(jobs).try_collect().await
    }

    async fn feed(
        &self,
        restorer: &Arc<Restorer>,
        digest: &Digest,
        size: u64,
        place: &Place,
    ) -> anyhow::Result<()> {
        let raw = Watched::new(self.open(digest, size, place)?, digest, size, &self.reporter);
        let (feeding, baseline) = (Arc::clone(restorer), digest.clone());
        let Err(error) = spawn_blocking(move || feeding.feed(&baseline, raw)).await? else {
            let (digest, how) = (digest.clone(), Arrival::Read);
            self.reporter.report(Event::BlobFinished { digest, how });
            return Ok(());
        };
        let mismatch = mismatch_in(&error).cloned();
        let error = anyhow::Error::new(error);
        let is_ours = |cause: &(dyn StdError + 'static)| {
            matches!(cause.downcast_ref(), Some(DeltaError::Workdir(_)))
        };
        if error.chain().any(is_ours) {
            return Err(error.context(self.no_room()));
        }
        Err(match (place, mismatch) {
            (Place::Payload, Some(mismatch)) => {
                error.context(Problem::Content { entry: digest.blob_path(), mismatch })
            }
            (Place::Payload, None) => error,
            (Place::Folder(path), _) => error.context(Hinted::new(
                format!("`{}` does not serve as baseline", path.display()),
                "name another folder with `--baseline-dir`, or none",
            )),
            (Place::Repository(repository), _) => {
                error.context(FarContent { repository: repository.clone() })
            }
        })
    }

    fn open(
        &self,
        digest: &Digest,
        size: u64,
        place: &Place,
    ) -> anyhow::Result<Box<dyn Read + Send>> {
        let gone = || anyhow!("baseline `{digest}` is no longer there");
        Ok(match place {
            Place::Payload => Box::new(self.payload.blob(digest).ok_or_else(gone)?.bytes_from(0)),
            Place::Folder(path) => {
                let file = File::open(path);
                Box::new(file.with_context(|| format!("cannot open `{}`", path.display()))?)
            }
            Place::Repository(repository) => {
                let media_type = MediaType::new("application/octet-stream");
                let blob = Descriptor::new(media_type, digest.clone(), size);
                let registry = self.registry.as_ref().ok_or_else(gone)?;
                Box::new(registry.blob(repository, &blob).blocking(Handle::current()))
            }
        })
    }

    fn no_room(&self) -> Hinted {
        let workdir = self.baselines.workdir.display();
        Hinted::new(format!("cannot keep what deltas need in `{workdir}`"), HINT_DISK)
    }
}
