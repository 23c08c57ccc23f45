//! Makes a delta: plans, codes the jobs on several threads, and writes the result in order.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::digest::{Algorithm, Digest, Hasher};

use super::baseline::{self, Baseline, OldRange};
use super::codec::{self, Reach, Settings};
use super::diff;
use super::error::DeltaError;
use super::needs::{BlobNeeds, Needs};
use super::plain::{append, pass};
use super::plan::{self, Class, Job, Plan};
use super::table::{self, Frame, FrameKind, Piece};

/// Needed ranges closer than this become one: bytes that lie on a disk for a while are cheaper than
/// bytes that cross the gap.
const MERGE_GAP_BYTES: u64 = 16 << 10;
/// What the workers may have in memory together. One job is always let in.
const MEMORY_BYTES: u64 = 384 << 20;
/// Up to this part of what zstd makes, both tried at level 3, a difference is smaller in the end, or
/// nearly so.
const BETTER_PERCENT: usize = 95;
/// How many results may wait for an earlier one.
const MAX_WAITING: usize = 64;

/// How much time is spent for fewer bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As fast as deltas are worth having.
    Fast,
    /// A good delta in reasonable time.
    #[default]
    Default,
    /// The smallest delta.
    Max,
}

impl Effort {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Default, Self::Max];

    /// What it is called where it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Max => "max",
        }
    }
}

/// How a delta is made. Only the effort changes the bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time against bytes.
    pub effort: Effort,
    /// How many threads work; at most the machine's cores make sense.
    pub threads: NonZeroUsize,
    /// Where a temporary file of the delta's size may lie.
    pub workdir: PathBuf,
}

/// What a delta came out as.
#[derive(Clone, Debug)]
pub struct Made {
    /// The delta's own size.
    pub delta_bytes: u64,
    /// How many bytes of the output are copied from the baseline as they are.
    pub copied_bytes: u64,
    /// What it needs and promises, as [`read_needs`](super::read_needs) will say.
    pub needs: Needs,
}

/// Writes a delta to `out` that gives the `plain_bytes` bytes of `plain` from those of the baseline.
///
/// The same input and effort give the same bytes, whatever the number of threads. `plain` may be anything;
/// a tar is understood, anything else is one file without a name.
///
/// # Errors
/// [`DeltaError::Limit`] where the layer is beyond the format (the caller carries it raw), or a file that
/// fails.
pub fn make(
    plain: &File,
    plain_bytes: u64,
    baseline: &Baseline,
    options: &Options,
    out: &mut impl Write,
) -> Result<Made, DeltaError> {
    super::error::at_most("output", plain_bytes, super::needs::MAX_PLAIN_BYTES)?;
    let scanned = baseline::scan(plain, plain_bytes).map_err(DeltaError::Read)?;
    let layout = plan::plan(plain, &scanned, baseline, fresh_bytes(options.effort))?;
    drop(scanned);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    pass(plain, &(0..plain_bytes), |bytes| hasher.update(bytes)).map_err(DeltaError::Read)?;
    let workshop = Workshop { plain, baseline, effort: options.effort };
    let mut coded = workshop.run(&layout.jobs, options)?;

    let space = Space::new(&layout, &coded.kinds, baseline);
    let needs =
        Needs { output_bytes: plain_bytes, output_digest: hasher.finish(), blobs: space.blobs() };
    let frames = frames(&layout, &coded.kinds, &space);
    let head = table::encode(&needs, &frames, &pieces(&layout, &space))?;
    out.write_all(&head).map_err(DeltaError::Write)?;
    coded.file.rewind().map_err(DeltaError::Workdir)?;
    let frames_bytes = io::copy(&mut coded.file, out).map_err(DeltaError::Write)?;
    out.flush().map_err(DeltaError::Write)?;
    let copied_bytes = layout.copies.iter().map(|copy| copy.old.length()).sum();
    Ok(Made { delta_bytes: head.len() as u64 + frames_bytes, copied_bytes, needs })
}

/// A job's result as the table describes it.
#[derive(Clone, Copy, Debug)]
struct Coded {
    kind: FrameKind,
    packed_bytes: usize,
    /// Whether the old bytes are used at all.
    prefix: Prefix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Used,
    Dropped,
}

/// All jobs' results, and their bytes in the jobs' order.
struct AllCoded {
    kinds: Vec<Coded>,
    file: File,
}

struct Workshop<'a> {
    plain: &'a File,
    baseline: &'a Baseline,
    effort: Effort,
}

/// What the workers share.
struct Shared {
    next: usize,
    memory_bytes: u64,
    waiting: Vec<Option<(Coded, Vec<u8>)>>,
    kinds: Vec<Coded>,
    file: File,
    failed: Option<DeltaError>,
}

