//! Images in a folder: each blob a file that has its name only when it is whole and right.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use tempfile::{NamedTempFile, TempDir};

use crate::digest::Digest;
use crate::failure::{Hinted, Usage};
use crate::layout::Lock;
use crate::manifest::Descriptor;
use crate::payload::LAYOUT_INDEX_NAME;
use crate::progress::Reporter;
use crate::verified::VerifiedReader;

use super::catalog::Catalog;
use super::sink::Sink;

/// The folder below which nobody but kharon looks.
const OWN_FOLDER: &str = ".kharon";

/// A folder that comes to be as a whole: until then its files stand in another one, beside its place, or within it
/// where it is there already, as it may be a file system of its own.
#[derive(Debug)]
pub(crate) struct NewFolder {
    path: PathBuf,
    meanwhile: TempDir,
    place: Place,
}

/// What was found where the folder is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    EmptyFolder,
}

impl NewFolder {
    /// Begins the folder `path`, which must be empty or not there.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        let place = look_at(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let within = match place {
            Place::Free => parent.unwrap_or_else(|| Path::new(".")),
            Place::EmptyFolder => path,
        };
        let cannot_create = || format!("cannot create a folder in `{}`", within.display());
        fs::create_dir_all(within).with_context(cannot_create)?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let meanwhile =
            builder.prefix(".kharon-").tempdir_in(within).with_context(cannot_create)?;
        Ok(Self { path: path.to_owned(), meanwhile, place })
    }

    /// Where its files stand meanwhile.
    pub(crate) fn meanwhile(&self) -> &Path {
        self.meanwhile.path()
    }

    /// Puts it in its place. In a folder that was there, `index.json` is the last file to come.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let cannot_create = || format!("cannot create `{}`", self.path.display());
        match self.place {
            Place::Free => {
                fs::rename(self.meanwhile.path(), &self.path).with_context(cannot_create)?;
                // What was renamed is no longer there to be removed.
                drop(self.meanwhile.keep());
            }
            Place::EmptyFolder => {
                let entries = fs::read_dir(self.meanwhile.path()).with_context(cannot_create)?;
                let names = entries.map(|entry| Ok(entry?.file_name()));
                let mut names =
                    names.collect::<io::Result<Vec<_>>>().with_context(cannot_create)?;
                names.sort_by_key(|name| name == LAYOUT_INDEX_NAME);
                for name in names {
                    let from = self.meanwhile.path().join(&name);
                    fs::rename(from, self.path.join(&name)).with_context(cannot_create)?;
                }
            }
        }
        Ok(())
    }
}

fn look_at(path: &Path) -> anyhow::Result<Place> {
    let taken = |found| {
        let path = path.display();
        Usage::new(format!("expected an empty folder at `{path}`, found {found}"))
            .with_hint("name one that is empty or not there")
    };
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(taken("files in it").into()),
            None => Ok(Place::EmptyFolder),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Place::Free),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(taken("something else").into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot look into `{}`", path.display())),
    }
}

/// A folder that many images share, which nobody else writes meanwhile.
#[derive(Debug)]
pub(super) struct Merged {
    path: PathBuf,
    pub(super) catalog: Catalog,
    _lock: Lock,
}

impl Merged {
    /// Opens `path`, or makes it where it is empty or not there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot_create = || format!("cannot create `{}`", path.display());
        let former = Catalog::read(path)?;
        fs::create_dir_all(path).with_context(cannot_create)?;
        if former.is_none() {
            let entries = fs::read_dir(path).with_context(cannot_create)?;
            // An interrupted run leaves blobs without a catalog: the next one goes on with them.
            let ours = [OWN_FOLDER, "blobs"];
            for entry in entries {
                let name = entry.with_context(cannot_create)?.file_name();
                if !ours.iter().any(|known| name == *known) {
                    let message = format!(
                        "expected a merged or an empty folder at `{}`, found `{}` in it and no catalog.json",
                        path.display(),
                        name.display()
                    );
                    let hint = "name another folder with `--to`";
                    return Err(Usage::new(message).with_hint(hint).into());
                }
            }
        }
        let own = path.join(OWN_FOLDER);
        fs::create_dir_all(&own).with_context(cannot_create)?;
        let lock = Lock::take(own.join("lock")).with_context(|| {
            let message = format!("cannot have `{}` for this run alone", path.display());
            Hinted::new(message, "wait until no other run writes there")
        })?;
        // It may have changed until it was locked.
        let catalog = Catalog::read(path)?.unwrap_or_default();
        Ok(Self { path: path.to_owned(), catalog, _lock: lock })
    }

    /// Where a blob is, if it is there.
    pub(super) fn at(&self, blob: &Descriptor) -> BlobFile {
        BlobFile { path: self.path.join(blob.digest.blob_path()), blob: blob.clone() }
    }
}

/// Where a blob may be.
#[derive(Debug)]
pub(super) struct BlobFile {
    path: PathBuf,
    blob: Descriptor,
}

impl BlobFile {
    /// Whether the blob is there, whole and right. One that is not is to be written again.
    pub(super) fn is_right(&self, reporter: &dyn Reporter) -> anyhow::Result<bool> {
        let path = self.path.display();
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.with_context(|| format!("cannot read `{path}`"))?,
        };
        let mut reader = VerifiedReader::new(file, self.blob.digest.clone(), self.blob.size);
        let read = io::copy(&mut reader, &mut io::sink()).and_then(|_| reader.finish());
        if let Err(error) = &read {
            reporter.warn(format!("`{path}` is damaged and written again: {error}"));
        }
        Ok(read.is_ok())
    }
}

/// Blobs that go into a folder.
#[derive(Debug)]
pub(super) struct FolderSink {
    root: PathBuf,
    open: Option<NamedTempFile>,
    /// The folders that exist.
    made: BTreeSet<PathBuf>,
}

impl FolderSink {
    /// Begins with the small files.
    pub(super) fn begin(root: &Path, documents: &[(String, Bytes)]) -> anyhow::Result<Self> {
        let mut sink = Self { root: root.to_owned(), open: None, made: BTreeSet::new() };
        for (name, content) in documents {
            let path = root.join(name);
            let mut file = sink.beside(&path)?;
            file.write_all(content).with_context(|| cannot_write(&path))?;
            put_in_place(file, &path)?;
        }
        Ok(sink)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.blob_path())
    }

    fn beside(&mut self, path: &Path) -> anyhow::Result<NamedTempFile> {
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        if !self.made.contains(&folder) {
            fs::create_dir_all(&folder).with_context(|| cannot_write(path))?;
            self.made.insert(folder.clone());
        }
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.prefix(".kharon-").tempfile_in(&folder).with_context(|| cannot_write(path))
    }
}

impl Sink for FolderSink {
    fn begin(&mut self, blob: &Descriptor) -> anyhow::Result<()> {
        let path = self.path(&blob.digest);
        self.open = Some(self.beside(&path)?);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        let written = file.write_all(bytes);
        written.with_context(|| format!("cannot write into `{}`", self.root.display()))
    }

    fn end(&mut self, blob: &Descriptor) -> anyhow::Result<()> {
        let Some(file) = self.open.take() else { return Ok(()) };
        put_in_place(file, &self.path(&blob.digest))
    }

    fn complete(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn put_in_place(file: NamedTempFile, path: &Path) -> anyhow::Result<()> {
    let synced = file.as_file().sync_all();
    let put = synced.and_then(|()| file.persist(path).map(drop).map_err(io::Error::from));
    put.with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}
