//! How fast segments come, and how long the next ones should be.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many segments must have shown their rate before any is called slow.
const RATES_NEEDED: usize = 4;
/// How many segments' rates are remembered.
const RATES_KEPT: usize = 32;
/// Segments shorter than this say nothing about the rate of a connection, in bytes.
pub(super) const TELLING_BYTES: u64 = 256 * 1024;

/// Of the time that the writer is known to have waited, the part that is forgotten with each batch.
const FORGOTTEN: f64 = 1.0 / 64.0;

/// How fast segments come: the rates of those that finished last, and how long the next ones should be.
#[derive(Debug)]
pub(super) struct Pace {
    rates: Mutex<VecDeque<f64>>,
    segment_bytes: AtomicU64,
    limits: RangeInclusive<u64>,
    longest_bytes: u64,
    handed_over: Mutex<Waits>,
}

/// For how long the writer and its bytes waited for each other of late, in seconds.
#[derive(Debug, Default)]
struct Waits {
    writer: f64,
    bytes: f64,
}

impl Pace {
    /// For segments whose lengths stay in `limits`, in bytes, the first ones being the shortest; and for
    /// those of `longest_bytes` where the writer is slower than the network.
    pub(super) fn new(limits: RangeInclusive<u64>, longest_bytes: u64) -> Self {
        Self {
            rates: Mutex::default(),
            segment_bytes: AtomicU64::new(*limits.start()),
            limits,
            longest_bytes,
            handed_over: Mutex::default(),
        }
    }

    /// How long a segment should be now. Long ones cost fewer requests, short ones keep more
    /// connections busy.
    pub(super) fn segment_bytes(&self) -> u64 {
        let waits = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.writer < waits.bytes {
            self.longest_bytes
        } else {
            self.segment_bytes.load(Ordering::Relaxed)
        }
    }

    /// Takes note of bytes that the writer waited for, and that waited for the writer.
    pub(super) fn handed_over(&self, writer_waited: Duration, bytes_waited: Duration) {
        let mut waits = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        waits.writer += writer_waited.as_secs_f64() - waits.writer * FORGOTTEN;
        waits.bytes += bytes_waited.as_secs_f64() - waits.bytes * FORGOTTEN;
    }

    /// Takes note of a segment whose first byte came after `waited`, and the others in `moving`.
    pub(super) fn note(&self, bytes: u64, waited: Duration, moving: Duration) {
        if bytes < TELLING_BYTES {
            return;
        }
        let length = self.segment_bytes();
        if waited > moving {
            let longer = (2 * length).min(*self.limits.end());
            self.segment_bytes.store(longer, Ordering::Relaxed);
        } else if 4 * waited < moving {
            let shorter = (length / 2).max(*self.limits.start());
            self.segment_bytes.store(shorter, Ordering::Relaxed);
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() == RATES_KEPT {
            rates.pop_front();
        }
        rates.push_back(rate(bytes, waited + moving));
    }

    pub(super) fn median(&self) -> Option<f64> {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() < RATES_NEEDED {
            return None;
        }
        let mut sorted: Vec<f64> = rates.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for comparison needs no exact integer")]
pub(super) fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_median_needs_enough_telling_segments() {
        let pace = Pace::new(MIB..=8 * MIB, 32 * MIB);
        let note = |bytes| pace.note(bytes, Duration::ZERO, Duration::from_secs(1));
        for _ in 0..10 {
            note(TELLING_BYTES - 1);
        }
        assert_eq!(pace.median(), None);
        for n in 1..=5 {
            note(TELLING_BYTES * n);
        }
        assert_eq!(pace.median(), Some(rate(TELLING_BYTES * 3, Duration::from_secs(1))));
    }

    #[test]
    fn segments_grow_where_most_time_is_spent_waiting_for_them() {
        let pace = Pace::new(2 * MIB..=8 * MIB, 32 * MIB);
        let mut lengths = Vec::new();
        for (waited, moving) in [(5, 9), (9, 5), (9, 5), (9, 5), (2, 5), (1, 5), (1, 5), (1, 5)] {
            let [waited, moving] = [waited, moving].map(Duration::from_millis);
            pace.note(TELLING_BYTES, waited, moving);
            lengths.push(pace.segment_bytes() / MIB);
        }
        assert_eq!(lengths, [2, 4, 8, 8, 8, 4, 2, 2]);
    }

    #[test]
    fn segments_are_longest_while_the_network_is_ahead_of_the_writer() {
        let pace = Pace::new(2 * MIB..=8 * MIB, 32 * MIB);
        assert_eq!(pace.segment_bytes(), 2 * MIB);
        let after = |writer_waited, bytes_waited| {
            let [writer, bytes] = [writer_waited, bytes_waited].map(Duration::from_millis);
            (0..200).for_each(|_| pace.handed_over(writer, bytes));
            pace.segment_bytes() / MIB
        };
        assert_eq!([after(0, 5), after(6, 5), after(4, 5), after(9, 0)], [32, 2, 32, 2]);
    }
}
