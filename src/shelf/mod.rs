//! Payloads as a store of many repositories, read in place. No HTTP here.
//!
//! What is here is called as push-payload would call it. Blobs are read in the zips at any offset; those that
//! travelled as deltas are rebuilt when they are asked for, each once at a time, and kept in a bounded
//! cache. Old blobs that deltas need, and blobs that the payloads expect at the far side, are looked for in
//! the other payloads and in folders.
//!
//! It promises that whoever reads a blob to its end, or a part of one that was checked, has what the digest
//! says. Of several payloads the later counts for tags.

mod cache;
mod content;
mod lacking;
mod names;
mod rebuild;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use cache::Cache;
pub use cache::DEFAULT_CACHE_BYTES;
pub(crate) use content::Content;
use content::{Checking, Origin};
use names::Names;
use rebuild::Running;

use crate::digest::Digest;
use crate::failure::Usage;
use crate::manifest::{Descriptor, Manifest};
use crate::names::TargetNames;
use crate::payload::{Payload, Travels};
use crate::progress::Reporter;
use crate::reference::{RepositoryName, Tag, TagOrDigest};
use crate::restore::rebuilds_at_once;

/// How often a blob is tried to be had from another copy, where one after the other turns out to be damaged.
const COPIES_TRIED_MAX: usize = 8;

/// What is to be served, and what with.
#[derive(Debug)]
pub struct ShelfRequest {
    /// The payloads, volumes joined; later ones lie over earlier ones.
    pub payloads: Vec<Payload>,
    /// How their repositories are called.
    pub names: TargetNames,
    /// OCI image layouts with blobs that the payloads lack.
    pub folders: Vec<PathBuf>,
    /// Where temporary files lie.
    pub workdir: PathBuf,
    /// Where rebuilt blobs are kept; nowhere for longer than this runs if not given.
    pub cache: Option<PathBuf>,
    /// How many bytes of rebuilt blobs are kept at most.
    pub cache_bytes: u64,
}

impl ShelfRequest {
    /// These payloads with everything as usual.
    pub fn new(payloads: Vec<Payload>) -> Self {
        Self {
            payloads,
            names: TargetNames::default(),
            folders: Vec::new(),
            workdir: std::env::temp_dir(),
            cache: None,
            cache_bytes: DEFAULT_CACHE_BYTES,
        }
    }
}

/// A blob that cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Absent {
    /// No payload lists it.
    #[error("no blob {0} here")]
    Unknown(Digest),
    /// A payload expects it at the far side.
    #[error("blob {digest} is not in `{payload}`, which expects it at the far side")]
    Expected { digest: Digest, payload: String },
    /// What it is to be rebuilt from is not here.
    #[error(
        "blob {digest} has to be rebuilt from old blobs that are not here: {}",
        list(baselines)
    )]
    NoBaseline { digest: Digest, baselines: Vec<Digest> },
    /// A payload holds other bytes.
    #[error("the registry's copy of {0} is damaged")]
    Damaged(Digest),
    /// It cannot be rebuilt.
    #[error("blob {0} cannot be rebuilt")]
    Unrestorable(Digest),
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Payloads that are open.
pub struct Shelf {
    payloads: Vec<Payload>,
    names: Names,
    folders: Vec<PathBuf>,
    workdir: PathBuf,
    cache: Cache,
    /// The size in bytes of each blob that a payload lists.
    sizes: HashMap<Digest, u64>,
    /// Which payloads bring a blob as a delta, and where their index lists it; later ones first.
    deltas: HashMap<Digest, Vec<(usize, usize)>>,
    running: Mutex<HashMap<Digest, Running>>,
    rebuilding: Semaphore,
    /// Copies that were read to their end and are right.
    checked: Mutex<HashSet<(Origin, Digest)>>,
    /// Copies that turned out to be something else.
    damaged: Mutex<HashSet<(Origin, Digest)>>,
    /// Deltas that cannot be used, as in `deltas`.
    damaged_deltas: Mutex<HashSet<(usize, usize)>>,
    /// How often a copy or a delta was found that is not used any more.
    set_asides: AtomicU64,
    checking: Mutex<HashMap<(Origin, Digest), Checking>>,
    reporter: Arc<dyn Reporter>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("payloads", &self.payloads).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Makes what `request` names ready. Blocks.
    ///
    /// # Errors
    /// [`Usage`] where volumes are missing or names collide; when the cache's folder cannot be used.
    pub fn open(request: ShelfRequest, reporter: Arc<dyn Reporter>) -> anyhow::Result<Self> {
        let ShelfRequest { payloads, names, folders, workdir, cache, cache_bytes } = request;
        for payload in &payloads {
            refuse_incomplete(payload)?;
        }
        let names = Names::of(&payloads, &names)?;
        let mut sizes = HashMap::new();
        let mut deltas: HashMap<Digest, Vec<(usize, usize)>> = HashMap::new();
        for (at, payload) in payloads.iter().enumerate().rev() {
            let index = payload.index();
            sizes.extend(index.sizes().into_iter().map(|(digest, size)| (digest.clone(), size)));
            for (nth, blob) in index.blobs.iter().enumerate() {
                if matches!(blob.travels, Travels::Delta { .. }) {
                    deltas.entry(blob.digest.clone()).or_default().push((at, nth));
                }
            }
        }
        let cache = Cache::open(cache.as_deref(), &workdir, cache_bytes)?;
        Ok(Self {
            payloads,
            names,
            folders,
            workdir,
            cache,
            sizes,
            deltas,
            running: Mutex::default(),
            rebuilding: Semaphore::new(rebuilds_at_once()),
            checked: Mutex::default(),
            damaged: Mutex::default(),
            damaged_deltas: Mutex::default(),
            set_asides: AtomicU64::new(0),
            checking: Mutex::default(),
            reporter,
        })
    }

