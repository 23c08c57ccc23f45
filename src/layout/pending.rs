//! Names that `index.json` does not have yet.
//!
//! To write a long `index.json` anew for each push would make pushes crawl. So each push
//! appends a line to `.kharon/pending`, which is on disk before the push is acknowledged, and
//! `index.json` follows. What a killed server left there is taken up when the folder is opened.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Durability, Error};
use crate::manifest::Descriptor;
use crate::reference::{RepositoryName, Tag};

/// How much is read back, in bytes: far more than [`UNSETTLED_MAX`] lines have.
const READ_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How many lines may wait before a push brings `index.json` up to date itself.
const UNSETTLED_MAX: u64 = 10_000;

/// One name that was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Naming {
    pub(super) repository: RepositoryName,
    /// Without one the manifest became a member of the repository.
    pub(super) tag: Option<Tag>,
    pub(super) manifest: Descriptor,
}

/// The file `.kharon/pending`.
#[derive(Debug)]
pub(super) struct Pending {
    path: PathBuf,
    durability: Durability,
    log: Mutex<Log>,
    /// How many lines ever are known to be on disk; held while they get there.
    synced: Mutex<u64>,
    /// The same file, for syncing while others append.
    handle: File,
}

/// Held while names are given, so that lines stand in the order in which names were given.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    length_bytes: u64,
    /// How many lines were ever appended.
    appended: u64,
    /// How many of them `index.json` does not have.
    unsettled: u64,
}

impl Pending {
    /// Opens the file, with what a former run left in it.
    pub(super) fn open(
        path: PathBuf,
        durability: Durability,
    ) -> Result<(Self, Vec<Naming>), Error> {
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let (left, length_bytes) = read(&mut file).map_err(Error::io("read", &path))?;
        let handle = file.try_clone().map_err(Error::io("open", &path))?;
        let unsettled = left.len() as u64;
        let log = Mutex::new(Log { file, length_bytes, appended: 0, unsettled });
        Ok((Self { path, durability, log, synced: Mutex::default(), handle }, left))
    }

    /// What stands in the file at `path`, if there is one. It stays as it is.
    pub(super) fn read(path: &Path) -> Result<Vec<Naming>, Error> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(Error::io("open", path))?,
        };
        read(&mut file).map(|(left, _)| left).map_err(Error::io("read", path))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines; they are on disk after [`Self::sync`].
    pub(super) fn append(&self, log: &mut Log, namings: &[Naming]) -> Result<(), Error> {
        let mut text = Vec::new();
        for naming in namings {
            // A line begins with its end of line: what stands in front may be torn.
            text.push(b'\n');
            text.extend(serde_json::to_vec(naming).unwrap_or_default());
        }
        if let Err(error) = log.file.write_all(&text) {
            drop(log.file.set_len(log.length_bytes));
            return Err(Error::io("write", &self.path)(error));
        }
        log.length_bytes += text.len() as u64;
        log.appended += namings.len() as u64;
        log.unsettled += namings.len() as u64;
        Ok(())
    }

    /// Brings all lines up to the `appended`-th to disk; whoever waited for another finds its own
    /// done with it. `first` is what must be there together with them; it runs at the same time.
    pub(super) fn sync(
        &self,
        appended: u64,
        first: impl FnOnce() -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        if self.durability == Durability::Relaxed {
            return Ok(());
        }
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= appended {
            return Ok(());
        }
        let up_to = self.lock().appended;
        std::thread::scope(|scope| {
            let other = scope.spawn(first);
            let own = self.handle.sync_data().map_err(Error::io("write", &self.path));
            match other.join() {
                Ok(other) => own.and(other),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        *synced = up_to;
        Ok(())
    }

    /// Runs `write_index`, which makes `index.json` name everything, and empties the file. Meanwhile
    /// no name is given and nothing else is synced.
    pub(super) fn settle(
        &self,
        write_index: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut log = self.lock();
        if log.unsettled == 0 {
            return Ok(());
        }
        write_index()?;
        *synced = log.appended;
        log.file.set_len(0).map_err(Error::io("write", &self.path))?;
        log.length_bytes = 0;
        log.unsettled = 0;
        Ok(())
    }
}

/// The lines of the file, and its length in bytes.
fn read(file: &mut File) -> io::Result<(Vec<Naming>, u64)> {
    let mut text = Vec::new();
    let length_bytes = file.take(READ_MAX_BYTES).read_to_end(&mut text)? as u64;
    // A line that was torn when the power went was not acknowledged.
    let lines = text.split(|byte| *byte == b'\n');
    Ok((lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), length_bytes))
}

impl Log {
    pub(super) fn appended(&self) -> u64 {
        self.appended
    }

    pub(super) fn is_long(&self) -> bool {
        self.unsettled >= UNSETTLED_MAX
    }
}
