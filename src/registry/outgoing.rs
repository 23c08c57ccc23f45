//! A body on its way out: in small pieces, at the run's rate, watched.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::Instant;

use super::throttle::Limits;

/// Small enough that progress and stalls show on a slow line, large enough to cost nothing on a fast
/// one.
const PIECE_MAX_BYTES: usize = 64 * 1024;

type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// A body of known length that can be begun again.
pub(super) struct Outgoing {
    length_bytes: u64,
    open: Box<dyn Fn() -> Pieces + Send + Sync>,
    meter: Arc<Mutex<Meter>>,
}

struct Meter {
    /// Counts the attempts; a stream of a former attempt ends.
    attempt: u64,
    taken_bytes: u64,
    moved: Instant,
    /// Whether the connection has asked for the next piece and does not have it yet.
    waits_for_source: bool,
}

/// Whom a body in flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Its source, or the rate limit.
    Source,
    /// The connection, for this long.
    Connection(Duration),
    /// The answer, for this long: everything was taken.
    Answer(Duration),
}

fn lock(meter: &Mutex<Meter>) -> MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// A body of `length_bytes` that `open` gives from its beginning, each time it is called.
    pub(super) fn new(
        length_bytes: u64,
        open: impl Fn() -> Pieces + Send + Sync + 'static,
    ) -> Self {
        let meter =
            Meter { attempt: 0, taken_bytes: 0, moved: Instant::now(), waits_for_source: false };
        Self { length_bytes, open: Box::new(open), meter: Arc::new(Mutex::new(meter)) }
    }

    pub(super) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// How much of the current attempt the connection has taken.
    pub(super) fn taken_bytes(&self) -> u64 {
        lock(&self.meter).taken_bytes
    }

    pub(super) fn waiting(&self) -> Waiting {
        let meter = lock(&self.meter);
        let idle = meter.moved.elapsed();
        if meter.taken_bytes >= self.length_bytes {
            Waiting::Answer(idle)
        } else if meter.waits_for_source {
            Waiting::Source
        } else {
            Waiting::Connection(idle)
        }
    }

    /// Ends the stream of the current attempt, wherever it is by now: it gives an error, and so can
    /// never complete a request.
    pub(super) fn stop(&self) {
        lock(&self.meter).attempt += 1;
    }

    /// Begins a new attempt.
    pub(super) fn begin(&self, limits: Limits) -> Pieces {
        let attempt = {
            let mut meter = lock(&self.meter);
            meter.attempt += 1;
            meter.taken_bytes = 0;
            meter.moved = Instant::now();
            meter.waits_for_source = false;
            meter.attempt
        };
        let flow = Flow {
            input: (self.open)(),
            pending: Bytes::new(),
            attempt,
            meter: Arc::clone(&self.meter),
            limits,
        };
        stream::unfold(flow, |mut flow| async move {
            let piece = flow.next().await?;
            Some((piece, flow))
        })
        .boxed()
    }
}

struct Flow {
    input: Pieces,
    pending: Bytes,
    attempt: u64,
    meter: Arc<Mutex<Meter>>,
    limits: Limits,
}

impl Flow {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.mark(|meter| meter.waits_for_source = true).is_none() {
            return Some(Err(given_up()));
        }
        self.limits.ready().await;
        while self.pending.is_empty() {
            match self.input.next().await? {
                Ok(bytes) => self.pending = bytes,
                Err(error) => return Some(Err(error)),
            }
        }
        let piece = self.pending.split_to(self.pending.len().min(PIECE_MAX_BYTES));
        let taken = self.mark(|meter| {
            meter.waits_for_source = false;
            meter.taken_bytes += piece.len() as u64;
            meter.moved = Instant::now();
        });
        if taken.is_none() {
            return Some(Err(given_up()));
        }
        self.limits.spend(piece.len());
        Some(Ok(piece))
    }

    /// Changes the meter if this is still the current attempt.
    fn mark(&self, change: impl FnOnce(&mut Meter)) -> Option<()> {
        let mut meter = lock(&self.meter);
        (meter.attempt == self.attempt).then(|| change(&mut meter))
    }
}

fn given_up() -> io::Error {
    io::Error::other("the attempt was given up")
}
