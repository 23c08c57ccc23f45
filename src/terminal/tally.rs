//! Counts what moves. The one part of the terminal that every read and write of a run goes through,
//! so it counts in atomics and draws nothing; whoever shows progress looks here from time to time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::progress::Event;
use crate::units::{format_bytes, format_bytes_of, format_duration, format_rate};

/// The rate is taken over this long: shorter jumps about, longer lags behind a changed wire.
const RATE_WINDOW: Duration = Duration::from_secs(15);

/// A rate over less than this says nothing.
const SHORTEST_RATE_WINDOW: Duration = Duration::from_millis(500);

/// What has moved in the current part of the work.
#[derive(Debug, Default)]
pub(super) struct Tally {
    total_blobs: AtomicU64,
    total_bytes: AtomicU64,
    finished_blobs: AtomicU64,
    /// Bytes that moved, also in vain.
    moved_bytes: AtomicU64,
    /// Bytes that moved in vain.
    rewound_bytes: AtomicU64,
    /// Bytes of finished blobs that never had to move.
    settled_bytes: AtomicU64,
    started_blobs: AtomicU64,
    moving: RwLock<HashMap<Digest, Arc<Moving>>>,
}

/// A blob that moves. One blob may go to several repositories at once; they count as one here.
#[derive(Debug, Default)]
pub(super) struct Moving {
    order: u64,
    size_bytes: AtomicU64,
    moved_bytes: AtomicU64,
    rewound_bytes: AtomicU64,
    /// Bytes that moved and were not taken by [`Moving::take_unreported`] yet.
    unreported_bytes: AtomicU64,
    runs: AtomicU32,
}

impl Moving {
    /// The bytes that moved since the last call.
    pub(super) fn take_unreported(&self) -> u64 {
        self.unreported_bytes.swap(0, Relaxed)
    }

    fn done_bytes(&self) -> u64 {
        let moved = self.moved_bytes.load(Relaxed).saturating_sub(self.rewound_bytes.load(Relaxed));
        moved.min(self.size_bytes.load(Relaxed))
    }
}

/// A moving blob as it stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MovingBlob {
    /// Grows from blob to blob in the order in which they started.
    pub(super) order: u64,
    pub(super) digest: Digest,
    pub(super) done_bytes: u64,
    pub(super) size_bytes: u64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) total_blobs: u64,
    pub(super) total_bytes: u64,
    pub(super) finished_blobs: u64,
    pub(super) done_bytes: u64,
    pub(super) moved_bytes: u64,
}

