//! Hash chains: for each position of the last 32 KiB, the one before it with the same hash; and the search in them.
//!
//! An encoder follows the chain of its own short hash. Where it looks at many candidates, so does a model, and most of them in
//! vain. So a second chain links the places that share eight bytes: it has all matches that long, in the same
//! order. Which of them the encoder does not reach, because it gives up after so many candidates, is told by ordinals: the places
//! of one short chain are numbered.

use super::{Tail, View, common_length, load32};
use crate::gzip::token::MAX_DISTANCE;

/// How many bytes the places of a long chain share.
const LONG_BYTES: usize = 8;
const LONG_BITS: u32 = 14;

/// As many places as the low 16 bits tell apart.
const PLACES: usize = 1 << 16;

/// Heads by hash, and links by place.
///
/// A *place* is a position counted from wherever the model likes, modulo 2^16. What is farther than 32 KiB counts as nothing.
struct Links {
    heads: Vec<u16>,
    /// The place before; the place itself where there is none near enough.
    links: Box<[u16; MAX_DISTANCE]>,
}

impl Links {
    #[expect(
        clippy::large_stack_arrays,
        reason = "64 KiB once, for look-ups without bounds checks"
    )]
    fn new(hash_bits: u32) -> Self {
        Self { heads: vec![0; 1 << hash_bits], links: Box::new([0; MAX_DISTANCE]) }
    }

    /// Forgets everything; the next place is `place`. Only links of places that are in the chains are followed.
    fn clear(&mut self, place: u16) {
        self.heads.fill(place.wrapping_sub(OUT_OF_REACH));
    }

    /// `place` is the newest of `hash` now. Gives the one before it, or `place` where there is none near enough.
    #[inline]
    fn insert(&mut self, hash: usize, place: u16) -> u16 {
        let head = &mut self.heads[hash];
        let is_near = usize::from(place.wrapping_sub(*head)) <= MAX_DISTANCE;
        let before = if is_near { *head } else { place };
        self.links[usize::from(place) % MAX_DISTANCE] = before;
        *head = place;
        before
    }

    /// Keeps heads that are out of reach from coming near again as 2^16 places have passed.
    fn age(&mut self, place: u16) {
        for head in &mut self.heads {
            let is_near = usize::from(place.wrapping_sub(*head)) <= MAX_DISTANCE;
            *head = if is_near { *head } else { place.wrapping_sub(OUT_OF_REACH) };
        }
    }

    /// The place before `place`.
    #[inline]
    fn before(&self, place: u16) -> u16 {
        self.links[usize::from(place) % MAX_DISTANCE]
    }
}

/// More than a match's distance, and less than 2^16 by more than the places between two rounds of ageing.
const OUT_OF_REACH: u16 = 40_000;
const AGEING_PLACES: u64 = 1 << 14;

/// A match, or none where the length is below what was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many bytes are equal.
    pub length: usize,
    /// How far back.
    pub distance: usize,
}

/// What a search looks at.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The plain bytes.
    pub bytes: &'a [u8],
    /// Where in them a match is looked for.
    pub index: usize,
    /// The place of that, which is in the chains.
    pub place: u16,
    /// No match is longer.
    pub limit: usize,
    /// A match this long ends the search.
    pub nice: usize,
    /// No match is farther.
    pub farthest: usize,
    /// How many candidates of the short chain are looked at.
    pub chain: usize,
}

/// The chains of places that share eight bytes.
struct Long {
    links: Links,
    /// Numbers along each short chain. A place 32 KiB back still has its own.
    ordinals: Box<[u16; PLACES]>,
    /// Positions in the short chains whose eight bytes were not there yet.
    pending: Vec<u64>,
}

