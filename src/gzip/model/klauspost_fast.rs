//! klauspost/compress, and Go's compress/flate from 1.27 on, at levels 1 to 6.
//!
//! Single-pass encoders over units of up to 65,535 bytes, with hash tables that remember one or two places for each hash. A
//! unit's matches may be longer than DEFLATE allows and are then said in pieces. A flushed rest below 128 bytes is
//! not searched and makes the encoder forget what was before. Versions differ at level 4 alone: from 1.18 on, and in Go, the
//! length of a second match is measured at a wrong place.

use super::{Model, Prediction, View, common_length, load32, load64};
use crate::gzip::token::{MAX_DISTANCE, MAX_MATCH, Token};

/// How many bytes a unit has.
pub const UNIT_BYTES: u64 = 65_535;
/// The encoder's history buffer: full, it keeps the last 32 KiB.
const HISTORY_BYTES: u64 = 5 * UNIT_BYTES;
/// A unit's last bytes begin no match.
const MARGIN: usize = 11;
/// Shorter units are not searched.
const LEAST_UNIT: usize = MARGIN + 2;
/// A flushed unit below this makes the encoder forget.
const LEAST_FLUSHED: u64 = 128;
/// Virtual positions begin here, so that an empty table entry is out of reach.
const FAR: u32 = 1 << 17;
/// Distances are below this, in most places.
const REACH: u32 = MAX_DISTANCE as u32;

const PRIME_4: u32 = 2_654_435_761;
const PRIME_5: u64 = 889_523_592_379;
const PRIME_7: u64 = 58_295_818_150_454_627;

fn hash4(value: u64, bits: u32) -> usize {
    ((value as u32).wrapping_mul(PRIME_4) >> (32 - bits)) as usize
}

fn hash5(value: u64, bits: u32) -> usize {
    ((value << 24).wrapping_mul(PRIME_5) >> (64 - bits)) as usize
}

fn hash7(value: u64, bits: u32) -> usize {
    ((value << 8).wrapping_mul(PRIME_7) >> (64 - bits)) as usize
}

/// Two places for one hash, the newer first.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    newer: u32,
    older: u32,
}

impl Pair {
    fn push(&mut self, place: u32) {
        *self = Self { newer: place, older: self.newer };
    }
}

/// A match that was found but not all said yet.
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

/// How level 4 measures a match at the next position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondMatch {
    /// At its own place.
    InPlace,
    /// As far behind the beginning of the encoder's buffer as it should be before the position.
    Misplaced,
}

/// The model.
pub struct KlauspostFast {
    level: u8,
    second_match: SecondMatch,
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

/// One unit's bytes while something in them is looked for.
#[derive(Clone, Copy)]
struct Unit<'a> {
    bytes: &'a [u8],
    /// The position of the first of `bytes`.
    start: u64,
    /// The index behind the last byte of the unit.
    end: usize,
    /// The index of the first byte in the encoder's buffer.
    history: usize,
    /// What has to be added to an index to get a place.
    shift: u32,
}

impl Unit<'_> {
    fn place(&self, index: usize) -> u32 {
        (index as u32).wrapping_add(self.shift)
    }

    fn distance(&self, index: usize, place: u32) -> u32 {
        self.place(index).wrapping_sub(place)
    }

    /// Whether `place` is less than 32 KiB before `index` and holds the same four bytes.
    fn matches(&self, index: usize, place: u32, value: u64) -> Option<usize> {
        let distance = self.distance(index, place);
        self.matches_within(index, distance, REACH - 1, value)
    }

    fn matches_within(&self, index: usize, distance: u32, most: u32, value: u64) -> Option<usize> {
        let is_near = distance.wrapping_sub(1) < most && index >= self.history + distance as usize;
        (is_near && load32(self.bytes, index - distance as usize) == value as u32)
            .then_some(distance as usize)
    }

    /// How many bytes are equal at `index` and `distance` before it, up to the unit's end.
    fn length(&self, index: usize, distance: usize) -> usize {
        common_length(self.bytes, index - distance, index, self.end - index)
    }

    /// The same, but no longer than one match can be; the first four are known to be equal.
    fn length_limited(&self, index: usize, distance: usize) -> usize {
        common_length(self.bytes, index - distance, index, (self.end - index).min(MAX_MATCH))
    }

    fn limit(&self) -> usize {
        self.end - MARGIN
    }

    fn load(&self, index: usize) -> u64 {
        load64(self.bytes, index)
    }
}