impl Tally {
    /// Counts one event; those that count nothing pass by.
    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::Total { blobs, bytes } => self.begin(*blobs, *bytes),
            Event::BlobStarted { digest, bytes } => self.start(digest, *bytes),
            Event::BlobAdvanced { digest, bytes } => {
                self.moved_bytes.fetch_add(*bytes, Relaxed);
                if let Some(moving) = self.moving().get(digest) {
                    moving.moved_bytes.fetch_add(*bytes, Relaxed);
                    moving.unreported_bytes.fetch_add(*bytes, Relaxed);
                }
            }
            Event::BlobRewound { digest, bytes } => {
                self.rewound_bytes.fetch_add(*bytes, Relaxed);
                if let Some(moving) = self.moving().get(digest) {
                    moving.rewound_bytes.fetch_add(*bytes, Relaxed);
                }
            }
            Event::BlobFinished { digest, .. } => self.finish(digest),
            Event::Phase { .. }
            | Event::Warning { .. }
            | Event::Note { .. }
            | Event::Detail { .. } => {}
        }
    }

    /// The entry of a moving blob.
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Moving>> {
        self.moving().get(digest).cloned()
    }

    /// All moving blobs.
    pub(super) fn entries(&self) -> Vec<(Digest, Arc<Moving>)> {
        self.moving().iter().map(|(digest, moving)| (digest.clone(), moving.clone())).collect()
    }

    /// The moving blobs that started first, at most `limit`, oldest first.
    pub(super) fn oldest(&self, limit: usize) -> Vec<MovingBlob> {
        let mut entries = self.entries();
        entries.sort_unstable_by_key(|(_, moving)| moving.order);
        entries.truncate(limit);
        let shown = |(digest, moving): (Digest, Arc<Moving>)| MovingBlob {
            order: moving.order,
            digest,
            done_bytes: moving.done_bytes(),
            size_bytes: moving.size_bytes.load(Relaxed),
        };
        entries.into_iter().map(shown).collect()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let moved_bytes = self.moved_bytes.load(Relaxed);
        let kept_bytes = moved_bytes.saturating_sub(self.rewound_bytes.load(Relaxed));
        Snapshot {
            total_blobs: self.total_blobs.load(Relaxed),
            total_bytes: self.total_bytes.load(Relaxed),
            finished_blobs: self.finished_blobs.load(Relaxed),
            done_bytes: kept_bytes.saturating_add(self.settled_bytes.load(Relaxed)),
            moved_bytes,
        }
    }

    fn begin(&self, blobs: u64, bytes: u64) {
        let mut moving = self.moving_mut();
        moving.clear();
        self.total_blobs.store(blobs, Relaxed);
        self.total_bytes.store(bytes, Relaxed);
        for count in
            [&self.finished_blobs, &self.moved_bytes, &self.rewound_bytes, &self.settled_bytes]
        {
            count.store(0, Relaxed);
        }
    }

    fn start(&self, digest: &Digest, bytes: u64) {
        let order = self.started_blobs.fetch_add(1, Relaxed);
        let mut moving = self.moving_mut();
        let entry = moving
            .entry(digest.clone())
            .or_insert_with(|| Arc::new(Moving { order, ..Moving::default() }));
        entry.size_bytes.fetch_add(bytes, Relaxed);
        entry.runs.fetch_add(1, Relaxed);
    }

    fn finish(&self, digest: &Digest) {
        self.finished_blobs.fetch_add(1, Relaxed);
        let mut moving = self.moving_mut();
        let Some(entry) = moving.get(digest) else { return };
        if entry.runs.fetch_sub(1, Relaxed) == 1 {
            let never_moved = entry.size_bytes.load(Relaxed) - entry.done_bytes();
            self.settled_bytes.fetch_add(never_moved, Relaxed);
            moving.remove(digest);
        }
    }

    fn moving(&self) -> RwLockReadGuard<'_, HashMap<Digest, Arc<Moving>>> {
        self.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn moving_mut(&self) -> RwLockWriteGuard<'_, HashMap<Digest, Arc<Moving>>> {
        self.moving.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How fast bytes moved of late. Fed with the time, so that it needs no clock.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    samples: VecDeque<(Instant, u64)>,
}

