//! An OCI image-layout folder as a store of many repositories. No HTTP here.
//!
//! The folder is what the image-spec says (image-layout.md): `oci-layout`, `index.json`,
//! `blobs/<algorithm>/<hex>`; beside them stands `.kharon/` with a lock and with what is not whole yet.
//! Blobs belong to all repositories; manifests to those whose name an entry of `index.json` gives
//! them (the private module `name` has the rules), and the children of an index to its repositories.
//!
//! It promises: a blob gets its name only when its digest is right and its bytes are on disk;
//! `index.json` is replaced as a whole, never written in place, and keeps what is not understood. It
//! follows pushes when [`Layout::settle`] is called; until then `.kharon/pending` has the names.
//! It refuses a folder that is something else and one that another process uses. A layout that is opened only to be
//! read ([`Layout::open_read_only`]) makes, changes and locks nothing in its folder.
//!
//! All methods block on the disk.

mod catalog;
mod entry;
mod error;
mod folder;
mod lock;
mod name;
mod pending;
mod upload;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use catalog::Catalog;
pub use error::Error;
use folder::Folder;
pub(crate) use lock::Lock;
pub(crate) use name::folder_repository;
use pending::{Naming, Pending};
pub use upload::{
    InvalidUploadId, NoSession, Session, Turn, Unfinished, UploadId, Uploads, Writer,
};

use crate::digest::Digest;
use crate::manifest::{Descriptor, MANIFEST_MAX_BYTES, Manifest};
use crate::reference::{RepositoryName, Tag, TagOrDigest};

/// The largest `index.json` that is read, in bytes: about half a million entries.
const INDEX_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// How deep indexes may stand in indexes; deeper ones are not looked into.
const INDEX_MAX_DEPTH: usize = 8;
/// Our own folder, which image tools pass over.
const OWN_FOLDER: &str = ".kharon";
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";

/// Whether content must outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Content is on disk before it is acknowledged.
    Synced,
    /// The system writes when it likes: for tests and other throw-away folders.
    Relaxed,
}

/// An open layout, which no other process changes unless it is only read.
#[derive(Debug)]
pub struct Layout {
    folder: Folder,
    catalog: Mutex<Catalog>,
    /// Nothing where it is only read.
    writing: Option<Writing>,
}

/// What it takes to change a layout.
#[derive(Debug)]
struct Writing {
    pending: Pending,
    _lock: Lock,
}

/// A blob that is being read.
#[derive(Debug)]
pub struct Blob {
    /// The open file.
    pub file: File,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl Layout {
    /// Opens the layout in `folder`; an empty or missing folder becomes a new one.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the folder.
    pub fn open(folder: &Path, durability: Durability) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let root = folder.canonicalize().map_err(Error::io("open", folder))?;
        let folder = Folder::new(root, durability);
        let is_new = !folder.path(LAYOUT_FILE).exists();
        if is_new && !folder.is_empty()? {
            return Err(Error::NotALayout(folder.root().to_owned()));
        }
        let own = folder.path(OWN_FOLDER);
        fs::create_dir_all(&own).map_err(Error::io("create", &own))?;
        let lock = Lock::take(own.join("lock"))?;
        folder.clean()?;
        if is_new {
            // The file that makes the folder a layout comes last.
            folder.replace(INDEX_FILE, &Catalog::default().to_bytes())?;
            folder.replace(LAYOUT_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let (pending, left) = Pending::open(own.join("pending"), durability)?;
        let writing = Some(Writing { pending, _lock: lock });
        let layout = Self { folder, catalog: Mutex::default(), writing };
        layout.load(&left)?;
        layout.settle()?;
        Ok(layout)
    }

    /// Opens the layout in `folder` to read from it. Nothing is made, changed or locked there, so it may lie on a medium
    /// that cannot be written. Another process may add to it meanwhile; names that it gives are not seen.
    ///
    /// # Errors
    /// [`Error::NoLayout`] if there is none, also in an empty folder; else as [`Self::open`].
    pub fn open_read_only(folder: &Path) -> Result<Self, Error> {
        let root = folder.canonicalize().map_err(Error::io("open", folder))?;
        let folder = Folder::new(root, Durability::Relaxed);
        if !folder.path(LAYOUT_FILE).exists() {
            return Err(Error::NoLayout(folder.root().to_owned()));
        }
        // Before `index.json`: a name that moves from the one to the other meanwhile is then in both.
        let left = Pending::read(&folder.path(OWN_FOLDER).join("pending"))?;
        let layout = Self { folder, catalog: Mutex::default(), writing: None };
        layout.load(&left)?;
        Ok(layout)
    }

    /// Whether it was opened only to be read.
    pub fn is_read_only(&self) -> bool {
        self.writing.is_none()
    }

    /// Opens a blob; `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Io`] if it is here and cannot be opened.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::io("open", &path))?,
        };
        let size_bytes = file.metadata().map_err(Error::io("read", &path))?.len();
        Ok(Some(Blob { file, size_bytes }))
    }