impl Workshop<'_> {
    fn run(&self, jobs: &[Job], options: &Options) -> Result<AllCoded, DeltaError> {
        let file = new_file(&options.workdir)?;
        let shared = Mutex::new(Shared {
            next: 0,
            memory_bytes: 0,
            waiting: jobs.iter().map(|_| None).collect(),
            kinds: Vec::new(),
            file,
            failed: None,
        });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            for _ in 1..options.threads.get().min(jobs.len()) {
                scope.spawn(|| self.work(jobs, &shared, &changed));
            }
            self.work(jobs, &shared, &changed);
        });
        let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        match shared.failed {
            Some(error) => Err(error),
            None => Ok(AllCoded { kinds: shared.kinds, file: shared.file }),
        }
    }

    fn work(&self, jobs: &[Job], shared: &Mutex<Shared>, changed: &Condvar) {
        while let Some(index) = take_job(jobs, shared, changed) {
            let result = self.code(&jobs[index]);
            let mut state = lock(shared);
            state.memory_bytes -= memory_of(&jobs[index]);
            match result {
                Ok(coded) => state.waiting[index] = Some(coded),
                Err(error) => state.failed = Some(error),
            }
            if let Err(error) = write_ready(&mut state) {
                state.failed = Some(error);
            }
            changed.notify_all();
        }
    }

    /// Codes one job in the ways that may serve it, and takes the smallest.
    fn code(&self, job: &Job) -> Result<(Coded, Vec<u8>), DeltaError> {
        let mut new = Vec::new();
        for range in &job.new {
            append(self.plain, range, &mut new)?;
        }
        let mut old = Vec::new();
        for range in &job.old {
            append(&self.baseline.blobs[range.blob].plain, &(range.start..range.end), &mut old)?;
        }
        let settings = self.settings(job.class);
        Ok(match job.class {
            Class::Headers => code_headers(job, &new, &old, settings),
            Class::Large if !old.is_empty() => self.code_large(&new, &old, settings),
            _ => coded(FrameKind::Zstd, codec::pack(&new, &old, settings)),
        })
    }

    /// As a difference or by zstd, whichever is smaller, or below `max` what a quick try says of that.
    fn code_large(&self, new: &[u8], old: &[u8], settings: Settings) -> (Coded, Vec<u8>) {
        let difference = diff::differences(new, old, self.depth());
        let by_difference = || coded(FrameKind::Diff, difference.pack(settings.level));
        let by_zstd = || coded(FrameKind::Zstd, codec::pack(new, old, settings));
        if self.effort == Effort::Max {
            return std::cmp::min_by_key(by_difference(), by_zstd(), |(_, packed)| packed.len());
        }
        let quick_zstd = codec::pack(new, old, Settings { level: 3, reach: Reach::Far }).len();
        if 100 * difference.pack(3).len() <= BETTER_PERCENT * quick_zstd {
            by_difference()
        } else {
            by_zstd()
        }
    }

    /// How hard differences look for what lies beside what.
    fn depth(&self) -> usize {
        match self.effort {
            Effort::Fast => 4,
            Effort::Default => 24,
            Effort::Max => 64,
        }
    }

    fn settings(&self, class: Class) -> Settings {
        match (self.effort, class) {
            (Effort::Fast, Class::Headers) => Settings { level: 12, reach: Reach::Level },
            (Effort::Fast, _) => Settings { level: 7, reach: Reach::Far },
            (Effort::Default, _) => Settings { level: 19, reach: Reach::Level },
            (Effort::Max, _) => Settings { level: 22, reach: Reach::Level },
        }
    }
}

/// How much new content is coded together: more of it is alike in more, and keeps fewer threads busy.
fn fresh_bytes(effort: Effort) -> u64 {
    match effort {
        Effort::Fast | Effort::Default => 8 << 20,
        Effort::Max => table::MAX_FRAME_BYTES as u64,
    }
}

fn coded(kind: FrameKind, packed: Vec<u8>) -> (Coded, Vec<u8>) {
    (Coded { kind, packed_bytes: packed.len(), prefix: Prefix::Used }, packed)
}

/// Headers against old headers; naming those costs about three bytes each, so without may be cheaper.
fn code_headers(job: &Job, new: &[u8], old: &[u8], settings: Settings) -> (Coded, Vec<u8>) {
    let packed = codec::pack(new, old, settings);
    if old.is_empty() {
        return coded(FrameKind::Zstd, packed);
    }
    let alone = codec::pack(new, &[], settings);
    if alone.len() > packed.len() + 3 * job.old.len() {
        return coded(FrameKind::Zstd, packed);
    }
    let (described, alone) = coded(FrameKind::Zstd, alone);
    (Coded { prefix: Prefix::Dropped, ..described }, alone)
}

