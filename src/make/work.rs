//! Blobs and deltas that a run keeps in named files of the work folder until its payload is complete,
//! so that a run after it need not fetch or make them again.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::digest::{Digest, Hasher};
use crate::layer::MadeLayer;
use crate::manifest::Descriptor;
use crate::verified::VerifiedReader;
use crate::window::Window;

/// What the folder of a run is called in front of its key.
const PREFIX: &str = "kharon-";
/// So many digits of the key stand in the name.
const KEY_DIGITS: usize = 16;

/// The folder of one run.
#[derive(Clone, Debug)]
pub(super) struct WorkFolder(PathBuf);

/// A delta in a file, proved to give its blob.
#[derive(Clone, Debug)]
pub(super) struct ProvedDelta {
    pub(super) entry: Arc<File>,
    pub(super) entry_bytes: u64,
    pub(super) entry_digest: Digest,
    /// The blobs that it is made against.
    pub(super) baselines: Vec<Digest>,
}

impl From<MadeLayer> for ProvedDelta {
    fn from(made: MadeLayer) -> Self {
        let MadeLayer { entry, entry_bytes, entry_digest, baselines, .. } = made;
        Self { entry, entry_bytes, entry_digest, baselines }
    }
}

/// What was decided about a blob.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It travels as this delta, which was proved.
    Delta(ProvedDelta),
    /// It travels raw.
    Raw,
}

/// A verdict as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Absent where the blob travels raw.
    delta: Option<WrittenDelta>,
}

#[derive(Serialize, Deserialize)]
struct WrittenDelta {
    bytes: u64,
    digest: Digest,
    baselines: Vec<Digest>,
}

/// Makes a folder for its user only.
#[cfg(unix)]
fn new_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Elsewhere folders have the rights of the one that they are in.
#[cfg(not(unix))]
fn new_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

impl WorkFolder {
    /// The folder in `workdir` for the run that `request` names, towards `payload`.
    pub(super) fn new(workdir: &Path, payload: &Path, request: &str) -> Self {
        let payload = std::path::absolute(payload).unwrap_or_else(|_| payload.to_owned());
        let key = Digest::of(format!("{request} {}", payload.display()).as_bytes());
        Self(workdir.join(format!("{PREFIX}{}", &key.hex()[..KEY_DIGITS])))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes everything in it.
    pub(super) fn remove(&self) {
        // What cannot be removed only takes room.
        let _ = fs::remove_dir_all(&self.0);
    }

    /// The folder that a plan names, if that is what such folders are called.
    pub(super) fn named(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let key = name.strip_prefix(PREFIX)?;
        let is_key = key.len() == KEY_DIGITS && key.chars().all(|digit| digit.is_ascii_hexdigit());
        is_key.then_some(Self(path))
    }

    /// Makes the folder, for its user only: what is in it is believed once it was proved.
    fn create(&self) -> io::Result<()> {
        match new_folder(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.is_own() => Ok(()),
            created => created,
        }
    }

    /// Whether nobody else can have put anything into it.
    fn is_own(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let Ok(found) = fs::symlink_metadata(&self.0) else { return false };
            let own = rustix::process::geteuid().as_raw();
            found.is_dir() && found.uid() == own && found.mode() & 0o022 == 0
        }
        #[cfg(not(unix))]
        {
            self.0.is_dir()
        }
    }

    /// The whole blob, if it is here and is what its digest says.
    pub(super) fn blob(&self, blob: &Descriptor) -> Option<File> {
        let file = File::open(self.0.join(blob.digest.blob_path())).ok()?;
        let mut verified = VerifiedReader::new(&file, blob.digest.clone(), blob.size);
        io::copy(&mut verified, &mut io::sink()).ok()?;
        verified.finish().ok()?;
        Some(file)
    }

    /// A file for the blob, to be kept when it is whole.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new_blob(&self, blob: &Digest) -> io::Result<(NamedTempFile, PathBuf)> {
        self.create()?;
        let path = self.0.join(blob.blob_path());
        let folder = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)?;
        Ok((NamedTempFile::new_in(folder)?, path))
    }

    /// What was decided about a blob, if that is here and as it was left.
    pub(super) fn verdict(&self, blob: &Digest) -> Option<Verdict> {
        if !self.is_own() {
            return None;
        }
        let json = fs::read(self.verdict_path(blob)).ok()?;
        let Written { delta } = serde_json::from_slice(&json).ok()?;
        let Some(WrittenDelta { bytes, digest, baselines }) = delta else {
            return Some(Verdict::Raw);
        };
        let entry = Arc::new(File::open(self.delta_path(blob)).ok()?);
        let mut hasher = Hasher::new(digest.algorithm());
        let mut all = Window::new(Arc::clone(&entry), 0, u64::MAX);
        let read = io::copy(&mut all.by_ref().take(bytes + 1), &mut hasher).ok()?;
        (read == bytes && hasher.finish() == digest).then(|| {
            let (entry_bytes, entry_digest) = (bytes, digest);
            Verdict::Delta(ProvedDelta { entry, entry_bytes, entry_digest, baselines })
        })
    }

    /// Keeps what was decided. It is no harm if that fails: it is decided again.
    pub(super) fn keep(&self, blob: &Digest, verdict: &Verdict) {
        let _ = self.try_to_keep(blob, verdict);
    }

    fn try_to_keep(&self, blob: &Digest, verdict: &Verdict) -> io::Result<()> {
        self.create()?;
        let delta = match verdict {
            Verdict::Raw => None,
            Verdict::Delta(made) => {
                let mut file = NamedTempFile::new_in(&self.0)?;
                let mut entry = Window::new(Arc::clone(&made.entry), 0, made.entry_bytes);
                io::copy(&mut entry, &mut file)?;
                file.persist(self.delta_path(blob))?;
                Some(WrittenDelta {
                    bytes: made.entry_bytes,
                    digest: made.entry_digest.clone(),
                    baselines: made.baselines.clone(),
                })
            }
        };
        let mut file = NamedTempFile::new_in(&self.0)?;
        file.write_all(&serde_json::to_vec(&Written { delta })?)?;
        file.persist(self.verdict_path(blob))?;
        Ok(())
    }

    fn verdict_path(&self, blob: &Digest) -> PathBuf {
        self.0.join(format!("{}.json", blob.hex()))
    }

    fn delta_path(&self, blob: &Digest) -> PathBuf {
        self.0.join(format!("{}.delta", blob.hex()))
    }
}