/// What a search ends with: where, how far back, how long as far as known.
struct Hit {
    at: usize,
    distance: usize,
    length: usize,
    next: usize,
}

const L1_BITS: u32 = 15;
const L2_BITS: u32 = 17;
const L3_BITS: u32 = 16;

impl KlauspostFast {
    /// The model of one level.
    pub fn new(number: u8, second_match: SecondMatch) -> Self {
        let level = number.clamp(1, 6);
        let (short, pairs) = match level {
            1 => (L1_BITS, None),
            2 => (L2_BITS, None),
            3 => (0, Some(L3_BITS)),
            _ => (L1_BITS, Some(L1_BITS)),
        };
        Self {
            level,
            second_match,
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
        if end - self.history > HISTORY_BYTES {
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
                5 => self.search_5(&unit, at, from),
                _ => self.search_6(&unit, at, from),
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

    fn search_1(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let table = &mut self.short;
        let mut at = at;
        let mut value = unit.load(at);
        loop {
            let slot = hash5(value, L1_BITS);
            let candidate = table[slot];
            let mut next = at + 2 + ((at - from) >> 5);
            if next > unit.limit() {
                return None;
            }
            let mut now = unit.load(next);
            table[slot] = unit.place(at);
            let slot = hash5(now, L1_BITS);
            if let Some(distance) = unit.matches(at, candidate, value) {
                table[slot] = unit.place(next);
                return Some(Hit { at, distance, length: 0, next });
            }
            value = now;
            at = next;
            next += 1;
            let candidate = table[slot];
            now >>= 8;
            table[slot] = unit.place(at);
            if let Some(distance) = unit.matches(at, candidate, value) {
                table[slot] = unit.place(next);
                return Some(Hit { at, distance, length: 0, next });
            }
            value = now;
            at = next;
        }
    }

    fn search_2(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let table = &mut self.short;
        let mut next = at;
        let mut value = unit.load(at);
        loop {
            let slot = hash5(value, L2_BITS);
            let mut at = next;
            next = at + 2 + ((at - from) >> 5);
            if next > unit.limit() {
                return None;
            }
            let candidate = table[slot];
            let mut now = unit.load(next);
            table[slot] = unit.place(at);
            let slot = hash5(now, L2_BITS);
            if let Some(distance) = unit.matches(at, candidate, value) {
                table[slot] = unit.place(next);
                return Some(Hit { at, distance, length: 0, next });
            }
            value = now;
            at = next;
            next += 1;
            let candidate = table[slot];
            now >>= 8;
            table[slot] = unit.place(at);
            if let Some(distance) = unit.matches(at, candidate, value) {
                return Some(Hit { at, distance, length: 0, next });
            }
            value = now;
        }
    }

    fn search_3(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let mut next = at;
        let mut value = unit.load(at);
        loop {
            let slot = hash5(value, L3_BITS);
            let at = next;
            next = at + 1 + ((at - from) >> 7);
            if next > unit.limit() {
                return None;
            }
            let candidates = self.pairs[slot];
            let now = unit.load(next);
            self.pairs[slot].push(unit.place(at));
            let newer = unit.distance(at, candidates.newer);
            if newer.wrapping_sub(1) >= REACH - 4 {
                value = now;
                continue;
            }
            let older = unit.distance(at, candidates.older);
            if let Some(distance) = unit.matches_within(at, newer, REACH - 4, value) {
                let Some(other) = unit.matches_within(at, older, REACH - 4, value) else {
                    return Some(Hit { at, distance, length: 0, next });
                };
                let is_longer = unit.length(at, other) > unit.length(at, distance);
                let distance = if is_longer { other } else { distance };
                return Some(Hit { at, distance, length: 0, next });
            }
            if let Some(distance) = unit.matches_within(at, older, REACH - 5, value) {
                return Some(Hit { at, distance, length: 0, next });
            }
            value = now;
        }
    }

    fn search_4(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let mut next = at;
        let mut value = unit.load(at);
        loop {
            let (short, long) = (hash4(value, L1_BITS), hash7(value, L1_BITS));
            let at = next;
            next = at + 1 + ((at - from) >> 6);
            if next > unit.limit() {
                return None;
            }
            let (short_place, long_place) = (self.short[short], self.pairs[long].newer);
            let now = unit.load(next);
            self.short[short] = unit.place(at);
            self.pairs[long].newer = unit.place(at);
            if let Some(distance) = unit.matches(at, long_place, value) {
                return Some(Hit { at, distance, length: 0, next });
            }
            if let Some(distance) = unit.matches(at, short_place, value) {
                let long_place = self.pairs[hash7(now, L1_BITS)].newer;
                if let Some(other) = unit.matches(next, long_place, now)
                    && self.second_length(unit, next, other) > unit.length(at, distance)
                {
                    return Some(Hit { at: next, distance: other, length: 0, next });
                }
                return Some(Hit { at, distance, length: 0, next });
            }
            value = now;
        }
    }

    fn second_length(&self, unit: &Unit<'_>, next: usize, distance: usize) -> usize {
        if self.second_match == SecondMatch::InPlace {
            return unit.length(next, distance);
        }
        let limit = unit.end - next - 4;
        common_length(unit.bytes, unit.history + distance + 4, next + 4, limit) + 4
    }

    fn enter_both(&mut self, unit: &Unit<'_>, index: usize, short: usize, long: usize) {
        self.short[short] = unit.place(index);
        self.pairs[long].push(unit.place(index));
    }

    fn search_5(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let mut next = at;
        let mut value = unit.load(at);
        loop {
            let (short, long) = (hash4(value, L1_BITS), hash7(value, L1_BITS));
            let at = next;
            next = at + 1 + ((at - from) >> 6);
            if next > unit.limit() {
                return None;
            }
            let (short_place, places) = (self.short[short], self.pairs[long]);
            let now = unit.load(next);
            self.enter_both(unit, at, short, long);
            let (short, long) = (hash4(now, L1_BITS), hash7(now, L1_BITS));
            if let Some(mut hit) = Self::long_hit(unit, at, places, value) {
                self.enter_both(unit, next, short, long);
                hit.next = next;
                return Some(hit);
            }
            if let Some(distance) = unit.matches(at, short_place, value) {
                let length = unit.length_limited(at, distance);
                let places = self.pairs[long];
                self.enter_both(unit, next, short, long);
                if unit.distance(next, places.newer).wrapping_sub(1) < REACH - 1 {
                    for place in [places.newer, places.older] {
                        if let Some(other) = unit.matches(next, place, now) {
                            let other_length = unit.length_limited(next, other);
                            if other_length > length {
                                let (distance, length) = (other, other_length);
                                return Some(Hit { at: next, distance, length, next });
                            }
                        }
                    }
                }
                return Some(Hit { at, distance, length, next });
            }
            value = now;
        }
    }

    /// The better of the two places that share seven bytes, by levels 5 and 6.
    fn long_hit(unit: &Unit<'_>, at: usize, places: Pair, value: u64) -> Option<Hit> {
        if unit.distance(at, places.newer).wrapping_sub(1) >= REACH - 1 {
            return None;
        }
        let older = unit.matches(at, places.older, value);
        let Some(distance) = unit.matches(at, places.newer, value) else {
            return older.map(|distance| Hit { at, distance, length: 0, next: at });
        };
        let Some(older) = older else {
            return Some(Hit { at, distance, length: 0, next: at });
        };
        let (length, other) = (unit.length_limited(at, distance), unit.length_limited(at, older));
        let (distance, length) = if other > length { (older, other) } else { (distance, length) };
        Some(Hit { at, distance, length, next: at })
    }

    fn search_6(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let mut next = at;
        let mut value = unit.load(at);
        loop {
            let (short, long) = (hash4(value, L1_BITS), hash7(value, L1_BITS));
            let at = next;
            next = at + 1 + ((at - from) >> 7);
            if next > unit.limit() {
                return None;
            }
            let (short_place, places) = (self.short[short], self.pairs[long]);
            let now = unit.load(next);
            self.enter_both(unit, at, short, long);
            let (short, long) = (hash4(now, L1_BITS), hash7(now, L1_BITS));
            if let Some(mut hit) = Self::long_hit(unit, at, places, value) {
                self.enter_both(unit, next, short, long);
                hit.next = next;
                return Some(hit);
            }
            if let Some(distance) = unit.matches(at, short_place, value) {
                let places = self.pairs[long];
                self.enter_both(unit, next, short, long);
                return Some(self.choose_6(unit, at, distance, next, places, value));
            }
            value = now;
        }
    }

    /// Level 6, with four equal bytes at `at`: perhaps the former distance, or a place for `next`, is better.
    fn choose_6(
        &self,
        unit: &Unit<'_>,
        at: usize,
        distance: usize,
        next: usize,
        places: Pair,
        value: u64,
    ) -> Hit {
        let mut hit = Hit { at, distance, length: unit.length_limited(at, distance), next };
        if at + 1 >= self.repeat + unit.history
            && load32(unit.bytes, at + 1 - self.repeat) == (value >> 8) as u32
        {
            let length = unit.length_limited(at + 1, self.repeat);
            if length > hit.length {
                return Hit { at: at + 1, distance: self.repeat, length, next };
            }
        }
        if unit.distance(next, places.newer).wrapping_sub(1) < REACH - 1 {
            let now = unit.load(next);
            for place in [places.newer, places.older] {
                if let Some(other) = unit.matches(next, place, now) {
                    let length = unit.length_limited(next, other);
                    if length > hit.length {
                        hit = Hit { at: next, distance: other, length, next };
                    }
                }
            }
        }
        hit
    }

    /// How far `place` is before `index`, negative where it is behind it.
    fn signed_distance(unit: &Unit<'_>, index: usize, place: u32) -> i64 {
        let distance = unit.distance(index, place);
        if distance > u32::MAX - (1 << 20) {
            i64::from(distance) - (1 << 32)
        } else {
            i64::from(distance)
        }
    }

    /// Whether a match `distance` before `at + 2` is longer than `hit`, allowing two bytes to differ.
    fn try_end(unit: &Unit<'_>, at: usize, distance: i64, hit: &mut Hit) {
        let Ok(distance) = usize::try_from(distance) else { return };
        let second = at + 2;
        let is_near = distance > 0 && distance < MAX_DISTANCE;
        if !is_near || second < unit.history + distance {
            return;
        }
        let length = unit.length(second, distance);
        if length > hit.length {
            *hit = Hit { at: second, distance, length, next: hit.next };
        }
    }

    fn better_end_5(&self, unit: &Unit<'_>, hit: &mut Hit) {
        let end = hit.at + hit.length;
        if hit.length < 30 && end < unit.limit() {
            let place = self.pairs[hash7(unit.load(end), L1_BITS)].newer;
            Self::try_end(unit, hit.at, Self::signed_distance(unit, end, place), hit);
        }
    }

    fn better_end_6(&self, unit: &Unit<'_>, hit: &mut Hit) {
        let at = hit.at;
        let end = at + hit.length;
        if end >= unit.limit() {
            return;
        }
        let places = self.pairs[hash7(unit.load(end), L1_BITS)];
        let distance = Self::signed_distance(unit, end, places.newer);
        if distance < i64::from(REACH) {
            Self::try_end(unit, at, distance, hit);
            // The length may have grown: the second place is tried for the new end.
            let distance = Self::signed_distance(unit, at + hit.length, places.older);
            Self::try_end(unit, at, distance, hit);
        }
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

    fn enter_1(&mut self, unit: &Unit<'_>, at: usize, length: usize, is_last: bool) {
        if is_last {
            if at + length + 8 < unit.end {
                self.short[hash5(unit.load(at), L1_BITS)] = unit.place(at);
            }
            return;
        }
        self.short[hash5(unit.load(at - 2), L1_BITS)] = unit.place(at - 2);
        let value = unit.load(at);
        let slot = hash5(value, L1_BITS);
        self.go_on(unit, at, slot, value);
    }

    /// Levels 1 and 2: a match right behind the last one is taken at once.
    fn go_on(&mut self, unit: &Unit<'_>, at: usize, slot: usize, value: u64) {
        let candidate = self.short[slot];
        self.short[slot] = unit.place(at);
        let distance = unit.distance(at, candidate);
        self.immediate = unit.matches_within(at, distance, REACH, value);
        if self.immediate.is_none() {
            self.at += 1;
        }
    }

    fn enter_2(&mut self, unit: &Unit<'_>, at: usize, length: usize, is_last: bool) {
        if is_last {
            if at + length + 8 < unit.end {
                self.short[hash5(unit.load(at), L2_BITS)] = unit.place(at);
            }
            return;
        }
        let mut index = at - length + 2;
        while index + 5 < at {
            let value = unit.load(index);
            for skip in [0, 2, 4] {
                self.short[hash5(value >> (8 * skip), L2_BITS)] = unit.place(index + skip);
            }
            index += 7;
        }
        let value = unit.load(at - 2);
        self.short[hash5(value, L2_BITS)] = unit.place(at - 2);
        self.short[hash5(value >> 8, L2_BITS)] = unit.place(at - 1);
        self.go_on(unit, at, hash5(value >> 16, L2_BITS), value >> 16);
    }

    fn enter_3(&mut self, unit: &Unit<'_>, at: usize, source: usize, length: usize, is_last: bool) {
        if is_last {
            if source + 8 < unit.end && source > unit.history {
                let slot = hash5(unit.load(source), L3_BITS);
                self.pairs[slot].push(unit.place(source));
            }
            return;
        }
        let mut index = at - length + 2;
        while index + 5 < at {
            self.pairs[hash5(unit.load(index), L3_BITS)].push(unit.place(index));
            index += 6;
        }
        for index in [at - 2, at - 1] {
            self.pairs[hash5(unit.load(index), L3_BITS)].push(unit.place(index));
        }
        let value = unit.load(at);
        let slot = hash5(value, L3_BITS);
        let candidates = self.pairs[slot];
        self.pairs[slot].push(unit.place(at));
        let newer = unit.distance(at, candidates.newer);
        let older = unit.distance(at, candidates.older);
        self.immediate = unit.matches_within(at, newer, REACH - 5, value);
        if self.immediate.is_none() && newer.wrapping_sub(1) < REACH - 5 {
            self.immediate = unit.matches_within(at, older, REACH - 5, value);
        }
        if self.immediate.is_none() {
            self.at += 1;
        }
    }

    fn enter_4(&mut self, unit: &Unit<'_>, at: usize, next: usize, is_last: bool) {
        if is_last {
            if at + 8 < unit.end {
                let value = unit.load(at);
                self.short[hash4(value, L1_BITS)] = unit.place(at);
                self.pairs[hash7(value, L1_BITS)].newer = unit.place(at);
            }
            return;
        }
        let mut index = next;
        while index + 1 < at {
            let value = unit.load(index);
            self.pairs[hash7(value, L1_BITS)].newer = unit.place(index);
            self.pairs[hash7(value >> 8, L1_BITS)].newer = unit.place(index + 1);
            self.short[hash4(value >> 8, L1_BITS)] = unit.place(index + 1);
            index += 3;
        }
        let value = unit.load(at - 1);
        self.short[hash4(value, L1_BITS)] = unit.place(at - 1);
        self.pairs[hash7(value, L1_BITS)].newer = unit.place(at - 1);
    }

    fn enter_5(&mut self, unit: &Unit<'_>, at: usize, length: usize) {
        let mut index = at - length + 1;
        if index + 1 < at {
            let value = unit.load(index);
            self.enter_both(unit, index, hash4(value, L1_BITS), hash7(value, L1_BITS));
            self.pairs[hash7(value >> 8, L1_BITS)].push(unit.place(index + 1));
            self.short[hash4(value >> 16, L1_BITS)] = unit.place(index + 2);
            index += 4;
            while index + 1 < at {
                let value = unit.load(index);
                self.pairs[hash7(value, L1_BITS)].push(unit.place(index));
                self.short[hash4(value >> 8, L1_BITS)] = unit.place(index + 1);
                index += 3;
            }
        }
        let value = unit.load(at - 1);
        self.enter_both(unit, at - 1, hash4(value, L1_BITS), hash7(value, L1_BITS));
    }

    fn enter_6(&mut self, unit: &Unit<'_>, at: usize, next: usize, is_last: bool) {
        let mut index = next + 1;
        if is_last {
            while index + 8 < unit.end {
                let value = unit.load(index);
                self.enter_both(unit, index, hash4(value, L1_BITS), hash7(value, L1_BITS));
                index += 2;
            }
            return;
        }
        while index + 1 < at {
            let value = unit.load(index);
            self.enter_both(unit, index, hash4(value, L1_BITS), hash7(value, L1_BITS));
            self.pairs[hash7(value >> 8, L1_BITS)].push(unit.place(index + 1));
            index += 2;
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
                Prediction::new(Token::matched(length, found.distance), 2)
            }
            found => {
                let token = Token::literal(view.bytes[view.index(position)]);
                Prediction::new(token, u8::from(found.is_some()))
            }
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
