//! Hash chains: for each position of the last 32 KiB, the one before it with the same hash; and the search in them.
//!
//! An encoder follows the chain of its own short hash. Where it looks at many candidates, so does a model, and most of them in
//! vain. There are two ways around that. Both follow another chain, which has all matches that are long enough, in the same
//! order. Which of them the encoder does not reach, because it gives up after so many candidates, is told by ordinals: the places
//! of one short chain are numbered.
//!
//! - Where every position enters the chains, those ahead of the search may be in already. A match longer than the best one
//!   so far also shares the four bytes at its end, so the chain of those is followed: what went on otherwise is not in it.
//! - Else a second chain links the places that share eight bytes.

mod links;

use self::links::{AGEING_PLACES, END_BYTES, Ends, LONG_BYTES, Links, Long, PLACES};
use super::{Tail, View, common_length, load32};
use crate::gzip::token::MAX_DISTANCE;

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
    /// The position of that, which is in the chains.
    pub position: u64,
    /// No match is longer.
    pub limit: usize,
    /// A match this long ends the search.
    pub nice: usize,
    /// No match is farther.
    pub farthest: usize,
    /// How many candidates of the short chain are looked at.
    pub chain: usize,
}

/// Which positions enter the chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enters {
    /// Every one, those ahead of a search too: a search needs all places up to the end of the longest match.
    Every,
    /// Those that the model says, up to that of a search.
    Some,
}

/// The chains of one encoder.
pub struct Chains {
    short: Links,
    /// Numbers along each short chain. A place 32 KiB back still has its own.
    ordinals: Box<[u16; PLACES]>,
    /// How many bytes the short hash is of.
    hashed_bytes: usize,
    enters: Enters,
    /// Where every position enters and the short hash is not of so many bytes itself.
    ends: Option<Ends>,
    long: Option<Long>,
    /// The position of the first place.
    origin: u16,
    next_ageing: u64,
    /// Where positions that were left out end.
    gap_end: u64,
    /// Positions below this are in the chains, or never will be.
    inserted: u64,
}

