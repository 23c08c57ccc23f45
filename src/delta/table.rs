//! The head of a delta: magic, promise, need table, frame table, piece table. See `docs/deltas.md`.

use std::io::Read;
use std::ops::Range;

use super::codec::{self, Reach, Settings};
use super::error::{DeltaError, at_most};
use super::needs::{self, BlobNeeds, MAX_PLAIN_BYTES, Needs};
use super::varint::{self, Numbers, put, put_step};

/// The first bytes of a delta; the high bit keeps it from being taken for text.
const MAGIC: [u8; 7] = *b"\x89KDELTA";
/// The version of the format that is written and read.
pub const VERSION: u8 = 1;

/// The most bytes that one frame gives. With [`MAX_PREFIX_BYTES`] it bounds the far side's memory.
pub const MAX_FRAME_BYTES: usize = 24 << 20;
/// The most need bytes that one frame is coded against.
pub const MAX_PREFIX_BYTES: usize = 32 << 20;
/// The most frames in one delta: at the least 4 KiB a frame on average in a layer of 1 GiB.
pub const MAX_FRAMES: usize = 1 << 18;
/// The most prefix ranges of all frames together; 16 bytes each in memory.
pub const MAX_PREFIX_RANGES: usize = 1 << 19;
/// The most bytes of one table, unpacked.
pub const MAX_TABLE_BYTES: usize = 16 << 20;

/// How a frame's bytes are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// One zstd frame with the frame's need ranges as its prefix.
    Zstd,
    /// Differences to the frame's need ranges, see [`diff`](super::diff).
    Diff,
}

/// One frame as the table describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: FrameKind,
    /// How many bytes it gives, at least one.
    pub size_bytes: usize,
    /// How many bytes it takes in the delta.
    pub packed_bytes: usize,
    /// What it is coded against, as ranges of the need space.
    pub prefix: Vec<Range<u64>>,
}

/// Where the next bytes of the output come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes of the need space from this offset on.
    Copy { offset: u64, length: u64 },
    /// The next so many bytes of this frame.
    Frame { index: usize, length: u64 },
}

impl Piece {
    pub(super) fn length(self) -> u64 {
        match self {
            Self::Copy { length, .. } | Self::Frame { length, .. } => length,
        }
    }
}

/// Everything before the frames' own bytes.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub needs: Needs,
    pub frames: Vec<Frame>,
    pub pieces: PieceTable,
}

/// The piece table, kept as it was written: three columns of numbers.
#[derive(Clone, Debug)]
pub(super) struct PieceTable(Vec<u8>);

const PIECES: &str = "piece table";

impl PieceTable {
    /// The pieces in output order.
    pub(super) fn walk(&self) -> Result<Pieces<'_>, DeltaError> {
        let mut sources = Numbers::new(PIECES, &self.0);
        let left = sources.number()?;
        let mut lengths = sources.clone();
        lengths.skip(left)?;
        let mut offsets = lengths.clone();
        offsets.skip(left)?;
        Ok(Pieces { left, sources, lengths, offsets, end: 0 })
    }

    /// Checks every piece against the needs, the frames and the promised size.
    fn check(&self, needs: &Needs, frames: &[Frame]) -> Result<(), DeltaError> {
        let invalid = |expected| DeltaError::Invalid { part: PIECES, expected };
        let space = needs.size_bytes();
        let mut used = vec![0u64; frames.len()];
        let mut total = 0u64;
        let mut pieces = self.walk()?;
        while let Some(piece) = pieces.next()? {
            at_most("piece", piece.length(), needs.output_bytes - total)?;
            total += piece.length();
            match piece {
                Piece::Copy { offset, length } => {
                    if offset.checked_add(length).is_none_or(|end| end > space) {
                        return Err(invalid("copies inside the needs"));
                    }
                }
                Piece::Frame { index, length } => {
                    *used.get_mut(index).ok_or(invalid("frames that exist"))? += length;
                }
            }
        }
        pieces.offsets.finish()?;
        if total != needs.output_bytes {
            return Err(invalid("pieces that give the promised size"));
        }
        if used.iter().zip(frames).any(|(used, frame)| *used != frame.size_bytes as u64) {
            return Err(invalid("every frame to be used up"));
        }
        Ok(())
    }
}

