//! klauspost/compress, and Go's compress/flate from 1.27 on, at levels 7 to 9.
//!
//! Lazy matching over hash chains of four bytes, in a window of two times 32 KiB that is worked off each time it is full. What
//! is beyond zlib's way: a found match may be replaced by one whose end is better; long stretches without a match
//! are skipped faster and faster; level 9 weighs a match against what its bytes would cost as literals.

mod ends;

use std::collections::VecDeque;

use self::ends::Ends;
use super::chains::{Chains, Enters, Found, Search};
use super::{Model, Prediction, View};
use crate::gzip::huffman::package_lengths;
use crate::gzip::token::{
    DISTANCE_EXTRA, LENGTH_EXTRA, MAX_DISTANCE, MAX_MATCH, Token, distance_code,
};

const WINDOW: u64 = MAX_DISTANCE as u64;
const HASH_BITS: u32 = 17;
const HASH_PRIME: u32 = 2_654_435_761;
const MIN_LENGTH: usize = 4;
const LEAST_LOOKAHEAD: u64 = (MIN_LENGTH + MAX_MATCH) as u64;

/// What differs between the versions.
#[derive(Clone, Copy, Debug)]
struct Version {
    /// How better ends are looked for.
    ends: Ends,
    /// What a match must gain at least, and what it costs, in bits (level 9).
    least_gain: i64,
    base_cost: i64,
    /// How many bytes of the window are counted for the literals' costs (level 9).
    counted_bytes: u64,
    /// The cost of a byte that was not counted (level 9).
    unseen_cost: u8,
}

const VERSION_120: Version = Version {
    ends: Ends::LaterStart,
    least_gain: 4,
    base_cost: 3,
    counted_bytes: WINDOW,
    unseen_cost: 0,
};

#[derive(Clone, Copy, Debug)]
struct Level {
    lazy: usize,
    nice: usize,
    chain: usize,
    weighs: bool,
}

const fn level(number: u8) -> Level {
    match number {
        0..=7 => Level { lazy: 12, nice: 16, chain: 24, weighs: false },
        8 => Level { lazy: 30, nice: 40, chain: 64, weighs: false },
        _ => Level { lazy: 258, nice: 258, chain: 1024, weighs: true },
    }
}

const NONE: Found = Found { length: MIN_LENGTH - 1, distance: 0 };

/// The model.
pub struct KlauspostLazy {
    version: Version,
    level: Level,
    chains: Chains,
    /// Where the encoder's window begins, and where it was filled to when the current work began.
    window: u64,
    window_end: u64,
    /// Whether the window is worked off to its end.
    is_flushed: bool,
    /// Where the encoder is; the byte before may still have to be said.
    at: u64,
    has_pending: bool,
    found: Found,
    literal_run: u16,
    literal_bits: [u8; 256],
    queue: VecDeque<Token>,
    expected: u64,
}

impl KlauspostLazy {
    fn new(number: u8, version: Version) -> Self {
        let level = level(number);
        Self {
            version,
            level,
            chains: Chains::new(HASH_BITS, 4, level.chain, Enters::Some),
            window: 0,
            window_end: 0,
            is_flushed: false,
            at: 0,
            has_pending: false,
            found: NONE,
            literal_run: 0,
            literal_bits: [0; 256],
            queue: VecDeque::new(),
            expected: 0,
        }
    }

    /// klauspost/compress 1.15.
    pub fn version_115(number: u8) -> Self {
        let version = Version {
            ends: Ends::SameStart,
            least_gain: 0,
            base_cost: 6,
            counted_bytes: 2 * WINDOW,
            unseen_cost: 0,
        };
        Self::new(number, version)
    }

    /// klauspost/compress 1.20.
    pub fn version_120(number: u8) -> Self {
        Self::new(number, VERSION_120)
    }

    /// Go from 1.27 on.
    pub fn go_127(number: u8) -> Self {
        Self::new(number, Version { unseen_cost: 1, ..VERSION_120 })
    }

    fn insert_end(&self) -> u64 {
        self.window_end.saturating_sub(MIN_LENGTH as u64 - 1)
    }

    fn hash(value: u32) -> usize {
        (value.wrapping_mul(HASH_PRIME) >> (32 - HASH_BITS)) as usize
    }

    fn insert_through(&mut self, view: &View<'_>, last: u64) {
        let end = (last + 1).min(self.insert_end());
        self.chains.insert_below(view, end, Self::hash);
        self.chains.skip_below(last + 1);
    }

    /// The window is filled, after moving if little of it is left.
    fn fill(&mut self, view: &View<'_>) {
        if self.at - self.window >= 2 * WINDOW - LEAST_LOOKAHEAD {
            self.window += WINDOW;
        }
        self.window_end = (self.window + 2 * WINDOW).min(view.limit);
        self.is_flushed = view.limit <= self.window + 2 * WINDOW;
        if self.level.weighs {
            let end = self.window_end.min(self.at + self.version.counted_bytes);
            let mut weights = [0u32; 256];
            for &byte in &view.bytes[view.index(self.at)..view.index(end)] {
                // The encoder counts in 16 bits.
                let weight = &mut weights[usize::from(byte)];
                *weight = (*weight + 1) & 0xffff;
            }
            self.literal_bits = [0; 256];
            package_lengths(&weights, 15, &mut self.literal_bits);
            for bits in &mut self.literal_bits {
                *bits = (*bits).max(self.version.unseen_cost);
            }
        }
    }

    fn lowest(&self) -> u64 {
        self.at.saturating_sub(WINDOW).max(self.window)
    }

