//! The journal of uploads: sessions that were open when a run was killed, so that the next one goes on
//! inside of a blob.
//!
//! One small file for each session, in a folder that only its user can read: the address of a session
//! may hold a token. Whoever uses a session holds the lock of its file, so that no two runs send into
//! one session. Losing the journal costs time and nothing else: what a session holds is asked of the
//! registry, and the registry compares the digest in the end.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::reference::{RegistryHost, RepositoryName};

/// How long a session is worth asking for. Registries forget them after a week at the latest
/// (distribution's `uploadpurging`, unless told otherwise).
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longer than any address that a registry gives.
const ENTRY_MAX_BYTES: u64 = 64 * 1024;
/// How an entry's name ends.
const ENDING: &str = "json";

/// Whether what an interrupted run has begun is gone on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Where that is possible; a payload with its plan, whatever tags name by now.
    #[default]
    Continue,
    /// It is forgotten, and begun anew.
    Fresh,
}

/// The folder of a journal.
#[derive(Clone, Debug)]
pub struct UploadJournal {
    folder: PathBuf,
    resume: Resume,
}

/// An upload as the journal knows it. Not to be shown: an address may hold a token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) registry: RegistryHost,
    /// As the registry's addresses name it.
    pub(super) repository: RepositoryName,
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    /// Where the session's next request goes.
    pub(super) location: String,
    pub(super) chunk_min_bytes: u64,
    /// When the session was opened, in seconds since 1970.
    pub(super) begun_seconds: u64,
}

/// The file of one upload, locked.
pub(super) struct Entry {
    path: PathBuf,
    file: File,
    has_record: bool,
}

/// What is found where an upload's file should be.
pub(super) enum Opened {
    /// Ours, with what a former run wrote.
    Own(Entry, Option<Record>),
    /// Another run's.
    Busy,
}

impl UploadJournal {
    /// The journal in `state`, the folder for what kharon remembers. Nothing is written until a large
    /// blob is sent; what a week made useless is removed.
    pub fn new(state: &Path, resume: Resume) -> Self {
        let journal = Self { folder: state.join("uploads"), resume };
        journal.remove_old(SystemTime::now());
        journal
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the file of an upload.
    pub(super) fn open(
        &self,
        registry: &RegistryHost,
        repository: &RepositoryName,
        digest: &Digest,
        size_bytes: u64,
    ) -> io::Result<Opened> {
        create_private_folder(&self.folder)?;
        let path = self.path(registry, repository, digest);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Opened::Busy),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut entry = Entry { path, file, has_record: false };
        let is_ours = |record: &Record| {
            record.registry == *registry
                && record.repository == *repository
                && record.digest == *digest
                && record.size_bytes == size_bytes
                && !is_old(record.begun_seconds, SystemTime::now())
        };
        let record = entry.read().filter(is_ours).filter(|_| self.resume == Resume::Continue);
        match &record {
            Some(_) => entry.has_record = true,
            None => entry.file.set_len(0)?,
        }
        Ok(Opened::Own(entry, record))
    }

    /// Removes what is known of an upload, unless another run is at it.
    pub(super) fn forget(
        &self,
        registry: &RegistryHost,
        repository: &RepositoryName,
        digest: &Digest,
    ) {
        remove_unless_locked(&self.path(registry, repository, digest));
    }

    /// The names of registries, repositories and digests are too long and too free for a file's name.
    fn path(
        &self,
        registry: &RegistryHost,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> PathBuf {
        let name = Digest::of(format!("{registry}\n{repository}\n{digest}").as_bytes());
        self.folder.join(&name.hex()[..32]).with_extension(ENDING)
    }

    fn remove_old(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            if path.extension().is_some_and(|found| found == ENDING)
                && age.is_some_and(|age| age > KEPT_FOR)
            {
                remove_unless_locked(&path);
            }
        }
    }
}

impl Record {
    /// Now, as a record has it.
    pub(super) fn now_seconds() -> u64 {
        seconds(SystemTime::now())
    }
}

impl Entry {
    /// What a former run wrote. What cannot be read is as good as nothing.
    fn read(&mut self) -> Option<Record> {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(0)).ok()?;
        (&self.file).take(ENTRY_MAX_BYTES).read_to_string(&mut text).ok()?;
        // Behind the first line may stand the end of a longer one that it was written over.
        serde_json::from_str(text.lines().next()?).ok()
    }

    /// Writes down where the session is now.
    ///
    /// The file is never replaced by another one, as its lock would stay behind. A run that is killed
    /// here leaves the former line, or the new one with a rest of the former behind it.
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&line)?;
        self.has_record = true;
        self.file.set_len(line.len() as u64)
    }

    /// Forgets the session.
    pub(super) fn clear(&mut self) {
        self.has_record = false;
        // At worst a later run asks for a session that is gone.
        let _ = self.file.set_len(0);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.has_record {
            let _ = fs::remove_file(&self.path);
        }
        // A child that is just being started may hold the file open a moment longer.
        let _ = self.file.unlock();
    }
}

