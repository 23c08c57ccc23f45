//! Differences between two versions of a binary.
//!
//! Executables that were built again have the same shape with other addresses in it. So the new bytes
//! are laid beside old bytes of nearly the same content, and what is written down is the *difference*
//! byte by byte: mostly zero, and where it is not, the same few values again. The idea is Colin Percival's
//! ("Naive differences of executable code", 2003); the format and the way matches are found are our own.
//!
//! A packed difference is three zstd frames behind a line of six sizes:
//! *control* (for each step: how far the old position moves, how many bytes to add to old ones, and how
//! many extra bytes follow), *sums* (the bytes to add) and *extra* (bytes with nothing alike).

use super::codec::{self, Reach, Settings};
use super::error::DeltaError;
use super::runs::common;
use super::varint::{Numbers, put, put_step};

const PART: &str = "difference";

/// The most bytes of a control stream: a step gives at least one byte, a sane one far more.
const MAX_CONTROL_BYTES: usize = 8 << 20;
/// How many equal bytes make a place in the old version worth looking at.
const SEED_BYTES: usize = 8;
/// A new alignment must explain so many bytes more than the present one.
const GAIN_BYTES: usize = 12;
/// Where a comparison stops; what follows is found out while walking on.
const ENOUGH_BYTES: usize = 2048;

/// Codes `new` as differences to `old`, not packed yet. Of the places with the same seed `depth` are compared.
pub(super) fn differences(new: &[u8], old: &[u8], depth: usize) -> Differences {
    let mut differences = Differences::default();
    let walk = Walk { new, old, index: Index::new(old, depth) };
    for step in walk.steps() {
        differences.push(new, old, &step);
    }
    differences
}

/// Rebuilds the `size_bytes` bytes whose differences to `old` are `packed`.
pub(super) fn unpack(packed: &[u8], old: &[u8], size_bytes: usize) -> Result<Vec<u8>, DeltaError> {
    let invalid = |expected| DeltaError::Invalid { part: PART, expected };
    let mut numbers = Numbers::new(PART, packed);
    let mut sizes = [(0, 0); 3];
    for (size, limit) in sizes.iter_mut().zip([MAX_CONTROL_BYTES, size_bytes, size_bytes]) {
        *size = (numbers.size(PART, limit)?, numbers.size(PART, packed.len())?);
    }
    let [control, sums, extra] = sizes;
    if sums.0.checked_add(extra.0) != Some(size_bytes) {
        return Err(invalid("streams that give the frame's size"));
    }
    let mut stream = |(size, packed)| codec::unpack(PART, numbers.bytes(packed)?, &[], size);
    let (control, sums, extra) = (stream(control)?, stream(sums)?, stream(extra)?);
    numbers.finish()?;

    let mut bytes = Vec::with_capacity(size_bytes);
    let mut control = Numbers::new(PART, &control);
    let (mut sums, mut extra) = (Numbers::new(PART, &sums), Numbers::new(PART, &extra));
    let mut position = 0u64;
    while bytes.len() < size_bytes {
        position = control.step(position)?;
        let add = control.size(PART, size_bytes - bytes.len())?;
        let more = control.size(PART, size_bytes - bytes.len() - add)?;
        if add + more == 0 {
            return Err(invalid("steps that give bytes"));
        }
        let start = usize::try_from(position).map_err(|_| invalid("old bytes that exist"))?;
        let beside = start.checked_add(add).and_then(|end| old.get(start..end));
        let beside = beside.ok_or(invalid("old bytes that exist"))?;
        bytes.extend(sums.bytes(add)?.iter().zip(beside).map(|(sum, old)| old.wrapping_add(*sum)));
        bytes.extend(extra.bytes(more)?);
        position += add as u64;
    }
    control.finish()?;
    sums.finish()?;
    extra.finish()?;
    Ok(bytes)
}

/// One step: `new[new..new + add]` lies beside `old[old..old + add]`, then come `more` new bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    new: usize,
    old: usize,
    add: usize,
    more: usize,
}

/// The three streams.
#[derive(Default)]
pub(super) struct Differences {
    control: Vec<u8>,
    sums: Vec<u8>,
    extra: Vec<u8>,
    /// Where the old position stood after the former step.
    position: u64,
}

impl Differences {
    /// The streams as a frame holds them, packed at this zstd level.
    pub(super) fn pack(&self, level: i32) -> Vec<u8> {
        let settings = Settings { level, reach: Reach::Level };
        let parts = [&self.control, &self.sums, &self.extra];
        let packed = parts.map(|part| codec::pack(part, &[], settings));
        let mut bytes = Vec::new();
        for (part, packed) in parts.iter().zip(&packed) {
            put(&mut bytes, part.len() as u64);
            put(&mut bytes, packed.len() as u64);
        }
        bytes.extend(packed.concat());
        bytes
    }

    fn push(&mut self, new: &[u8], old: &[u8], step: &Step) {
        put_step(&mut self.control, self.position, step.old as u64);
        put(&mut self.control, step.add as u64);
        put(&mut self.control, step.more as u64);
        let beside = &old[step.old..step.old + step.add];
        let (fresh, rest) = new[step.new..step.new + step.add + step.more].split_at(step.add);
        self.sums.extend(fresh.iter().zip(beside).map(|(new, old)| new.wrapping_sub(*old)));
        self.extra.extend(rest);
        self.position = (step.old + step.add) as u64;
    }
}

/// Finds the steps.
struct Walk<'a> {
    new: &'a [u8],
    old: &'a [u8],
    index: Index,
}

/// Where `new[new..]` was found to lie beside `old[old..]`.
#[derive(Clone, Copy, Debug, Default)]
struct Anchor {
    new: usize,
    old: usize,
}

