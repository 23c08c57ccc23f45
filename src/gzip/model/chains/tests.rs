//! The quick search beside the encoder's own.

use super::*;

/// Few different bytes, runs of them, and what was there before.
fn plain() -> Vec<u8> {
    let mut state = 7_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as usize >> 8
    };
    let mut plain: Vec<u8> = vec![0; 300];
    while plain.len() < 120_000 {
        let bytes = random() % 60;
        match random() % 4 {
            0 => plain.extend((0..bytes).map(|_| random() as u8 % 3)),
            1 => plain.resize(plain.len() + bytes * 8, random() as u8 % 3),
            _ => {
                let from = plain.len() - 1 - random() % plain.len().min(36_000);
                plain.extend_from_within(from..(from + bytes * 4).min(plain.len()));
            }
        }
    }
    plain
}

/// What is found by the ends is what going back along the encoder's own chain finds, whatever was left out.
#[test]
fn matches_by_their_ends_are_those_of_the_encoders_own_chain() {
    let plain = plain();
    for (hashed_bytes, chain, nice) in [(3, 4, 258), (3, 128, 32), (4, 16, 16), (4, 4096, 258)] {
        let hash = |value: u32| {
            let kept = value & (u32::MAX >> (32 - 8 * hashed_bytes));
            (kept.wrapping_mul(0x9e37_79b1) >> 20) as usize
        };
        let mut chains = Chains::new(12, hashed_bytes, chain, Enters::Every);
        chains.restart(0);
        let mut found = 0;
        for (from, to) in [(0, 50_000), (50_000, 50_001), (50_001, 90_011), (90_011, 120_000)] {
            let view = View { bytes: &plain, start: 0, limit: to };
            for position in from..to.min(plain.len() as u64) {
                let end = to + 1 - hashed_bytes as u64;
                chains.insert_below(&view, end.min(position + 524), hash);
                // As Go does: what ends at a flush is never found.
                if hashed_bytes == 4 {
                    chains.skip_below(position + 1);
                }
                let limit = view.rest(position).min(258);
                let least = position as usize % 9 + hashed_bytes - 1;
                if limit <= least || chains.inserted() <= position {
                    continue;
                }
                let search = Search {
                    bytes: &plain,
                    index: position as usize,
                    position,
                    limit,
                    nice: limit.min(nice),
                    farthest: MAX_DISTANCE.min(position as usize),
                    chain,
                };
                let none = Found { length: least, distance: 0 };
                let expected = chains.walk_short(&search, none, search.nice, |_, _| true);
                assert_eq!(chains.longest(&search, least), expected, "at {position}");
                found += usize::from(expected.distance > 0);
            }
        }
        assert!(found > 10_000, "only {found} matches");
    }
}
