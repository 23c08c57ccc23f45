//! Rebuilds plain bytes from a delta and the spooled needs.
//!
//! Frames stand in the delta in the order of their numbers, pieces use them in any order: so all frames
//! are unpacked into a temporary file first, one at a time, and the pieces are read from there.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;

use crate::digest::{Algorithm, Hasher};
use crate::window::read_exact_at;

use super::codec;
use super::diff;
use super::error::DeltaError;
use super::needs::Needs;
use super::spool::Spool;
use super::table::{self, Frame, FrameKind, Head, Piece};

/// How many bytes of a piece are handled at a time.
const STEP_BYTES: usize = 128 << 10;

/// Reads what `delta` needs and promises, from its start; nothing behind the need table is read.
///
/// # Errors
/// [`DeltaError`] where this is no sound delta.
pub fn read_needs(delta: &mut impl Read) -> Result<Needs, DeltaError> {
    table::read_needs(delta)
}

/// Writes the plain bytes that `delta` was made from to `out`, given a full `spool`.
///
/// `delta` is read from its start to its end. Memory stays below 128 MiB; `workdir` takes one unnamed
/// temporary file of at most the output's size. What was written is worth nothing before `Ok`.
///
/// # Errors
/// [`DeltaError`] where the delta is unsound, the spool is another delta's or not full, a file fails, or
/// the result is not what the delta promises.
pub fn apply(
    delta: &mut impl Read,
    spool: &Spool,
    workdir: &Path,
    out: &mut impl Write,
) -> Result<(), DeltaError> {
    let head = table::read(delta)?;
    if head.needs != *spool.needs() {
        return Err(DeltaError::OtherNeeds);
    }
    spool.check_complete()?;
    let frames = UnpackedFrames::unpack(delta, &head, spool, workdir)?;
    expect_end(delta)?;
    write_pieces(&head, spool, frames, out)
}

/// All frames' bytes, one behind the other.
struct UnpackedFrames {
    file: File,
    /// Where the next unused byte of each frame lies.
    cursors: Vec<u64>,
}

impl UnpackedFrames {
    fn unpack(
        delta: &mut impl Read,
        head: &Head,
        spool: &Spool,
        workdir: &Path,
    ) -> Result<Self, DeltaError> {
        let mut file = tempfile::tempfile_in(workdir).map_err(DeltaError::Workdir)?;
        let mut cursors = Vec::with_capacity(head.frames.len());
        let mut end = 0;
        for frame in &head.frames {
            let packed = table::read_bytes("frames", delta, frame.packed_bytes)?;
            let prefix = read_prefix(spool, &frame.prefix)?;
            let bytes = unpack_frame(frame, &packed, &prefix)?;
            file.write_all(&bytes).map_err(DeltaError::Workdir)?;
            cursors.push(end);
            end += bytes.len() as u64;
        }
        Ok(Self { file, cursors })
    }
}

fn read_prefix(spool: &Spool, ranges: &[Range<u64>]) -> Result<Vec<u8>, DeltaError> {
    let mut prefix = Vec::new();
    for range in ranges {
        let start = prefix.len();
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        prefix.resize(start + length, 0);
        spool.read_at(range.start, &mut prefix[start..])?;
    }
    Ok(prefix)
}

fn unpack_frame(frame: &Frame, packed: &[u8], prefix: &[u8]) -> Result<Vec<u8>, DeltaError> {
    match frame.kind {
        FrameKind::Zstd => codec::unpack("frames", packed, prefix, frame.size_bytes),
        FrameKind::Diff => diff::unpack(packed, prefix, frame.size_bytes),
    }
}

fn expect_end(delta: &mut impl Read) -> Result<(), DeltaError> {
    match table::read_bytes("end", delta, 1) {
        Err(DeltaError::Truncated { .. }) => Ok(()),
        Ok(_) => Err(DeltaError::Trailing),
        Err(error) => Err(error),
    }
}

fn write_pieces(
    head: &Head,
    spool: &Spool,
    mut frames: UnpackedFrames,
    out: &mut impl Write,
) -> Result<(), DeltaError> {
    let mut out = std::io::BufWriter::with_capacity(STEP_BYTES, out);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; STEP_BYTES];
    let mut pieces = head.pieces.walk()?;
    while let Some(piece) = pieces.next()? {
        let mut left = piece.length();
        while left > 0 {
            let count = usize::try_from(left).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
            let bytes = &mut buffer[..count];
            match piece {
                Piece::Copy { offset, length } => spool.read_at(offset + (length - left), bytes)?,
                Piece::Frame { index, .. } => {
                    let cursor = &mut frames.cursors[index];
                    read_exact_at(&frames.file, *cursor, bytes).map_err(DeltaError::Workdir)?;
                    *cursor += count as u64;
                }
            }
            hasher.update(bytes);
            out.write_all(bytes).map_err(DeltaError::Write)?;
            left -= count as u64;
        }
    }
    out.flush().map_err(DeltaError::Write)?;
    let found = hasher.finish();
    let expected = head.needs.output_digest.clone();
    if found == expected { Ok(()) } else { Err(DeltaError::Output { expected, found }) }
}
