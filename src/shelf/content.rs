//! A blob that can be read, and whether its bytes are those of its digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::spawn_blocking;

use super::{Absent, Shelf, Tries, lock};
use crate::digest::Digest;
use crate::payload::BlobReader;
use crate::verified::{VerifiedReader, mismatch_in};
use crate::window::Window;

/// Where a copy of a blob is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// In the payload of this number.
    Payload(usize),
    /// In an OCI image layout.
    Folder(PathBuf),
    /// Rebuilt.
    Cache,
}

/// A copy that is being read to its end; everybody who waits learns whether it is right.
pub(super) type Checking = Shared<BoxFuture<'static, bool>>;

/// A copy of a blob. Clones read on their own.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    digest: Digest,
    size_bytes: u64,
    source: Source,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
enum Source {
    Entry(BlobReader),
    File(Arc<File>),
}

impl Content {
    pub(super) fn of_entry(digest: &Digest, entry: BlobReader, origin: Origin) -> Self {
        let size_bytes = entry.size_bytes();
        Self { digest: digest.clone(), size_bytes, source: Source::Entry(entry), origin }
    }

    pub(super) fn of_file(digest: &Digest, size_bytes: u64, file: File, origin: Origin) -> Self {
        let source = Source::File(Arc::new(file));
        Self { digest: digest.clone(), size_bytes, source, origin }
    }

    /// The blob's file in an OCI image layout, if it is there with the right size.
    pub(super) fn of_folder(
        digest: &Digest,
        size_bytes: u64,
        folder: &Path,
        origin: Origin,
    ) -> Option<Self> {
        let file = File::open(folder.join(digest.blob_path())).ok()?;
        let metadata = file.metadata().ok()?;
        let is_right = metadata.is_file() && metadata.len() == size_bytes;
        is_right.then(|| Self::of_file(digest, size_bytes, file, origin))
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes from `position` on, unchecked.
    pub(crate) fn bytes_from(&self, position: u64) -> Box<dyn Read + Send> {
        match &self.source {
            Source::Entry(entry) => Box::new(entry.clone().bytes_from(position)),
            Source::File(file) => {
                let left = self.size_bytes.saturating_sub(position);
                Box::new(Window::new(Arc::clone(file), position, left))
            }
        }
    }

    /// All bytes; their end is only reported if they are right.
    pub(crate) fn verified(&self) -> impl Read + Send + 'static {
        VerifiedReader::new(self.bytes_from(0), self.digest.clone(), self.size_bytes)
    }
}

impl Shelf {
    /// A copy that was found right, so that a part of it may be given out.
    pub(crate) async fn checked(self: &Arc<Self>, digest: &Digest) -> Result<Content, Absent> {
        let mut tries = Tries::of(self);
        loop {
            let content = self.content(digest).await?;
            match self.check(&content).await {
                Ok(()) => return Ok(content),
                Err(absent) if !tries.go_on(self) => return Err(absent),
                Err(_) => {}
            }
        }
    }

    /// Checks a copy. What was found right once is not read again. It is read on also when all that wait have gone
    /// away: they will ask again, and on a slow disk many who each read anew would never come to an end.
    async fn check(self: &Arc<Self>, content: &Content) -> Result<(), Absent> {
        if self.is_checked(content) {
            return Ok(());
        }
        let copy = (content.origin.clone(), content.digest.clone());
        let checking = {
            let mut all = lock(&self.checking);
            let begin = || {
                let (store, content, copy) = (Arc::clone(self), content.clone(), copy.clone());
                let reading = spawn_blocking(move || {
                    let read = io::copy(&mut content.verified(), &mut io::sink()).map(drop);
                    store.was_read(&content, read.as_ref().copied());
                    lock(&store.checking).remove(&copy);
                    read.is_ok()
                });
                async { reading.await.unwrap_or(false) }.boxed().shared()
            };
            all.entry(copy.clone()).or_insert_with(begin).clone()
        };
        if checking.await { Ok(()) } else { Err(Absent::Damaged(content.digest.clone())) }
    }

    /// Takes down how it went to read all of a copy, and says what went wrong.
    pub(crate) fn was_read(&self, content: &Content, read: Result<(), &io::Error>) {
        let copy = (content.origin.clone(), content.digest.clone());
        let Err(error) = read else {
            lock(&self.checked).insert(copy);
            return;
        };
        let (place, digest) = (self.called(&content.origin), &content.digest);
        self.reporter.warn(format!(
            "`{place}`: blob `{digest}` was not sent to its end: {}",
            crate::printable::escaped(&error.to_string())
        ));
        let is_damage = mismatch_in(error).is_some()
            || matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        if is_damage {
            self.set_aside(content);
        }
    }

    /// Does not use a copy any more. Others of the same blob may do.
    pub(super) fn set_aside(&self, content: &Content) {
        self.set_asides.fetch_add(1, Ordering::AcqRel);
        let copy = (content.origin.clone(), content.digest.clone());
        if content.origin == Origin::Cache {
            self.cache.remove(&content.digest);
            lock(&self.checked).remove(&copy);
        } else {
            lock(&self.damaged).insert(copy);
        }
    }

    fn is_checked(&self, content: &Content) -> bool {
        lock(&self.checked).contains(&(content.origin.clone(), content.digest.clone()))
    }
}