impl Chains {
    /// Empty chains for hashes of `hash_bits` bits of `hashed_bytes` bytes of an encoder that looks at `chain` candidates at
    /// most.
    #[expect(
        clippy::large_stack_arrays,
        reason = "128 KiB once, for look-ups without bounds checks"
    )]
    pub fn new(hash_bits: u32, hashed_bytes: usize, chain: usize, enters: Enters) -> Self {
        let is_ahead = enters == Enters::Every;
        Self {
            short: Links::new(hash_bits),
            ordinals: Box::new([0; PLACES]),
            hashed_bytes,
            enters,
            ends: (is_ahead && hashed_bytes < END_BYTES).then(Ends::new),
            long: (!is_ahead && chain >= WORTH_A_LONG_CHAIN).then(Long::new),
            origin: 0,
            next_ageing: 0,
            gap_end: 0,
            inserted: 0,
        }
    }

    /// Forgets everything; `position` is the next to be inserted.
    pub fn restart(&mut self, position: u64) {
        self.short.clear(0);
        if let Some(ends) = &mut self.ends {
            ends.links.clear(0);
            ends.inserted = position;
        }
        if let Some(long) = &mut self.long {
            long.links.clear(0);
            long.pending.clear();
        }
        self.origin = position as u16;
        self.next_ageing = position + AGEING_PLACES;
        self.gap_end = position;
        self.inserted = position;
    }

    /// The next position to be inserted.
    #[inline]
    pub fn inserted(&self) -> u64 {
        self.inserted
    }

    /// Whether a search needs all places up to [`MAX_MATCH`](crate::gzip::token::MAX_MATCH) bytes ahead to be in the chains.
    #[inline]
    pub fn are_ahead(&self) -> bool {
        self.enters == Enters::Every
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
            let place = self.place(self.inserted);
            if self.inserted >= self.next_ageing {
                self.age(place);
            }
            let bytes = &view.bytes[view.index(self.inserted)..];
            let places = (end.min(self.next_ageing) - self.inserted) as usize;
            let done = if self.long.is_some() {
                self.insert_long(bytes, place, &hash);
                1
            } else {
                self.insert_short(bytes, place, places, &hash)
            };
            self.inserted += done as u64;
        }
        if let Some(ends) = &mut self.ends {
            ends.insert_below(view, end, self.origin);
        }
    }

    /// Inserts up to `places` places from `place` on, whose bytes begin at the first of `bytes`. Says how many.
    #[inline]
    fn insert_short(
        &mut self,
        bytes: &[u8],
        mut place: u16,
        places: usize,
        hash: impl Fn(u32) -> usize,
    ) -> usize {
        let whole = bytes.len().saturating_sub(3).min(places);
        for first in bytes.windows(4).take(whole) {
            self.number(hash(load32(first, 0)), place);
            place = place.wrapping_add(1);
        }
        if whole == 0 {
            self.number(hash(first_four(bytes)), place);
        }
        whole.max(1)
    }

    /// Inserts a place in both chains.
    fn insert_long(&mut self, bytes: &[u8], place: u16, hash: impl Fn(u32) -> usize) {
        self.number(hash(first_four(bytes)), place);
        if let Some(long) = &mut self.long {
            match bytes.first_chunk() {
                Some(&eight) => long.insert(eight, place),
                None => long.pending.push(self.inserted),
            }
        }
    }

    /// Leaves out all positions below `end` that are not in yet.
    #[inline]
    pub fn skip_below(&mut self, end: u64) {
        if self.inserted < end {
            self.gap_end = end;
        }
        self.inserted = self.inserted.max(end);
        if let Some(ends) = &mut self.ends {
            ends.inserted = ends.inserted.max(end);
        }
    }

    /// Inserts a place in the short chain of `hash` and gives it its number there.
    #[inline]
    fn number(&mut self, hash: usize, place: u16) {
        let before = self.short.insert(hash, place);
        self.ordinals[usize::from(place)] = self.ordinals[usize::from(before)].wrapping_add(1);
    }

    /// How many candidates of the short chain of `here` it takes to come to `place`, if it is one.
    #[inline]
    fn steps(&self, here: u16, place: u16) -> usize {
        let (own, other) = (self.ordinals[usize::from(here)], self.ordinals[usize::from(place)]);
        usize::from(own.wrapping_sub(other))
    }

    #[cold]
    fn age(&mut self, place: u16) {
        self.next_ageing = self.inserted + AGEING_PLACES;
        self.short.age(place);
        if let Some(ends) = &mut self.ends {
            ends.links.age(place);
        }
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
        // What was left out would be missing at the ends of matches.
        let has_gap = self.gap_end + search.farthest as u64 > search.position;
        if self.are_ahead() && !has_gap {
            return self.walk_by_ends(search, none);
        }
        let Some(long) = self.long.as_ref().filter(|_| search.limit >= LONG_BYTES) else {
            return self.walk_short(search, none, search.nice, any);
        };
        let best = Found { length: least.max(LONG_BYTES - 1), ..none };
        let best = self.walk_long(long, search, best, any);
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
        self.walk_long(long, search, best, takes)
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
        let Search { bytes, index, limit, .. } = *search;
        let here = self.place(search.position);
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

    /// Goes back along the chain of the last bytes that a match longer than the best one has.
    #[inline]
    fn walk_by_ends(&self, search: &Search<'_>, mut best: Found) -> Found {
        let Search { bytes, index, limit, .. } = *search;
        let here = self.place(search.position);
        // The chain to follow, and how far ahead.
        let chain = |length: usize| match &self.ends {
            Some(ends) if length + 1 >= END_BYTES => (&ends.links, length + 1 - END_BYTES),
            _ => (&self.short, (length + 1).saturating_sub(self.hashed_bytes)),
        };
        let (mut links, mut ahead) = chain(best.length);
        let mut from = here.wrapping_add(ahead as u16);
        let mut tail = Tail::new(bytes, index, best.length);
        let (mut place, mut distance) = (from, 0);
        for _ in 0..search.chain {
            place = links.before(place);
            let next = usize::from(from.wrapping_sub(place));
            if next <= distance || next > search.farthest {
                return best;
            }
            distance = next;
            let at = index - distance;
            if distance <= best.distance || !tail.fits(bytes, at) {
                continue;
            }
            let length = common_length(bytes, at, index, limit);
            if length <= best.length {
                continue;
            }
            if self.steps(here, here.wrapping_sub(distance as u16)) > search.chain {
                return best;
            }
            best = Found { length, distance };
            if length >= search.nice {
                return best;
            }
            tail = Tail::new(bytes, index, length);
            (links, ahead) = chain(length);
            from = here.wrapping_add(ahead as u16);
            (place, distance) = (from, 0);
        }
        // That chain is no shorter than the encoder's own.
        self.walk_short(search, best, search.nice, |_, _| true)
    }

    /// Goes back along the long chain, behind `best`, as far as the short chain would be followed.
    #[inline]
    fn walk_long(
        &self,
        long: &Long,
        search: &Search<'_>,
        mut best: Found,
        mut takes: impl FnMut(usize, usize) -> bool,
    ) -> Found {
        let Search { bytes, index, limit, .. } = *search;
        let here = self.place(search.position);
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
            if self.steps(here, place) > search.chain {
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

#[cfg(test)]
mod tests;
