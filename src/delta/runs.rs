//! Equal runs: the longer pieces of one byte string that stand in another one unchanged.

/// Every so many bytes of the old version one place is remembered, by as many bytes.
const STRIDE: usize = 16;

/// `new[new..new + length]` are the bytes of `old[old..old + length]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub new: usize,
    pub old: usize,
    pub length: usize,
}

/// Runs of at least `least` bytes, ascending in `new` and apart from each other. They are equal, but not
/// all that are equal are found: where the same bytes stand in several places, one of them is looked at.
pub(super) fn equal_runs(new: &[u8], old: &[u8], least: usize) -> Vec<Run> {
    let least = least.max(2 * STRIDE);
    let mut runs = Vec::new();
    let head = common(new, old);
    let mut done = 0;
    if head >= least {
        runs.push(Run { new: 0, old: 0, length: head });
        done = head;
    }
    let tail = common_end(&new[done..], &old[done..]);
    let end = if tail >= least { new.len() - tail } else { new.len() };
    if end - done >= least {
        between(new, old, least, done..end, &mut runs);
    }
    if end < new.len() {
        runs.push(Run { new: end, old: old.len() - tail, length: tail });
    }
    runs
}

/// The runs in `new[range]`.
fn between(
    new: &[u8],
    old: &[u8],
    least: usize,
    range: std::ops::Range<usize>,
    runs: &mut Vec<Run>,
) {
    let places = Places::new(old);
    let (mut done, mut at) = (range.start, range.start);
    // Where the old version goes on if nothing was put in or taken out.
    let mut shift = (0, 0);
    while at + STRIDE <= range.end {
        let ahead = &new[at..range.end];
        let beside =
            (at + shift.1).checked_sub(shift.0).filter(|old_at| is_equal(ahead, old, *old_at));
        let Some(old_at) = beside.or_else(|| places.find(ahead, old)) else {
            at += 1;
            continue;
        };
        let length = common(ahead, &old[old_at..]);
        let back = common_end(&new[done..at], &old[..old_at]);
        if length + back >= least {
            runs.push(Run { new: at - back, old: old_at - back, length: length + back });
            shift = (at, old_at);
            done = at + length;
            at = done;
        } else {
            // What was compared in vain is not compared byte after byte again.
            at += 1 + length / 4;
        }
    }
}

fn is_equal(ahead: &[u8], old: &[u8], at: usize) -> bool {
    old.get(at..at + STRIDE).is_some_and(|beside| ahead[..STRIDE] == *beside)
}

/// One place in the old version for each of its blocks that differ.
struct Places {
    /// Number of the block, counted from 1.
    slots: Vec<u32>,
    shift: u32,
}

impl Places {
    fn new(old: &[u8]) -> Self {
        let bits = (usize::BITS - (old.len() / STRIDE).leading_zeros() + 1).clamp(8, 24);
        let mut places = Self { slots: vec![0; 1 << bits], shift: u64::BITS - bits };
        for (number, block) in old.chunks_exact(STRIDE).enumerate().rev() {
            let slot = places.slot(block);
            places.slots[slot] = u32::try_from(number + 1).unwrap_or(0);
        }
        places
    }

    fn find(&self, ahead: &[u8], old: &[u8]) -> Option<usize> {
        let number = self.slots[self.slot(ahead)].checked_sub(1)?;
        let at = number as usize * STRIDE;
        is_equal(ahead, old, at).then_some(at)
    }

    fn slot(&self, bytes: &[u8]) -> usize {
        let word = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte))
        };
        let mixed = word(0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ word(8).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        usize::try_from(mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift).unwrap_or(0)
    }
}

/// How many bytes two slices have in common at their start.
pub(super) fn common(left: &[u8], right: &[u8]) -> usize {
    let words = left.chunks_exact(16).zip(right.chunks_exact(16));
    let equal = 16 * words.take_while(|(left, right)| left == right).count();
    let rest = left[equal..].iter().zip(&right[equal..]);
    equal + rest.take_while(|(left, right)| left == right).count()
}

/// How many bytes two slices have in common at their end.
fn common_end(left: &[u8], right: &[u8]) -> usize {
    let words = left.rchunks_exact(16).zip(right.rchunks_exact(16));
    let equal = 16 * words.take_while(|(left, right)| left == right).count();
    let (left, right) = (&left[..left.len() - equal], &right[..right.len() - equal]);
    let rest = left.iter().rev().zip(right.iter().rev());
    equal + rest.take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, count: usize) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn long_runs_are_found_wherever_they_moved() {
        let old = noise(1, 10_000);
        let fresh = noise(2, 100);
        let run = |new, old, length| Run { new, old, length };
        for (name, new, expected) in [
            ("unchanged", old.clone(), vec![run(0, 0, 10_000)]),
            ("nothing alike", noise(3, 10_000), vec![]),
            ("another start", [&fresh, &old[8..]].concat(), vec![run(100, 8, 9_992)]),
            ("another end", [&old[..5_000], &fresh].concat(), vec![run(0, 0, 5_000)]),
            (
                "other bytes inside",
                [&old[..3_000], &fresh[..7], &old[3_007..]].concat(),
                vec![run(0, 0, 3_000), run(3_007, 3_007, 6_993)],
            ),
            (
                "turned round",
                [&old[6_000..], &fresh, &old[..6_000]].concat(),
                vec![run(0, 6_000, 4_000), run(4_100, 0, 6_000)],
            ),
            ("too short", [&fresh, &old[100..300], &fresh].concat(), vec![]),
            ("nothing", vec![], vec![]),
        ] {
            assert_eq!(equal_runs(&new, &old, 1000), expected, "{name}");
            assert!(equal_runs(&new, &[], 1000).is_empty(), "{name}");
        }
    }

    #[test]
    fn runs_are_equal_and_apart() {
        let old: Vec<u8> = noise(4, 5_000).iter().map(|byte| byte & 1).collect();
        for seed in 5..25 {
            let mut new = old.clone();
            for place in noise(seed, 12).chunks(2) {
                let at = usize::from(place[0]) * 19;
                new.splice(
                    at..at + usize::from(place[1]) / 4,
                    noise(seed, usize::from(place[1]) / 3),
                );
            }
            let mut end = 0;
            for run in equal_runs(&new, &old, 64) {
                assert!(run.new >= end && run.length >= 64, "{run:?} behind {end}");
                end = run.new + run.length;
                assert_eq!(new[run.new..end], old[run.old..run.old + run.length]);
            }
        }
    }
}
