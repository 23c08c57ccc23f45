//! Restores blobs from the deltas of a payload.
//!
//! Each baseline is streamed once into every delta that needs it, which keeps only what it needs, on
//! disk; then each blob is rebuilt on its own. Where baselines come from is the caller's matter. All
//! methods block, and may be called from several threads at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::delta::{Intake, Spool};
use crate::digest::Digest;
use crate::layer::{LayerDelta, LayerError};
use crate::payload::{Blob, Payload, Travels, delta_entry_name};
use crate::unpack::plain_reader;
use crate::verified::VerifiedReader;

/// What to do about a work folder that fails.
pub(crate) const HINT_DISK: &str = "free some space there, or name another folder with `--workdir`";
/// How much of a baseline is handled at a time.
const BUFFER_BYTES: usize = 256 << 10;

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
    plain_bytes: u64,
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

impl Restorer {
    /// Opens the deltas of `payload` that rebuild `blobs`; temporary files will lie in `workdir`.
    ///
    /// # Errors
    /// [`Unrestorable`] for a delta that is damaged or needs other baselines than the payload's index says.
    pub fn open(
        payload: &Payload,
        blobs: &BTreeSet<&Digest>,
        workdir: &Path,
    ) -> Result<Self, Unrestorable> {
        let index = payload.index();
        let sizes = index.sizes();
        let mut restorer = Self {
            layers: BTreeMap::new(),
            baselines: BTreeMap::new(),
            workdir: workdir.to_owned(),
        };
        for blob in index.blobs.iter().filter(|blob| blobs.contains(&blob.digest)) {
            let Travels::Delta { baselines } = &blob.travels else { continue };
            let layer = restorer.layer(payload, blob, baselines);
            restorer
                .layers
                .insert(blob.digest.clone(), layer.map_err(|e| unrestorable(&blob.digest, e))?);
            for digest in baselines {
                let size_bytes = sizes.get(digest).copied().unwrap_or_default();
                restorer.baselines.insert(digest.clone(), size_bytes);
            }
        }
        Ok(restorer)
    }

    fn layer(
        &self,
        payload: &Payload,
        blob: &Blob,
        baselines: &[Digest],
    ) -> Result<Layer, LayerError> {
        let missing = || LayerError::Entry(io::ErrorKind::NotFound.into());
        let entry = payload.delta(&blob.digest).ok_or_else(missing)?;
        let entry_bytes = entry.size_bytes();
        let open = move |from| -> Box<dyn Read + Send> { Box::new(entry.clone().bytes_from(from)) };
        let delta = LayerDelta::new(open, entry_bytes, blob.digest.clone(), blob.size)?;
        let needs = delta.needs()?;
        if !needs.blobs.iter().map(|needs| &needs.digest).eq(baselines) {
            return Err(LayerError::OtherBaselines);
        }
        let plain_bytes = needs.output_bytes;
        let spool = Mutex::new(Spool::new(needs, &self.workdir));
        Ok(Layer { delta, spool, blob_bytes: blob.size, plain_bytes })
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
        let needed = |layer: &Layer| lock(&layer.spool).needs().size_bytes();
        let mut rebuilding: Vec<u64> = self
            .layers
            .values()
            .map(|layer| layer.plain_bytes.saturating_add(layer.blob_bytes))
            .collect();
        rebuilding.sort_unstable_by(|left, right| right.cmp(left));
        let needed = self.layers.values().map(needed);
        needed.chain(rebuilding.into_iter().take(at_once)).fold(0, u64::saturating_add)
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
                Err(error) => return Err(error.into()),
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