/// Walks over a [`PieceTable`].
pub(super) struct Pieces<'a> {
    left: u64,
    sources: Numbers<'a>,
    lengths: Numbers<'a>,
    offsets: Numbers<'a>,
    /// Where the last copy ended; the next one is written as the step from there.
    end: u64,
}

impl Pieces<'_> {
    /// The next piece, until there is none.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, DeltaError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let source = self.sources.number()?;
        let length = self.lengths.number()?;
        if length == 0 {
            return Err(DeltaError::Invalid { part: PIECES, expected: "pieces with bytes" });
        }
        at_most("piece", length, MAX_PLAIN_BYTES)?;
        if source > 0 {
            let index = varint::bounded("frame number", source - 1, MAX_FRAMES)?;
            return Ok(Some(Piece::Frame { index, length }));
        }
        let offset = self.offsets.step(self.end)?;
        at_most("copy offset", offset, MAX_PLAIN_BYTES)?;
        self.end = offset + length;
        Ok(Some(Piece::Copy { offset, length }))
    }
}

/// Writes the head.
///
/// # Errors
/// [`DeltaError::Limit`] where a table is too large for the format.
pub(super) fn encode(
    needs: &Needs,
    frames: &[Frame],
    pieces: &[Piece],
) -> Result<Vec<u8>, DeltaError> {
    at_most("frames", frames.len() as u64, MAX_FRAMES as u64)?;
    let ranges: usize = frames.iter().map(|frame| frame.prefix.len()).sum();
    at_most("prefix ranges", ranges as u64, MAX_PREFIX_RANGES as u64)?;
    let ranges: usize = needs.blobs.iter().map(|blob| blob.ranges.len()).sum();
    at_most("need ranges", ranges as u64, needs::MAX_RANGES as u64)?;
    at_most("baseline blobs", needs.blobs.len() as u64, needs::MAX_BLOBS as u64)?;
    let mut head = MAGIC.to_vec();
    head.push(VERSION);
    put(&mut head, needs.output_bytes);
    head.extend(needs::from_hex(needs.output_digest.hex()));
    put_table(&mut head, "need table", &needs::encode(&needs.blobs))?;
    put_table(&mut head, "frame table", &encode_frames(frames))?;
    put_table(&mut head, PIECES, &encode_pieces(pieces))?;
    Ok(head)
}

fn put_table(head: &mut Vec<u8>, what: &'static str, table: &[u8]) -> Result<(), DeltaError> {
    at_most(what, table.len() as u64, MAX_TABLE_BYTES as u64)?;
    let packed = codec::pack(table, &[], Settings { level: 19, reach: Reach::Level });
    put(head, table.len() as u64);
    put(head, packed.len() as u64);
    head.extend(packed);
    Ok(())
}

fn encode_frames(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, frames.len() as u64);
    for frame in frames {
        bytes.push(match frame.kind {
            FrameKind::Zstd => 1,
            FrameKind::Diff => 2,
        });
        put(&mut bytes, frame.size_bytes as u64);
        put(&mut bytes, frame.packed_bytes as u64);
        put(&mut bytes, frame.prefix.len() as u64);
        let mut end = 0;
        for range in &frame.prefix {
            put_step(&mut bytes, end, range.start);
            put(&mut bytes, range.end - range.start);
            end = range.end;
        }
    }
    bytes
}

fn encode_pieces(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, pieces.len() as u64);
    for piece in pieces {
        match piece {
            Piece::Copy { .. } => put(&mut bytes, 0),
            Piece::Frame { index, .. } => put(&mut bytes, *index as u64 + 1),
        }
    }
    for piece in pieces {
        put(&mut bytes, piece.length());
    }
    let mut end = 0;
    for piece in pieces {
        if let Piece::Copy { offset, length } = *piece {
            put_step(&mut bytes, end, offset);
            end = offset + length;
        }
    }
    bytes
}

