//! The searches of levels 1 to 6: each goes on from where it is to the next match.

use super::super::{common_length, load32};
use super::unit::{Hit, L1_BITS, L2_BITS, L3_BITS, Pair, REACH, Unit, hash4, hash5, hash7};
use super::{KlauspostFast, Version};
use crate::gzip::token::MAX_DISTANCE;

impl KlauspostFast {
    pub(super) fn search_1(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
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

    pub(super) fn search_2(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
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

    pub(super) fn search_3(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
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

    pub(super) fn search_4(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
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
        if self.version != Version::V18 {
            return unit.length(next, distance);
        }
        let limit = unit.end - next - 4;
        common_length(unit.bytes, unit.history + distance + 4, next + 4, limit) + 4
    }

    pub(super) fn enter_both(&mut self, unit: &Unit<'_>, index: usize, short: usize, long: usize) {
        self.short[short] = unit.place(index);
        self.pairs[long].push(unit.place(index));
    }

    /// Levels 5 and 6.
    pub(super) fn search_5(&mut self, unit: &Unit<'_>, at: usize, from: usize) -> Option<Hit> {
        let patience = if self.level == 5 { 6 } else { 7 };
        let mut next = at;
        let mut value = unit.load(at);
        loop {
            let (short, long) = (hash4(value, L1_BITS), hash7(value, L1_BITS));
            let at = next;
            next = at + 1 + ((at - from) >> patience);
            if next > unit.limit() {
                return None;
            }
            let (short_place, places) = (self.short[short], self.pairs[long]);
            let now = unit.load(next);
            self.enter_both(unit, at, short, long);
            let (short, long) = (hash4(now, L1_BITS), hash7(now, L1_BITS));
            if let Some(hit) = Self::long_hit(unit, at, places, value) {
                self.enter_both(unit, next, short, long);
                return Some(Hit { next, ..hit });
            }
            if let Some(distance) = unit.matches(at, short_place, value) {
                let places = self.pairs[long];
                self.enter_both(unit, next, short, long);
                let hit = Hit { at, distance, length: unit.length_limited(at, distance), next };
                return Some(self.choose(unit, hit, places, now));
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

    /// With four equal bytes at `hit`: perhaps a place for the next bytes is better, or at level 6 the former
    /// distance.
    fn choose(&self, unit: &Unit<'_>, mut hit: Hit, places: Pair, now: u64) -> Hit {
        let Hit { at, next, .. } = hit;
        if self.level == 6
            && at + 1 >= self.repeat + unit.history
            && load32(unit.bytes, at + 1 - self.repeat) == load32(unit.bytes, at + 1)
        {
            let length = unit.length_limited(at + 1, self.repeat);
            if length > hit.length {
                return Hit { at: at + 1, distance: self.repeat, length, next };
            }
        }
        if unit.distance(next, places.newer).wrapping_sub(1) >= REACH - 1 {
            return hit;
        }
        for place in [places.newer, places.older] {
            let Some(distance) = unit.matches(next, place, now) else { continue };
            let length = unit.length_limited(next, distance);
            if length > hit.length {
                hit = Hit { at: next, distance, length, next };
                if self.level == 5 {
                    break;
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

    /// Takes the match `distance` before `at` if it is longer than `hit`, where its first bytes may differ.
    fn try_end(&self, unit: &Unit<'_>, at: usize, distance: i64, hit: &mut Hit) {
        let Ok(distance) = usize::try_from(distance) else { return };
        let second = match self.version {
            Version::V11 => return,
            Version::V13 => at,
            Version::V15 | Version::V18 => at + 2,
        };
        let is_near = distance > 0 && distance < MAX_DISTANCE;
        if !is_near || second < unit.history + distance {
            return;
        }
        let length = unit.length(second, distance);
        if length > hit.length {
            *hit = Hit { at: second, distance, length, next: hit.next };
        }
    }

    pub(super) fn better_end_5(&self, unit: &Unit<'_>, hit: &mut Hit) {
        let end = hit.at + hit.length;
        if hit.length < 30 && end < unit.limit() {
            let place = self.pairs[hash7(unit.load(end), L1_BITS)].newer;
            self.try_end(unit, hit.at, Self::signed_distance(unit, end, place), hit);
        }
    }

    pub(super) fn better_end_6(&self, unit: &Unit<'_>, hit: &mut Hit) {
        let at = hit.at;
        let end = at + hit.length;
        if end >= unit.limit() {
            return;
        }
        let places = self.pairs[hash7(unit.load(end), L1_BITS)];
        let distance = Self::signed_distance(unit, end, places.newer);
        if distance < i64::from(REACH) {
            self.try_end(unit, at, distance, hit);
            // The length may have grown: the second place is tried for the new end.
            let distance = Self::signed_distance(unit, at + hit.length, places.older);
            self.try_end(unit, at, distance, hit);
        }
    }
}
