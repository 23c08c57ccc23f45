//! A second connection for the segment that everything waits for.
//!
//! One slow connection at the head of the queue would hold up all others. When the segment that the
//! writer waits for runs far below the usual rate, the rest of it is asked for once more over
//! another connection, and whichever of the two is ahead delivers.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use crate::registry::{self, BlobStream, RemoteBlob};

use super::pace::{Pace, TELLING_BYTES, rate};

/// How often the rate of a segment is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a segment may be slow before a second connection is opened.
const PATIENCE: Duration = Duration::from_secs(2);
/// How far below the median a rate is "far below".
const FAR_BELOW: f64 = 0.25;
type Chunks = BoxStream<'static, Result<Bytes, registry::Error>>;

/// A stream of a segment's bytes that may be served by two connections.
pub(super) struct Raced<'a, D: Fn() -> bool> {
    remote: RemoteBlob,
    pace: &'a Pace,
    is_due: D,
    /// How long bytes were waited for; not how long they waited for their turn.
    spent: Duration,
    /// How long the first byte took.
    waited: Option<Duration>,
    start: u64,
    end: u64,
    delivered: u64,
    first: Runner,
    second: Option<Runner>,
    /// Whether there was a second connection. There is no third: one that fails as soon as it is opened
    /// would be opened again and again.
    is_hedged: bool,
}

/// One of the two connections, and the offset in the blob of the byte that it gives next.
struct Runner {
    chunks: Chunks,
    at: u64,
}

enum Step {
    First(Option<Result<Bytes, registry::Error>>),
    Second(Option<Result<Bytes, registry::Error>>),
    Look,
}

impl<'a, D: Fn() -> bool> Raced<'a, D> {
    /// A stream whose answer came, asked for when it `started`.
    pub(super) fn opened(
        stream: BlobStream,
        started: Instant,
        remote: RemoteBlob,
        pace: &'a Pace,
        is_due: D,
    ) -> Self {
        let extent = stream.extent();
        Self::new(chunks_of(stream), extent, started, remote, pace, is_due)
    }

    /// A range that is asked for yet, of a blob whose server gives ranges.
    pub(super) fn open(range: Range<u64>, remote: RemoteBlob, pace: &'a Pace, is_due: D) -> Self {
        let chunks = opening(remote.clone(), range.clone());
        Self::new(chunks, range, Instant::now(), remote, pace, is_due)
    }

    fn new(
        chunks: Chunks,
        extent: Range<u64>,
        started: Instant,
        remote: RemoteBlob,
        pace: &'a Pace,
        is_due: D,
    ) -> Self {
        Self {
            remote,
            pace,
            is_due,
            spent: started.elapsed(),
            waited: None,
            start: extent.start,
            end: extent.end,
            delivered: extent.start,
            first: Runner { chunks, at: extent.start },
            second: None,
            is_hedged: false,
        }
    }

    /// The next bytes in order, `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, registry::Error> {
        while self.delivered < self.end {
            let asked = Instant::now();
            let step = if let Some(second) = &mut self.second {
                tokio::select! {
                    chunk = self.first.chunks.next() => Step::First(chunk),
                    chunk = second.chunks.next() => Step::Second(chunk),
                }
            } else {
                tokio::select! {
                    // What is there needs no clock.
                    biased;
                    chunk = self.first.chunks.next() => Step::First(chunk),
                    () = tokio::time::sleep(LOOK_EVERY) => Step::Look,
                }
            };
            self.spent += asked.elapsed();
            let fresh = match step {
                Step::First(Some(Ok(bytes))) => {
                    fresh_part(&mut self.first.at, self.delivered, bytes)
                }
                Step::Second(Some(Ok(bytes))) => {
                    let at = self.second.as_mut().map(|second| &mut second.at);
                    at.and_then(|at| fresh_part(at, self.delivered, bytes)).map(|mut bytes| {
                        // A server that ignores ranges may give this connection more than its part.
                        let left = self.end - self.delivered;
                        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                        bytes
                    })
                }
                Step::First(failed) => self.first_ended(failed)?,
                Step::Second(_) => {
                    self.second = None;
                    None
                }
                Step::Look => None,
            };
            if let Some(bytes) = fresh {
                self.waited.get_or_insert(self.spent);
                self.delivered += bytes.len() as u64;
                self.look();
                return Ok(Some(bytes));
            }
            self.look();
        }
        let waited = self.waited.unwrap_or_default();
        self.pace.note(self.end - self.start, waited, self.spent.saturating_sub(waited));
        Ok(None)
    }

    /// The first connection has no more bytes though some are missing: the second one takes over.
    fn first_ended(
        &mut self,
        failed: Option<Result<Bytes, registry::Error>>,
    ) -> Result<Option<Bytes>, registry::Error> {
        match (self.second.take(), failed) {
            (Some(second), _) => {
                self.first = second;
                Ok(None)
            }
            (None, Some(Err(error))) => Err(error),
            (None, _) => {
                self.end = self.delivered;
                Ok(None)
            }
        }
    }

    /// Opens the second connection where the first is far too slow.
    fn look(&mut self) {
        let elapsed = self.spent;
        let left = self.end - self.delivered;
        if self.is_hedged || elapsed < PATIENCE || left < TELLING_BYTES || !(self.is_due)() {
            return;
        }
        let Some(median) = self.pace.median() else { return };
        if rate(self.delivered - self.start, elapsed) < median * FAR_BELOW {
            let chunks = opening(self.remote.clone(), self.delivered..self.end);
            self.second = Some(Runner { chunks, at: self.delivered });
            self.is_hedged = true;
        }
    }
}

/// The part of `bytes` that nobody delivered yet; moves `at` behind them.
fn fresh_part(at: &mut u64, delivered: u64, mut bytes: Bytes) -> Option<Bytes> {
    let starts = *at;
    *at += bytes.len() as u64;
    if *at <= delivered {
        return None;
    }
    let known = usize::try_from(delivered.saturating_sub(starts)).unwrap_or(usize::MAX);
    let _ = bytes.split_to(known.min(bytes.len()));
    Some(bytes)
}

fn opening(remote: RemoteBlob, range: Range<u64>) -> Chunks {
    stream::once(async move { remote.open(range).await.map(chunks_of) }).try_flatten().boxed()
}

fn chunks_of(stream: BlobStream) -> Chunks {
    stream::unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        match stream.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(stream))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_the_other_connection_delivered_are_dropped() {
        let mut at = 10;
        assert_eq!(fresh_part(&mut at, 12, Bytes::from_static(b"abcd")), Some("cd".into()));
        assert_eq!(at, 14);
        assert_eq!(fresh_part(&mut at, 18, Bytes::from_static(b"efgh")), None);
        assert_eq!(fresh_part(&mut at, 18, Bytes::from_static(b"ijkl")), Some("ijkl".into()));
    }
}