impl Long {
    #[expect(
        clippy::large_stack_arrays,
        reason = "128 KiB once, for look-ups without bounds checks"
    )]
    fn new() -> Self {
        let ordinals = Box::new([0; PLACES]);
        Self { links: Links::new(LONG_BITS), ordinals, pending: Vec::new() }
    }

    #[inline]
    fn insert(&mut self, bytes: [u8; LONG_BYTES], place: u16) {
        let value = u64::from_le_bytes(bytes);
        let hash = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LONG_BITS);
        self.links.insert(hash as usize, place);
    }

    /// Numbers `place`, which follows `before` in its short chain.
    #[inline]
    fn number(&mut self, place: u16, before: u16) {
        self.ordinals[usize::from(place)] = self.ordinals[usize::from(before)].wrapping_add(1);
    }

    /// How many candidates of the short chain of `here` it takes to come to `place`, if it is one.
    #[inline]
    fn steps(&self, here: u16, place: u16) -> usize {
        let (own, other) = (self.ordinals[usize::from(here)], self.ordinals[usize::from(place)]);
        usize::from(own.wrapping_sub(other))
    }

    #[cold]
    fn catch_up(&mut self, view: &View<'_>, origin: u16) {
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

/// The chains of one encoder.
pub struct Chains {
    short: Links,
    long: Option<Long>,
    /// The position of the first place.
    origin: u16,
    next_ageing: u64,
    /// Positions below this are in the chains, or never will be.
    pub inserted: u64,
}

impl Chains {
    /// Empty chains for hashes of `hash_bits` bits of an encoder that looks at `chain` candidates at most.
    pub fn new(hash_bits: u32, chain: usize) -> Self {
        Self {
            short: Links::new(hash_bits),
            long: (chain >= WORTH_A_LONG_CHAIN).then(Long::new),
            origin: 0,
            next_ageing: 0,
            inserted: 0,
        }
    }

    /// Forgets everything; `position` is the next to be inserted.
    pub fn restart(&mut self, position: u64) {
        self.short.clear(0);
        if let Some(long) = &mut self.long {
            long.links.clear(0);
            long.pending.clear();
        }
        self.origin = position as u16;
        self.next_ageing = position + AGEING_PLACES;
        self.inserted = position;
    }

    /// The place of `position`.
    #[inline]
    pub fn place(&self, position: u64) -> u16 {
        (position as u16).wrapping_sub(self.origin)
    }

    /// The newest place of `hash`, or one that is out of reach.
    pub fn head(&self, hash: usize) -> u16 {
        self.short.heads[hash]
    }

    /// Inserts all positions below `end` that are not in yet, each with the hash of its first bytes, lowest first.
    #[inline]
    pub fn insert_below(&mut self, view: &View<'_>, end: u64, hash: impl Fn(u32) -> usize) {
        if let Some(long) = self.long.as_mut().filter(|long| !long.pending.is_empty()) {
            long.catch_up(view, self.origin);
        }
        while self.inserted < end {
            let bytes = &view.bytes[view.index(self.inserted)..];
            let place = self.place(self.inserted);
            if self.inserted >= self.next_ageing {
                self.age(place);
            }
            let eight = bytes.first_chunk::<LONG_BYTES>();
            let first = eight.map_or_else(|| first_four(bytes), |&eight| load32(&eight, 0));
            let before = self.short.insert(hash(first), place);
            if let Some(long) = &mut self.long {
                long.number(place, before);
                match eight {
                    Some(&eight) => long.insert(eight, place),
                    None => long.pending.push(self.inserted),
                }
            }
            self.inserted += 1;
        }
    }

    #[cold]
    fn age(&mut self, place: u16) {
        self.next_ageing = self.inserted + AGEING_PLACES;
        self.short.age(place);
        if let Some(long) = &mut self.long {
            long.links.age(place);
        }
    }

    /// The distances of all places in the short chain of `place`, up to `farthest`.
    pub fn candidates(&self, place: u16, farthest: usize) -> impl Iterator<Item = usize> + '_ {
        let here = place;
        let (mut place, mut distance) = (here, 0);
        std::iter::from_fn(move || {
            place = self.short.before(place);
            let next = usize::from(here.wrapping_sub(place));
            let is_over = next <= distance || next > farthest.min(MAX_DISTANCE);
            distance = next;
            (!is_over).then_some(next)
        })
    }

    /// The longest match of more than `least` bytes, of those the nearest. Its distance is 0 where there is none.
    #[inline]
    pub fn longest(&self, search: &Search<'_>, least: usize) -> Found {
        let any = |_, _| true;
        let none = Found { length: least, distance: 0 };
        let Some(long) = self.long.as_ref().filter(|_| search.limit >= LONG_BYTES) else {
            return self.walk_short(search, none, search.nice, any);
        };
        let best = Found { length: least.max(LONG_BYTES - 1), ..none };
        let best = Self::walk_long(long, search, best, any);
        if best.distance != 0 || least >= LONG_BYTES - 1 {
            return best;
        }
        let limit = LONG_BYTES - 1;
        self.walk_short(&Search { limit, ..*search }, none, limit, any)
    }

    /// The last of the ever longer matches that `takes`, going back.
    pub fn last_taken(
        &self,
        search: &Search<'_>,
        best: Found,
        mut takes: impl FnMut(usize, usize) -> bool,
    ) -> Found {
        let Some(long) = self.long.as_ref().filter(|_| search.limit >= LONG_BYTES) else {
            return self.walk_short(search, best, search.nice, takes);
        };
        let best = self.walk_short(search, best, LONG_BYTES - 1, &mut takes);
        if best.length < LONG_BYTES - 1 || best.length >= search.nice {
            return best;
        }
        Self::walk_long(long, search, best, takes)
    }

    /// Goes back along the short chain until a match has `enough` bytes.
    #[inline]
    fn walk_short(
        &self,
        search: &Search<'_>,
        mut best: Found,
        enough: usize,
        mut takes: impl FnMut(usize, usize) -> bool,
    ) -> Found {
        let Search { bytes, index, limit, place: here, .. } = *search;
        let mut tail = Tail::new(bytes, index, best.length);
        let (mut place, mut distance) = (here, 0);
        for _ in 0..search.chain {
            place = self.short.before(place);
            let next = usize::from(here.wrapping_sub(place));
            if next <= distance || next > search.farthest {
                break;
            }
            distance = next;
            if !tail.fits(bytes, index - distance) {
                continue;
            }
            let length = common_length(bytes, index - distance, index, limit);
            if length > best.length && takes(length, distance) {
                best = Found { length, distance };
                if length >= enough {
                    break;
                }
                tail = Tail::new(bytes, index, length);
            }
        }
        best
    }

    /// Goes back along the long chain, behind `best`, as far as the short chain would be followed.
    #[inline]
    fn walk_long(
        long: &Long,
        search: &Search<'_>,
        mut best: Found,
        mut takes: impl FnMut(usize, usize) -> bool,
    ) -> Found {
        let Search { bytes, index, limit, place: here, .. } = *search;
        let mut tail = Tail::new(bytes, index, best.length);
        let (mut place, mut distance, nearest) = (here, 0, best.distance);
        loop {
            place = long.links.before(place);
            let next = usize::from(here.wrapping_sub(place));
            if next <= distance || next > search.farthest {
                break;
            }
            distance = next;
            let at = index - distance;
            if long.steps(here, place) > search.chain {
                if load32(bytes, at) == load32(bytes, index) {
                    break;
                }
                // Another short chain's number says nothing: only the long hash happens to be the same.
                continue;
            }
            if distance <= nearest || !tail.fits(bytes, at) {
                continue;
            }
            let length = common_length(bytes, at, index, limit);
            if length > best.length && takes(length, distance) {
                best = Found { length, distance };
                if length >= search.nice {
                    break;
                }
                tail = Tail::new(bytes, index, length);
            }
        }
        best
    }
}

/// Below this many candidates a long chain costs more than it saves.
const WORTH_A_LONG_CHAIN: usize = 256;

/// The first four bytes, lowest first; those that are missing are 0.
fn first_four(bytes: &[u8]) -> u32 {
    let mut four = [0; 4];
    four.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte);
    u32::from_le_bytes(four)
}
