//! Blobs on their way in: sessions whose bytes stand in `.kharon/uploads` until their digest is right.
//!
//! Every byte that was written counts, however the connection that brought it ended. One writer at
//! a time: a newer request takes a session over from an older one, whose connection may hang
//! without anybody having noticed. A session that is let go takes its file with it.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{Error, Layout};
use crate::digest::{Algorithm, Digest, Hasher, Mismatch};
use crate::reference::RepositoryName;

/// How many sessions may be open: each holds a file open, and systems allow 1,024 to a process.
const SESSIONS_MAX: usize = 256;
/// How long a session may be idle before its place and its bytes are given up.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// Names a session; cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId(u128);

/// A text that names no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the identifier of an upload session")]
pub struct InvalidUploadId;

impl FromStr for UploadId {
    type Err = InvalidUploadId;

    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let id = u128::from_str_radix(&digits, 16).map(Self).map_err(|_| InvalidUploadId)?;
        if id.to_string() == text { Ok(id) } else { Err(InvalidUploadId) }
    }
}

/// In the form of a UUID, as the distribution-spec wants it.
impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..16]);
        write!(f, "{a}-{b}-{c}-{}-{}", &digits[16..20], &digits[20..])
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All sessions of a layout.
#[derive(Debug)]
pub struct Uploads {
    folder: PathBuf,
    sessions: Mutex<HashMap<UploadId, Arc<Session>>>,
    secret: RandomState,
    started: AtomicU64,
}

/// Why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NoSession {
    /// Too many are open.
    #[error("expected at most {SESSIONS_MAX} uploads at a time")]
    TooMany,
    /// The disk refuses.
    #[error(transparent)]
    Layout(#[from] Error),
}