impl Walk<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        // Bytes of `new` before `done` are in a step already.
        let mut done = 0;
        let mut current = Anchor::default();
        let mut scan = 0;
        while scan < self.new.len() {
            scan += self.equal_run(current, scan);
            let Some(next) = self.better(current, scan) else {
                scan += 1;
                continue;
            };
            let forward = self.forward(current, done, next.new);
            let back = self.backward(next, done);
            let (end, start) = self.split(current, next, forward, back);
            if end > done || start > done {
                let old = current.old + (done - current.new);
                steps.push(Step { new: done, old, add: end - done, more: start - end });
            }
            current = Anchor { new: start, old: next.old - (next.new - start) };
            done = start;
            scan = next.new + SEED_BYTES;
        }
        if done < self.new.len() {
            let end = self.forward(current, done, self.new.len());
            let old = current.old + (done - current.new);
            let (add, more) = (end - done, self.new.len() - end);
            steps.push(Step { new: done, old, add, more });
        }
        steps
    }

    /// How many bytes from `scan` on are equal under the alignment.
    fn equal_run(&self, anchor: Anchor, scan: usize) -> usize {
        let beside = self.old.get(anchor.old + (scan - anchor.new)..).unwrap_or_default();
        common(&self.new[scan.min(self.new.len())..], beside)
    }

    /// A place that explains the bytes at `scan` clearly better than the present alignment does.
    fn better(&self, current: Anchor, scan: usize) -> Option<Anchor> {
        let ahead = self.new.get(scan..)?;
        let (old, length) = self.index.longest(self.old, ahead)?;
        let beside = self.old.get(current.old + (scan - current.new)..).unwrap_or_default();
        let equal = ahead[..length].iter().zip(beside).filter(|(new, old)| new == old).count();
        (length > equal + GAIN_BYTES).then_some(Anchor { new: scan, old })
    }

    /// Up to where the bytes from `from` on are worth keeping beside the old ones.
    fn forward(&self, anchor: Anchor, from: usize, limit: usize) -> usize {
        let start = anchor.old + (from - anchor.new);
        let beside = self.old.get(start..).unwrap_or_default();
        from + best_length(self.new[from..limit].iter().zip(beside).map(|(new, old)| new == old))
    }

    /// From where on the bytes before the anchor are worth keeping beside the old ones.
    fn backward(&self, anchor: Anchor, limit: usize) -> usize {
        let before = self.new[limit..anchor.new].iter().rev();
        let beside = self.old[..anchor.old].iter().rev();
        anchor.new - best_length(before.zip(beside).map(|(new, old)| new == old))
    }

    /// Cuts an overlap of both alignments where together they explain the most.
    fn split(&self, current: Anchor, next: Anchor, end: usize, start: usize) -> (usize, usize) {
        if end <= start {
            return (end, start);
        }
        let by_current = |at: usize| self.new[at] == self.old[current.old + (at - current.new)];
        let by_next = |at: usize| self.new[at] == self.old[next.old - (next.new - at)];
        let (mut best, mut score, mut best_score) = (start, 0i64, 0i64);
        for at in start..end {
            score += i64::from(by_current(at)) - i64::from(by_next(at));
            if score > best_score {
                best_score = score;
                best = at + 1;
            }
        }
        (best, best)
    }
}

/// The length at which equal bytes outweigh the others the most.
fn best_length(equal: impl Iterator<Item = bool>) -> usize {
    let (mut best, mut score, mut best_score) = (0, 0i64, 0i64);
    for (index, equal) in equal.enumerate() {
        score += if equal { 1 } else { -1 };
        if score > best_score {
            best_score = score;
            best = index + 1;
        }
    }
    best
}

/// Every position of the old version by the seed that starts there.
struct Index {
    heads: Vec<u32>,
    /// For each position the former one with the same seed hash, both counted from 1.
    former: Vec<u32>,
    shift: u32,
    depth: usize,
}

impl Index {
    fn new(old: &[u8], depth: usize) -> Self {
        let bits = (usize::BITS - old.len().leading_zeros()).clamp(8, 22);
        let mut heads = vec![0u32; 1 << bits];
        let mut former = vec![0u32; old.len()];
        let shift = 64 - bits;
        // From the end, so that the first of a chain is the lowest position.
        for (position, seed) in old.windows(SEED_BYTES).enumerate().rev() {
            let head = &mut heads[slot(seed, shift)];
            former[position] = *head;
            *head = u32::try_from(position + 1).unwrap_or(0);
        }
        Self { heads, former, shift, depth }
    }

    /// The longest of the places that start with the same seed, with the length in common.
    fn longest(&self, old: &[u8], ahead: &[u8]) -> Option<(usize, usize)> {
        let seed = ahead.get(..SEED_BYTES)?;
        let ahead = &ahead[..ahead.len().min(ENOUGH_BYTES)];
        let mut best = None;
        let mut best_length = SEED_BYTES;
        let mut place = self.heads[slot(seed, self.shift)];
        for _ in 0..self.depth {
            let Some(position) = (place as usize).checked_sub(1) else { break };
            // Only a place that is equal at the best length so far can be longer.
            if old.get(position + best_length) == ahead.get(best_length) {
                let length = common(ahead, &old[position..]);
                if length > best_length {
                    best = Some((position, length));
                    best_length = length;
                    if length == ahead.len() {
                        break;
                    }
                }
            }
            place = self.former[position];
        }
        best
    }
}

fn slot(seed: &[u8], shift: u32) -> usize {
    let word = seed.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    usize::try_from(word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift).unwrap_or(0)
}
