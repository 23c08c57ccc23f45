//! The sequential writer of a payload: has each blob checked beside writing it, goes from volume to
//! volume, and puts the payload in place only when everything is in it.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::failure::FromRegistry;
use crate::fetch::{Checker, NewEntry, Parts, Piece};
use crate::payload::Writer;
use crate::progress::{Arrival, Event, Reporter};

use super::entries::{Content, Entries, Part};
use super::output::{Output, Written};
use super::outputs::Outputs;

const CANNOT_WRITE: &str = "cannot write the payload";

/// What a former run wrote and what it took up again are not the blob that was expected.
#[derive(Debug, thiserror::Error)]
#[error("what a former run wrote of blob `{blob}` does not fit")]
pub(super) struct DamagedKept {
    blob: Digest,
    /// The volume in which it begins.
    pub(super) volume: usize,
    /// Where its entry begins there.
    pub(super) header_start: u64,
}

/// A content that is being written.
struct Open<'a> {
    entry: NewEntry,
    content: &'a Content,
    /// Which of its parts.
    part: usize,
    /// How many bytes of the part are still to come.
    left_bytes: u64,
    has_kept: bool,
}

/// Whether bytes go into the output or stand there already.
#[derive(Clone, Copy)]
enum Put {
    Write,
    Keep,
}

/// Writes the pieces to `outputs`; `entries` names the entries and makes the last one of each volume out
/// of all others. Blocks: for a thread of its own.
///
/// # Errors
/// When an output cannot be written, when a blob is not what its digest says, or when the pieces
/// end before [`Piece::Complete`]. The outputs are then left as they are and not committed.
pub(super) fn write_payload(
    outputs: &Outputs,
    pieces: mpsc::Receiver<Piece>,
    entries: &Entries,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<Vec<Written>> {
    let mut volumes = Volumes { outputs, entries, open: None, next: 0, written: Vec::new() };
    std::thread::scope(|scope| {
        let checker = Checker::start(scope);
        write_pieces(&mut volumes, pieces, &checker, reporter)
    })?;
    volumes.finish()
}

fn write_pieces(
    volumes: &mut Volumes<'_>,
    mut pieces: mpsc::Receiver<Piece>,
    checker: &Checker,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let mut open: Option<Open<'_>> = None;
    while let Some(piece) = pieces.blocking_recv() {
        match (piece, &mut open) {
            (Piece::Begin(entry), None) => open = Some(begin(volumes, entry, checker)?),
            (Piece::Bytes(pieces), Some(open)) => {
                take(volumes, open, pieces, Put::Write, checker)?;
            }
            (Piece::Kept(pieces), Some(open)) => take(volumes, open, pieces, Put::Keep, checker)?,
            (Piece::End, Some(ended)) => {
                end(volumes, ended, checker)?;
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

fn begin<'a>(
    volumes: &mut Volumes<'a>,
    entry: NewEntry,
    checker: &Checker,
) -> anyhow::Result<Open<'a>> {
    let content = volumes.entries.contents().get(entry.content).ok_or(OutOfOrder)?;
    let parts = if content.parts.len() == 1 { Parts::One } else { Parts::Several };
    checker.begin(entry.digest.clone(), entry.size_bytes, parts);
    let left_bytes = volumes.begin(&content.parts[0])?;
    Ok(Open { entry, content, part: 0, left_bytes, has_kept: false })
}

fn take(
    volumes: &mut Volumes<'_>,
    open: &mut Open<'_>,
    mut pieces: Vec<Bytes>,
    put: Put,
    checker: &Checker,
) -> anyhow::Result<()> {
    open.has_kept |= matches!(put, Put::Keep);
    loop {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let is_last = open.part + 1 == open.content.parts.len();
        if length as u64 > open.left_bytes && is_last {
            // More than was promised: the checker says so.
            checker.take(pieces);
            return Err(verdict(checker, open).err().unwrap_or_else(|| OutOfOrder.into()));
        }
        let (now, later) = divide(pieces, open.left_bytes);
        checker.take(now.clone());
        for bytes in &now {
            volumes.put(bytes, put)?;
            open.left_bytes -= bytes.len() as u64;
        }
        if later.is_empty() {
            return Ok(());
        }
        volumes.end(checker.end_part()??)?;
        open.part += 1;
        open.left_bytes = volumes.begin(&open.content.parts[open.part])?;
        pieces = later;
    }
}

/// The first `bytes` of `pieces`, and the rest.
fn divide(pieces: Vec<Bytes>, bytes: u64) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut now, mut later) = (Vec::with_capacity(pieces.len()), Vec::new());
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    for mut piece in pieces {
        let first = piece.split_to(left.min(piece.len()));
        left -= first.len();
        now.push(first);
        if !piece.is_empty() {
            later.push(piece);
        }
    }
    (now, later)
}

fn end(volumes: &mut Volumes<'_>, open: &Open<'_>, checker: &Checker) -> anyhow::Result<()> {
    let is_split = open.content.parts.len() > 1;
    let part = if is_split { Some(checker.end_part()??) } else { None };
    let whole = verdict(checker, open)?;
    volumes.end(part.unwrap_or(whole))
}

/// The SHA-256 of the content, if it is what its digest says.
fn verdict(checker: &Checker, open: &Open<'_>) -> anyhow::Result<String> {
    checker.end()?.map_err(|mismatch| {
        let blob = open.entry.blob.clone();
        let first = &open.content.parts[0];
        if open.has_kept {
            return DamagedKept { blob, volume: first.volume, header_start: first.header_start }
                .into();
        }
        let context = format!("cannot carry image `{}`", open.entry.image);
        anyhow::Error::new(FromRegistry(mismatch)).context(context)
    })
}

/// The volumes of the payload, one after the other.
struct Volumes<'a> {
    outputs: &'a Outputs,
    entries: &'a Entries,
    open: Option<Writer<Output>>,
    /// The volume after the one that is open.
    next: usize,
    written: Vec<Written>,
}

