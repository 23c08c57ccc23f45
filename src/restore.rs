//! Restores blobs from the deltas of a payload.
//!
//! Each baseline is streamed once into every delta that needs it, which keeps only what it needs, on
//! disk; then each blob is rebuilt on its own. Where baselines come from is the caller's matter. All
//! methods block, and may be called from several threads at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::delta::{BlobNeeds, Intake, Needs, Spool};
use crate::digest::Digest;
use crate::layer::{LayerDelta, LayerError};
use crate::payload::{Blob, Payload, Travels, delta_entry_name};
use crate::unpack::plain_reader;
use crate::verified::VerifiedReader;
use crate::window::Window;

/// What to do about a work folder that fails.
pub(crate) const HINT_DISK: &str = "free some space there, or name another folder with `--workdir`";
/// How much of a baseline is handled at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// More blobs are not rebuilt at once, however many processors there are.
const REBUILDS_MAX: usize = 3;

/// How many blobs are rebuilt at once, each within 160 MiB.
pub(crate) fn rebuilds_at_once() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).min(REBUILDS_MAX)
}

/// Deltas of a payload and what has come of their baselines.
pub struct Restorer {
    layers: BTreeMap<Digest, Layer>,
    baselines: BTreeMap<Digest, u64>,
    workdir: PathBuf,
}

struct Layer {
    delta: LayerDelta<'static>,
    spool: Mutex<Spool>,
    blob_bytes: u64,
}

/// The delta of one blob, ready to be restored from.
pub struct OpenDelta {
    blob: Digest,
    blob_bytes: u64,
    delta: LayerDelta<'static>,
    needs: Needs,
}

/// A delta that cannot be restored, named by its entry.
#[derive(Debug, thiserror::Error)]
#[error("`{entry}`: cannot rebuild blob `{digest}`")]
pub struct Unrestorable {
    /// The entry of the payload.
    pub entry: String,
    /// The blob that it should give.
    pub digest: Digest,
    /// Why not.
    #[source]
    pub source: Box<LayerError>,
}

impl Unrestorable {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match &*self.source {
            LayerError::Version { .. } => Some("use a newer kharon at this side".to_owned()),
            source if source.is_disk() => Some(HINT_DISK.to_owned()),
            source if source.is_damage() => {
                Some("the payload is damaged or was made wrong: check it with `kharon verify`, carry it again".to_owned())
            }
            _ => None,
        }
    }
}

/// A baseline that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use baseline `{digest}`")]
pub struct UnusableBaseline {
    /// The blob.
    pub digest: Digest,
    /// Why not.
    #[source]
    pub source: anyhow::Error,
}

impl OpenDelta {
    /// Opens the delta of `payload` that rebuilds `blob`.
    ///
    /// # Errors
    /// [`Unrestorable`] if there is none, it is damaged, or it needs other baselines than the payload's index
    /// says.
    pub fn new(payload: &Payload, blob: &Blob) -> Result<Self, Unrestorable> {
        Self::open(payload, blob).map_err(|error| unrestorable(&blob.digest, error))
    }

    /// Opens the delta of `entry_bytes` bytes in a file that rebuilds `blob`.
    ///
    /// # Errors
    /// As [`OpenDelta::new`].
    pub fn of_entry(entry: Arc<File>, entry_bytes: u64, blob: &Blob) -> Result<Self, Unrestorable> {
        let open = move |from| -> Box<dyn Read + Send> {
            Box::new(Window::new(Arc::clone(&entry), from, entry_bytes.saturating_sub(from)))
        };
        Self::of(open, entry_bytes, blob).map_err(|error| unrestorable(&blob.digest, error))
    }

    fn open(payload: &Payload, blob: &Blob) -> Result<Self, LayerError> {
        let missing = || LayerError::Entry(io::ErrorKind::NotFound.into());
        let entry = payload.delta(&blob.digest).ok_or_else(missing)?;
        let entry_bytes = entry.size_bytes();
        let open = move |from| -> Box<dyn Read + Send> { Box::new(entry.clone().bytes_from(from)) };
        Self::of(open, entry_bytes, blob)
    }

    fn of(
        open: impl Fn(u64) -> Box<dyn Read + Send> + Send + Sync + 'static,
        entry_bytes: u64,
        blob: &Blob,
    ) -> Result<Self, LayerError> {
        let missing = || LayerError::Entry(io::ErrorKind::NotFound.into());
        let Travels::Delta { baselines } = &blob.travels else { return Err(missing()) };
        let delta = LayerDelta::new(open, entry_bytes, blob.digest.clone(), blob.size)?;
        let needs = delta.needs()?;
        if !needs.blobs.iter().map(|needs| &needs.digest).eq(baselines) {
            return Err(LayerError::OtherBaselines);
        }
        Ok(Self { blob: blob.digest.clone(), blob_bytes: blob.size, delta, needs })
    }
}

