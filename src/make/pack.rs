//! The sequential writer of a payload: has each blob checked beside writing it, and puts the payload
//! in place only when everything is in it.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::failure::FromRegistry;
use crate::payload::Writer;
use crate::progress::{Arrival, Event, Reporter};

use super::check::Checker;
use super::entries::Entries;
use super::output::Output;

/// What comes next in the payload.
pub(super) enum Piece {
    /// A whole small entry.
    Small { entry: String, bytes: Bytes },
    /// A large entry begins.
    Begin(NewEntry),
    /// The next bytes of the entry.
    Bytes(Vec<Bytes>),
    /// The entry ends.
    End,
    /// Everything is there; nothing comes after this.
    Complete,
}

/// A large entry: a blob as it is, or the delta that rebuilds it.
#[derive(Clone, Debug)]
pub(super) struct NewEntry {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    /// The digest of the entry's bytes.
    pub(super) digest: Digest,
    /// The blob that it brings.
    pub(super) blob: Digest,
    /// The image that this is carried for.
    pub(super) image: String,
}

/// An entry that is being written.
struct Open {
    entry: NewEntry,
    /// How many bytes are still to come.
    left_bytes: u64,
}

/// Writes the pieces to `output` and commits it; `entries` names the
/// entries and makes the last ones out of all others. Blocks: for a thread of its own.
///
/// # Errors
/// When the output cannot be written, when a blob is not what its digest says, or when the pieces
/// end before [`Piece::Complete`]. The output is then left as it is and not committed.
pub(super) fn write_payload(
    output: Output,
    pieces: mpsc::Receiver<Piece>,
    entries: &Entries,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let cannot_write = "cannot write the payload";
    let mut writer = Writer::new(output);
    std::thread::scope(|scope| {
        let checker = Checker::start(scope);
        write_pieces(&mut writer, pieces, &checker, reporter)
    })?;
    for (entry, bytes) in entries.last(writer.entries())? {
        writer.add(&entry, &bytes).context(cannot_write)?;
    }
    let output = writer.finish().context(cannot_write)?;
    output.commit()
}

fn write_pieces(
    writer: &mut Writer<Output>,
    mut pieces: mpsc::Receiver<Piece>,
    checker: &Checker,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let cannot_write = "cannot write the payload";
    let mut open: Option<Open> = None;
    while let Some(piece) = pieces.blocking_recv() {
        match (piece, open.as_mut()) {
            (Piece::Small { entry, bytes }, None) => {
                writer.add(&entry, &bytes).context(cannot_write)?;
            }
            (Piece::Begin(entry), None) => {
                writer.begin(&entry.name, entry.size_bytes).context(cannot_write)?;
                checker.begin(entry.digest.clone(), entry.size_bytes);
                open = Some(Open { left_bytes: entry.size_bytes, entry });
            }
            (Piece::Bytes(pieces), Some(open)) => {
                let length: usize = pieces.iter().map(Bytes::len).sum();
                checker.take(pieces.clone());
                let Some(left_bytes) = open.left_bytes.checked_sub(length as u64) else {
                    return Err(verdict(checker, open).err().unwrap_or_else(|| OutOfOrder.into()));
                };
                open.left_bytes = left_bytes;
                for bytes in pieces {
                    writer.write(&bytes).context(cannot_write)?;
                }
            }
            (Piece::End, Some(ended)) => {
                writer.end(verdict(checker, ended)?).context(cannot_write)?;
                let digest = ended.entry.blob.clone();
                reporter.report(Event::BlobFinished { digest, how: Arrival::Packed });
                open = None;
            }
            (Piece::Complete, None) => return Ok(()),
            _ => return Err(OutOfOrder.into()),
        }
    }
    Err(Abandoned.into())
}

/// The SHA-256 of the entry, if it is what its digest says.
fn verdict(checker: &Checker, open: &Open) -> anyhow::Result<String> {
    checker.end()?.map_err(|mismatch| {
        let context = format!("cannot carry image `{}`", open.entry.image);
        anyhow::Error::new(FromRegistry(mismatch)).context(context)
    })
}

/// Pieces that make no payload.
#[derive(Debug, thiserror::Error)]
#[error("the pieces of the payload came out of order")]
struct OutOfOrder;

/// The pieces ended early: whoever sent them knows why.
#[derive(Debug, thiserror::Error)]
#[error("the payload was not completed")]
pub(super) struct Abandoned;
