//! What every byte of the new layer is made from. A plan holds positions only; it depends on the new
//! layer and the baseline, never on time or threads.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;

use crate::window::read_exact_at;

use super::baseline::{Baseline, OldFile, OldRange, Scanned, name};
use super::chunk::Chunk;
use super::error::DeltaError;
use super::like::{find_all, worthwhile};
use super::plain::append;
use super::runs::{Run, equal_runs};
use super::table::{MAX_FRAME_BYTES, MAX_PREFIX_BYTES};

/// A changed file above this gets frames of its own.
const SMALL_BYTES: u64 = 1 << 20;
/// An executable above this gets frames of its own, where differences may serve better.
const SMALL_EXECUTABLE_BYTES: u64 = 64 << 10;
/// Small changed files are coded together up to this size.
const GROUP_BYTES: u64 = 4 << 20;
/// What changed in large files is coded together up to this size.
const LARGE_GROUP_BYTES: u64 = 8 << 20;
/// Large files are cut into windows of this size, so that several cores and bounded memory do.
const WINDOW_BYTES: u64 = 16 << 20;
/// Old bytes around the place where a window is expected.
const SLACK_BYTES: u64 = 256 << 10;
/// Unchanged runs inside a large changed file are looked for in all of the baseline from this size on …
const RUN_BYTES: u64 = 64 << 10;
/// … and then in its old version, as in that of any changed file: naming one costs some ten bytes.
const OWN_RUN_BYTES: usize = 1 << 10;
/// What lies between two runs is coded against what lies there in the old version, and so much around it.
const CONTEXT_BYTES: usize = 1 << 10;
/// What is shorter gains nothing from old bytes that have to be named.
const LONE_BYTES: usize = 32;
/// No more runs than these are copied, so that the tables stay below their limits.
const MAX_COPIES: usize = 1 << 17;

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

/// Plans the new layer `plain`, which was scanned as `files`. New content is coded together up to `fresh_bytes`, at most a
/// frame's size.
pub(super) fn plan(
    plain: &File,
    files: &[Scanned],
    baseline: &Baseline,
    fresh_bytes: u64,
) -> Result<Plan, DeltaError> {
    let all = vec![true; baseline.blobs.len()];
    let allowed = worthwhile(files, baseline, &find_all(files, baseline, &all));
    let found = find_all(files, baseline, &allowed);
    let mut planner = Planner { plain, baseline, allowed: &allowed, plan: Plan::default() };
    let (mut headers, mut changed) = (Vec::new(), Vec::new());
    let (mut large, mut fresh) = (Vec::new(), Vec::new());
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
                large.extend(planner.large(content, old.content(), &file.chunks, &key)?);
            } else {
                let pair = Pair { new: content, old: vec![old.content()], key };
                changed.extend(planner.trim(pair)?);
            }
        } else if !content.is_empty() {
            fresh.push(Pair { new: content, old: Vec::new(), key });
        }
        if let Some(new) = meta {
            let old = exact.or(old).map(OldFile::meta).filter(|old| old.length() > 0);
            headers.push(Pair { new, old: old.into_iter().collect(), key: Default::default() });
        }
    }
    planner.group(Class::Headers, headers, GROUP_BYTES);
    for pairs in [&mut changed, &mut large, &mut fresh] {
        pairs.sort_by(|left, right| left.key.cmp(&right.key));
    }
    planner.group(Class::Changed, changed, GROUP_BYTES);
    planner.group(Class::Large, large, LARGE_GROUP_BYTES);
    planner.group(Class::Fresh, cut(fresh, fresh_bytes), fresh_bytes);
    Ok(planner.plan)
}

/// Alike files get neighbouring keys: by extension, then by path.
fn sort_key(path: &str) -> (String, String) {
    let extension = name(path).rsplit_once('.').map_or("", |(_, extension)| extension);
    (extension.to_owned(), path.to_owned())
}

/// Cuts what is larger than `most_bytes`.
fn cut(pairs: Vec<Pair>, most_bytes: u64) -> Vec<Pair> {
    let mut cut = Vec::new();
    for pair in pairs {
        let mut start = pair.new.start;
        while start < pair.new.end {
            let end = pair.new.end.min(start + most_bytes);
            cut.push(Pair { new: start..end, old: pair.old.clone(), key: pair.key.clone() });
            start = end;
        }
    }
    cut
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
        key: &(String, String),
    ) -> Result<Vec<Pair>, DeltaError> {
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
            for pair in windows(&content, &hole, old, before, after) {
                pairs.extend(self.trim(Pair { key: key.clone(), ..pair })?);
            }
        }
        Ok(pairs)
    }

    /// Copies what a file, or a window of one, has in common with the old bytes beside it, and gives what
    /// lies between.
    fn trim(&mut self, pair: Pair) -> Result<Vec<Pair>, DeltaError> {
        let [old] = pair.old[..] else { return Ok(vec![pair]) };
        if self.plan.copies.len() >= MAX_COPIES {
            return Ok(vec![pair]);
        }
        let (mut new_bytes, mut old_bytes) = (Vec::new(), Vec::new());
        append(self.plain, &pair.new, &mut new_bytes)?;
        append(&self.baseline.blobs[old.blob].plain, &(old.start..old.end), &mut old_bytes)?;
        let part = |start: usize, end: usize| OldRange {
            blob: old.blob,
            start: old.start + start as u64,
            end: old.start + end.min(old_bytes.len()) as u64,
        };
        let mut runs = equal_runs(&new_bytes, &old_bytes, OWN_RUN_BYTES);
        runs.push(Run { new: new_bytes.len(), old: old_bytes.len(), length: 0 });
        let mut between = Vec::new();
        let mut former = Run { new: 0, old: 0, length: 0 };
        for run in runs {
            let (hole, beside) = (former.new + former.length, former.old + former.length);
            let length = run.new - hole;
            let new = |at: usize| pair.new.start + at as u64;
            if length > 0 {
                let end = if run.old >= beside { run.old } else { beside + length };
                let around = part(beside.saturating_sub(CONTEXT_BYTES), end + CONTEXT_BYTES);
                let old = Some(around).filter(|old| length >= LONE_BYTES && old.length() > 0);
                let (new, key) = (new(hole)..new(run.new), pair.key.clone());
                between.push(Pair { new, old: old.into_iter().collect(), key });
            }
            if run.length > 0 {
                let new = new(run.new)..new(run.new + run.length);
                self.copy(new, part(run.old, run.old + run.length));
            }
            former = run;
        }
        Ok(between)
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
