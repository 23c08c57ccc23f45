//! What the maker knows of the baseline: every file of every old layer by content, by path, by name
//! and by chunks.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;

use crate::digest::{Algorithm, Digest, Hasher};

use super::chunk::{Chunk, Chunker};
use super::error::DeltaError;
use super::plain::pass;
use super::tar::{self, Entry};

/// Chunks kept in memory, some 32 bytes each; above it only every second, fourth … hash is kept.
const MAX_CHUNKS: usize = 2 << 20;

/// One baseline blob, with its plain bytes in a file.
#[derive(Debug)]
pub struct OldBlob {
    /// The blob as the registry knows it.
    pub digest: Digest,
    /// Its plain bytes.
    pub plain: File,
    /// How many there are.
    pub plain_bytes: u64,
    /// The blob's own size, which is what the far side reads to get at them.
    pub blob_bytes: u64,
}

/// A range of one old blob's plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OldRange {
    pub blob: usize,
    pub start: u64,
    pub end: u64,
}

impl OldRange {
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }
}

#[derive(Debug)]
pub(super) struct OldFile {
    pub blob: usize,
    pub path: String,
    pub meta: Range<u64>,
    pub content: Range<u64>,
}

impl OldFile {
    pub(super) fn meta(&self) -> OldRange {
        OldRange { blob: self.blob, start: self.meta.start, end: self.meta.end }
    }

    pub(super) fn content(&self) -> OldRange {
        OldRange { blob: self.blob, start: self.content.start, end: self.content.end }
    }
}

/// All baseline blobs a delta may refer to, and where everything in them is.
#[derive(Debug, Default)]
pub struct Baseline {
    pub(super) blobs: Vec<OldBlob>,
    pub(super) files: Vec<OldFile>,
    by_content: HashMap<Digest, Vec<usize>>,
    by_path: HashMap<String, Vec<usize>>,
    by_folded_path: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
    chunks: HashMap<u64, (usize, u64)>,
    /// Only chunk hashes with these bits zero are kept.
    sample: u64,
}

impl Baseline {
    /// A baseline with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Indexes one more blob, reading its plain bytes once. Of two places that serve as well, the one
    /// in the blob that was added first is taken.
    ///
    /// # Errors
    /// [`DeltaError::Read`] where the file fails or is shorter than said.
    pub fn add(&mut self, blob: OldBlob) -> Result<(), DeltaError> {
        let contents = scan(&blob.plain, blob.plain_bytes).map_err(DeltaError::Read)?;
        let place = self.blobs.len();
        for content in contents {
            let file = self.files.len();
            let Entry { path, meta, content: range } = content.entry;
            if !path.is_empty() {
                self.by_path.entry(path.clone()).or_default().push(file);
                self.by_folded_path.entry(folded(&path)).or_default().push(file);
                if !range.is_empty() {
                    self.by_name.entry(folded(name(&path))).or_default().push(file);
                }
            }
            if let Some(digest) = content.digest {
                self.by_content.entry(digest).or_default().push(file);
            }
            for chunk in content.chunks {
                self.keep(chunk, file);
            }
            self.files.push(OldFile { blob: place, path, meta, content: range });
        }
        self.blobs.push(blob);
        Ok(())
    }

    fn keep(&mut self, chunk: Chunk, file: usize) {
        if chunk.hash & self.sample == 0 {
            self.chunks.entry(chunk.hash).or_insert((file, chunk.offset));
        }
        if self.chunks.len() > MAX_CHUNKS {
            self.sample = self.sample << 1 | 1;
            let sample = self.sample;
            self.chunks.retain(|hash, _| hash & sample == 0);
        }
    }

    /// The old file and offset in it where a chunk like this one lies.
    pub(super) fn chunk(&self, hash: u64) -> Option<(usize, u64)> {
        self.chunks.get(&hash).copied()
    }

    /// Files with exactly this content.
    pub(super) fn with_content(&self, digest: &Digest) -> &[usize] {
        self.by_content.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Files at this path.
    pub(super) fn at_path(&self, path: &str) -> &[usize] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// Files at this path but for digits in it.
    pub(super) fn at_folded_path(&self, path: &str) -> &[usize] {
        self.by_folded_path.get(&folded(path)).map_or(&[], Vec::as_slice)
    }

    /// Files of this base name, but for digits in it, in any folder.
    pub(super) fn with_name(&self, path: &str) -> &[usize] {
        self.by_name.get(&folded(name(path))).map_or(&[], Vec::as_slice)
    }
}

/// The last part of a path.
pub(super) fn name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// `path` with each run of digits, dots between them included, as one `#`: versions fall together.
pub(super) fn folded(path: &str) -> String {
    let mut folded = String::with_capacity(path.len());
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let is_inner_dot = character == '.'
            && folded.ends_with('#')
            && characters.peek().is_some_and(char::is_ascii_digit);
        if character.is_ascii_digit() || is_inner_dot {
            if !folded.ends_with('#') {
                folded.push('#');
            }
        } else {
            folded.push(character);
        }
    }
    folded
}

/// One entry, with what is to be known of its content.
pub(super) struct Scanned {
    pub entry: Entry,
    /// `None` where there is no content.
    pub digest: Option<Digest>,
    pub chunks: Vec<Chunk>,
}

/// Reads through a layer's plain bytes.
pub(super) fn scan(plain: &File, plain_bytes: u64) -> io::Result<Vec<Scanned>> {
    let mut chunker = Chunker::new();
    let mut scanned = Vec::new();
    for entry in tar::entries(plain, plain_bytes)? {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        pass(plain, &entry.content, |bytes| {
            hasher.update(bytes);
            chunker.take(bytes);
        })?;
        let digest = (!entry.content.is_empty()).then(|| hasher.finish());
        scanned.push(Scanned { entry, digest, chunks: chunker.finish() });
    }
    Ok(scanned)
}