    /// All repositories, sorted.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.names.repositories()
    }

    /// All tags of a repository, sorted; `None` if there is no such repository.
    pub(crate) fn tags(&self, repository: &RepositoryName) -> Option<impl Iterator<Item = &Tag>> {
        self.names.tags(repository)
    }

    /// A manifest of a repository.
    pub(crate) fn find(
        &self,
        repository: &RepositoryName,
        what: &TagOrDigest,
    ) -> Option<&Manifest> {
        let (digest, payload) = self.names.find(repository, what)?;
        self.payloads.get(payload)?.manifest(digest)
    }

    /// The manifests of a repository that refer to `subject`.
    pub(crate) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> impl Iterator<Item = Descriptor> {
        let digests = self.names.referrers(repository, subject);
        let found = digests.filter_map(|digest| {
            let manifest = self.find(repository, &TagOrDigest::Digest(digest.clone()))?;
            Some(manifest.descriptor.clone())
        });
        found.collect::<Vec<_>>().into_iter()
    }

    /// The size of a blob in bytes, without having it rebuilt.
    pub(crate) async fn size_bytes(self: &Arc<Self>, digest: &Digest) -> Result<u64, Absent> {
        let (store, digest) = (Arc::clone(self), digest.clone());
        let failed = Absent::Unrestorable(digest.clone());
        let look = move || {
            let size_bytes = store.listed(&digest)?;
            if store.at_hand(&digest).is_some() || store.cache.has(&digest) {
                return Ok(size_bytes);
            }
            store.plan(&digest).map(|_| size_bytes)
        };
        spawn_blocking(look).await.unwrap_or(Err(failed))
    }

    /// A blob, rebuilt if it must be.
    pub(crate) async fn content(self: &Arc<Self>, digest: &Digest) -> Result<Content, Absent> {
        let mut tries = Tries::of(self);
        loop {
            let found = self.first_content(digest).await;
            if found.is_ok() || !tries.go_on(self) {
                return found;
            }
        }
    }

    async fn first_content(self: &Arc<Self>, digest: &Digest) -> Result<Content, Absent> {
        let (store, wanted) = (Arc::clone(self), digest.clone());
        let look = move || {
            store.listed(&wanted)?;
            match store.at_hand(&wanted).or_else(|| store.cached(&wanted)) {
                Some(content) => Ok(Ok(content)),
                None => store.plan(&wanted).map(Err),
            }
        };
        let found = spawn_blocking(look).await;
        match found.unwrap_or_else(|_| Err(Absent::Unrestorable(digest.clone())))? {
            Ok(content) => Ok(content),
            Err(plan) => self.carry_out(digest, plan).await,
        }
    }

    fn listed(&self, digest: &Digest) -> Result<u64, Absent> {
        self.sizes.get(digest).copied().ok_or_else(|| Absent::Unknown(digest.clone()))
    }

    /// A blob that needs not be rebuilt: in a payload, later ones first, or in a folder.
    fn at_hand(&self, digest: &Digest) -> Option<Content> {
        let size_bytes = *self.sizes.get(digest)?;
        let carried = self.payloads.iter().enumerate().rev().find_map(|(at, payload)| {
            let origin = Origin::Payload(at);
            if self.is_damaged(&origin, digest) {
                return None;
            }
            Some(Content::of_entry(digest, payload.blob(digest)?, origin))
        });
        carried.or_else(|| {
            self.folders.iter().find_map(|folder| {
                let origin = Origin::Folder(folder.clone());
                if self.is_damaged(&origin, digest) {
                    return None;
                }
                Content::of_folder(digest, size_bytes, folder, origin)
            })
        })
    }

    fn cached(&self, digest: &Digest) -> Option<Content> {
        let size_bytes = *self.sizes.get(digest)?;
        let file = self.cache.get(digest, size_bytes)?;
        Some(Content::of_file(digest, size_bytes, file, Origin::Cache))
    }

    fn is_damaged(&self, origin: &Origin, digest: &Digest) -> bool {
        let damaged = lock(&self.damaged);
        !damaged.is_empty() && damaged.contains(&(origin.clone(), digest.clone()))
    }

    /// What messages call a place of blobs.
    fn called(&self, origin: &Origin) -> String {
        match origin {
            Origin::Payload(at) => {
                self.payloads.get(*at).map(|payload| payload.name().to_owned()).unwrap_or_default()
            }
            Origin::Folder(folder) => folder.display().to_string(),
            Origin::Cache => self.cache.folder().display().to_string(),
        }
    }
}

/// Something that is tried again as long as it fails for a copy or a delta that is not used any more after that.
struct Tries {
    left: usize,
    set_asides: u64,
}

impl Tries {
    fn of(store: &Shelf) -> Self {
        Self { left: COPIES_TRIED_MAX, set_asides: store.set_asides.load(Ordering::Acquire) }
    }

    /// Whether another copy may do.
    fn go_on(&mut self, store: &Shelf) -> bool {
        let set_asides = store.set_asides.load(Ordering::Acquire);
        self.left = self.left.saturating_sub(1);
        self.left > 0 && std::mem::replace(&mut self.set_asides, set_asides) != set_asides
    }
}

fn refuse_incomplete(payload: &Payload) -> Result<(), Usage> {
    let missing: Vec<String> = payload.missing_volumes().iter().map(u32::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message =
        format!("payload `{}` is one of several volumes, not all are here", payload.name());
    Err(Usage::new(message).with_hint(format!("name volume {} too", missing.join(" and "))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
