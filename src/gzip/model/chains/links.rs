//! Places that share the hash of their first bytes, each with the one before it.

use super::super::{View, load32};
use crate::gzip::token::MAX_DISTANCE;

/// How many bytes the places of a long chain share.
pub const LONG_BYTES: usize = 8;
const LONG_BITS: u32 = 14;

/// How many bytes at the end of a match have a chain of their own.
pub const END_BYTES: usize = 4;
const END_BITS: u32 = 16;

/// As many places as the low 16 bits tell apart.
pub const PLACES: usize = 1 << 16;

/// Heads by hash, and links by place.
///
/// A *place* is a position counted from wherever the model likes, modulo 2^16. What is farther than 32 KiB counts as nothing.
pub struct Links {
    pub heads: Vec<u16>,
    /// The place before. Where none is near enough it seems to be nearer than what led here, or too far.
    pub links: Box<[u16; PLACES]>,
}

impl Links {
    #[expect(
        clippy::large_stack_arrays,
        reason = "128 KiB once, for look-ups without bounds checks"
    )]
    pub fn new(hash_bits: u32) -> Self {
        Self { heads: vec![0; 1 << hash_bits], links: Box::new([0; PLACES]) }
    }

    /// Forgets everything; the next place is `place`. Only links of places that are in the chains are followed.
    pub fn clear(&mut self, place: u16) {
        self.heads.fill(place.wrapping_sub(OUT_OF_REACH));
    }

    /// `place` is the newest of `hash` now. Gives the one before it.
    #[inline]
    pub fn insert(&mut self, hash: usize, place: u16) -> u16 {
        let before = std::mem::replace(&mut self.heads[hash], place);
        self.links[usize::from(place)] = before;
        before
    }

    /// Keeps heads that are out of reach from coming near again as 2^16 places have passed.
    pub fn age(&mut self, place: u16) {
        for head in &mut self.heads {
            let is_near = usize::from(place.wrapping_sub(*head)) <= MAX_DISTANCE;
            *head = if is_near { *head } else { place.wrapping_sub(OUT_OF_REACH) };
        }
    }

    /// The place before `place`.
    #[inline]
    pub fn before(&self, place: u16) -> u16 {
        self.links[usize::from(place)]
    }
}

/// More than a match's distance, and less than 2^16 by more than the places between two rounds of ageing.
const OUT_OF_REACH: u16 = 40_000;
pub const AGEING_PLACES: u64 = 1 << 14;

/// The chains of places that share eight bytes.
pub struct Long {
    pub links: Links,
    /// Positions in the short chains whose eight bytes were not there yet.
    pub pending: Vec<u64>,
}

impl Long {
    pub fn new() -> Self {
        Self { links: Links::new(LONG_BITS), pending: Vec::new() }
    }

    #[inline]
    pub fn insert(&mut self, bytes: [u8; LONG_BYTES], place: u16) {
        let value = u64::from_le_bytes(bytes);
        let hash = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LONG_BITS);
        self.links.insert(hash as usize, place);
    }

    #[cold]
    pub fn catch_up(&mut self, view: &View<'_>, origin: u16) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|&position| {
            let bytes = view.bytes[view.index(position)..].first_chunk();
            if let Some(&bytes) = bytes {
                self.insert(bytes, (position as u16).wrapping_sub(origin));
            }
            bytes.is_none()
        });
        self.pending = pending;
    }
}

/// The chains of places that share four bytes, beside short ones of fewer.
pub struct Ends {
    pub links: Links,
    /// Positions below this are in.
    pub inserted: u64,
}

impl Ends {
    pub fn new() -> Self {
        Self { links: Links::new(END_BITS), inserted: 0 }
    }

    #[inline]
    pub fn insert_below(&mut self, view: &View<'_>, end: u64, origin: u16) {
        let end = end.min(view.limit.saturating_sub(END_BYTES as u64 - 1));
        if self.inserted >= end {
            return;
        }
        let places = (end - self.inserted) as usize;
        let mut place = (self.inserted as u16).wrapping_sub(origin);
        for four in view.bytes[view.index(self.inserted)..].windows(END_BYTES).take(places) {
            let hash = load32(four, 0).wrapping_mul(0x9e37_79b1) >> (32 - END_BITS);
            self.links.insert(hash as usize, place);
            place = place.wrapping_add(1);
        }
        self.inserted = end;
    }
}
