//! zlib's deflate at levels 1 to 9, and everything that is built on it.
//!
//! Hash chains over three bytes; every position enters them at levels 4 to 9, those inside longer matches do not at levels 1 to
//! 3. Levels 4 to 9 put a match off by one byte if the next position has a longer one, and search less once a good one is at
//! hand. Distances stay 262 bytes below the window, and one more for all candidates but the nearest; a match of three bytes
//! counts only up to a distance of 4,096 at levels 4 to 9. The very first byte of an input is never found.

use super::chains::{Chains, Enters, Found, Search};
use super::{Model, Prediction, View};
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH, MIN_MATCH, Token};

/// The farthest match, with the nearest candidate: the window less the lookahead that is always kept.
const REACH: usize = MAX_DISTANCE - (MAX_MATCH + MIN_MATCH + 1);
/// Matches of three bytes are refused beyond this by the lazy levels.
const NEAR: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Level {
    /// With a match this long at hand only a quarter of the chain is looked at.
    good: usize,
    /// Lazy levels: a match this long is not put off. Others: inside longer matches no position enters the chains.
    lazy: usize,
    /// A match this long ends the search.
    nice: usize,
    /// How many candidates are looked at.
    chain: usize,
    is_lazy: bool,
}

const fn level(number: u8) -> Level {
    let (good, lazy, nice, chain, is_lazy) = match number {
        0 | 1 => (4, 4, 8, 4, false),
        2 => (4, 5, 16, 8, false),
        3 => (4, 6, 32, 32, false),
        4 => (4, 4, 16, 16, true),
        5 => (8, 16, 32, 32, true),
        6 => (8, 16, 128, 128, true),
        7 => (8, 32, 128, 256, true),
        8 => (32, 128, 258, 1024, true),
        _ => (32, 258, 258, 4096, true),
    };
    Level { good, lazy, nice, chain, is_lazy }
}

const NONE: Found = Found { length: MIN_MATCH - 1, distance: 0 };

/// The model.
pub struct Zlib {
    level: Level,
    hash_shift: u32,
    hash_mask: u32,
    chains: Chains,
    /// Where the input or its dictionary begins. This byte is never found.
    origin: u64,
    /// The match at a position, where it was looked for already.
    ahead: Option<(u64, Found)>,
}

impl Zlib {
    /// The model of one level and memory level.
    pub fn new(number: u8, memory_level: u8) -> Self {
        let hash_bits = u32::from(memory_level) + 7;
        let level = level(number);
        let enters = if level.is_lazy { Enters::Every } else { Enters::Some };
        Self {
            level,
            hash_shift: hash_bits.div_ceil(3),
            hash_mask: (1 << hash_bits) - 1,
            chains: Chains::new(hash_bits, MIN_MATCH, level.chain, enters),
            origin: 0,
            ahead: None,
        }
    }

    #[inline]
    fn insert_through(&mut self, view: &View<'_>, last: u64) {
        // Positions whose three bytes are not there yet enter when they are: after a flush, none is left out.
        let end = (last + 1).min(view.limit.saturating_sub(MIN_MATCH as u64 - 1));
        let (shift, mask) = (self.hash_shift, self.hash_mask);
        self.chains.insert_below(view, end, |value| {
            let [first, second, third, _] = value.to_le_bytes().map(u32::from);
            (((first << shift ^ second) << shift ^ third) & mask) as usize
        });
    }

    /// The longest match at `position` that is longer than `least`.
    fn find(&mut self, view: &View<'_>, position: u64, least: usize) -> Found {
        if self.chains.are_ahead() && self.chains.inserted() < position + MAX_MATCH as u64 {
            self.insert_through(view, position + self.lookahead() as u64 - 1);
        }
        self.insert_through(view, position);
        let lookahead = view.rest(position);
        if lookahead < MIN_MATCH || self.chains.inserted() <= position || position == self.origin {
            return NONE;
        }
        let limit = lookahead.min(MAX_MATCH);
        if least >= limit {
            return NONE;
        }
        let chain = if least >= self.level.good { self.level.chain / 4 } else { self.level.chain };
        let place = self.chains.place(position);
        let nearest = self.chains.candidates(place, REACH).next();
        let reach = if nearest == Some(REACH) { REACH } else { REACH - 1 };
        let search = Search {
            bytes: view.bytes,
            index: view.index(position),
            position,
            limit,
            nice: self.level.nice.min(lookahead),
            farthest: reach.min((position - self.origin - 1) as usize),
            chain,
        };
        let best = self.chains.longest(&search, least);
        let is_far = self.level.is_lazy && best.length == MIN_MATCH && best.distance > NEAR;
        if best.distance == 0 || is_far { NONE } else { best }
    }
}

impl Model for Zlib {
    fn lookahead(&self) -> usize {
        2 * (MAX_MATCH + MIN_MATCH + 1)
    }

    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        self.origin = position - dictionary_bytes as u64;
        self.chains.restart(self.origin);
        self.chains.skip_below(self.origin + 1);
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
            _ => self.find(view, position, MIN_MATCH - 1),
        };
        self.ahead = Some((position, found));
        let literal = Token::literal(view.bytes[view.index(position)]);
        if found.length < MIN_MATCH {
            return Prediction::new(literal);
        }
        if self.level.is_lazy && found.length < self.level.lazy && view.rest(position) > 1 {
            let next = self.find(view, position + 1, found.length);
            self.ahead = Some((position + 1, next));
            if next.length > found.length {
                return Prediction::new(literal);
            }
        }
        Prediction::new(Token::matched(found.length, found.distance))
    }

    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        let after = position + token.plain_bytes() as u64;
        let enters = self.level.is_lazy || token.is_literal() || token.length() <= self.level.lazy;
        if enters {
            self.insert_through(view, after - 1);
        } else {
            self.insert_through(view, position);
            self.chains.skip_below(after);
        }
    }
}