    /// The match that the encoder finds, where it may be longer than `least`: a shorter one does not matter.
    fn find(&self, view: &View<'_>, least: usize) -> Found {
        let index = view.index(self.at);
        let limit = ((self.window_end - self.at) as usize).min(MAX_MATCH);
        let search = Search {
            bytes: view.bytes,
            index,
            position: self.at,
            limit,
            nice: self.level.nice.min(limit),
            farthest: (self.at - self.lowest()) as usize,
            chain: self.level.chain,
        };
        if !self.level.weighs {
            return self.chains.longest(&search, least);
        }
        if least >= MIN_LENGTH && self.chains.longest(&search, least).distance == 0 {
            return NONE;
        }
        let mut best_gain = self.version.least_gain;
        self.chains.last_taken(&search, NONE, |length, distance| {
            let gain = self.gain(&view.bytes[index..index + length], distance);
            let gains = gain > best_gain;
            best_gain = best_gain.max(gain);
            gains
        })
    }

    /// How many bits a match of these bytes saves.
    fn gain(&self, bytes: &[u8], distance: usize) -> i64 {
        let literals: i64 =
            bytes.iter().map(|&byte| i64::from(self.literal_bits[usize::from(byte)])).sum();
        let length_code = Token::matched(bytes.len(), distance).symbol() - 257;
        literals
            - i64::from(distance_bits(distance))
            - self.version.base_cost
            - i64::from(LENGTH_EXTRA[length_code])
    }

    fn literal(&mut self, view: &View<'_>, position: u64) {
        self.queue.push_back(Token::literal(view.bytes[view.index(position)]));
    }

    /// Goes on until something is said.
    fn work(&mut self, view: &View<'_>) {
        while self.queue.is_empty() {
            let lookahead = self.window_end.saturating_sub(self.at);
            if lookahead < LEAST_LOOKAHEAD && !self.is_flushed {
                self.fill(view);
                continue;
            }
            if lookahead == 0 {
                if self.has_pending {
                    self.literal(view, self.at - 1);
                    self.has_pending = false;
                }
                return;
            }
            let former = self.found;
            self.insert_through(view, self.at);
            self.found = NONE;
            let is_in = self.at < self.insert_end();
            if is_in && lookahead > former.length as u64 && former.length < self.level.lazy {
                self.found = self.find(view, former.length);
            }
            if former.length >= MIN_LENGTH && self.found.length <= former.length {
                self.say_match(view, former, lookahead);
            } else {
                self.say_literal(view);
            }
        }
    }

    fn say_match(&mut self, view: &View<'_>, former: Found, lookahead: u64) {
        let better = self.better_end(view, former, lookahead);
        self.queue.push_back(Token::matched(better.length, better.distance));
        let after = self.at + better.length as u64 - 1;
        self.insert_through(view, after - 1);
        self.at = after;
        self.has_pending = false;
        self.found = NONE;
        self.literal_run = 0;
    }

    fn say_literal(&mut self, view: &View<'_>) {
        if self.found.length >= MIN_LENGTH {
            self.literal_run = 0;
        }
        if !self.has_pending {
            self.at += 1;
            self.has_pending = true;
            return;
        }
        self.literal_run = self.literal_run.wrapping_add(1);
        self.literal(view, self.at - 1);
        self.at += 1;
        let over = usize::from(self.literal_run).saturating_sub(self.level.chain);
        if over == 0 {
            return;
        }
        for _ in 0..=over >> 6 {
            if self.at + 1 >= self.window_end {
                break;
            }
            self.literal(view, self.at - 1);
            self.insert_through(view, self.at);
            self.at += 1;
        }
        self.literal(view, self.at - 1);
        self.has_pending = false;
    }

    fn begin(&mut self, position: u64) {
        self.at = position;
        self.expected = position;
        self.has_pending = false;
        self.found = NONE;
        self.queue.clear();
    }
}

/// What the encoder takes for the extra bits of a distance: those of the next larger one, which has none at the far end.
fn distance_bits(distance: usize) -> u8 {
    const PAST_THE_END: u8 = 6;
    if distance == MAX_DISTANCE {
        PAST_THE_END
    } else {
        DISTANCE_EXTRA[distance_code(distance + 1)]
    }
}

impl Model for KlauspostLazy {
    fn lookahead(&self) -> usize {
        2 * WINDOW as usize + MAX_MATCH
    }

    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        self.window = position - dictionary_bytes as u64;
        self.chains.restart(self.window);
        self.window_end = position;
        self.literal_run = 0;
        if dictionary_bytes > 0 {
            self.insert_through(view, position - 1);
        }
        self.begin(position);
        self.is_flushed = false;
    }

    fn flush(&mut self, view: &View<'_>, position: u64) {
        if position > 0 {
            self.insert_through(view, position - 1);
        }
        self.begin(position);
        self.is_flushed = false;
    }

    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        if self.expected != position {
            if position > 0 {
                self.insert_through(view, position - 1);
            }
            self.begin(position);
            if position > self.window_end {
                self.window_end = position;
                self.is_flushed = false;
            }
        }
        if self.queue.is_empty() {
            self.work(view);
        }
        let literal = Token::literal(view.bytes[view.index(position)]);
        let token = self.queue.front().copied().unwrap_or(literal);
        Prediction::new(token)
    }

    fn commit(&mut self, _view: &View<'_>, position: u64, token: Token) {
        if self.queue.pop_front() == Some(token) {
            self.expected = position + token.plain_bytes() as u64;
        } else {
            self.expected = u64::MAX;
        }
    }
}
