//! Go's compress/flate up to 1.26 at levels 2 to 9.
//!
//! Hash chains over four bytes in a window of two times 32 KiB that moves by 32 KiB. Every position enters the chains at levels
//! 4 to 9; at levels 2 and 3 those inside a long match do not. Levels 4 to 9 put a match off by one byte if the next
//! position has a longer one. A match of four bytes counts only up to a distance of 4,096.

use super::chains::{Chains, Enters, Found, Search};
use super::{Model, Prediction, View};
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH, Token};

const WINDOW: u64 = MAX_DISTANCE as u64;
const HASH_BITS: u32 = 17;
const MIN_LENGTH: usize = 4;
/// The window moves when fewer bytes than this are left in it.
const LEAST_LOOKAHEAD: u64 = (MIN_LENGTH + MAX_MATCH) as u64;
/// From this level on every position enters the chains.
pub const FIRST_LAZY: u8 = 4;
/// Matches of four bytes are refused beyond this.
const NEAR: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Level {
    /// A match this long is not put off (0: none is ever).
    lazy: usize,
    /// A match this long ends the search.
    nice: usize,
    /// How many candidates are looked at.
    chain: usize,
    /// Inside longer matches no position enters the chains (`usize::MAX`: all do).
    insert: usize,
}

const fn level(number: u8) -> Level {
    let all = usize::MAX;
    match number {
        0..=2 => Level { lazy: 0, nice: 16, chain: 8, insert: 5 },
        3 => Level { lazy: 0, nice: 32, chain: 32, insert: 6 },
        4 => Level { lazy: 4, nice: 16, chain: 16, insert: all },
        5 => Level { lazy: 16, nice: 32, chain: 32, insert: all },
        6 => Level { lazy: 16, nice: 128, chain: 128, insert: all },
        7 => Level { lazy: 32, nice: 128, chain: 256, insert: all },
        8 => Level { lazy: 128, nice: 258, chain: 1024, insert: all },
        _ => Level { lazy: 258, nice: 258, chain: 4096, insert: all },
    }
}

/// The model.
pub struct GoLazy {
    level: Level,
    chains: Chains,
    /// Where the encoder's window begins.
    window: u64,
    /// The match at a position, where it was looked for already; length 0 is none.
    ahead: Option<(u64, Found)>,
}

impl GoLazy {
    /// The model of one level.
    pub fn new(number: u8) -> Self {
        let level = level(number);
        let enters = if level.insert == usize::MAX { Enters::Every } else { Enters::Some };
        let chains = Chains::new(HASH_BITS, MIN_LENGTH, level.chain, enters);
        Self { level, chains, window: 0, ahead: None }
    }

    /// `last` and everything before it enters the chains, as far as the four bytes are there.
    #[inline]
    fn insert_through(&mut self, view: &View<'_>, last: u64) {
        self.insert_below(view, last + 1);
        self.chains.skip_below(last + 1);
    }

    #[inline]
    fn insert_below(&mut self, view: &View<'_>, end: u64) {
        let end = end.min(view.limit.saturating_sub(MIN_LENGTH as u64 - 1));
        self.chains.insert_below(view, end, |value| {
            (value.swap_bytes().wrapping_mul(0x1e35_a7bd) >> (32 - HASH_BITS)) as usize
        });
    }

    /// The match that the encoder finds at `position`, which enters the chains, where it is longer than `least`.
    fn find(&mut self, view: &View<'_>, position: u64, least: usize) -> Found {
        // The window moves as soon as too little of it is left, but only for more input.
        if position - self.window > 2 * WINDOW - LEAST_LOOKAHEAD
            && view.limit > self.window + 2 * WINDOW
        {
            self.window += WINDOW;
        }
        if self.chains.are_ahead() && self.chains.inserted() < position + MAX_MATCH as u64 {
            self.insert_below(view, position + self.lookahead() as u64);
        }
        self.insert_through(view, position);
        let limit = view.rest(position).min(MAX_MATCH);
        if limit <= least {
            return Found::default();
        }
        let lowest = position.saturating_sub(WINDOW).max(self.window);
        let search = Search {
            bytes: view.bytes,
            index: view.index(position),
            position,
            limit,
            nice: self.level.nice.min(limit),
            farthest: (position - lowest) as usize,
            chain: self.level.chain,
        };
        let best = self.chains.longest(&search, least);
        let is_far = best.length == MIN_LENGTH && best.distance > NEAR;
        if best.distance == 0 || is_far { Found::default() } else { best }
    }
}

impl Model for GoLazy {
    fn lookahead(&self) -> usize {
        2 * LEAST_LOOKAHEAD as usize
    }

    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        self.window = position - dictionary_bytes as u64;
        self.chains.restart(self.window);
        self.ahead = None;
        if dictionary_bytes > 0 {
            let view = View { limit: position, ..*view };
            self.insert_through(&view, position - 1);
        }
    }

    fn flush(&mut self, view: &View<'_>, position: u64) {
        if position > 0 {
            self.insert_through(view, position - 1);
        }
        self.ahead = None;
    }

    fn resume(&mut self, view: &View<'_>, origin: u64, position: u64) {
        let passed = (position - origin).saturating_sub(2 * WINDOW - LEAST_LOOKAHEAD);
        self.window = origin + passed.div_ceil(WINDOW) * WINDOW;
        self.chains.restart(position.saturating_sub(WINDOW).max(origin));
        self.ahead = None;
        if position > origin {
            self.insert_through(view, position - 1);
        }
    }

    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        let found = match self.ahead {
            Some((at, found)) if at == position => found,
            _ => self.find(view, position, MIN_LENGTH - 1),
        };
        self.ahead = Some((position, found));
        let literal = Token::literal(view.bytes[view.index(position)]);
        if found.length == 0 {
            return Prediction::new(literal);
        }
        let matched = Token::matched(found.length, found.distance);
        if found.length < self.level.lazy && view.rest(position + 1) > found.length {
            let next = self.find(view, position + 1, found.length);
            // A shorter one is looked for when it is wanted.
            self.ahead = (next.length > 0).then_some((position + 1, next));
            if next.length > 0 {
                return Prediction::new(literal);
            }
        }
        Prediction::new(matched)
    }

    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        let after = position + token.plain_bytes() as u64;
        if token.is_literal() || token.length() <= self.level.insert {
            self.insert_through(view, after - 1);
        } else {
            self.insert_through(view, position);
            self.chains.skip_below(after);
        }
    }
}