/// Reads magic, promise and need table, and nothing behind them.
pub(super) fn read_needs(delta: &mut impl Read) -> Result<Needs, DeltaError> {
    let mut start = [0; MAGIC.len() + 1];
    read_exact("start", delta, &mut start)?;
    if start[..MAGIC.len()] != MAGIC {
        return Err(DeltaError::Magic);
    }
    if start[MAGIC.len()] != VERSION {
        return Err(DeltaError::Version { expected: VERSION, found: start[MAGIC.len()] });
    }
    let output_bytes = read_number("start", delta)?;
    at_most("output", output_bytes, MAX_PLAIN_BYTES)?;
    let mut digest = [0; 32];
    read_exact("start", delta, &mut digest)?;
    let output_digest = needs::digest_of("sha256", &digest)?;
    let blobs: Vec<BlobNeeds> = needs::decode(&read_table("need table", delta)?)?;
    Ok(Needs { output_bytes, output_digest, blobs })
}

/// Reads the whole head and checks its parts against each other.
pub(super) fn read(delta: &mut impl Read) -> Result<Head, DeltaError> {
    let needs = read_needs(delta)?;
    let frames = decode_frames(&needs, &read_table("frame table", delta)?)?;
    let pieces = PieceTable(read_table(PIECES, delta)?);
    pieces.check(&needs, &frames)?;
    Ok(Head { needs, frames, pieces })
}

fn decode_frames(needs: &Needs, bytes: &[u8]) -> Result<Vec<Frame>, DeltaError> {
    const PART: &str = "frame table";
    let mut numbers = Numbers::new(PART, bytes);
    let count = numbers.size("frames", MAX_FRAMES)?;
    let mut frames = Vec::new();
    let mut ranges_left = MAX_PREFIX_RANGES;
    let mut bytes_left = needs.output_bytes;
    for _ in 0..count {
        let kind = match numbers.byte()? {
            1 => FrameKind::Zstd,
            2 => FrameKind::Diff,
            _ => return Err(DeltaError::Invalid { part: PART, expected: "a known kind of frame" }),
        };
        let size_bytes = numbers.size("frame", MAX_FRAME_BYTES)?;
        at_most("all frames", size_bytes as u64, bytes_left)?;
        bytes_left -= size_bytes as u64;
        let packed_bytes = numbers.size("packed frame", packed_limit(size_bytes))?;
        let count = numbers.size("prefix ranges", ranges_left)?;
        ranges_left -= count;
        let prefix = decode_prefix(&mut numbers, count, needs.size_bytes())?;
        frames.push(Frame { kind, size_bytes, packed_bytes, prefix });
    }
    numbers.finish()?;
    Ok(frames)
}

fn decode_prefix(
    numbers: &mut Numbers<'_>,
    count: usize,
    space_bytes: u64,
) -> Result<Vec<Range<u64>>, DeltaError> {
    let mut prefix = Vec::new();
    let mut bytes_left = MAX_PREFIX_BYTES;
    let mut end = 0;
    for _ in 0..count {
        let start = numbers.step(end)?;
        let length = numbers.size("prefix", bytes_left)?;
        bytes_left -= length;
        end = start.saturating_add(length as u64);
        at_most("end of a prefix range", end, space_bytes)?;
        prefix.push(start..end);
    }
    Ok(prefix)
}

/// The most that a frame of `size_bytes` may take: content that zstd leaves as it is, and its headers.
pub(super) fn packed_limit(size_bytes: usize) -> usize {
    size_bytes + size_bytes / 64 + 4096
}

fn read_table(part: &'static str, delta: &mut impl Read) -> Result<Vec<u8>, DeltaError> {
    let size = varint::bounded(part, read_number(part, delta)?, MAX_TABLE_BYTES)?;
    let limit = packed_limit(size);
    let packed = varint::bounded(part, read_number(part, delta)?, limit)?;
    let packed = read_bytes(part, delta, packed)?;
    codec::unpack(part, &packed, &[], size)
}

