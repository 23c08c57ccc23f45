//! Hash chains: for each position of the last 32 KiB, how far back the one before it with the same hash is.

use crate::gzip::token::MAX_DISTANCE;

/// Heads by hash, and steps back by position.
///
/// A *place* is a position counted from wherever the model likes, modulo 2^32; 0 is no place.
pub struct Chains {
    heads: Vec<u32>,
    steps: Box<[u16; MAX_DISTANCE]>,
}

impl Chains {
    /// Empty chains for hashes of `hash_bits` bits.
    #[expect(
        clippy::large_stack_arrays,
        reason = "64 KiB once, for look-ups without bounds checks"
    )]
    pub fn new(hash_bits: u32) -> Self {
        Self { heads: vec![0; 1 << hash_bits], steps: Box::new([0; MAX_DISTANCE]) }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.heads.fill(0);
        self.steps.fill(0);
    }

    /// The newest place of `hash`.
    pub fn head(&self, hash: usize) -> u32 {
        self.heads[hash]
    }

    /// `place` is the newest of `hash` now.
    #[inline]
    pub fn insert(&mut self, hash: usize, place: u32) {
        let head = &mut self.heads[hash];
        let step = place.wrapping_sub(*head);
        let is_near = *head != 0 && step as usize <= MAX_DISTANCE;
        self.steps[place as usize % MAX_DISTANCE] = if is_near { step as u16 } else { 0 };
        *head = place;
    }

    /// How far before `place` the next one of its chain is; 0 where there is none near enough.
    #[inline]
    pub fn step(&self, place: u32) -> usize {
        usize::from(self.steps[place as usize % MAX_DISTANCE])
    }
}
