//! klauspost/compress, and Go's compress/flate from 1.27 on, at levels 1 to 6.
//!
//! Single-pass encoders over units of up to 65,535 bytes, with hash tables that remember one or two places for each hash. A
//! unit's matches may be longer than DEFLATE allows and are then said in pieces. A flushed rest below 128 bytes is
//! not searched and makes the encoder forget what was before. Versions differ in
//! how levels 4, 5 and 6 make a found match better.

mod enter;
mod search;
mod unit;

use self::unit::{Hit, L1_BITS, L2_BITS, L3_BITS, MARGIN, Pair, Unit};
use super::{Model, Prediction, View};
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH, Token};

/// How many bytes a unit has.
pub const UNIT_BYTES: u64 = 65_535;
/// Shorter units are not searched.
const LEAST_UNIT: usize = MARGIN + 2;
/// A flushed unit below this makes the encoder forget.
const LEAST_FLUSHED: u64 = 128;
/// Virtual positions begin here, so that an empty table entry is out of reach.
const FAR: u32 = 1 << 17;

#[derive(Clone, Copy, Debug)]
struct Found {
    /// Where it begins.
    start: u64,
    /// Where it ends.
    end: u64,
    distance: usize,
    /// Where the search would have gone on without it.
    next: u64,
}

/// What differs between versions of klauspost/compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.11 and 1.12: no better end is looked for.
    V11,
    /// 1.13 and 1.14: a better end's match begins where the replaced one began.
    V13,
    /// 1.15 to 1.17: it may differ in its first two bytes.
    V15,
    /// 1.18 on, and Go: level 4 measures a match at the next position as far behind the beginning of the encoder's
    /// buffer as it should be before the position.
    V18,
}

impl Version {
    /// The encoder's history buffer: full, it keeps the last 32 KiB.
    fn history_bytes(self) -> u64 {
        UNIT_BYTES * if self == Self::V11 { 10 } else { 5 }
    }
}

/// The model.
pub struct KlauspostFast {
    level: u8,
    version: Version,
    short: Vec<u32>,
    pairs: Vec<Pair>,
    /// What has to be added to a position to get the place that tables hold.
    shift: u32,
    /// The first position that the encoder still has in its buffer.
    history: u64,
    unit_start: u64,
    unit_end: u64,
    /// Whether the current unit is searched at all, or no more.
    is_searched: bool,
    /// Where the search stands and where literals begin.
    at: u64,
    literals_from: u64,
    /// A match at `at` that was seen while the former one was entered.
    immediate: Option<usize>,
    found: Option<Found>,
    /// The former match's distance (level 6).
    repeat: usize,
    /// The position that the next prediction is for, if all went as predicted.
    expected: u64,
}

impl KlauspostFast {
    /// The model of one level.
    pub fn new(number: u8, version: Version) -> Self {
        let level = number.clamp(1, 6);
        let (short, pairs) = match level {
            1 => (L1_BITS, None),
            2 => (L2_BITS, None),
            3 => (0, Some(L3_BITS)),
            _ => (L1_BITS, Some(L1_BITS)),
        };
        Self {
            level,
            version,
            short: vec![0; 1 << short],
            pairs: vec![Pair::default(); pairs.map_or(0, |bits| 1 << bits)],
            shift: FAR,
            history: 0,
            unit_start: 0,
            unit_end: 0,
            is_searched: false,
            at: 0,
            literals_from: 0,
            immediate: None,
            found: None,
            repeat: 1,
            expected: 0,
        }
    }

    fn forget(&mut self, position: u64) {
        self.shift = self.shift.wrapping_add(FAR);
        self.history = position;
    }

    fn begin_unit(&mut self, position: u64, end: u64, is_flushed: bool) {
        if end - self.history > self.version.history_bytes() {
            self.history = position - MAX_DISTANCE as u64;
        }
        self.unit_start = position;
        self.unit_end = end;
        let size = end - position;
        self.is_searched = size >= LEAST_UNIT as u64 && !(is_flushed && size < LEAST_FLUSHED);
        self.at = position;
        self.literals_from = position;
        self.immediate = None;
        self.found = None;
        self.repeat = 1;
        self.expected = position;
    }

