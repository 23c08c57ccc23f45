//! Files that appear whole or not at all, and outlive a power cut where that is wanted.
//!
//! Everything is written under a temporary name in `.kharon/uploads` and then renamed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Durability, Error, OWN_FOLDER};

/// The folder of a layout.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    durability: Durability,
    next_temporary: AtomicU64,
    unsynced: Mutex<Unsynced>,
}

/// What a power cut could take away again.
#[derive(Debug, Default)]
struct Unsynced {
    files: BTreeSet<PathBuf>,
    /// Folders in which names have appeared.
    folders: BTreeSet<PathBuf>,
}

impl Folder {
    pub(super) fn new(root: PathBuf, durability: Durability) -> Self {
        let next_temporary = AtomicU64::new(0);
        Self { root, durability, next_temporary, unsynced: Mutex::default() }
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The whole path of something in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where unfinished uploads are kept.
    pub(super) fn uploads(&self) -> PathBuf {
        self.path(OWN_FOLDER).join("uploads")
    }

    /// Whether nothing is in it that is not ours.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let read = Error::io("read", &self.root);
        let names = fs::read_dir(&self.root)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let names: Vec<_> = names.map_err(read)?;
        Ok(names.iter().all(|name| name == OWN_FOLDER || name == "lost+found"))
    }

    /// Removes what a former run left unfinished.
    pub(super) fn clean(&self) -> Result<(), Error> {
        let uploads = self.uploads();
        match fs::remove_dir_all(&uploads) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &uploads)(error));
            }
            _ => {}
        }
        for folder in [uploads, self.path("blobs/sha256"), self.path("blobs/sha512")] {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        Ok(())
    }

    /// Reads a file up to a limit.
    pub(super) fn read(&self, name: &str, max_bytes: u64) -> Result<Vec<u8>, Error> {
        let path = self.path(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(max_bytes).read_to_end(&mut bytes));
        read.map_err(Error::io("read", &path))?;
        Ok(bytes)
    }

    /// Writes a new file, which outlives a power cut after the next [`Self::sync`].
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.write_temporary(bytes)?;
        self.rename(&temporary, name)?;
        self.unsynced().files.insert(self.path(name));
        Ok(())
    }

    /// Gives a file that stands in [`Self::uploads`] its name, which outlives a power cut after
    /// the next [`Self::sync`]. Its content does so at once: it may be long.
    pub(super) fn adopt(&self, temporary: &Path, name: &str) -> Result<(), Error> {
        self.sync_file(temporary)?;
        self.rename(temporary, name)
    }

    /// Replaces a file, for good when this returns. All that was written before is there for good
    /// before the file changes: it may name it.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.write_temporary(bytes)?;
        self.sync_file(&temporary)?;
        self.sync()?;
        self.rename(&temporary, name)?;
        self.sync()
    }

    /// Makes all that was written outlive a power cut.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let Unsynced { files, folders } = std::mem::take(&mut *self.unsynced());
        let synced = files
            .iter()
            .try_for_each(|file| self.sync_file(file))
            .and_then(|()| folders.iter().try_for_each(|folder| self.sync_folder(folder)));
        if synced.is_err() {
            let mut unsynced = self.unsynced();
            unsynced.files.extend(files);
            unsynced.folders.extend(folders);
        }
        synced
    }

    fn sync_file(&self, path: &Path) -> Result<(), Error> {
        match self.durability {
            // Systems other than Unix sync only what is open for writing.
            Durability::Synced => File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.sync_data())
                .map_err(Error::io("write", path)),
            Durability::Relaxed => Ok(()),
        }
    }

    /// Only Unix knows this.
    fn sync_folder(&self, path: &Path) -> Result<(), Error> {
        match self.durability {
            Durability::Synced if cfg!(unix) => File::open(path)
                .and_then(|folder| folder.sync_all())
                .map_err(Error::io("write", path)),
            _ => Ok(()),
        }
    }

    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.uploads().join(format!("file-{number}"));
        let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes));
        if let Err(error) = written {
            drop(fs::remove_file(&temporary));
            return Err(Error::io("write", &temporary)(error));
        }
        Ok(temporary)
    }

    fn rename(&self, temporary: &Path, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        if let Err(error) = fs::rename(temporary, &path) {
            drop(fs::remove_file(temporary));
            return Err(Error::io("write", &path)(error));
        }
        let parent = path.parent().unwrap_or(&self.root).to_owned();
        self.unsynced().folders.insert(parent);
        Ok(())
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_put_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(directory.path().to_owned(), Durability::Synced);
        folder.clean().expect("cleaned");
        folder.write("blobs/sha256/whole", b"1").expect("written");
        assert!(folder.write("missing/name", b"2").is_err());
        assert_eq!(fs::read_dir(folder.uploads()).expect("a folder").count(), 0);
        folder.replace("index.json", b"3").expect("written");
        folder.replace("index.json", b"4").expect("written");
        assert_eq!(folder.read("index.json", 10).expect("readable"), b"4");
        let unsynced = folder.unsynced();
        assert!(unsynced.files.is_empty() && unsynced.folders.is_empty());
    }
}
