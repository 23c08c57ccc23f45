//! No encoder in particular: for streams whose writer has no model of its own.
//!
//! Expects the longest match among near ones, put off by one byte if the next position has a longer one. How sure that is
//! depends on both matches, so that what the real encoder does in each case is learned from the stream itself.

use super::chains::{Chains, Enters, Found};
use super::{Model, Prediction, View, common_length};
use crate::gzip::token::{MAX_MATCH, MIN_MATCH, Token};

const HASH_BITS: u32 = 16;
/// How many candidates are looked at for a rank: a whole chain can be 32 Ki places long.
const MOST_RANKED: usize = 2048;
/// How many candidates are looked at for a prediction, useful or not.
const MOST_SEEN: usize = 256;

/// The model.
pub struct Chain {
    /// How many matches are compared.
    depth: usize,
    /// The shortest match that is expected.
    least: usize,
    chains: Chains,
    /// Where the input or its dictionary begins.
    origin: u64,
    /// The match at a position, where it was looked for already; length 0 is none.
    ahead: Option<(u64, Found)>,
}

impl Chain {
    /// Level 0 compares many matches, level 1 takes the nearest of four bytes or more, level 2 compares a few.
    pub fn new(level: u8) -> Self {
        let (depth, least) = match level {
            0 => (64, MIN_MATCH),
            1 => (1, MIN_MATCH + 1),
            _ => (6, MIN_MATCH),
        };
        let chains = Chains::new(HASH_BITS, MIN_MATCH, 0, Enters::Some);
        Self { depth, least, chains, origin: 0, ahead: None }
    }

    fn insert_through(&mut self, view: &View<'_>, last: u64) {
        let end = (last + 1).min(view.limit.saturating_sub(MIN_MATCH as u64 - 1));
        self.chains.insert_below(view, end, |value| {
            ((value & 0x00ff_ffff).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
        });
    }

    /// The distances in front of `position`, nearest first, of places that may share three bytes with it.
    fn candidates(&self, position: u64) -> impl Iterator<Item = usize> + '_ {
        let is_known = position < self.chains.inserted();
        let farthest = if is_known { (position - self.origin) as usize } else { 0 };
        self.chains.candidates(self.chains.place(position), farthest)
    }

    fn find(&mut self, view: &View<'_>, position: u64) -> Found {
        self.insert_through(view, position);
        let limit = view.rest(position).min(MAX_MATCH);
        let index = view.index(position);
        let mut best = Found { length: self.least - 1, distance: 0 };
        let mut rest = self.depth;
        for distance in self.candidates(position).take(MOST_SEEN) {
            if best.length >= limit {
                break;
            }
            let at = index - distance;
            if view.bytes[at + best.length] != view.bytes[index + best.length] {
                continue;
            }
            let length = common_length(view.bytes, at, index, limit);
            if length > best.length {
                best = Found { length, distance };
            }
            if length >= self.least {
                rest -= 1;
                if rest == 0 {
                    break;
                }
            }
        }
        if best.distance == 0 { Found::default() } else { best }
    }

    fn surety(found: Found, next: Found) -> u8 {
        let length = match found.length {
            0..=3 => 0,
            4 => 1,
            5 => 2,
            6 | 7 => 3,
            8..=11 => 4,
            12..=19 => 5,
            20..=34 => 6,
            _ => 7,
        };
        let gain = match next.length.checked_sub(found.length) {
            None if next.length == 0 => 0,
            None => 1,
            Some(0) => 2,
            Some(1) => 3,
            Some(_) => 4,
        };
        let is_nearer = next.distance.checked_ilog2() < found.distance.checked_ilog2();
        let is_far = found.length == MIN_MATCH && found.distance > 4096;
        let far = if is_far { 81 } else { 1 };
        (far + (length * 5 + gain) * 2 + usize::from(is_nearer)) as u8
    }
}

impl Model for Chain {
    fn lookahead(&self) -> usize {
        2 * MAX_MATCH
    }

    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        self.origin = position - dictionary_bytes as u64;
        self.chains.restart(self.origin);
        self.ahead = None;
        if dictionary_bytes > 0 {
            self.insert_through(view, position - 1);
        }
    }

    fn flush(&mut self, _view: &View<'_>, _position: u64) {
        self.ahead = None;
    }

    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        let found = match self.ahead {
            Some((at, found)) if at == position => found,
            _ => self.find(view, position),
        };
        self.ahead = Some((position, found));
        let literal = Token::literal(view.bytes[view.index(position)]);
        if found.length == 0 {
            return Prediction::new(literal);
        }
        let mut next = Found::default();
        if view.rest(position) > 1 {
            next = self.find(view, position + 1);
            self.ahead = Some((position + 1, next));
        }
        let matched = Token::matched(found.length, found.distance);
        let surety = Self::surety(found, next);
        if next.length > found.length {
            Prediction { token: literal, surety, alternative: Some(matched) }
        } else {
            Prediction { token: matched, surety, alternative: Some(literal) }
        }
    }

    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        self.insert_through(view, position + token.plain_bytes() as u64 - 1);
    }

    fn rank(
        &self,
        view: &View<'_>,
        position: u64,
        length: usize,
        distance: usize,
    ) -> Option<usize> {
        let limit = view.rest(position).min(length);
        let index = view.index(position);
        let mut rank = 0;
        for candidate in self.candidates(position).take(MOST_RANKED) {
            if candidate > distance {
                break;
            }
            if common_length(view.bytes, index - candidate, index, limit) == length {
                if candidate == distance {
                    return Some(rank);
                }
                rank += 1;
            }
        }
        None
    }

    fn ranked(&self, view: &View<'_>, position: u64, length: usize, rank: usize) -> Option<usize> {
        let limit = view.rest(position).min(length);
        let index = view.index(position);
        self.candidates(position)
            .take(MOST_RANKED)
            .filter(|candidate| {
                common_length(view.bytes, index - candidate, index, limit) == length
            })
            .nth(rank)
    }
}