    fn unit<'a>(&self, view: &View<'a>) -> Unit<'a> {
        Unit {
            bytes: view.bytes,
            start: view.start,
            end: view.index(self.unit_end),
            history: self.history.saturating_sub(view.start) as usize,
            shift: self.shift.wrapping_add(view.start as u32),
        }
    }

    /// Looks for the next match.
    fn search(&mut self, view: &View<'_>) {
        let unit = self.unit(view);
        let at = view.index(self.at);
        let from = view.index(self.literals_from);
        if at >= unit.limit() {
            self.is_searched = false;
            return;
        }
        let hit = match self.immediate.take() {
            Some(distance) => Some(Hit { at, distance, length: 0, next: at }),
            None => match self.level {
                1 => self.search_1(&unit, at, from),
                2 => self.search_2(&unit, at, from),
                3 => self.search_3(&unit, at, from),
                4 => self.search_4(&unit, at, from),
                _ => self.search_5(&unit, at, from),
            },
        };
        let Some(mut hit) = hit else {
            self.is_searched = false;
            return;
        };
        if hit.length == 0 {
            hit.length = unit.length(hit.at, hit.distance);
        } else if hit.length == MAX_MATCH {
            hit.length += unit.length(hit.at + hit.length, hit.distance);
        }
        match self.level {
            5 => self.better_end_5(&unit, &mut hit),
            6 => self.better_end_6(&unit, &mut hit),
            _ => {}
        }
        while hit.at - hit.distance > unit.history
            && hit.at > from
            && unit.bytes[hit.at - hit.distance - 1] == unit.bytes[hit.at - 1]
        {
            hit.at -= 1;
            hit.length += 1;
        }
        let start = unit.start + hit.at as u64;
        self.found = Some(Found {
            start,
            end: start + hit.length as u64,
            distance: hit.distance,
            next: unit.start + hit.next as u64,
        });
    }

    /// Enters what the encoder enters after a match, and says where it goes on.
    fn enter_match(&mut self, view: &View<'_>, found: Found) {
        let unit = self.unit(view);
        let end = view.index(found.end);
        let length = (found.end - found.start) as usize;
        let next = view.index(found.next);
        let at = if next >= end { next + 1 } else { end };
        self.literals_from = found.end;
        self.at = unit.start + at as u64;
        self.repeat = found.distance;
        let is_last = at >= unit.limit();
        if is_last {
            self.is_searched = false;
        }
        match self.level {
            1 => self.enter_1(&unit, at, length, is_last),
            2 => self.enter_2(&unit, at, length, is_last),
            3 => self.enter_3(&unit, at, end - found.distance, length, is_last),
            4 => self.enter_4(&unit, at, next, is_last),
            5 if !is_last => self.enter_5(&unit, at, length),
            6 => self.enter_6(&unit, at, next, is_last),
            _ => {}
        }
    }

    fn unit_end_at(view: &View<'_>, position: u64) -> (u64, bool) {
        let full = position + UNIT_BYTES;
        if view.limit < full { (view.limit, true) } else { (full, false) }
    }
}

/// How the encoder says a match that is longer than DEFLATE allows: the next piece.
fn piece(rest: usize) -> usize {
    match rest {
        0..=MAX_MATCH => rest,
        259..=261 => MAX_MATCH - 3,
        _ => MAX_MATCH,
    }
}

impl Model for KlauspostFast {
    fn lookahead(&self) -> usize {
        UNIT_BYTES as usize + 1
    }

    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        let start = position - dictionary_bytes as u64;
        self.forget(start);
        if dictionary_bytes > 0 {
            // The dictionary is encoded as one unit of its own and the outcome dropped.
            let view = View { limit: position, ..*view };
            self.begin_unit(start, position, false);
            while self.is_searched {
                self.search(&view);
                if let Some(found) = self.found.take() {
                    self.enter_match(&view, found);
                }
            }
        }
        self.unit_start = position;
        self.unit_end = position;
    }

    fn flush(&mut self, _view: &View<'_>, position: u64) {
        if position - self.unit_start < LEAST_FLUSHED && position > self.unit_start {
            self.forget(position);
        }
        self.unit_start = position;
        self.unit_end = position;
    }

    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        if position >= self.unit_end {
            let (end, is_flushed) = Self::unit_end_at(view, position);
            self.begin_unit(position, end, is_flushed);
        }
        if self.expected != position {
            // Something else was said than predicted: go on from here.
            self.expected = position;
            self.found = None;
            self.immediate = None;
            self.at = position;
            self.literals_from = position;
            self.is_searched = self.unit_end - self.unit_start >= LEAST_FLUSHED;
        }
        if self.is_searched && self.found.is_none() {
            self.search(view);
        }
        match self.found {
            Some(found) if found.start <= position => {
                let length = piece((found.end - position) as usize);
                Prediction::new(Token::matched(length, found.distance))
            }
            _ => Prediction::new(Token::literal(view.bytes[view.index(position)])),
        }
    }

    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        let after = position + token.plain_bytes() as u64;
        let Some(found) = self.found else {
            self.expected = if token.is_literal() { after } else { u64::MAX };
            return;
        };
        if position < found.start {
            self.expected = if token.is_literal() { after } else { u64::MAX };
            return;
        }
        let predicted = Token::matched(piece((found.end - position) as usize), found.distance);
        if token != predicted {
            self.expected = u64::MAX;
            if !token.is_literal() {
                self.repeat = token.distance();
            }
            return;
        }
        self.expected = after;
        if after == found.end {
            self.found = None;
            self.enter_match(view, found);
        }
    }
}