impl Volumes<'_> {
    /// Begins an entry, in a new volume if it belongs there.
    fn begin(&mut self, part: &Part) -> anyhow::Result<u64> {
        while self.next <= part.volume {
            self.open_next()?;
        }
        self.writer()?.begin(&part.name, part.size_bytes).context(CANNOT_WRITE)?;
        Ok(part.size_bytes)
    }

    fn put(&mut self, bytes: &Bytes, put: Put) -> anyhow::Result<()> {
        let writer = self.writer()?;
        match put {
            Put::Write => writer.write(bytes),
            Put::Keep => writer.keep_written(bytes),
        }
        .context(CANNOT_WRITE)
    }

    fn end(&mut self, sha256: String) -> anyhow::Result<()> {
        self.writer()?.end(sha256).context(CANNOT_WRITE)
    }

    fn writer(&mut self) -> anyhow::Result<&mut Writer<Output>> {
        self.open.as_mut().ok_or_else(|| OutOfOrder.into())
    }

    fn open_next(&mut self) -> anyhow::Result<()> {
        self.close()?;
        let mut writer = Writer::new(self.outputs.open(self.next)?);
        for (entry, bytes) in self.entries.before() {
            writer.add(entry, bytes).context(CANNOT_WRITE)?;
        }
        self.open = Some(writer);
        self.next += 1;
        Ok(())
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(mut writer) = self.open.take() else { return Ok(()) };
        for (entry, bytes) in self.entries.after() {
            writer.add(entry, bytes).context(CANNOT_WRITE)?;
        }
        for (entry, bytes) in self.entries.last(self.next - 1, writer.entries())? {
            writer.add(&entry, &bytes).context(CANNOT_WRITE)?;
        }
        let output = writer.finish().context(CANNOT_WRITE)?;
        self.written.push(output.finish()?);
        Ok(())
    }

    /// Ends the last volume. Those that hold nothing but manifests are written too.
    fn finish(mut self) -> anyhow::Result<Vec<Written>> {
        while self.next < self.entries.lengths().len() {
            self.open_next()?;
        }
        self.close()?;
        Ok(self.written)
    }
}

/// Pieces that make no payload.
#[derive(Debug, thiserror::Error)]
#[error("the pieces of the payload came out of order")]
struct OutOfOrder;

/// The pieces ended early: whoever sent them knows why.
#[derive(Debug, thiserror::Error)]
#[error("the payload was not completed")]
pub(super) struct Abandoned;
