//! What the levels enter into their tables after a match.

use super::KlauspostFast;
use super::unit::{L1_BITS, L2_BITS, L3_BITS, REACH, Unit, hash4, hash5, hash7};

impl KlauspostFast {
    pub(super) fn enter_1(&mut self, unit: &Unit<'_>, at: usize, length: usize, is_last: bool) {
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

    pub(super) fn enter_2(&mut self, unit: &Unit<'_>, at: usize, length: usize, is_last: bool) {
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

    pub(super) fn enter_3(
        &mut self,
        unit: &Unit<'_>,
        at: usize,
        source: usize,
        length: usize,
        is_last: bool,
    ) {
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

    pub(super) fn enter_4(&mut self, unit: &Unit<'_>, at: usize, next: usize, is_last: bool) {
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

    pub(super) fn enter_5(&mut self, unit: &Unit<'_>, at: usize, length: usize) {
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

    pub(super) fn enter_6(&mut self, unit: &Unit<'_>, at: usize, next: usize, is_last: bool) {
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
}
