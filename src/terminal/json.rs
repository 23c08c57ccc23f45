//! Progress for programs: one JSON object per line, [`Event`] as serde writes it.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::tally::{Moving, Tally};
use super::text::without_secrets;
use super::{Surface, Verbosity};
use crate::digest::Digest;
use crate::progress::{Event, Reporter};

/// How long advances of one blob are gathered: at most ten lines per blob and second.
const PERIOD: Duration = Duration::from_millis(100);

/// Writes every event as a line, advances of a blob gathered.
pub(super) struct Json<W> {
    writer: Mutex<W>,
    verbosity: Verbosity,
    tally: Tally,
}

/// The line that ends a failed run; not an [`Event`], as no reporter hears of it.
#[derive(Serialize)]
#[serde(tag = "event", rename = "error")]
struct ErrorLine {
    message: String,
    caused_by: Vec<String>,
    hints: Vec<String>,
}

impl<W: Write + Send> Json<W> {
    pub(super) fn new(writer: W, verbosity: Verbosity) -> Self {
        Self { writer: Mutex::new(writer), verbosity, tally: Tally::default() }
    }

    fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Warning { .. } => true,
            Event::Detail { .. } => self.verbosity >= Verbosity::Verbose,
            _ => self.verbosity >= Verbosity::Normal,
        }
    }

    fn with_writer(&self, write: impl FnOnce(&mut W)) {
        write(&mut self.writer.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<W: Write + Send> Reporter for Json<W> {
    fn report(&self, event: Event) {
        if let Event::BlobAdvanced { .. } = event {
            self.tally.count(&event);
            return;
        }
        if !self.wants(&event) {
            return;
        }
        // Under the writer's lock from here, so that no gathered advance is written behind the end
        // of its blob.
        self.with_writer(|writer| {
            if let Event::BlobFinished { digest, .. } | Event::BlobRewound { digest, .. } = &event
                && let Some(moving) = self.tally.find(digest)
            {
                write_gathered(writer, digest, &moving);
            }
            self.tally.count(&event);
            write_line(writer, &redacted(event));
        });
    }
}

impl<W: Write + Send> Surface for Json<W> {
    fn period(&self) -> Option<Duration> {
        (self.verbosity >= Verbosity::Normal).then_some(PERIOD)
    }

    fn tick(&self, _now: Instant) {
        self.with_writer(|writer| {
            for (digest, moving) in self.tally.entries() {
                write_gathered(writer, &digest, &moving);
            }
        });
    }

    fn end(&self) {
        self.tick(Instant::now());
    }

    fn print(&self, text: &str) {
        self.with_writer(|writer| write_line(writer, &Event::Note { message: text.to_owned() }));
    }

    fn print_error(&self, messages: &[String], hints: &[String]) {
        let mut messages = messages.iter().map(|message| without_secrets(message));
        let line = ErrorLine {
            message: messages.next().unwrap_or_default(),
            caused_by: messages.collect(),
            hints: hints.iter().map(|hint| without_secrets(hint)).collect(),
        };
        self.with_writer(|writer| write_line(writer, &line));
    }
}

fn write_gathered(writer: &mut impl Write, digest: &Digest, moving: &Moving) {
    let bytes = moving.take_unreported();
    if bytes > 0 {
        write_line(writer, &Event::BlobAdvanced { digest: digest.clone(), bytes });
    }
}

fn write_line(writer: &mut impl Write, line: &impl Serialize) {
    // Nobody is left to tell when stderr is gone, and the work is worth more than its log.
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let _ = writer.write_all(&text).and_then(|()| writer.flush());
    }
}

fn redacted(mut event: Event) -> Event {
    if let Event::Phase { message }
    | Event::Warning { message }
    | Event::Note { message }
    | Event::Detail { message } = &mut event
    {
        *message = without_secrets(message);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Arrival;
    use crate::terminal::tests::Shared;

    fn json(verbosity: Verbosity) -> (Json<Shared>, Shared) {
        let written = Shared::default();
        (Json::new(written.clone(), verbosity), written)
    }

    #[test]
    fn events_are_lines_of_json_and_advances_are_gathered() {
        let (json, written) = json(Verbosity::Normal);
        let digest = Digest::of(b"");
        let advance = || json.report(Event::BlobAdvanced { digest: digest.clone(), bytes: 10 });
        json.phase("uploading to https://user:secret@far".to_owned());
        json.report(Event::Total { blobs: 1, bytes: 100 });
        json.report(Event::BlobStarted { digest: digest.clone(), bytes: 100 });
        (0..3).for_each(|_| advance());
        json.tick(Instant::now());
        json.tick(Instant::now());
        advance();
        json.report(Event::BlobRewound { digest: digest.clone(), bytes: 40 });
        (0..10).for_each(|_| advance());
        json.report(Event::BlobFinished { digest: digest.clone(), how: Arrival::Uploaded });
        json.tick(Instant::now());
        json.detail("hidden".to_owned());
        json.warn("a \"tag\"\nmoved".to_owned());
        let expected = r#"{"event":"phase","message":"uploading to https://…@far"}
{"event":"total","blobs":1,"bytes":100}
{"event":"blob-started","digest":"DIGEST","bytes":100}
{"event":"blob-advanced","digest":"DIGEST","bytes":30}
{"event":"blob-advanced","digest":"DIGEST","bytes":10}
{"event":"blob-rewound","digest":"DIGEST","bytes":40}
{"event":"blob-advanced","digest":"DIGEST","bytes":100}
{"event":"blob-finished","digest":"DIGEST","how":"uploaded"}
{"event":"warning","message":"a \"tag\"\nmoved"}
"#;
        assert_eq!(written.text().replace(&digest.to_string(), "DIGEST"), expected);
    }

    #[test]
    fn an_error_is_a_line_too() {
        let (json, written) = json(Verbosity::Quiet);
        json.note("hidden".to_owned());
        json.print_error(&["push failed".to_owned(), "refused".to_owned()], &["log in".to_owned()]);
        let expected = r#"{"event":"error","message":"push failed","caused_by":["refused"],"hints":["log in"]}"#;
        assert_eq!(written.text().trim_end(), expected);
    }
}