impl Uploads {
    /// No sessions, for `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self {
            folder: layout.uploads_folder(),
            sessions: Mutex::default(),
            secret: RandomState::new(),
            started: AtomicU64::new(0),
        }
    }

    /// Opens a session of a repository for content that will have a digest of `algorithm`. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// [`NoSession`]: too many are open, or the disk refuses.
    pub fn start(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Arc<Session>, NoSession> {
        self.drop_idle(Instant::now());
        if self.sessions().len() >= SESSIONS_MAX {
            return Err(NoSession::TooMany);
        }
        let id = self.new_id();
        let path = self.folder.join(id.to_string());
        let file = File::options().read(true).append(true).create_new(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        let received_bytes = Arc::new(AtomicU64::new(0));
        let hasher = Hasher::new(algorithm);
        let writer = Writer {
            path,
            file,
            hasher,
            algorithm,
            received_bytes: Arc::clone(&received_bytes),
            state: State::Open,
        };
        let session = Arc::new(Session {
            id,
            repository: repository.clone(),
            received_bytes,
            touched: Mutex::new(Instant::now()),
            turns: watch::Sender::new(0),
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
        });
        self.sessions().insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// An open session of a repository.
    pub fn get(&self, repository: &RepositoryName, id: UploadId) -> Option<Arc<Session>> {
        let session = self.sessions().get(&id).cloned()?;
        (session.repository == *repository).then_some(session)
    }

    /// Lets a session go; its file goes with the last request that still writes to it.
    pub fn remove(&self, id: UploadId) -> Option<Arc<Session>> {
        self.sessions().remove(&id)
    }

    /// Lets sessions go that nothing was written to for an hour.
    pub fn drop_idle(&self, now: Instant) {
        self.sessions().retain(|_, session| {
            let touched = *session.touched.lock().unwrap_or_else(PoisonError::into_inner);
            now.saturating_duration_since(touched) < IDLE_MAX
        });
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> UploadId {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let half = |which: u8| u128::from(self.secret.hash_one((number, which)));
        UploadId((half(0) << 64) | half(1))
    }
}

/// One blob on its way in.
#[derive(Debug)]
pub struct Session {
    id: UploadId,
    repository: RepositoryName,
    received_bytes: Arc<AtomicU64>,
    touched: Mutex<Instant>,
    turns: watch::Sender<u64>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
}

impl Session {
    /// Its name.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// How many bytes have been written.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Acquire)
    }

    /// Takes the session over from whoever writes to it.
    pub async fn take_over(&self) -> Turn {
        self.touch();
        self.turns.send_modify(|turn| *turn += 1);
        let next = self.turns.subscribe();
        Turn { writer: Arc::clone(&self.writer).lock_owned().await, next }
    }

    /// Notes that the session is in use.
    pub fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The right to write to a session until another request takes it over.
#[derive(Debug)]
pub struct Turn {
    /// Held for one write at a time; moved to the thread that writes.
    pub writer: OwnedMutexGuard<Writer>,
    /// Changes when another request takes the session over.
    pub next: watch::Receiver<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Finished,
}

/// Why a session did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// The bytes are others.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The disk refuses.
    #[error(transparent)]
    Layout(#[from] Error),
}

/// The file of a session and the hash of what stands in it. Blocks on the disk.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    algorithm: Algorithm,
    received_bytes: Arc<AtomicU64>,
    state: State,
}

impl Writer {
    /// How many bytes have been written; `None` if the session has ended.
    pub fn position(&self) -> Option<u64> {
        (self.state == State::Open).then(|| self.received_bytes.load(Ordering::Acquire))
    }

    /// Writes the next bytes. After an error the session stands where it stood before.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses.
    pub fn append(&mut self, chunks: &[Bytes]) -> Result<(), Error> {
        for chunk in chunks {
            if let Err(error) = self.file.write_all(chunk) {
                // A chunk may have gone in by half; what was counted is what was hashed.
                let counted = self.received_bytes.load(Ordering::Acquire);
                self.file.set_len(counted).map_err(Error::io("shorten", &self.path))?;
                return Err(Error::io("write", &self.path)(error));
            }
            self.hasher.update(chunk);
            self.received_bytes.fetch_add(chunk.len() as u64, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Ends the session: the bytes become the blob `digest`, if that is what they are.
    ///
    /// # Errors
    /// [`Unfinished`]: they are others, or the disk refuses.
    pub fn finish(&mut self, digest: &Digest, layout: &Layout) -> Result<(), Unfinished> {
        let found = if digest.algorithm() == self.algorithm {
            self.hasher.clone().finish()
        } else {
            self.hash_again(digest.algorithm())?
        };
        if found != *digest {
            return Err(Mismatch::Digest { expected: digest.clone(), found }.into());
        }
        layout.adopt(&self.path, digest)?;
        self.state = State::Finished;
        Ok(())
    }

    /// The algorithm was not known when the session began.
    fn hash_again(&mut self, algorithm: Algorithm) -> Result<Digest, Error> {
        let mut hasher = Hasher::new(algorithm);
        let read = self.file.rewind().and_then(|()| io::copy(&mut self.file, &mut hasher));
        read.map_err(Error::io("read", &self.path))?;
        Ok(hasher.finish())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.state == State::Open {
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Durability;
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(folder.path(), Durability::Relaxed).expect("opens");
        (folder, layout)
    }

    fn repository() -> RepositoryName {
        "some/name".parse().expect("valid")
    }

    #[test]
    fn an_identifier_reads_back_and_nothing_else_does() {
        let id = UploadId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "..", "../x", "0123456789abcdef0011223344556677", "+1"] {
            assert_eq!(text.parse::<UploadId>(), Err(InvalidUploadId), "{text}");
        }
    }

    #[tokio::test]
    async fn bytes_become_a_blob_only_under_their_digest() {
        let (_folder, layout) = layout();
        let uploads = Uploads::new(&layout);
        let session = uploads.start(&repository(), Algorithm::Sha256).expect("starts");
        let mut turn = session.take_over().await;
        turn.writer.append(&[Bytes::from("ab"), Bytes::from("c")]).expect("written");
        let other = Digest::of(b"abd");
        let refused = turn.writer.finish(&other, &layout);
        assert!(matches!(refused, Err(Unfinished::Mismatch(_))));
        assert!(!layout.has_blob(&other));
        let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().expect("valid");
        let digest = sha512.same_algorithm_of(b"abc");
        turn.writer.finish(&digest, &layout).expect("right");
        assert!(layout.has_blob(&digest));
        assert_eq!(turn.writer.position(), None);
    }

    #[test]
    fn idle_sessions_go_with_their_files() {
        let (_folder, layout) = layout();
        let uploads = Uploads::new(&layout);
        let id = uploads.start(&repository(), Algorithm::Sha256).expect("starts").id();
        let files = || fs::read_dir(layout.uploads_folder()).expect("a folder").count();
        uploads.drop_idle(Instant::now() + IDLE_MAX / 2);
        assert!(uploads.get(&repository(), id).is_some());
        assert!(uploads.get(&"another".parse().expect("valid"), id).is_none());
        assert_eq!(files(), 1);
        uploads.drop_idle(Instant::now() + IDLE_MAX * 2);
        assert!(uploads.get(&repository(), id).is_none());
        assert_eq!(files(), 0);
    }

    #[test]
    fn there_is_an_end_to_open_sessions() {
        let (_folder, layout) = layout();
        let uploads = Uploads::new(&layout);
        for _ in 0..SESSIONS_MAX {
            uploads.start(&repository(), Algorithm::Sha256).expect("starts");
        }
        let refused = uploads.start(&repository(), Algorithm::Sha256);
        assert!(matches!(refused, Err(NoSession::TooMany)));
    }
}
