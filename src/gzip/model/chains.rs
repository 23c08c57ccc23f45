//! Hash chains: for each position of the last 32 KiB, the one before it with the same hash.

use crate::gzip::token::MAX_DISTANCE;

/// Heads by hash, and links by position.
///
/// A *place* is a position counted from wherever the model likes, modulo 2^32; 0 is no place.
pub struct Chains {
    heads: Vec<u32>,
    /// The low bits of the place before; of the place itself where there is none near enough.
    links: Box<[u16; MAX_DISTANCE]>,
}

/// Goes back along one chain.
#[derive(Clone, Copy)]
pub struct Walk {
    here: u16,
    place: u16,
}

impl Walk {
    /// Begins at `place`, which is in the chains.
    #[inline]
    pub fn new(place: u32) -> Self {
        Self { here: place as u16, place: place as u16 }
    }
}

impl Chains {
    /// Empty chains for hashes of `hash_bits` bits.
    #[expect(
        clippy::large_stack_arrays,
        reason = "64 KiB once, for look-ups without bounds checks"
    )]
    pub fn new(hash_bits: u32) -> Self {
        Self { heads: vec![0; 1 << hash_bits], links: Box::new([0; MAX_DISTANCE]) }
    }

    /// Forgets everything. The links need not be: only those of places that are in the chains are followed.
    pub fn clear(&mut self) {
        self.heads.fill(0);
    }

    /// The newest place of `hash`.
    pub fn head(&self, hash: usize) -> u32 {
        self.heads[hash]
    }

    /// `place` is the newest of `hash` now.
    #[inline]
    pub fn insert(&mut self, hash: usize, place: u32) {
        let head = &mut self.heads[hash];
        let is_near = *head != 0 && place.wrapping_sub(*head) as usize <= MAX_DISTANCE;
        self.links[place as usize % MAX_DISTANCE] = if is_near { *head } else { place } as u16;
        *head = place;
    }

    /// How far back the next place is, which is farther than `distance`; 0 at the end of the chain.
    #[inline]
    pub fn next(&self, walk: &mut Walk, distance: usize) -> usize {
        walk.place = self.links[usize::from(walk.place) % MAX_DISTANCE];
        let next = usize::from(walk.here.wrapping_sub(walk.place));
        if next > distance && next <= MAX_DISTANCE { next } else { 0 }
    }
}
