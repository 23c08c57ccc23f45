//! The sequential writer of what is saved: has each blob checked beside writing it, and ends only when
//! everything is there.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::digest::Mismatch;
use crate::fetch::{Checker, NewEntry, Parts, Piece};
use crate::manifest::Descriptor;
use crate::progress::{Arrival, Event, Reporter};

use super::origin::Blame;

/// A blob that is written, and who is to blame if it is another.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) blob: Descriptor,
    pub(crate) blame: Blame,
}

/// Where contents go, one after the other.
pub(super) trait Sink: Send {
    /// A blob begins.
    fn begin(&mut self, blob: &Descriptor) -> anyhow::Result<()>;
    /// Its next bytes, never more than it has.
    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()>;
    /// It ends, and is what its digest says.
    fn end(&mut self, blob: &Descriptor) -> anyhow::Result<()>;
    /// Everything is there.
    fn complete(&mut self) -> anyhow::Result<()>;
}

/// The pieces ended early: whoever sent them knows why.
#[derive(Debug, thiserror::Error)]
#[error("saving was abandoned")]
pub(crate) struct Abandoned;

/// Writes the pieces to `sink`. Blocks: for a thread of its own.
///
/// # Errors
/// When the sink cannot be written, when a blob is not what its digest says, or when the pieces end before
/// [`Piece::Complete`].
pub(super) fn write(
    sink: &mut dyn Sink,
    mut pieces: mpsc::Receiver<Piece>,
    contents: &[Content],
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let checker = Checker::start(scope);
        let mut open: Option<Open<'_>> = None;
        while let Some(piece) = pieces.blocking_recv() {
            match (piece, &mut open) {
                (Piece::Begin(entry), None) => {
                    let content = contents.get(entry.content).context(OUT_OF_ORDER)?;
                    checker.begin(entry.digest.clone(), entry.size_bytes, Parts::One);
                    sink.begin(&content.blob)?;
                    let left_bytes = entry.size_bytes;
                    open = Some(Open { entry, content, left_bytes });
                }
                (Piece::Bytes(pieces) | Piece::Kept(pieces), Some(open)) => {
                    take(sink, open, pieces, &checker)?;
                }
                (Piece::End, Some(ended)) => {
                    checker.end()?.map_err(|mismatch| ended.wrong(mismatch))?;
                    sink.end(&ended.content.blob)?;
                    let digest = ended.entry.blob.clone();
                    reporter.report(Event::BlobFinished { digest, how: Arrival::Saved });
                    open = None;
                }
                (Piece::Complete, None) => return sink.complete(),
                _ => anyhow::bail!(OUT_OF_ORDER),
            }
        }
        Err(Abandoned.into())
    })
}

const OUT_OF_ORDER: &str = "the pieces of what is saved came out of order";

struct Open<'a> {
    entry: NewEntry,
    content: &'a Content,
    left_bytes: u64,
}

impl Open<'_> {
    fn wrong(&self, mismatch: Mismatch) -> anyhow::Error {
        let error = self.content.blame.error(&self.content.blob, mismatch);
        error.context(format!("cannot save image `{}`", self.entry.image))
    }
}

fn take(
    sink: &mut dyn Sink,
    open: &mut Open<'_>,
    pieces: Vec<Bytes>,
    checker: &Checker,
) -> anyhow::Result<()> {
    checker.take(pieces.clone());
    for bytes in pieces {
        if bytes.len() as u64 > open.left_bytes {
            // More than was promised: the checker says so.
            let verdict = checker.end()?;
            return Err(verdict.err().map_or_else(|| Abandoned.into(), |it| open.wrong(it)));
        }
        sink.put(&bytes)?;
        open.left_bytes -= bytes.len() as u64;
    }
    Ok(())
}
