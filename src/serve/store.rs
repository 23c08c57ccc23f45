//! What a server has: payloads, and a folder beneath them that takes what is pushed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::answer::{Code, Refusal};
use crate::digest::Digest;
use crate::layout::{self, Layout, Uploads};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{RepositoryName, Tag, TagOrDigest};
use crate::shelf::{Absent, Content, Shelf};

/// Payloads and a folder; at least one of them.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) shelf: Option<Arc<Shelf>>,
    pub(super) folder: Option<Folder>,
}

/// The folder, and what is on its way into it.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) layout: Arc<Layout>,
    pub(super) uploads: Arc<Uploads>,
}

/// A blob that can be read.
pub(super) enum Found {
    /// Of a payload, or for one.
    Content(Arc<Shelf>, Content),
    /// Of the folder alone.
    File(layout::Blob),
}

impl Found {
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Content(_, content) => content.size_bytes(),
            Self::File(blob) => blob.size_bytes,
        }
    }
}

impl Store {
    fn layout(&self) -> Option<&Layout> {
        self.folder.as_ref().map(|folder| folder.layout.as_ref())
    }

    pub(super) fn repositories(&self) -> Vec<RepositoryName> {
        let of_layout = self.layout().map(Layout::repositories).unwrap_or_default();
        let of_shelf = self.shelf.iter().flat_map(|shelf| shelf.repositories().cloned());
        of_layout.into_iter().chain(of_shelf).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn tags(&self, repository: &RepositoryName) -> Option<Vec<Tag>> {
        let of_layout = self.layout().and_then(|layout| layout.tags(repository));
        let Some(of_shelf) = self.shelf.as_ref().and_then(|shelf| shelf.tags(repository)) else {
            return of_layout;
        };
        let all: BTreeSet<Tag> = of_layout.into_iter().flatten().chain(of_shelf.cloned()).collect();
        Some(all.into_iter().collect())
    }

    /// A manifest of a repository: of the payloads before the folder's.
    pub(super) fn find(
        &self,
        repository: &RepositoryName,
        what: &TagOrDigest,
    ) -> Option<Descriptor> {
        let of_shelf = self.shelf.as_ref().and_then(|shelf| shelf.find(repository, what));
        of_shelf
            .map(|manifest| manifest.descriptor.clone())
            .or_else(|| self.layout()?.find(repository, what))
    }

    /// The bytes of a manifest that was found.
    pub(super) fn read_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Bytes>, layout::Error> {
        if let Some(manifest) = self.of_shelf(repository, digest) {
            return Ok(Some(manifest.raw.clone()));
        }
        self.layout().map_or(Ok(None), |layout| layout.read_manifest(digest))
    }

    /// A manifest of the payloads.
    pub(super) fn of_shelf(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<&Manifest> {
        self.shelf.as_ref()?.find(repository, &TagOrDigest::Digest(digest.clone()))
    }

    /// The manifests of a repository that refer to `subject`, sorted by digest.
    pub(super) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Vec<Descriptor> {
        let mut found = match self.layout() {
            Some(layout) => layout.referrers(repository, subject),
            None => Vec::new(),
        };
        if let Some(shelf) = &self.shelf {
            found.extend(shelf.referrers(repository, subject));
            found.sort_by(|one, other| one.digest.cmp(&other.digest));
            found.dedup_by(|one, other| one.digest == other.digest);
        }
        found
    }

    /// A blob, rebuilt if it must be.
    pub(super) async fn blob(&self, digest: &Digest) -> Result<Found, Refusal> {
        let mut absent = Absent::Unknown(digest.clone());
        if let Some(shelf) = &self.shelf {
            match shelf.content(digest).await {
                Ok(content) => return Ok(Found::Content(Arc::clone(shelf), content)),
                Err(error) => absent = error,
            }
        }
        match self.open(digest).await? {
            Some(blob) => Ok(Found::File(blob)),
            None => Err(absent.into()),
        }
    }

    /// The size of a blob in bytes, without having it rebuilt.
    pub(super) async fn size_bytes(&self, digest: &Digest) -> Result<u64, Refusal> {
        let mut absent = Absent::Unknown(digest.clone());
        if let Some(shelf) = &self.shelf {
            match shelf.size_bytes(digest).await {
                Ok(size_bytes) => return Ok(size_bytes),
                Err(error) => absent = error,
            }
        }
        match self.open(digest).await? {
            Some(blob) => Ok(blob.size_bytes),
            None => Err(absent.into()),
        }
    }

    async fn open(&self, digest: &Digest) -> Result<Option<layout::Blob>, Refusal> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let (layout, digest) = (Arc::clone(&folder.layout), digest.clone());
        let opened = tokio::task::spawn_blocking(move || layout.open_blob(&digest)).await;
        Ok(opened.map_err(|error| Refusal::new(Code::Unknown, error))??)
    }
}