fn remove_unless_locked(path: &Path) {
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return };
    if file.try_lock().is_ok() {
        // Whoever has opened it meanwhile and waits for nothing finds it empty.
        let _ = file.set_len(0).and_then(|()| fs::remove_file(path));
        let _ = file.unlock();
    }
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn is_old(begun_seconds: u64, now: SystemTime) -> bool {
    seconds(now).saturating_sub(begun_seconds) > KEPT_FOR.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(location: &str) -> Record {
        Record {
            registry: "far:5000".parse().expect("valid"),
            repository: "some/name".parse().expect("valid"),
            digest: Digest::of(b"blob"),
            size_bytes: 4,
            location: location.to_owned(),
            chunk_min_bytes: 1,
            begun_seconds: Record::now_seconds(),
        }
    }

    fn open(journal: &UploadJournal) -> Opened {
        let Record { registry, repository, digest, size_bytes, .. } = record("");
        journal.open(&registry, &repository, &digest, size_bytes).expect("opened")
    }

    fn own(journal: &UploadJournal) -> (Entry, Option<Record>) {
        match open(journal) {
            Opened::Own(entry, record) => (entry, record),
            Opened::Busy => panic!("another run has it"),
        }
    }

    fn files(journal: &UploadJournal) -> usize {
        fs::read_dir(journal.folder()).map_or(0, Iterator::count)
    }

    #[test]
    fn a_session_is_found_again_until_it_is_forgotten() {
        let state = tempfile::tempdir().expect("a folder");
        let journal = UploadJournal::new(state.path(), Resume::Continue);
        for location in ["http://far:5000/a/long/one", "http://far:5000/short"] {
            let (mut entry, _) = own(&journal);
            entry.write(&record(location)).expect("written");
            drop(entry);
            let (_, found) = own(&journal);
            assert_eq!(found.expect("a record").location, location);
        }
        let fresh = UploadJournal { resume: Resume::Fresh, ..journal.clone() };
        assert!(own(&fresh).1.is_none());
        assert_eq!(files(&journal), 0);
        let (mut entry, _) = own(&journal);
        entry.write(&record("x")).expect("written");
        entry.clear();
        drop(entry);
        assert_eq!(files(&journal), 0);
    }

    #[test]
    fn two_runs_do_not_use_one_session() {
        let state = tempfile::tempdir().expect("a folder");
        let journal = UploadJournal::new(state.path(), Resume::Continue);
        let (mut entry, _) = own(&journal);
        entry.write(&record("x")).expect("written");
        assert!(matches!(open(&journal), Opened::Busy));
        let Record { registry, repository, digest, .. } = record("");
        journal.forget(&registry, &repository, &digest);
        assert_eq!(files(&journal), 1);
        drop(entry);
        journal.forget(&registry, &repository, &digest);
        assert_eq!(files(&journal), 0);
    }

    #[test]
    fn what_is_old_damaged_or_of_another_blob_counts_as_nothing() {
        let state = tempfile::tempdir().expect("a folder");
        let journal = UploadJournal::new(state.path(), Resume::Continue);
        let week_ago = Record::now_seconds() - KEPT_FOR.as_secs() - 1;
        let line = |record: Record| serde_json::to_string(&record).expect("json");
        let name = open(&journal);
        let path = match &name {
            Opened::Own(entry, _) => entry.path.clone(),
            Opened::Busy => panic!("another run has it"),
        };
        drop(name);
        let good = line(record("x"));
        for (text, expected) in [
            (good.clone(), true),
            (format!("{good}\nrest of a longer line"), true),
            (good[..20].to_owned(), false),
            (String::new(), false),
            (line(Record { begun_seconds: week_ago, ..record("x") }), false),
            (line(Record { size_bytes: 5, ..record("x") }), false),
            (line(Record { digest: Digest::of(b"other"), ..record("x") }), false),
        ] {
            fs::write(&path, &text).expect("written");
            assert_eq!(own(&journal).1.is_some(), expected, "{text}");
        }
    }

    #[test]
    fn entries_of_more_than_a_week_are_removed() {
        let state = tempfile::tempdir().expect("a folder");
        let journal = UploadJournal::new(state.path(), Resume::Continue);
        own(&journal).0.write(&record("x")).expect("written");
        fs::write(journal.folder().join("notes.txt"), "the user's").expect("written");
        journal.remove_old(SystemTime::now() + KEPT_FOR / 2);
        assert_eq!(files(&journal), 2);
        journal.remove_old(SystemTime::now() + KEPT_FOR * 2);
        assert_eq!(files(&journal), 1);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let state = tempfile::tempdir().expect("a folder");
        let loose = fs::Permissions::from_mode(0o755);
        fs::create_dir(state.path().join("uploads")).expect("a folder");
        fs::set_permissions(state.path().join("uploads"), loose).expect("set");
        for state in [state.path().to_owned(), state.path().join("new/kharon")] {
            let journal = UploadJournal::new(&state, Resume::Continue);
            let (mut entry, _) = own(&journal);
            entry.write(&record("x")).expect("written");
            let mode =
                |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
            assert_eq!((mode(journal.folder()), mode(&entry.path)), (0o700, 0o600));
        }
    }
}
