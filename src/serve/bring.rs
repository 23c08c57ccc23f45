//! Copies into the folder what a pushed manifest names and only a payload has: the folder must hold together
//! also when the payload is gone.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::answer::{Code, Refusal};
use super::store::{Folder, Found, Store};
use crate::digest::Digest;
use crate::layout::{NoSession, Unfinished};
use crate::manifest::Manifest;
use crate::reference::{RepositoryName, TagOrDigest};

/// How much is copied at once, in bytes.
const COPY_BYTES: u64 = 1024 * 1024;

/// Copies blobs, and the children of an index with theirs. What no payload has is left to be missed.
pub(super) async fn bring(
    store: &Store,
    folder: &Folder,
    name: &RepositoryName,
    manifest: &Manifest,
) -> Result<(), Refusal> {
    if store.shelf.is_none() {
        return Ok(());
    }
    // Children before parents; an index names them in no order that matters.
    let mut waiting = vec![(manifest.clone(), Visit::First)];
    while let Some((manifest, visit)) = waiting.pop() {
        match visit {
            Visit::First => {
                let children = manifest.children().iter();
                let missed = children.filter(|child| is_missed(folder, name, &child.digest));
                let missed: Vec<Manifest> = missed
                    .filter_map(|child| store.of_shelf(name, &child.digest).cloned())
                    .collect();
                waiting.push((manifest, Visit::Last));
                waiting.extend(missed.into_iter().map(|child| (child, Visit::First)));
            }
            Visit::Last => {
                for blob in manifest.blobs().filter(|blob| !folder.layout.has_blob(&blob.digest)) {
                    copy(store, folder, name, &blob.digest).await?;
                }
                if !waiting.is_empty() && folder.layout.missing(name, &manifest).is_empty() {
                    let (layout, name) = (Arc::clone(&folder.layout), name.clone());
                    let put = spawn_blocking(move || layout.put_manifest(&name, &[], &manifest));
                    put.await.map_err(|error| Refusal::new(Code::Unknown, error))??;
                }
            }
        }
    }
    Ok(())
}

enum Visit {
    First,
    Last,
}

fn is_missed(folder: &Folder, name: &RepositoryName, digest: &Digest) -> bool {
    let what = TagOrDigest::Digest(digest.clone());
    folder.layout.find(name, &what).is_none()
}

async fn copy(
    store: &Store,
    folder: &Folder,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<(), Refusal> {
    // What is nowhere is told with all that is missing.
    let Ok(Found::Content(shelf, content)) = store.blob(digest).await else { return Ok(()) };
    let (uploads, repository) = (Arc::clone(&folder.uploads), name.clone());
    let algorithm = digest.algorithm();
    let start = spawn_blocking(move || uploads.start(&repository, algorithm));
    let started = start.await.map_err(|error| Refusal::new(Code::Unknown, error))?;
    let session = started.map_err(|error| match error {
        NoSession::TooMany => Refusal::new(Code::TooManyRequests, error),
        NoSession::Layout(error) => error.into(),
    })?;
    let mut writer = session.take_over().await.writer;
    let layout = Arc::clone(&folder.layout);
    let write = move || {
        let mut bytes = content.verified();
        loop {
            let mut part = Vec::new();
            let read = (&mut bytes).take(COPY_BYTES).read_to_end(&mut part);
            if let Err(error) = read {
                // Another copy is used when the client tries again.
                shelf.was_read(&content, Err(&error));
                return Err(damaged(content.digest()));
            }
            if part.is_empty() {
                break;
            }
            writer.append(&[Bytes::from(part)])?;
        }
        shelf.was_read(&content, Ok(()));
        writer.finish(content.digest(), &layout).map_err(|unfinished| match unfinished {
            Unfinished::Mismatch(_) => damaged(content.digest()),
            Unfinished::Layout(error) => error.into(),
        })
    };
    let written = spawn_blocking(write).await;
    folder.uploads.remove(session.id());
    written.map_err(|error| Refusal::new(Code::Unknown, error))?
}

fn damaged(digest: &Digest) -> Refusal {
    Refusal::new(Code::Unknown, format!("the registry's copy of {digest} is damaged"))
}
