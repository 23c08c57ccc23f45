//! What every byte of the new layer is made from. A plan holds positions only; it depends on the new
//! layer and the baseline, never on time or threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;

use crate::digest::Digest;

use super::baseline::{Baseline, OldRange, Scanned, name};
use super::chunk::Chunk;
use super::error::DeltaError;
use super::plain::read_exact_at;
use super::table::{MAX_FRAME_BYTES, MAX_PREFIX_BYTES};

/// A changed file above this gets frames of its own.
const SMALL_BYTES: u64 = 1 << 20;
/// An executable above this gets frames of its own, where differences may serve better.
const SMALL_EXECUTABLE_BYTES: u64 = 64 << 10;
/// Small changed files are coded together up to this size.
const GROUP_BYTES: u64 = 4 << 20;
/// New content is coded together up to this size.
const FRESH_BYTES: u64 = 8 << 20;
/// Large files are cut into windows of this size, so that several cores and bounded memory do.
const WINDOW_BYTES: u64 = 16 << 20;
/// Old bytes around the place where a window is expected.
const SLACK_BYTES: u64 = 256 << 10;
/// Unchanged runs inside a changed file are copied from this size on.
const RUN_BYTES: u64 = 64 << 10;
/// The most baseline blobs that a delta is made against: each is a download at the far side.
const MAX_USED_BLOBS: usize = 16;
/// A baseline blob that saves less is not worth its download …
const MIN_SAVED_BYTES: u64 = 64 << 10;
/// … unless it saves this part of its own size.
const MIN_SAVED_PART: u64 = 100;
/// How many files of one name are looked at.
const MAX_NAMESAKES: usize = 64;

/// What a job's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Tar headers against tar headers.
    Headers,
    /// Small changed files against their old versions.
    Changed,
    /// A large changed file, or a window of it; differences may be smaller than zstd.
    Large,
    /// Content that is like nothing old.
    Fresh,
}

/// What becomes one frame.
#[derive(Debug)]
pub(super) struct Job {
    pub class: Class,
    /// Ranges of the new layer, ascending.
    pub new: Vec<Range<u64>>,
    pub old: Vec<OldRange>,
}

impl Job {
    pub(super) fn new_bytes(&self) -> u64 {
        self.new.iter().map(|range| range.end - range.start).sum()
    }

    pub(super) fn old_bytes(&self) -> u64 {
        self.old.iter().map(OldRange::length).sum()
    }
}

/// A range of the new layer that stands in the baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    pub new: Range<u64>,
    pub old: OldRange,
}

/// Copies and jobs together cover the new layer, each byte once.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub copies: Vec<Copied>,
    pub jobs: Vec<Job>,
}

/// Something new, and the old range that it is coded against.
struct Pair {
    new: Range<u64>,
    old: Vec<OldRange>,
    /// What is sorted by: alike things lie together.
    key: (String, String),
}

/// Plans the new layer `plain`, which was scanned as `files`.
pub(super) fn plan(
    plain: &File,
    files: &[Scanned],
    baseline: &Baseline,
) -> Result<Plan, DeltaError> {
    let all = vec![true; baseline.blobs.len()];
    let allowed = worthwhile(files, baseline, &find_all(files, baseline, &all));
    let found = find_all(files, baseline, &allowed);
    let mut planner = Planner { plain, baseline, allowed: &allowed, plan: Plan::default() };
    let (mut headers, mut changed, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for (file, found) in files.iter().zip(&found) {
        let content = file.entry.content.clone();
        let mut meta = Some(file.entry.meta.clone()).filter(|meta| !meta.is_empty());
        let exact = found.exact.map(|index| &baseline.files[index]);
        let old = found.like.map(|index| &baseline.files[index]);
        let key = sort_key(&file.entry.path);
        if let Some(same) =
            exact.filter(|same| planner.is_same(&content, same.content()).unwrap_or(false))
        {
            // Headers that stand before the old content as well cost nothing beside it.
            if let Some(range) =
                meta.take_if(|meta| planner.is_same(meta, same.meta()).unwrap_or(false))
            {
                planner.copy(range, same.meta());
            }
            planner.copy(content, same.content());
        } else if let Some(old) = old.filter(|old| !old.content.is_empty() && !content.is_empty()) {
            let size = content.end - content.start;
            let limit =
                if planner.is_executable(&content)? { SMALL_EXECUTABLE_BYTES } else { SMALL_BYTES };
            if size > limit || old.content().length() > (MAX_PREFIX_BYTES / 4) as u64 {
                planner.large(content, old.content(), &file.chunks)?;
            } else {
                changed.push(Pair { new: content, old: vec![old.content()], key });
            }
        } else if !content.is_empty() {
            fresh.push(Pair { new: content, old: Vec::new(), key });
        }
        if let Some(new) = meta {
            let old =
                exact.or(old).map(super::baseline::OldFile::meta).filter(|old| old.length() > 0);
            headers.push(Pair { new, old: old.into_iter().collect(), key: Default::default() });
        }
    }
    planner.group(Class::Headers, headers, GROUP_BYTES);
    changed.sort_by(|left, right| left.key.cmp(&right.key));
    planner.group(Class::Changed, changed, GROUP_BYTES);
    fresh.sort_by(|left, right| left.key.cmp(&right.key));
    planner.group(Class::Fresh, cut(fresh), FRESH_BYTES);
    Ok(planner.plan)
}

/// Alike files get neighbouring keys: by extension, then by path.
fn sort_key(path: &str) -> (String, String) {
    let extension = name(path).rsplit_once('.').map_or("", |(_, extension)| extension);
    (extension.to_owned(), path.to_owned())
}

/// Cuts what is larger than a frame.
fn cut(pairs: Vec<Pair>) -> Vec<Pair> {
    let mut cut = Vec::new();
    for pair in pairs {
        let mut start = pair.new.start;
        while start < pair.new.end {
            let end = pair.new.end.min(start + FRESH_BYTES);
            cut.push(Pair { new: start..end, old: pair.old.clone(), key: pair.key.clone() });
            start = end;
        }
    }
    cut
}

/// What the baseline has for one new file.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    exact: Option<usize>,
    like: Option<usize>,
}