fn new_file(workdir: &Path) -> Result<File, DeltaError> {
    tempfile::tempfile_in(workdir).map_err(DeltaError::Workdir)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next job's number, once there is memory for it.
fn take_job(jobs: &[Job], shared: &Mutex<Shared>, changed: &Condvar) -> Option<usize> {
    let mut state = lock(shared);
    loop {
        if state.failed.is_some() || state.next == jobs.len() {
            return None;
        }
        let index = state.next;
        let memory = memory_of(&jobs[index]);
        let is_room = state.memory_bytes == 0 || state.memory_bytes + memory <= MEMORY_BYTES;
        let is_near = index < state.kinds.len() + MAX_WAITING;
        if is_room && is_near {
            state.next += 1;
            state.memory_bytes += memory;
            return Some(index);
        }
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// About what a job takes: its bytes, its result, and the match finder's tables.
fn memory_of(job: &Job) -> u64 {
    let bytes = job.new_bytes() + job.old_bytes();
    let tables = if job.class == Class::Large { 4 * job.old_bytes() } else { 0 };
    2 * bytes + tables.max(5 * bytes).min(160 << 20)
}

fn write_ready(state: &mut Shared) -> Result<(), DeltaError> {
    while let Some(slot) = state.waiting.get_mut(state.kinds.len()) {
        let Some((coded, bytes)) = slot.take() else { break };
        state.file.write_all(&bytes).map_err(DeltaError::Workdir)?;
        state.kinds.push(coded);
    }
    Ok(())
}

/// The need space: every old range that is used, close ones merged.
struct Space {
    /// By baseline blob: where the ranges are, and where each starts in the space.
    ranges: Vec<Vec<(Range<u64>, u64)>>,
    digests: Vec<Digest>,
}

impl Space {
    fn new(plan: &Plan, coded: &[Coded], baseline: &Baseline) -> Self {
        let mut used: Vec<OldRange> = plan.copies.iter().map(|copy| copy.old).collect();
        for (job, coded) in plan.jobs.iter().zip(coded) {
            if coded.prefix == Prefix::Used {
                used.extend(&job.old);
            }
        }
        used.sort_unstable();
        let mut ranges: Vec<Vec<(Range<u64>, u64)>> = vec![Vec::new(); baseline.blobs.len()];
        for range in used.into_iter().filter(|range| range.start < range.end) {
            let list = &mut ranges[range.blob];
            match list.last_mut() {
                Some((former, _)) if range.start <= former.end + MERGE_GAP_BYTES => {
                    former.end = former.end.max(range.end);
                }
                _ => list.push((range.start..range.end, 0)),
            }
        }
        let mut start = 0;
        for (range, place) in ranges.iter_mut().flatten() {
            *place = start;
            start += range.end - range.start;
        }
        let digests = baseline.blobs.iter().map(|blob| blob.digest.clone()).collect();
        Self { ranges, digests }
    }

    fn blobs(&self) -> Vec<BlobNeeds> {
        let named = self.digests.iter().zip(&self.ranges);
        named
            .filter(|(_, ranges)| !ranges.is_empty())
            .map(|(digest, ranges)| BlobNeeds {
                digest: digest.clone(),
                ranges: ranges.iter().map(|(range, _)| range.clone()).collect(),
            })
            .collect()
    }

    /// Where an old range starts in the need space.
    fn offset(&self, old: OldRange) -> u64 {
        let list = &self.ranges[old.blob];
        let place = list.partition_point(|(range, _)| range.start <= old.start).saturating_sub(1);
        list.get(place).map_or(0, |(range, start)| start + (old.start - range.start))
    }
}

fn frames(plan: &Plan, coded: &[Coded], space: &Space) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (job, coded) in plan.jobs.iter().zip(coded) {
        let mut prefix: Vec<Range<u64>> = Vec::new();
        let used = if coded.prefix == Prefix::Used { &job.old[..] } else { &[] };
        for old in used.iter().filter(|old| old.length() > 0) {
            let start = space.offset(*old);
            let end = start + old.length();
            match prefix.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => prefix.push(start..end),
            }
        }
        let size_bytes = usize::try_from(job.new_bytes()).unwrap_or(usize::MAX);
        let Coded { kind, packed_bytes, .. } = *coded;
        frames.push(Frame { kind, size_bytes, packed_bytes, prefix });
    }
    frames
}

/// Copies and frames in the order of the output, neighbours joined.
fn pieces(plan: &Plan, space: &Space) -> Vec<Piece> {
    let mut parts: Vec<(u64, Piece)> = Vec::new();
    for copy in &plan.copies {
        let offset = space.offset(copy.old);
        parts.push((copy.new.start, Piece::Copy { offset, length: copy.old.length() }));
    }
    for (index, job) in plan.jobs.iter().enumerate() {
        for range in &job.new {
            let length = range.end - range.start;
            parts.push((range.start, Piece::Frame { index, length }));
        }
    }
    parts.sort_by_key(|(start, _)| *start);
    let mut pieces: Vec<Piece> = Vec::new();
    for (_, piece) in parts.into_iter().filter(|(_, piece)| piece.length() > 0) {
        match (pieces.last_mut(), piece) {
            (Some(Piece::Copy { offset, length }), Piece::Copy { offset: next, length: more })
                if *offset + *length == next =>
            {
                *length += more;
            }
            (Some(Piece::Frame { index, length }), Piece::Frame { index: next, length: more })
                if *index == next =>
            {
                *length += more;
            }
            _ => pieces.push(piece),
        }
    }
    pieces
}
