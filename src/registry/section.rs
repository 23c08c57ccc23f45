//! What an upload sends: a section of a blob, hashed while it goes, whose last bytes are withheld until
//! everything up to them is right.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::outgoing::Outgoing;
use crate::digest::{Digest, Hasher, Mismatch};

/// Gives a blob's bytes, as often as they are needed.
pub trait BlobSource: Send + Sync {
    /// All bytes from `from_byte` to the blob's end.
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>>;
}

/// A blob to be sent: what it should be, and where its bytes come from.
pub(super) struct Content {
    pub(super) source: Arc<dyn BlobSource>,
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
}

/// The hash of everything in front of a byte.
#[derive(Clone)]
pub(super) struct Checkpoint {
    pub(super) offset: u64,
    hasher: Hasher,
}

/// What became of the bytes.
#[derive(Default)]
pub(super) enum Outcome {
    /// Not all of them were handed out.
    #[default]
    Unfinished,
    /// They were, and this is where they end.
    Sent(Checkpoint),
    /// The source has others, or more, or fewer.
    Damaged(Mismatch),
    /// The source cannot be read.
    Unreadable(io::Error),
}

type SharedOutcome = Arc<Mutex<Outcome>>;

/// A part of a blob on its way.
pub(super) struct Section {
    content: Arc<Content>,
    from: Checkpoint,
    send: Range<u64>,
    /// Of the latest attempt: a former one may still run for a moment.
    outcome: Mutex<SharedOutcome>,
}

impl Content {
    /// Where hashing begins.
    pub(super) fn start(&self) -> Checkpoint {
        Checkpoint { offset: 0, hasher: Hasher::new(self.digest.algorithm()) }
    }

    /// Judges the whole blob by the hash of all its bytes.
    fn judge(&self, hasher: Hasher) -> Result<(), Mismatch> {
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(Mismatch::Digest { expected: self.digest.clone(), found })
    }

    fn too_long(&self) -> Outcome {
        let digest = self.digest.clone();
        Outcome::Damaged(Mismatch::TooLong { digest, expected: self.size_bytes })
    }
}

impl Section {
    /// Sends the bytes of `send`, which ends behind `from` and does not begin in front of it.
    pub(super) fn new(content: Arc<Content>, from: Checkpoint, send: Range<u64>) -> Arc<Self> {
        Arc::new(Self { content, from, send, outcome: Mutex::default() })
    }

    /// The section as a body.
    pub(super) fn outgoing(self: &Arc<Self>) -> Arc<Outgoing> {
        let section = Arc::clone(self);
        Arc::new(Outgoing::new(self.send.end - self.send.start, move || section.pieces()))
    }

    /// What became of the latest attempt.
    pub(super) fn outcome(&self) -> Outcome {
        let latest = Arc::clone(&self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
        std::mem::take(&mut *latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pieces(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let outcome = SharedOutcome::default();
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&outcome);
        let reading = Reading {
            input: self.content.source.open(self.from.offset),
            content: Arc::clone(&self.content),
            at: self.from.clone(),
            send: self.send.clone(),
            withheld: Bytes::new(),
            outcome,
        };
        stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reading))),
                Ok(None) => None,
                Err(outcome) => {
                    reading.set(outcome);
                    Some((Err(io::Error::other("the source is of no use")), None))
                }
            }
        })
        .boxed()
    }
}

struct Reading {
    input: BoxStream<'static, io::Result<Bytes>>,
    content: Arc<Content>,
    at: Checkpoint,
    send: Range<u64>,
    withheld: Bytes,
    outcome: SharedOutcome,
}

impl Reading {
    fn set(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Outcome> {
        while self.at.offset < self.send.end {
            let piece = self.read().await?;
            let former = std::mem::replace(&mut self.withheld, piece);
            if !former.is_empty() {
                return Ok(Some(former));
            }
        }
        let last = std::mem::take(&mut self.withheld);
        if last.is_empty() {
            return Ok(None);
        }
        if self.send.end == self.content.size_bytes {
            self.expect_end().await?;
            self.content.judge(self.at.hasher.clone()).map_err(Outcome::Damaged)?;
        }
        self.set(Outcome::Sent(self.at.clone()));
        Ok(Some(last))
    }

    async fn pass_over(&mut self) -> Result<(), Outcome> {
        while self.at.offset < self.send.end {
            self.read().await?;
        }
        if self.send.end == self.content.size_bytes {
            self.expect_end().await?;
            self.content.judge(self.at.hasher.clone()).map_err(Outcome::Damaged)?;
        }
        Ok(())
    }

    /// Reads and hashes the next bytes, and gives those of them that are to be sent.
    async fn read(&mut self) -> Result<Bytes, Outcome> {
        let mut piece = match self.input.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(Outcome::Unreadable(error)),
            None => {
                let (digest, expected) = (self.content.digest.clone(), self.content.size_bytes);
                let found = self.at.offset;
                return Err(Outcome::Damaged(Mismatch::TooShort { digest, expected, found }));
            }
        };
        let length = piece.len() as u64;
        if self.at.offset + length > self.content.size_bytes {
            return Err(self.content.too_long());
        }
        let wanted = length.min(self.send.end - self.at.offset);
        let unsent = self.send.start.saturating_sub(self.at.offset).min(wanted);
        // Both are at most the piece's length, which is a `usize`.
        piece.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.at.hasher.update(&piece);
        self.at.offset += wanted;
        Ok(piece.split_off(usize::try_from(unsent).unwrap_or(usize::MAX)))
    }