impl RateMeter {
    /// Takes the count of moved bytes as it stands `now`; a count that fell begins anew.
    pub(super) fn sample(&mut self, now: Instant, moved_bytes: u64) {
        if self.samples.back().is_some_and(|(_, last)| *last > moved_bytes) {
            self.samples.clear();
        }
        self.samples.push_back((now, moved_bytes));
        while self.samples.len() > 2
            && self.samples.front().is_some_and(|(then, _)| now - *then > RATE_WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the window, if it is long enough to tell.
    pub(super) fn bytes_per_second(&self) -> Option<u64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let window = last.0 - first.0;
        if window < SHORTEST_RATE_WINDOW {
            return None;
        }
        let rate = u128::from(last.1 - first.1) * 1000 / window.as_millis();
        u64::try_from(rate).ok()
    }
}

impl Snapshot {
    /// Where the work stands, such as `12 of 40 blobs, 1.2 of 3.4 GB, 85 MB/s, 26 s left`.
    pub(super) fn describe(&self, bytes_per_second: Option<u64>) -> String {
        let mut parts = Vec::new();
        if self.total_blobs == 0 {
            parts.push(format!("{} blobs", self.finished_blobs));
            parts.push(format_bytes(self.done_bytes));
        } else {
            parts.push(format!("{} of {} blobs", self.finished_blobs, self.total_blobs));
            parts.push(format_bytes_of(self.done_bytes, self.total_bytes));
        }
        if let Some(rate) = bytes_per_second {
            parts.push(format_rate(rate));
            let left_bytes = self.total_bytes.saturating_sub(self.done_bytes);
            if left_bytes > 0 && rate > 0 {
                let left = Duration::from_secs((left_bytes.saturating_add(rate / 2) / rate).max(1));
                parts.push(format!("{} left", format_duration(left)));
            }
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Arrival;

    fn started(digest: &Digest, bytes: u64) -> Event {
        Event::BlobStarted { digest: digest.clone(), bytes }
    }

    fn advanced(digest: &Digest, bytes: u64) -> Event {
        Event::BlobAdvanced { digest: digest.clone(), bytes }
    }

    fn finished(digest: &Digest, how: Arrival) -> Event {
        Event::BlobFinished { digest: digest.clone(), how }
    }

    #[test]
    fn a_blob_that_was_there_already_counts_whole_but_moved_nothing() {
        let (tally, blob) = (Tally::default(), Digest::of(b"blob"));
        tally.count(&Event::Total { blobs: 2, bytes: 300 });
        tally.count(&started(&blob, 100));
        tally.count(&finished(&blob, Arrival::Present));
        let snapshot = tally.snapshot();
        assert_eq!((snapshot.finished_blobs, snapshot.done_bytes), (1, 100));
        assert_eq!(snapshot.moved_bytes, 0);
    }

    #[test]
    fn bytes_that_moved_in_vain_do_not_count_as_done() {
        let (tally, blob) = (Tally::default(), Digest::of(b"blob"));
        tally.count(&started(&blob, 100));
        tally.count(&advanced(&blob, 80));
        tally.count(&Event::BlobRewound { digest: blob.clone(), bytes: 50 });
        assert_eq!(tally.oldest(8)[0].done_bytes, 30);
        assert_eq!(tally.snapshot().done_bytes, 30);
        tally.count(&advanced(&blob, 70));
        tally.count(&finished(&blob, Arrival::Uploaded));
        let snapshot = tally.snapshot();
        assert_eq!((snapshot.done_bytes, snapshot.moved_bytes), (100, 150));
        assert!(tally.oldest(8).is_empty());
    }

    #[test]
    fn one_blob_on_two_ways_moves_until_both_are_done() {
        let (tally, blob) = (Tally::default(), Digest::of(b"blob"));
        tally.count(&started(&blob, 100));
        tally.count(&started(&blob, 100));
        tally.count(&finished(&blob, Arrival::Mounted));
        assert_eq!(tally.oldest(8).len(), 1);
        tally.count(&finished(&blob, Arrival::Uploaded));
        assert!(tally.oldest(8).is_empty());
        assert_eq!(tally.snapshot().done_bytes, 200);
    }

    #[test]
    fn a_new_total_begins_a_new_part() {
        let (tally, blob) = (Tally::default(), Digest::of(b"blob"));
        tally.count(&started(&blob, 100));
        tally.count(&advanced(&blob, 10));
        tally.count(&Event::Total { blobs: 1, bytes: 5 });
        let snapshot = tally.snapshot();
        assert_eq!((snapshot.total_blobs, snapshot.total_bytes), (1, 5));
        assert_eq!((snapshot.done_bytes, tally.entries().len()), (0, 0));
    }

    #[test]
    fn the_rate_forgets_what_is_long_past() {
        let (mut meter, start) = (RateMeter::default(), Instant::now());
        meter.sample(start, 0);
        assert_eq!(meter.bytes_per_second(), None);
        meter.sample(start + Duration::from_secs(10), 1000);
        assert_eq!(meter.bytes_per_second(), Some(100));
        meter.sample(start + Duration::from_secs(20), 1500);
        assert_eq!(meter.bytes_per_second(), Some(50));
        meter.sample(start + Duration::from_secs(21), 3);
        assert_eq!(meter.bytes_per_second(), None);
    }

    #[test]
    fn where_the_work_stands_is_one_line() {
        let snapshot = Snapshot {
            total_blobs: 40,
            total_bytes: 3_400_000_000,
            finished_blobs: 12,
            done_bytes: 1_200_000_000,
            moved_bytes: 0,
        };
        let rate = Some(85_000_000);
        assert_eq!(snapshot.describe(rate), "12 of 40 blobs, 1.2 of 3.4 GB, 85 MB/s, 26 s left");
        assert_eq!(snapshot.describe(Some(0)), "12 of 40 blobs, 1.2 of 3.4 GB, 0 B/s");
        let unknown = Snapshot { total_blobs: 0, total_bytes: 0, ..snapshot };
        assert_eq!(unknown.describe(None), "12 blobs, 1.2 GB");
    }
}
