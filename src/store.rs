//! Whole blobs, for deltas and conversions, read from the nearest place that has them.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use tempfile::NamedTempFile;
use tokio::runtime::Handle;

use crate::digest::Digest;
use crate::failure::FromRegistry;
use crate::manifest::Descriptor;
use crate::payload::Payload;
use crate::progress::Reporter;
use crate::registry::RemoteBlob;
use crate::verified::{VerifiedReader, mismatch_in};
use crate::watched::Watched;

/// Everything that may hold a blob, the nearest first.
pub(crate) struct Store {
    /// Keeps what was read from elsewhere; laid out as an OCI image layout's `blobs`.
    pub(crate) cache: Option<PathBuf>,
    /// OCI image layouts.
    pub(crate) folders: Vec<PathBuf>,
    /// Former payloads.
    pub(crate) payloads: Vec<Payload>,
    pub(crate) reporter: Arc<dyn Reporter>,
    pub(crate) runtime: Handle,
}

impl Store {
    /// Gives the blob's bytes, checked, to `take`, which reads them to their end. Blocks.
    ///
    /// # Errors
    /// What the last place that should have the blob answers; `take` may be called for each.
    pub(crate) fn read<T>(
        &self,
        blob: &Descriptor,
        remotes: &[RemoteBlob],
        take: impl Fn(&mut (dyn Read + Send)) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut failed = anyhow!("no place is known that has it");
        let path = blob.digest.blob_path();
        for folder in self.cache.iter().chain(&self.folders) {
            let Ok(file) = File::open(folder.join(&path)) else { continue };
            match self.pass(Tee::none(file), blob, &take) {
                Ok(taken) => return Ok(taken),
                Err(error) => failed = error.context(format!("in `{}`", folder.display())),
            }
        }
        for payload in &self.payloads {
            let Some(reader) = payload.blob(&blob.digest) else { continue };
            match self.pass(Tee::none(reader.bytes_from(0)), blob, &take) {
                Ok(taken) => return Ok(taken),
                Err(error) => failed = error.context(format!("in `{}`", payload.name())),
            }
        }
        for remote in remotes {
            match self.read_from(remote.clone().blocking(self.runtime.clone()), blob, &take) {
                Ok(taken) => return Ok(taken),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Gives bytes that a registry sends, checked, to `take`, and keeps them in the cache. Blocks.
    ///
    /// # Errors
    /// When they are not the blob's, and whatever `take` runs into.
    pub(crate) fn read_from<T>(
        &self,
        bytes: impl Read + Send,
        blob: &Descriptor,
        take: impl Fn(&mut (dyn Read + Send)) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let copy = self.cache.as_ref().and_then(|cache| Copy::begin(cache, &blob.digest));
        self.pass(Tee { bytes, copy }, blob, take).map_err(blame_registry)
    }

    /// Whether a blob may be somewhere nearer than a registry.
    pub(crate) fn may_have(&self, digest: &Digest) -> bool {
        let path = digest.blob_path();
        self.cache.iter().chain(&self.folders).any(|folder| folder.join(&path).is_file())
            || self.payloads.iter().any(|payload| payload.blob(digest).is_some())
    }

    fn pass<T, R: Read + Send>(
        &self,
        mut bytes: Tee<R>,
        blob: &Descriptor,
        take: impl Fn(&mut (dyn Read + Send)) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let digest = &blob.digest;
        let mut watched = Watched::new(&mut bytes, digest, blob.size, &self.reporter);
        let mut verified = VerifiedReader::new(&mut watched, digest.clone(), blob.size);
        let taken = take(&mut verified).and_then(|taken| {
            // What is behind the end of the packing must be right as well.
            verified.finish()?;
            Ok(taken)
        });
        if taken.is_ok() {
            bytes.keep();
        } else {
            watched.rewind();
        }
        taken
    }
}

/// Says where content came from that is not what its digest says.
fn blame_registry(error: anyhow::Error) -> anyhow::Error {
    match mismatch_in(error.as_ref()).cloned() {
        Some(mismatch) => error.context(FromRegistry(mismatch)),
        None => error,
    }
}

/// Reads bytes and writes what passes into the cache. A cache that fails costs only time, so it is
/// given up quietly.
struct Tee<R> {
    bytes: R,
    copy: Option<Copy>,
}

impl<R> Tee<R> {
    fn none(bytes: R) -> Self {
        Self { bytes, copy: None }
    }

    fn keep(self) {
        if let Some(Copy { file, path }) = self.copy {
            // Whatever keeps the file from its place, it is gone then.
            let _ = file.persist(path);
        }
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        let bytes = &buffer[..count];
        self.copy.take_if(|copy| copy.file.write_all(bytes).is_err());
        Ok(count)
    }
}

/// A blob on its way into the cache.
struct Copy {
    file: NamedTempFile,
    path: PathBuf,
}

impl Copy {
    fn begin(cache: &Path, digest: &Digest) -> Option<Self> {
        let path = cache.join(digest.blob_path());
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        Some(Self { file: NamedTempFile::new_in(folder).ok()?, path })
    }
}