fn read_number(part: &'static str, delta: &mut impl Read) -> Result<u64, DeltaError> {
    varint::decode(part, || {
        let mut byte = [0];
        read_exact(part, delta, &mut byte)?;
        Ok(byte[0])
    })
}

/// The next `count` bytes; memory grows only as they come.
pub(super) fn read_bytes(
    part: &'static str,
    delta: &mut impl Read,
    count: usize,
) -> Result<Vec<u8>, DeltaError> {
    let mut bytes = Vec::new();
    delta.take(count as u64).read_to_end(&mut bytes).map_err(DeltaError::Read)?;
    if bytes.len() < count { Err(DeltaError::Truncated { part }) } else { Ok(bytes) }
}

fn read_exact(
    part: &'static str,
    delta: &mut impl Read,
    buffer: &mut [u8],
) -> Result<(), DeltaError> {
    delta.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => DeltaError::Truncated { part },
        _ => DeltaError::Read(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn frame(size_bytes: usize, prefix: &[Range<u64>]) -> Frame {
        Frame { kind: FrameKind::Zstd, size_bytes, packed_bytes: 9, prefix: prefix.to_vec() }
    }

    fn copy(offset: u64, length: u64) -> Piece {
        Piece::Copy { offset, length }
    }

    fn part(index: usize, length: u64) -> Piece {
        Piece::Frame { index, length }
    }

    /// Writes a head over 100 need bytes, and reads it again.
    fn read_back(size: u64, frames: &[Frame], pieces: &[Piece]) -> Result<Head, DeltaError> {
        let blob = BlobNeeds { digest: Digest::of(b"old"), ranges: vec![0..60, 70..110] };
        let output_digest = Digest::of(b"new");
        let needs = Needs { output_bytes: size, output_digest, blobs: vec![blob] };
        let head = encode(&needs, frames, pieces).expect("small tables");
        read(&mut &head[..])
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        let frames = [frame(30, &[10..20, 0..100]), frame(5, &[])];
        let pieces = [part(0, 10), copy(90, 10), part(1, 5), copy(0, 1), part(0, 20)];
        let head = read_back(46, &frames, &pieces).expect("sound");
        assert_eq!(head.frames, frames);
        let mut walk = head.pieces.walk().expect("sound");
        for piece in pieces {
            assert_eq!(walk.next().expect("sound"), Some(piece));
        }
        assert_eq!(walk.next().expect("sound"), None);
    }

    #[test]
    fn heads_that_contradict_themselves_are_refused() {
        let huge = MAX_FRAME_BYTES + 1;
        let long = u64::MAX >> 1;
        for (name, size, frames, pieces) in [
            ("copy beyond the needs", 11, vec![], vec![copy(90, 11)]),
            ("copy from far away", 1, vec![], vec![copy(1 << 50, 1)]),
            ("endless copy", 10, vec![], vec![copy(0, long)]),
            ("piece without bytes", 1, vec![], vec![copy(0, 0), copy(0, 1)]),
            ("less than promised", 10, vec![], vec![copy(0, 9)]),
            ("more than promised", 10, vec![], vec![copy(0, 9), copy(0, 2)]),
            ("more than anybody has", MAX_PLAIN_BYTES + 1, vec![], vec![]),
            ("no such frame", 5, vec![frame(5, &[])], vec![part(1, 5)]),
            ("frame not used up", 5, vec![frame(5, &[])], vec![part(0, 4), copy(0, 1)]),
            ("frame used twice", 10, vec![frame(5, &[])], vec![part(0, 5), part(0, 5)]),
            ("frames above the output", 5, vec![frame(6, &[])], vec![copy(0, 5)]),
            ("frame too large", huge as u64, vec![frame(huge, &[])], vec![part(0, huge as u64)]),
            (
                "prefix outside",
                5,
                vec![frame(5, std::slice::from_ref(&(90..101)))],
                vec![part(0, 5)],
            ),
        ] {
            assert!(read_back(size, &frames, &pieces).is_err(), "{name} was taken");
        }
    }
}
