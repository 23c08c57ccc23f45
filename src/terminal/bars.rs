//! Progress on a terminal: a bar for the whole, and one for each of the blobs that move longest.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::{MovingBlob, RateMeter, Tally};
use super::text::{Paint, clean, message_line};
use super::{Surface, Verbosity};
use crate::progress::{Event, Reporter};
use crate::units::format_bytes_of;

/// Smooth to the eye, and nothing beside the work.
const PERIOD: Duration = Duration::from_millis(100);

/// Bars of single blobs shown at once: more would fill a small terminal.
const MAX_BLOB_BARS: usize = 8;

/// Draws on stderr. Events only count; a thread draws ten times a second.
pub(super) struct Bars {
    paint: Paint,
    verbosity: Verbosity,
    tally: Tally,
    screen: MultiProgress,
    whole: ProgressBar,
    drawn: Mutex<Drawn>,
}

#[derive(Default)]
struct Drawn {
    meter: RateMeter,
    phase: String,
    blobs: Vec<(u64, ProgressBar)>,
    ended: bool,
    hidden: bool,
}

impl Bars {
    pub(super) fn new(paint: Paint, verbosity: Verbosity) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let whole = screen.add(ProgressBar::no_length().with_style(style("{spinner} {wide_msg}")));
        Self { paint, verbosity, tally: Tally::default(), screen, whole, drawn: Mutex::default() }
    }

    fn draw_blobs(&self, drawn: &mut Drawn) {
        let moving = self.tally.oldest(MAX_BLOB_BARS);
        drawn.blobs.retain(|(order, bar)| {
            let still_moves = moving.iter().any(|blob| blob.order == *order);
            if !still_moves {
                self.screen.remove(bar);
            }
            still_moves
        });
        for blob in &moving {
            let known = drawn.blobs.iter().find(|(order, _)| *order == blob.order);
            let bar = if let Some((_, bar)) = known {
                bar.clone()
            } else {
                let bar = self.screen.insert_before(&self.whole, blob_bar(blob));
                drawn.blobs.push((blob.order, bar.clone()));
                bar
            };
            bar.set_length(blob.size_bytes);
            bar.set_message(format_bytes_of(blob.done_bytes, blob.size_bytes));
            bar.set_position(blob.done_bytes);
        }
    }

    fn draw_whole(&self, drawn: &Drawn) {
        let snapshot = self.tally.snapshot();
        if snapshot.total_blobs == 0 {
            if drawn.phase.is_empty() {
                return;
            }
            self.whole.set_message(drawn.phase.clone());
        } else {
            if self.whole.length().is_none() {
                self.whole.set_style(style("{prefix} [{bar:24}] {wide_msg}").progress_chars("=> "));
                // As wide as a short digest, so that the bars stand under each other.
                self.whole.set_prefix(format!("{:>12}", "all"));
            }
            self.whole.set_length(snapshot.total_bytes);
            self.whole.set_position(snapshot.done_bytes.min(snapshot.total_bytes));
            self.whole.set_message(snapshot.describe(drawn.meter.bytes_per_second()));
        }
        self.whole.tick();
    }
}

fn blob_bar(blob: &MovingBlob) -> ProgressBar {
    ProgressBar::new(blob.size_bytes)
        .with_style(style("{prefix} [{bar:24}] {wide_msg}").progress_chars("=> "))
        .with_prefix(blob.digest.short().to_owned())
}

/// The style of a template that is right, as the tests draw all of them.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Reporter for Bars {
    fn report(&self, event: Event) {
        self.tally.count(&event);
        if let Some(line) = message_line(&event, self.verbosity, self.paint) {
            self.print(&line);
        } else if let Event::Phase { message } = &event {
            let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            drawn.phase = clean(message);
        }
    }
}

impl Surface for Bars {
    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn tick(&self, now: Instant) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.ended || drawn.hidden {
            return;
        }
        drawn.meter.sample(now, self.tally.snapshot().moved_bytes);
        self.draw_blobs(&mut drawn);
        self.draw_whole(&drawn);
    }

    fn end(&self) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.ended = true;
        for (_, bar) in drawn.blobs.drain(..) {
            bar.finish_and_clear();
        }
        self.whole.finish_and_clear();
        let _ = self.screen.clear();
    }

    fn print(&self, text: &str) {
        self.pause(&mut || {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }

    fn pause(&self, during: &mut dyn FnMut()) {
        self.screen.suspend(during);
    }

    fn hide(&self) {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).hidden = true;
        let _ = self.screen.clear();
    }

    fn show(&self) {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).hidden = false;
    }
}