    async fn expect_end(&mut self) -> Result<(), Outcome> {
        while let Some(piece) = self.input.next().await {
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(_) => return Err(self.content.too_long()),
                Err(error) => return Err(Outcome::Unreadable(error)),
            }
        }
        Ok(())
    }
}

/// Reads and hashes what an upload holds already, of which nothing is sent. Where that is all, the whole
/// blob is judged.
pub(super) async fn read_up_to(content: &Arc<Content>, end: u64) -> Outcome {
    let mut reading = Reading {
        input: content.source.open(0),
        content: Arc::clone(content),
        at: content.start(),
        send: end..end,
        withheld: Bytes::new(),
        outcome: SharedOutcome::default(),
    };
    match reading.pass_over().await {
        Ok(()) => Outcome::Sent(reading.at),
        Err(outcome) => outcome,
    }
}

/// Checks a blob without any bytes, for which no body is asked.
pub(super) async fn check_empty(content: &Arc<Content>) -> Outcome {
    let start = content.start();
    let input = content.source.open(0);
    let (content, outcome) = (Arc::clone(content), SharedOutcome::default());
    let mut reading =
        Reading { input, content, at: start.clone(), send: 0..0, withheld: Bytes::new(), outcome };
    if let Err(outcome) = reading.expect_end().await {
        return outcome;
    }
    match reading.content.judge(start.hasher.clone()) {
        Ok(()) => Outcome::Sent(start),
        Err(mismatch) => Outcome::Damaged(mismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(Vec<&'static [u8]>);

    impl BlobSource for Pieces {
        fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
            let all = self.0.concat();
            let from = usize::try_from(from_byte).expect("small").min(all.len());
            let mut rest = Bytes::from(all[from..].to_vec());
            let mut parts: Vec<io::Result<Bytes>> = Vec::new();
            for piece in &self.0 {
                parts.push(Ok(rest.split_to(piece.len().min(rest.len()))));
            }
            stream::iter(parts).boxed()
        }
    }

    async fn sent(
        pieces: Vec<&'static [u8]>,
        truth: &[u8],
        send: Range<u64>,
    ) -> (Vec<u8>, bool, Outcome) {
        let content = Content {
            source: Arc::new(Pieces(pieces)),
            digest: Digest::of(truth),
            size_bytes: truth.len() as u64,
        };
        let from = content.start();
        let section = Section::new(Arc::new(content), from, send);
        let (mut bytes, mut failed) = (Vec::new(), false);
        let mut stream = section.pieces();
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(_) => failed = true,
            }
        }
        (bytes, failed, section.outcome())
    }

    #[tokio::test]
    async fn right_bytes_are_sent_whole_and_in_parts() {
        for (send, expected) in
            [(0..9, "abcdefghi"), (0..4, "abcd"), (2..5, "cde"), (4..9, "efghi")]
        {
            let end = send.end;
            let (bytes, failed, outcome) =
                sent(vec![b"abc", b"", b"def", b"ghi"], b"abcdefghi", send).await;
            assert_eq!((bytes.as_slice(), failed), (expected.as_bytes(), false));
            assert!(matches!(outcome, Outcome::Sent(at) if at.offset == end), "{expected}");
        }
    }

    #[tokio::test]
    async fn wrong_bytes_never_come_out_whole() {
        for pieces in [
            vec![b"abc".as_slice(), b"dex"],
            vec![b"abc", b"de"],
            vec![b"abc", b"defg"],
            vec![b"abc", b"def", b"g"],
            vec![b"abcdefg"],
            vec![b"abcdex"],
            vec![],
        ] {
            let shown = format!("{pieces:?}");
            let (bytes, failed, outcome) = sent(pieces, b"abcdef", 0..6).await;
            assert!(failed && bytes.len() < 6, "{shown}");
            assert!(matches!(outcome, Outcome::Damaged(_)), "{shown}");
        }
    }

    #[tokio::test]
    async fn what_an_upload_holds_already_is_read_and_judged_where_it_is_all() {
        for (pieces, end, expected) in [
            (vec![b"abc".as_slice(), b"def"], 0, Some(0)),
            (vec![b"abc", b"def"], 4, Some(4)),
            (vec![b"abc", b"def"], 6, Some(6)),
            (vec![b"abc"], 4, None),
            (vec![b"abc", b"dex"], 6, None),
            (vec![b"abc", b"def", b"g"], 6, None),
        ] {
            let source = Arc::new(Pieces(pieces));
            let digest = Digest::of(b"abcdef");
            let content = Arc::new(Content { source, digest, size_bytes: 6 });
            let found = match read_up_to(&content, end).await {
                Outcome::Sent(at) => Some(at.offset),
                _ => None,
            };
            assert_eq!(found, expected, "{end}");
        }
    }

    #[tokio::test]
    async fn an_empty_blob_is_checked_too() {
        for (pieces, digest, right) in [
            (vec![], Digest::of(b""), true),
            (vec![b"".as_slice()], Digest::of(b""), true),
            (vec![b"a".as_slice()], Digest::of(b""), false),
            (vec![], Digest::of(b"a"), false),
        ] {
            let source = Arc::new(Pieces(pieces));
            let content = Arc::new(Content { source, digest, size_bytes: 0 });
            let outcome = check_empty(&content).await;
            assert_eq!(matches!(outcome, Outcome::Sent(_)), right);
        }
    }
}
