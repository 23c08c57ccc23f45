//! Like with like: which old file serves each new one, and which baseline blobs are worth reading.

use std::collections::BTreeMap;

use crate::digest::Digest;

use super::baseline::{Baseline, Scanned, folded};

/// The most baseline blobs that a delta is made against: each is a download at the far side.
const MAX_USED_BLOBS: usize = 16;
/// A baseline blob that saves less is not worth its download …
const MIN_SAVED_BYTES: u64 = 64 << 10;
/// … unless it saves this part of its own size.
const MIN_SAVED_PART: u64 = 100;
/// How many files of one name are looked at.
const MAX_NAMESAKES: usize = 64;

/// What the baseline has for one new file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// A file of the same size and digest.
    pub exact: Option<usize>,
    /// A file that is probably like it.
    pub like: Option<usize>,
}

/// What serves each new file, of the baseline blobs that are `allowed`.
pub(super) fn find_all(files: &[Scanned], baseline: &Baseline, allowed: &[bool]) -> Vec<Found> {
    files.iter().map(|file| find(file, baseline, allowed)).collect()
}

/// The first that serves: same content, same path, same path but for digits, most chunks in common,
/// same name in the nearest folder.
fn find(file: &Scanned, baseline: &Baseline, allowed: &[bool]) -> Found {
    let is_allowed = |index: &&usize| allowed[baseline.files[**index].blob];
    let path = &file.entry.path;
    let mut found = Found::default();
    if let Some(digest) = &file.digest {
        found.exact = exact(baseline, digest, path, allowed);
        if found.exact.is_some() {
            return found;
        }
    }
    let has_content = !file.entry.content.is_empty();
    let serves = |index: &&usize| {
        is_allowed(index) && baseline.files[**index].content.is_empty() != has_content
    };
    let by_path = baseline.at_path(path).iter().find(serves);
    let by_folded = || nearest(path, baseline, baseline.at_folded_path(path), allowed);
    let by_chunks = || most_chunks(file, baseline, allowed);
    let by_name = || nearest(path, baseline, baseline.with_name(path), allowed);
    found.like = by_path.copied().or_else(by_folded);
    if has_content && found.like.is_none() {
        found.like = by_chunks().or_else(by_name);
    }
    found
}

/// A file with the same content, best at the same path, so that its headers are alike too.
fn exact(baseline: &Baseline, digest: &Digest, path: &str, allowed: &[bool]) -> Option<usize> {
    let same =
        baseline.with_content(digest).iter().filter(|index| allowed[baseline.files[**index].blob]);
    let mut first = None;
    for index in same {
        if baseline.files[*index].path == path {
            return Some(*index);
        }
        first = first.or(Some(*index));
    }
    first
}

/// Of several files the one whose path ends most like `path`.
fn nearest(path: &str, baseline: &Baseline, files: &[usize], allowed: &[bool]) -> Option<usize> {
    let alike = |index: usize| {
        let other = &baseline.files[index].path;
        let pairs = path.rsplit('/').zip(other.rsplit('/'));
        pairs.take_while(|(left, right)| folded(left) == folded(right)).count()
    };
    let files = files.iter().copied().filter(|index| allowed[baseline.files[*index].blob]);
    let mut best: Option<(usize, usize)> = None;
    for index in files.take(MAX_NAMESAKES) {
        let score = alike(index);
        if best.is_none_or(|(_, best)| score > best) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

/// The old file with the most bytes in chunks that the new one has as well, if that is a quarter.
fn most_chunks(file: &Scanned, baseline: &Baseline, allowed: &[bool]) -> Option<usize> {
    let mut votes: BTreeMap<usize, u64> = BTreeMap::new();
    for chunk in &file.chunks {
        if let Some((old, _)) = baseline.chunk(chunk.hash)
            && allowed[baseline.files[old].blob]
        {
            *votes.entry(old).or_default() += u64::from(chunk.length);
        }
    }
    let (old, bytes) = votes.into_iter().min_by_key(|(old, bytes)| (u64::MAX - bytes, *old))?;
    let size = file.entry.content.end - file.entry.content.start;
    (bytes >= size / 4).then_some(old)
}

/// Which baseline blobs save enough to be needed at all.
pub(super) fn worthwhile(files: &[Scanned], baseline: &Baseline, found: &[Found]) -> Vec<bool> {
    let mut saved = vec![0u64; baseline.blobs.len()];
    for (file, found) in files.iter().zip(found) {
        let size = file.entry.content.end - file.entry.content.start;
        if let Some(index) = found.exact.or(found.like) {
            let file = &baseline.files[index];
            saved[file.blob] += size.min(file.content().length()) + file.meta().length() / 2;
        }
    }
    let mut order: Vec<usize> = (0..saved.len()).collect();
    order.sort_by_key(|blob| (u64::MAX - saved[*blob], *blob));
    let mut allowed = vec![false; saved.len()];
    for blob in order.into_iter().take(MAX_USED_BLOBS) {
        // Layers compress to about a third, so that is what a plain byte saves.
        let bytes = saved[blob] / 3;
        let part = baseline.blobs[blob].blob_bytes / MIN_SAVED_PART;
        allowed[blob] = bytes > 0 && (bytes >= MIN_SAVED_BYTES || bytes >= part);
    }
    allowed
}
