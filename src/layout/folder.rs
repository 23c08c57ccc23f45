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
    /// Folders in which names have appeared that a power cut could take away again.
    unsynced: Mutex<BTreeSet<PathBuf>>,
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

    /// Writes a new file. Its name outlives a power cut after the next [`Self::replace`].
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.write_temporary(bytes)?;
        self.rename(&temporary, name)
    }

    /// Gives a file that stands in [`Self::uploads`] its name, as [`Self::write`] would.
    pub(super) fn adopt(&self, temporary: &Path, name: &str) -> Result<(), Error> {
        if self.durability == Durability::Synced {
            let synced = File::open(temporary).and_then(|file| file.sync_data());
            synced.map_err(Error::io("write", temporary))?;
        }
        self.rename(temporary, name)
    }

    /// Replaces a file in the folder's root, for good when this returns. All that was written
    /// before is there for good before the file changes: it may name it.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.write_temporary(bytes)?;
        self.sync_names()?;
        self.rename(&temporary, name)?;
        self.sync_names()
    }

    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.uploads().join(format!("file-{number}"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            match self.durability {
                Durability::Synced => file.sync_data(),
                Durability::Relaxed => Ok(()),
            }
        };
        if let Err(error) = write() {
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
        if self.durability == Durability::Synced {
            let parent = path.parent().unwrap_or(&self.root).to_owned();
            self.unsynced().insert(parent);
        }
        Ok(())
    }

    /// Makes the names that appeared outlive a power cut. Only Unix knows this.
    fn sync_names(&self) -> Result<(), Error> {
        let folders = std::mem::take(&mut *self.unsynced());
        for folder in folders.iter().filter(|_| cfg!(unix)) {
            let synced = File::open(folder).and_then(|opened| opened.sync_all());
            if let Err(error) = synced {
                let failed = Error::io("write", folder)(error);
                self.unsynced().extend(folders);
                return Err(failed);
            }
        }
        Ok(())
    }

    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
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
        assert!(folder.unsynced().is_empty());
    }
}
