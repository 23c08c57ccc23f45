//! What was scanned: lists that [`expand`](mod@crate::expand) wrote, and whether all of a payload is on them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::digest::Digest;
use crate::expand::VERSION;
use crate::manifest::Manifest;
use crate::payload::{ImageState, Payload, Travels};
use crate::printable::escaped;

/// The largest list that is read, in bytes: ten million paths.
const LIST_MAX_BYTES: u64 = 4 << 30;
const BUFFER_BYTES: usize = 256 << 10;
/// How many things are named in a refusal.
const NAMED_MAX: usize = 10;

/// Everything that some lists say was expanded completely.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    indexes: HashSet<Digest>,
    content: HashSet<Digest>,
}

/// What matters of `expanded.json`; paths are passed over.
#[derive(Deserialize)]
struct List {
    version: u64,
    payloads: Vec<ListedPayload>,
    manifests: Vec<ListedManifest>,
    blobs: Vec<ListedBlob>,
}

#[derive(Deserialize)]
struct ListedPayload {
    index: Digest,
}

#[derive(Deserialize)]
struct ListedManifest {
    digest: Digest,
}

#[derive(Deserialize)]
struct ListedBlob {
    digest: Digest,
    complete: bool,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

/// A file that is no list of what was expanded.
#[derive(Debug, thiserror::Error)]
pub enum InvalidList {
    /// Not JSON, or not of the documented shape.
    #[error(
        "expected the `expanded.json` of `kharon expand`, found something else or a damaged one"
    )]
    Shape(#[source] serde_json::Error),
    /// A version that this kharon does not know.
    #[error("expected version {VERSION} of `expanded.json`, found {0}")]
    Version(u64),
}

impl InvalidList {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Shape(_) => "name the `expanded.json` in the folder that was scanned",
            Self::Version(_) => "it was written by a newer kharon: use that version to push",
        };
        hint.to_owned()
    }
}

/// A payload that brings what nobody scanned.
#[derive(Debug)]
pub enum NotScanned {
    /// No list is of this payload.
    Index {
        /// The payload.
        payload: String,
        /// What its index is known by.
        index: Digest,
    },
    /// Some of it is on no list, or was not expanded completely.
    Content {
        /// The payload.
        payload: String,
        /// Each blob and manifest, with an image that uses it.
        content: Vec<String>,
    },
}

impl NotScanned {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Index { .. } => {
                "expand and scan this very payload, and name that `expanded.json`"
            }
            Self::Content { .. } => {
                "see why in `expanded.json`; expand it again with what its deltas are made against (`-r`, `--baseline-dir`), or have the payload made without that image"
            }
        };
        hint.to_owned()
    }
}

impl fmt::Display for NotScanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { payload, index } => {
                let payload = escaped(payload);
                write!(
                    f,
                    "payload `{payload}`: expected its index `{index}` among what was scanned, found other ones"
                )
            }
            Self::Content { payload, content } => {
                write!(
                    f,
                    "payload `{}`: expected all of it to be scanned, found {} not:",
                    escaped(payload),
                    content.len()
                )?;
                content.iter().take(NAMED_MAX).try_for_each(|line| write!(f, "\n  {line}"))?;
                match content.len().saturating_sub(NAMED_MAX) {
                    0 => Ok(()),
                    more => write!(f, "\n  and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for NotScanned {}

impl Scanned {
    /// Adds what the list at `path` says. Only what is on a list was scanned; several may be of one payload.
    ///
    /// # Errors
    /// [`InvalidList`], and when the file cannot be read.
    pub fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("cannot use the list `{}`", path.display());
        let open = || {
            let file = File::open(path).with_context(context)?;
            anyhow::Ok(BufReader::with_capacity(BUFFER_BYTES, file.take(LIST_MAX_BYTES)))
        };
        let list: List = match serde_json::from_reader(open()?) {
            Ok(list) => list,
            Err(error) => {
                let invalid = match serde_json::from_reader(open()?) {
                    Ok(VersionOnly { version }) if version != u64::from(VERSION) => {
                        InvalidList::Version(version)
                    }
                    _ => InvalidList::Shape(error),
                };
                return Err(invalid).with_context(context);
            }
        };
        if list.version != u64::from(VERSION) {
            return Err(InvalidList::Version(list.version)).with_context(context);
        }
        self.indexes.extend(list.payloads.into_iter().map(|payload| payload.index));
        self.content.extend(list.manifests.into_iter().map(|manifest| manifest.digest));
        let complete = list.blobs.into_iter().filter(|blob| blob.complete);
        self.content.extend(complete.map(|blob| blob.digest));
        Ok(())
    }

    /// Whether everything that `payload` brings was scanned.
    ///
    /// # Errors
    /// [`NotScanned`] names what was not.
    pub fn check(&self, payload: &Payload) -> Result<(), NotScanned> {
        let name = || payload.name().to_owned();
        if let Some((file, index)) =
            payload.indexes().find(|(_, index)| !self.indexes.contains(index))
        {
            let (payload, index) = (file.to_owned(), index.clone());
            return Err(NotScanned::Index { payload, index });
        }
        let index = payload.index();
        let manifests = index.manifests.iter().map(|entry| ("manifest", &entry.digest));
        let brought = index
            .blobs
            .iter()
            .filter(|blob| matches!(blob.travels, Travels::Carried | Travels::Delta { .. }));
        let blobs = brought.map(|blob| ("blob", &blob.digest));
        let mut missing =
            manifests.chain(blobs).filter(|(_, d)| !self.content.contains(d)).peekable();
        if missing.peek().is_none() {
            return Ok(());
        }
        let users = users(payload);
        let name_of = |(kind, digest): (&str, &Digest)| match users.get(digest) {
            Some(image) => format!("{kind} `{digest}` of `{}`", escaped(image)),
            None => format!("{kind} `{digest}`"),
        };
        Err(NotScanned::Content { payload: name(), content: missing.map(name_of).collect() })
    }
}

/// An image that uses each manifest and blob.
fn users(payload: &Payload) -> BTreeMap<&Digest, &str> {
    let mut users = BTreeMap::new();
    let images = payload.index().images.iter();
    for image in images.filter(|image| image.state == ImageState::Carried) {
        let referring = image.referrers.iter().map(|referrer| &referrer.digest);
        for digest in image.manifests.iter().chain(referring) {
            users.entry(digest).or_insert(image.name.as_str());
            for blob in payload.manifest(digest).into_iter().flat_map(Manifest::blobs) {
                users.entry(&blob.digest).or_insert(image.name.as_str());
            }
        }
    }
    users
}