fn find_all(files: &[Scanned], baseline: &Baseline, allowed: &[bool]) -> Vec<Found> {
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
        pairs
            .take_while(|(left, right)| {
                super::baseline::folded(left) == super::baseline::folded(right)
            })
            .count()
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
fn worthwhile(files: &[Scanned], baseline: &Baseline, found: &[Found]) -> Vec<bool> {
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

struct Planner<'a> {
    plain: &'a File,
    baseline: &'a Baseline,
    allowed: &'a [bool],
    plan: Plan,
}

impl Planner<'_> {
    fn copy(&mut self, new: Range<u64>, old: OldRange) {
        self.plan.copies.push(Copied { new, old });
    }

    /// Compares the bytes themselves.
    fn is_same(&self, new: &Range<u64>, old: OldRange) -> Result<bool, DeltaError> {
        const STEP: u64 = 256 << 10;
        if new.end - new.start != old.length() {
            return Ok(false);
        }
        let file = &self.baseline.blobs[old.blob].plain;
        let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
        let mut done = 0;
        while done < old.length() {
            let count = usize::try_from(STEP.min(old.length() - done)).unwrap_or(0);
            let read = |file: &File, from: u64, buffer: &mut [u8]| {
                read_exact_at(file, from + done, buffer).map_err(DeltaError::Read)
            };
            read(self.plain, new.start, &mut left[..count])?;
            read(file, old.start, &mut right[..count])?;
            if left[..count] != right[..count] {
                return Ok(false);
            }
            done += count as u64;
        }
        Ok(true)
    }

    /// ELF, PE and Mach-O files by their first bytes.
    fn is_executable(&self, content: &Range<u64>) -> Result<bool, DeltaError> {
        let mut start = [0; 4];
        if content.end - content.start < SMALL_EXECUTABLE_BYTES {
            return Ok(false);
        }
        read_exact_at(self.plain, content.start, &mut start).map_err(DeltaError::Read)?;
        Ok(start == *b"\x7fELF" || start[..2] == *b"MZ" || start == *b"\xcf\xfa\xed\xfe")
    }

    /// Copies long unchanged runs, and cuts what lies between them into windows beside old bytes.
    fn large(
        &mut self,
        content: Range<u64>,
        old: OldRange,
        chunks: &[Chunk],
    ) -> Result<(), DeltaError> {
        let runs = self.runs(&content, chunks)?;
        let mut done = content.start;
        let mut holes = Vec::new();
        // Where the old version goes on after the last run, if that was a run of it.
        let mut before = Some(old.start);
        for run in runs {
            let is_own =
                run.old.blob == old.blob && old.start <= run.old.start && run.old.end <= old.end;
            if done < run.new.start {
                holes.push((done..run.new.start, before, is_own.then_some(run.old.start)));
            }
            done = run.new.end;
            before = is_own.then_some(run.old.end);
            self.copy(run.new, run.old);
        }
        if done < content.end {
            holes.push((done..content.end, before, Some(old.end)));
        }
        let mut pairs = Vec::new();
        for (hole, before, after) in holes {
            pairs.extend(windows(&content, &hole, old, before, after));
        }
        self.group(Class::Large, pairs, WINDOW_BYTES);
        Ok(())
    }

    /// Runs of chunks that stand in the baseline in the same order, long enough to pay, compared.
    fn runs(&self, content: &Range<u64>, chunks: &[Chunk]) -> Result<Vec<Copied>, DeltaError> {
        let mut runs: Vec<Copied> = Vec::new();
        for chunk in chunks {
            let Some((file, offset)) = self.baseline.chunk(chunk.hash) else { continue };
            let file = &self.baseline.files[file];
            if !self.allowed[file.blob] {
                continue;
            }
            let start = content.start + chunk.offset;
            let new = start..start + u64::from(chunk.length);
            let old_start = file.content.start + offset;
            let old_end = (old_start + u64::from(chunk.length)).min(file.content.end);
            let old = OldRange { blob: file.blob, start: old_start, end: old_end };
            if let Some(last) = runs.last_mut() {
                let follows = last.old.blob == old.blob && last.old.end == old.start;
                if follows && last.new.end == new.start {
                    (last.new.end, last.old.end) = (new.end, old.end);
                    continue;
                }
            }
            runs.push(Copied { new, old });
        }
        let mut kept = Vec::new();
        for run in runs {
            if run.old.length() >= RUN_BYTES && self.is_same(&run.new, run.old)? {
                kept.push(run);
            }
        }
        Ok(kept)
    }

    /// Makes jobs of neighbours: up to `limit` new bytes each, and as many old ones as a frame may have.
    fn group(&mut self, class: Class, pairs: Vec<Pair>, limit: u64) {
        let mut jobs: Vec<Vec<Pair>> = Vec::new();
        let (mut new_bytes, mut old_bytes) = (0, 0);
        for pair in pairs {
            let (new, old) =
                (pair.new.end - pair.new.start, pair.old.iter().map(OldRange::length).sum::<u64>());
            let is_full = new_bytes + new > limit || old_bytes + old > MAX_PREFIX_BYTES as u64;
            if jobs.is_empty() || is_full {
                jobs.push(Vec::new());
                (new_bytes, old_bytes) = (0, 0);
            }
            new_bytes += new;
            old_bytes += old;
            if let Some(job) = jobs.last_mut() {
                job.push(pair);
            }
        }
        for mut pairs in jobs {
            // A frame's bytes are used from its start to its end, so they stand in the layer's order.
            pairs.sort_by_key(|pair| pair.new.start);
            let mut seen = BTreeSet::new();
            let mut job = Job { class, new: Vec::new(), old: Vec::new() };
            for pair in pairs {
                job.new.push(pair.new);
                job.old.extend(pair.old.into_iter().filter(|old| seen.insert(*old)));
            }
            self.plan.jobs.push(job);
        }
    }
}