    /// Whether a blob is here.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// A manifest of a repository.
    pub fn find(&self, repository: &RepositoryName, what: &TagOrDigest) -> Option<Descriptor> {
        let catalog = self.catalog();
        match what {
            TagOrDigest::Digest(digest) => catalog.member(repository, digest),
            TagOrDigest::Tag(tag) => catalog.member(repository, catalog.tagged(repository, tag)?),
        }
    }

    /// The bytes of a manifest, checked; `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file holds something else.
    pub fn read_manifest(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let Some(blob) = self.open_blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut limited = blob.file.take(MANIFEST_MAX_BYTES);
        limited.read_to_end(&mut bytes).map_err(Error::io("read", &self.blob_path(digest)))?;
        if digest.same_algorithm_of(&bytes) != *digest {
            return Err(Error::Damaged(digest.clone()));
        }
        Ok(Some(bytes.into()))
    }

    /// What a manifest names and this repository lacks. Foreign layers are not missed.
    pub fn missing(&self, repository: &RepositoryName, manifest: &Manifest) -> Vec<Digest> {
        let needed = manifest.blobs().filter(|blob| !blob.is_foreign());
        let blobs = needed.filter(|blob| !self.has_blob(&blob.digest));
        let catalog = self.catalog();
        let is_absent = |child: &&Descriptor| catalog.member(repository, &child.digest).is_none();
        let children = manifest.children().iter().filter(is_absent);
        let missing: BTreeSet<_> = blobs.chain(children).map(|each| each.digest.clone()).collect();
        missing.into_iter().collect()
    }

