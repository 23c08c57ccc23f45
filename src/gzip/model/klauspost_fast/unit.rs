//! One unit's bytes, the tables' hashes, and what a search finds.

use super::super::{common_length, load32, load64};
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH};

/// A unit's last bytes begin no match.
pub const MARGIN: usize = 11;
/// Distances are below this, in most places.
pub const REACH: u32 = MAX_DISTANCE as u32;

/// How many places tables have, as powers of two.
pub const L1_BITS: u32 = 15;
pub const L2_BITS: u32 = 17;
pub const L3_BITS: u32 = 16;

const PRIME_4: u32 = 2_654_435_761;
const PRIME_5: u64 = 889_523_592_379;
const PRIME_7: u64 = 58_295_818_150_454_627;

/// The slot of the lowest four bytes.
pub fn hash4(value: u64, bits: u32) -> usize {
    ((value as u32).wrapping_mul(PRIME_4) >> (32 - bits)) as usize
}

/// The slot of the lowest five bytes.
pub fn hash5(value: u64, bits: u32) -> usize {
    ((value << 24).wrapping_mul(PRIME_5) >> (64 - bits)) as usize
}

/// The slot of the lowest seven bytes.
pub fn hash7(value: u64, bits: u32) -> usize {
    ((value << 8).wrapping_mul(PRIME_7) >> (64 - bits)) as usize
}

/// Two places for one hash, the newer first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pair {
    pub newer: u32,
    pub older: u32,
}

impl Pair {
    pub fn push(&mut self, place: u32) {
        *self = Self { newer: place, older: self.newer };
    }
}

/// One unit's bytes while something in them is looked for.
#[derive(Clone, Copy)]
pub struct Unit<'a> {
    pub bytes: &'a [u8],
    /// The position of the first of `bytes`.
    pub start: u64,
    /// The index behind the last byte of the unit.
    pub end: usize,
    /// The index of the first byte in the encoder's buffer.
    pub history: usize,
    /// What has to be added to an index to get a place.
    pub shift: u32,
}

impl Unit<'_> {
    pub fn place(&self, index: usize) -> u32 {
        (index as u32).wrapping_add(self.shift)
    }

    pub fn distance(&self, index: usize, place: u32) -> u32 {
        self.place(index).wrapping_sub(place)
    }

    /// Whether `place` is less than 32 KiB before `index` and holds the same four bytes.
    pub fn matches(&self, index: usize, place: u32, value: u64) -> Option<usize> {
        let distance = self.distance(index, place);
        self.matches_within(index, distance, REACH - 1, value)
    }

    pub fn matches_within(
        &self,
        index: usize,
        distance: u32,
        most: u32,
        value: u64,
    ) -> Option<usize> {
        let is_near = distance.wrapping_sub(1) < most && index >= self.history + distance as usize;
        (is_near && load32(self.bytes, index - distance as usize) == value as u32)
            .then_some(distance as usize)
    }

    /// How many bytes are equal at `index` and `distance` before it, up to the unit's end.
    pub fn length(&self, index: usize, distance: usize) -> usize {
        common_length(self.bytes, index - distance, index, self.end - index)
    }

    /// The same, but no longer than one match can be; the first four are known to be equal.
    pub fn length_limited(&self, index: usize, distance: usize) -> usize {
        common_length(self.bytes, index - distance, index, (self.end - index).min(MAX_MATCH))
    }

    pub fn limit(&self) -> usize {
        self.end - MARGIN
    }

    pub fn load(&self, index: usize) -> u64 {
        load64(self.bytes, index)
    }
}

/// What a search ends with: where, how far back, how long as far as known.
pub struct Hit {
    pub at: usize,
    pub distance: usize,
    pub length: usize,
    pub next: usize,
}
