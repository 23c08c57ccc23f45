//! Go's compress/flate up to 1.26 at level 1.
//!
//! A single pass over units of 65,535 bytes with one table of 2^14 places. The longer nothing was found, the more bytes are
//! skipped. A match may begin in the unit before. A flushed rest below 128 bytes is not searched and makes the
//! encoder forget what was before.

use super::{Model, Prediction, View, common_length, load32};
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH, Token};

const UNIT_BYTES: u64 = 65_535;
const TABLE_BITS: u32 = 14;
/// A unit's last bytes begin no match.
const MARGIN: usize = 15;
/// Shorter units are not searched.
const LEAST_UNIT: u64 = MARGIN as u64 + 2;
/// A flushed unit below this is not searched, and makes the encoder forget.
const LEAST_FLUSHED: u64 = 128;
/// Virtual positions begin here, so that an empty table entry is out of reach.
const FAR: u32 = 1 << 17;

fn hash(value: u32) -> usize {
    (value.wrapping_mul(0x1e35_a7bd) >> (32 - TABLE_BITS)) as usize
}

#[derive(Clone, Copy, Debug)]
struct Found {
    start: u64,
    length: usize,
    distance: usize,
}

/// The model.
pub struct GoFast {
    table: Vec<u32>,
    shift: u32,
    /// Where the unit before begins; nothing before it is compared.
    former_start: u64,
    unit_start: u64,
    unit_end: u64,
    is_searched: bool,
    at: u64,
    immediate: Option<usize>,
    found: Option<Found>,
    expected: u64,
}

impl GoFast {
    /// The model.
    pub fn new() -> Self {
        Self {
            table: vec![0; 1 << TABLE_BITS],
            shift: FAR,
            former_start: 0,
            unit_start: 0,
            unit_end: 0,
            is_searched: false,
            at: 0,
            immediate: None,
            found: None,
            expected: 0,
        }
    }

    fn forget(&mut self, position: u64) {
        self.shift = self.shift.wrapping_add(FAR);
        self.former_start = position;
    }

    fn begin_unit(&mut self, view: &View<'_>, position: u64) {
        if self.unit_end == position && self.unit_start < position {
            self.former_start = self.former_start.max(self.unit_start);
        }
        self.unit_start = position;
        self.unit_end = view.limit.min(position + UNIT_BYTES);
        let size = self.unit_end - position;
        if size < LEAST_UNIT {
            self.forget(position + size);
        }
        self.is_searched = size >= LEAST_FLUSHED;
        self.at = position;
        self.immediate = None;
        self.found = None;
        self.expected = position;
    }

    fn place(&self, position: u64) -> u32 {
        (position as u32).wrapping_add(self.shift)
    }

    /// The place's distance where it is in reach and its four bytes are those at `position`.
    fn candidate(&self, view: &View<'_>, position: u64, place: u32, value: u32) -> Option<usize> {
        let distance = self.place(position).wrapping_sub(place);
        let is_near = distance.wrapping_sub(1) < MAX_DISTANCE as u32;
        if !is_near || u64::from(distance) > position - view.start {
            return None;
        }
        let index = view.index(position) - distance as usize;
        (load32(view.bytes, index) == value).then_some(distance as usize)
    }

    fn search(&mut self, view: &View<'_>) {
        let limit = self.unit_end - MARGIN as u64;
        let mut found = self.immediate.take().map(|distance| (self.at, distance));
        if found.is_none() {
            let mut skip = 32;
            let mut next = self.at;
            let mut value = load32(view.bytes, view.index(self.at));
            loop {
                let at = next;
                let step = skip >> 5;
                next = at + step;
                skip += step;
                if next > limit {
                    break;
                }
                let slot = hash(value);
                let place = self.table[slot];
                self.table[slot] = self.place(at);
                if let Some(distance) = self.candidate(view, at, place, value) {
                    found = Some((at, distance));
                    break;
                }
                value = load32(view.bytes, view.index(next));
            }
        }
        let Some((start, distance)) = found else {
            self.is_searched = false;
            return;
        };
        let most = ((self.unit_end - start) as usize).min(MAX_MATCH);
        let index = view.index(start);
        // Beyond the first four bytes only the unit before is compared.
        let length = if start - (distance as u64) + 4 < self.former_start {
            4
        } else {
            common_length(view.bytes, index - distance, index, most)
        };
        self.found = Some(Found { start, length, distance });
    }

    fn enter_match(&mut self, view: &View<'_>, found: Found) {
        let end = found.start + found.length as u64;
        self.at = end;
        if end >= self.unit_end - MARGIN as u64 {
            self.is_searched = false;
            return;
        }
        let index = view.index(end);
        self.table[hash(load32(view.bytes, index - 1))] = self.place(end - 1);
        let value = load32(view.bytes, index);
        let slot = hash(value);
        let place = self.table[slot];
        self.table[slot] = self.place(end);
        self.immediate = self.candidate(view, end, place, value);
        if self.immediate.is_none() {
            self.at += 1;
        }
    }
}

impl Model for GoFast {
    fn lookahead(&self) -> usize {
        UNIT_BYTES as usize + 1
    }

    fn restart(&mut self, _view: &View<'_>, position: u64, _dictionary_bytes: usize) {
        self.forget(position);
        self.unit_start = position;
        self.unit_end = position;
    }

    fn flush(&mut self, _view: &View<'_>, position: u64) {
        if position - self.unit_start < LEAST_FLUSHED && position > self.unit_start {
            self.forget(position);
        } else {
            self.former_start = self.former_start.max(self.unit_start);
        }
        self.unit_start = position;
        self.unit_end = position;
    }

    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        if position >= self.unit_end {
            self.begin_unit(view, position);
        }
        if self.expected != position {
            self.expected = position;
            self.found = None;
            self.immediate = None;
            self.at = position;
            self.is_searched = position + (MARGIN as u64) < self.unit_end
                && self.unit_end - self.unit_start >= LEAST_FLUSHED;
        }
        if self.is_searched && self.found.is_none() {
            self.search(view);
        }
        match self.found {
            Some(found) if found.start == position => {
                Prediction::new(Token::matched(found.length, found.distance))
            }
            _ => Prediction::new(Token::literal(view.bytes[view.index(position)])),
        }
    }

    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        let after = position + token.plain_bytes() as u64;
        match self.found {
            Some(found) if found.start == position => {
                if token == Token::matched(found.length, found.distance) {
                    self.found = None;
                    self.expected = after;
                    self.enter_match(view, found);
                } else {
                    self.expected = u64::MAX;
                }
            }
            _ => self.expected = if token.is_literal() { after } else { u64::MAX },
        }
    }
}