impl Restorer {
    /// Restores from `deltas` of `payload`; temporary files will lie in `workdir`.
    pub fn new(payload: &Payload, deltas: Vec<OpenDelta>, workdir: &Path) -> Self {
        let sizes = payload.index().sizes();
        let mut restorer = Self {
            layers: BTreeMap::new(),
            baselines: BTreeMap::new(),
            workdir: workdir.to_owned(),
        };
        for OpenDelta { blob, blob_bytes, delta, needs } in deltas {
            for BlobNeeds { digest, .. } in &needs.blobs {
                let size_bytes = sizes.get(digest).copied().unwrap_or_default();
                restorer.baselines.insert(digest.clone(), size_bytes);
            }
            let spool = Mutex::new(Spool::new(needs, workdir));
            restorer.layers.insert(blob, Layer { delta, spool, blob_bytes });
        }
        restorer
    }

    /// The baselines that are needed, and their sizes in bytes.
    pub fn baselines(&self) -> &BTreeMap<Digest, u64> {
        &self.baselines
    }

    /// The blobs that can be restored, and their sizes in bytes.
    pub fn blobs(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.layers.iter().map(|(digest, layer)| (digest, layer.blob_bytes))
    }

    /// What temporary files take at most, in bytes, while `at_once` blobs are rebuilt and kept at a time.
    pub fn disk_bytes(&self, at_once: usize) -> u64 {
        let layers = self.layers.values().map(|layer| {
            let (spool, blob_bytes) = (lock(&layer.spool), layer.blob_bytes);
            let needs = spool.needs();
            (needs.size_bytes(), needs.output_bytes.saturating_add(blob_bytes))
        });
        let (needed, mut rebuilding): (Vec<u64>, Vec<u64>) = layers.unzip();
        rebuilding.sort_unstable_by(|left, right| right.cmp(left));
        needed.into_iter().chain(rebuilding.into_iter().take(at_once)).fold(0, u64::saturating_add)
    }

    /// Takes what the deltas need of the baseline `digest` out of `raw`, the blob as it is at a registry.
    ///
    /// # Errors
    /// [`UnusableBaseline`], also when it is another blob than its digest says.
    pub fn feed(&self, digest: &Digest, raw: impl Read + Send) -> Result<(), UnusableBaseline> {
        self.take_in(digest, raw)
            .map_err(|source| UnusableBaseline { digest: digest.clone(), source })
    }

    fn take_in(&self, digest: &Digest, raw: impl Read + Send) -> anyhow::Result<()> {
        let size_bytes = self.baselines.get(digest).copied().unwrap_or_default();
        let mut intakes: Vec<(&Layer, Intake)> = Vec::new();
        for layer in self.layers.values() {
            let spool = lock(&layer.spool);
            if spool.needs().blobs.iter().any(|needs| needs.digest == *digest) {
                let intake = spool.intake(digest)?;
                drop(spool);
                intakes.push((layer, intake));
            }
        }
        let mut raw = VerifiedReader::new(raw, digest.clone(), size_bytes);
        let mut plain = plain_reader(&mut raw)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        while intakes.iter().any(|(_, intake)| !intake.is_full()) {
            let count = match plain.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    drop(plain);
                    // What is wrong with its bytes says more than what came of them.
                    raw.finish()?;
                    return Err(error.into());
                }
            };
            for (_, intake) in &mut intakes {
                intake.take(&buffer[..count])?;
            }
        }
        drop(plain);
        // Only a blob that is right to its end is known to be the one that was meant.
        raw.finish()?;
        for (layer, intake) in intakes {
            lock(&layer.spool).keep(intake)?;
        }
        Ok(())
    }

    /// Writes the blob `digest` to `out`. All its baselines must have been fed.
    ///
    /// # Errors
    /// [`Unrestorable`], also when something else comes out; what was written is worth nothing then.
    pub fn restore(&self, digest: &Digest, out: impl Write + Send) -> Result<(), Unrestorable> {
        let none = || LayerError::Entry(io::ErrorKind::NotFound.into());
        let layer = self.layers.get(digest).ok_or_else(none);
        let restored =
            layer.and_then(|layer| layer.delta.rebuild(&lock(&layer.spool), &self.workdir, out));
        restored.map_err(|error| unrestorable(digest, error))
    }
}

fn unrestorable(digest: &Digest, source: LayerError) -> Unrestorable {
    let source = Box::new(source);
    Unrestorable { entry: delta_entry_name(digest), digest: digest.clone(), source }
}

fn lock(spool: &Mutex<Spool>) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}