    /// Stores a blob that is small enough to be in memory.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes do not have that digest, [`Error::ReadOnly`], [`Error::Io`] if the disk refuses.
    pub fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.writing()?;
        if digest.same_algorithm_of(bytes) != *digest {
            return Err(Error::Damaged(digest.clone()));
        }
        if self.has_blob(digest) {
            return Ok(());
        }
        self.folder.write(&digest.blob_path(), bytes)
    }

    /// Stores a manifest in a repository under these tags, or under its digest alone. It is there
    /// for good when this returns. What it names should be there already: see [`Self::missing`].
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`] if the disk refuses.
    pub fn put_manifest(
        &self,
        repository: &RepositoryName,
        tags: &[Tag],
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let pending = &self.writing()?.pending;
        let descriptor = &manifest.descriptor;
        self.write_blob(&descriptor.digest, &manifest.raw)?;
        let tags = tags.iter().cloned().map(Some).chain([None]);
        let (appended, is_long) = {
            let mut log = pending.lock();
            let mut catalog = self.catalog();
            let subject = manifest.subject.as_ref().map(|subject| &subject.digest);
            catalog.admit(repository, descriptor, subject);
            let mut namings = Vec::new();
            for tag in tags {
                let before = catalog.version();
                catalog.name(repository, tag.as_ref(), descriptor);
                if catalog.version() != before {
                    let (repository, manifest) = (repository.clone(), descriptor.clone());
                    namings.push(Naming { repository, tag, manifest });
                }
            }
            pending.append(&mut log, &namings)?;
            (log.appended(), log.is_long())
        };
        pending.sync(appended, || self.folder.sync())?;
        if is_long { self.settle() } else { Ok(()) }
    }

    /// Brings `index.json` up to date. To be called now and then; closing the layout does it too.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses; nothing is lost then, and the next call tries again.
    pub fn settle(&self) -> Result<(), Error> {
        let Some(Writing { pending, .. }) = &self.writing else { return Ok(()) };
        pending.settle(|| {
            let bytes = self.catalog().to_bytes();
            self.folder.replace(INDEX_FILE, &bytes)
        })
    }

    /// All repositories that have manifests, sorted.
    pub fn repositories(&self) -> Vec<RepositoryName> {
        self.catalog().repositories().cloned().collect()
    }

    /// All tags of a repository, sorted; `None` if there is no such repository.
    pub fn tags(&self, repository: &RepositoryName) -> Option<Vec<Tag>> {
        Some(self.catalog().tags(repository)?.cloned().collect())
    }

    /// The manifests of a repository that refer to `subject`, sorted by digest.
    pub fn referrers(&self, repository: &RepositoryName, subject: &Digest) -> Vec<Descriptor> {
        self.catalog().referrers(repository, subject)
    }

    /// Where unfinished uploads are kept.
    pub(crate) fn uploads_folder(&self) -> PathBuf {
        self.folder.uploads()
    }

    /// Gives a whole and verified file, which stands in [`Self::uploads_folder`], its name as a blob.
    pub(crate) fn adopt(&self, path: &Path, digest: &Digest) -> Result<(), Error> {
        if self.has_blob(digest) {
            return fs::remove_file(path).map_err(Error::io("remove", path));
        }
        self.folder.adopt(path, &digest.blob_path())
    }

    fn writing(&self) -> Result<&Writing, Error> {
        self.writing.as_ref().ok_or_else(|| Error::ReadOnly(self.folder.root().to_owned()))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.path(&digest.blob_path())
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, left: &[Naming]) -> Result<(), Error> {
        let text = self.folder.read(LAYOUT_FILE, MANIFEST_MAX_BYTES)?;
        let found = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
        let found = found.get("imageLayoutVersion").and_then(serde_json::Value::as_str);
        if !found.is_some_and(|version| version.starts_with("1.")) {
            let path = self.folder.path(LAYOUT_FILE);
            let found = found.unwrap_or("nothing").to_owned();
            return Err(Error::Version { path, found });
        }
        let bytes = self.folder.read(INDEX_FILE, INDEX_MAX_BYTES)?;
        let named_after = name::folder_repository(self.folder.root());
        let mut catalog = Catalog::read(&bytes, &named_after).map_err(|source| {
            let path = self.folder.path(INDEX_FILE);
            Error::Index { path, source }
        })?;
        for (descriptor, repositories) in catalog.described() {
            self.admit(&mut catalog, &descriptor, &repositories, 0);
        }
        catalog.link();
        for Naming { repository, tag, manifest } in left {
            self.admit(&mut catalog, manifest, std::slice::from_ref(repository), 0);
            catalog.name(repository, tag.as_ref(), manifest);
        }
        *self.catalog() = catalog;
        Ok(())
    }

    /// Makes a manifest and its children members. What is absent or damaged stays out: one bad
    /// file must not keep all other images from being served.
    fn admit(
        &self,
        catalog: &mut Catalog,
        descriptor: &Descriptor,
        repositories: &[RepositoryName],
        depth: usize,
    ) {
        let is_known = |of: &RepositoryName| catalog.member(of, &descriptor.digest).is_some();
        let is_manifest = descriptor.media_type.is_manifest();
        if depth > INDEX_MAX_DEPTH || !is_manifest || repositories.iter().all(is_known) {
            return;
        }
        let Ok(Some(raw)) = self.read_manifest(&descriptor.digest) else { return };
        let size = raw.len() as u64;
        let manifest = Manifest::parse(raw, Some(&descriptor.media_type)).ok();
        let subject = manifest.as_ref().and_then(|found| found.subject.as_ref());
        let (media_type, digest) = (descriptor.media_type.clone(), descriptor.digest.clone());
        let whole = Descriptor::new(media_type, digest, size);
        for repository in repositories {
            catalog.admit(repository, &whole, subject.map(|subject| &subject.digest));
        }
        for child in manifest.iter().flat_map(Manifest::children) {
            self.admit(catalog, child, repositories, depth + 1);
        }
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // What cannot be written now is taken up when the folder is opened again.
        drop(self.settle());
    }
}
