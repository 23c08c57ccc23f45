//! Progress where there is no terminal: a line now and then, for logs.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::tally::{RateMeter, Snapshot, Tally};
use super::text::{Paint, clean, message_line};
use super::{Surface, Verbosity};
use crate::progress::{Event, Reporter};

/// Often enough to see that the work goes on, rarely enough for a log.
const PERIOD: Duration = Duration::from_secs(5);

/// Whether lines about progress stand among the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Shown,
    Hidden,
}

/// Writes messages, and every five seconds where the work stands if anything moved.
pub(super) struct Lines<W> {
    writer: Mutex<W>,
    paint: Paint,
    verbosity: Verbosity,
    counts: Counts,
    tally: Tally,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    meter: RateMeter,
    shown: Snapshot,
}

impl<W: Write + Send> Lines<W> {
    pub(super) fn new(writer: W, paint: Paint, verbosity: Verbosity, counts: Counts) -> Self {
        let counts = if verbosity == Verbosity::Quiet { Counts::Hidden } else { counts };
        Self {
            writer: Mutex::new(writer),
            paint,
            verbosity,
            counts,
            tally: Tally::default(),
            watched: Mutex::default(),
        }
    }
}

impl<W: Write + Send> Reporter for Lines<W> {
    fn report(&self, event: Event) {
        self.tally.count(&event);
        if let Some(line) = message_line(&event, self.verbosity, self.paint) {
            self.print(&line);
        } else if let Event::Phase { message } = &event
            && self.counts == Counts::Shown
        {
            self.print(&clean(message));
        }
    }
}

impl<W: Write + Send> Surface for Lines<W> {
    fn period(&self) -> Option<Duration> {
        (self.counts == Counts::Shown).then_some(PERIOD)
    }

    fn tick(&self, now: Instant) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.tally.snapshot();
        watched.meter.sample(now, snapshot.moved_bytes);
        let progress = |s: &Snapshot| (s.moved_bytes, s.finished_blobs);
        if progress(&snapshot) != progress(&watched.shown) && progress(&snapshot) != (0, 0) {
            self.print(&snapshot.describe(watched.meter.bytes_per_second()));
        }
        watched.shown = snapshot;
    }

    fn print(&self, text: &str) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to tell when stderr is gone, and the work is worth more than its log.
        let _ = writeln!(writer, "{text}").and_then(|()| writer.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::progress::Arrival;
    use crate::terminal::tests::Shared;

    fn lines(verbosity: Verbosity, counts: Counts) -> (Lines<Shared>, Shared) {
        let written = Shared::default();
        (Lines::new(written.clone(), Paint::Plain, verbosity, counts), written)
    }

    #[test]
    fn lines_tell_where_the_work_stands_only_when_something_moved() {
        let (lines, written) = lines(Verbosity::Normal, Counts::Shown);
        let (start, blob) = (Instant::now(), Digest::of(b"blob"));
        let after = |seconds| start + Duration::from_secs(seconds);
        lines.tick(start);
        lines.phase("pulling 1 image".to_owned());
        lines.report(Event::Total { blobs: 2, bytes: 2_000_000 });
        lines.tick(after(5));
        lines.report(Event::BlobStarted { digest: blob.clone(), bytes: 1_000_000 });
        lines.report(Event::BlobAdvanced { digest: blob.clone(), bytes: 500_000 });
        lines.tick(after(10));
        lines.tick(after(15));
        lines.report(Event::BlobAdvanced { digest: blob.clone(), bytes: 500_000 });
        lines.report(Event::BlobFinished { digest: blob, how: Arrival::Packed });
        lines.note("done\x1b[2J".to_owned());
        lines.tick(after(20));
        let expected = "pulling 1 image\n\
            0 of 2 blobs, 0.5 of 2.0 MB, 50 kB/s, 30 s left\n\
            done\\u{1b}[2J\n\
            1 of 2 blobs, 1.0 of 2.0 MB, 67 kB/s, 15 s left\n";
        assert_eq!(written.text(), expected);
        assert!(written.text().chars().all(|c| c == '\n' || !c.is_control()));
    }

    #[test]
    fn quiet_leaves_only_warnings() {
        let (lines, written) = lines(Verbosity::Quiet, Counts::Shown);
        lines.phase("pulling".to_owned());
        lines.note("note".to_owned());
        lines.warn("the tag `x` moved".to_owned());
        assert_eq!(written.text(), "warning: the tag `x` moved\n");
        assert_eq!(lines.period(), None);
    }

    #[test]
    fn without_progress_notes_remain() {
        let (lines, written) = lines(Verbosity::Normal, Counts::Hidden);
        lines.phase("pulling".to_owned());
        lines.note("note".to_owned());
        lines.detail("detail".to_owned());
        assert_eq!(written.text(), "note\n");
    }
}