/// Cuts a hole between unchanged runs, and finds the old bytes that belong beside each window: between
/// the same runs, or where the same part of the old version lies.
fn windows(
    content: &Range<u64>,
    hole: &Range<u64>,
    old: OldRange,
    before: Option<u64>,
    after: Option<u64>,
) -> Vec<Pair> {
    let most = MAX_PREFIX_BYTES as u64;
    let size = content.end - content.start;
    let scaled = |at: u64| {
        let part =
            u128::from(at - content.start) * u128::from(old.length()) / u128::from(size.max(1));
        old.start + u64::try_from(part).unwrap_or(0)
    };
    let between = before.zip(after).filter(|(before, after)| before <= after);
    let fits = hole.end - hole.start <= MAX_FRAME_BYTES as u64;
    let mut pairs = Vec::new();
    let mut start = hole.start;
    while start < hole.end {
        let end = if fits { hole.end } else { hole.end.min(start + WINDOW_BYTES) };
        let (from, to) = match between {
            Some((from, to)) if to - from <= most - 2 * SLACK_BYTES => (from, to),
            _ => (scaled(start), scaled(end)),
        };
        let mut slack = SLACK_BYTES;
        if between.is_none_or(|(from, to)| to - from > most - 2 * SLACK_BYTES) {
            slack = (most - (to - from).min(most)) / 2;
        }
        let from = from.saturating_sub(slack).max(old.start);
        let to = (to + slack).min(old.end).min(from + most);
        let range = OldRange { blob: old.blob, start: from, end: to };
        let old = if from < to { vec![range] } else { Vec::new() };
        pairs.push(Pair { new: start..end, old, key: Default::default() });
        start = end;
    }
    pairs
}
