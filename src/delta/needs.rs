//! The need table: which ranges of which baseline blobs' plain bytes a delta refers to.
//!
//! All ranges one behind the other, in the table's order, are the *need space*; the rest of a delta
//! knows only offsets in it.

use std::ops::Range;

use crate::digest::{Algorithm, Digest};

use super::error::{DeltaError, at_most};
use super::varint::{Numbers, put};

/// The most baseline blobs one delta may need. The far side streams each of them once.
pub const MAX_BLOBS: usize = 64;
/// The most ranges in one need table; 16 bytes each in memory.
pub const MAX_RANGES: usize = 1 << 18;
/// Where plain bytes end at the latest: 1 TiB, far above any layer, far below any overflow.
pub const MAX_PLAIN_BYTES: u64 = 1 << 40;

const PART: &str = "need table";

/// What one delta needs of one baseline blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobNeeds {
    /// The blob as the registry knows it (compressed, where it is).
    pub digest: Digest,
    /// Ranges of its plain bytes: not empty, ascending, neither overlapping nor touching.
    pub ranges: Vec<Range<u64>>,
}

impl BlobNeeds {
    /// Where the last range ends; a reader of the blob may stop there.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// How many bytes of the blob are needed.
    pub fn size_bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// What one delta needs, and what it promises to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// How many plain bytes the delta gives. A caller who knows better refuses it here.
    pub output_bytes: u64,
    /// The SHA-256 of those bytes.
    pub output_digest: Digest,
    /// The baseline blobs, each once.
    pub blobs: Vec<BlobNeeds>,
}

impl Needs {
    /// The size of the need space, which is also what a [`Spool`](super::Spool) takes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(BlobNeeds::size_bytes).sum()
    }
}

/// Writes the table.
pub(super) fn encode(blobs: &[BlobNeeds]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, blobs.len() as u64);
    for blob in blobs {
        bytes.push(match blob.digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        bytes.extend(from_hex(blob.digest.hex()));
        put(&mut bytes, blob.ranges.len() as u64);
        let mut end = 0;
        for range in &blob.ranges {
            put(&mut bytes, range.start - end);
            put(&mut bytes, range.end - range.start);
            end = range.end;
        }
    }
    bytes
}

/// Reads the table, and checks all that [`BlobNeeds`] promises.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<BlobNeeds>, DeltaError> {
    let invalid = |expected| DeltaError::Invalid { part: PART, expected };
    let mut numbers = Numbers::new(PART, bytes);
    let count = numbers.size("baseline blobs", MAX_BLOBS)?;
    let mut blobs: Vec<BlobNeeds> = Vec::with_capacity(count);
    let mut ranges_left = MAX_RANGES;
    for _ in 0..count {
        let digest = decode_digest(&mut numbers)?;
        if blobs.iter().any(|blob| blob.digest == digest) {
            return Err(invalid("each blob once"));
        }
        let count = numbers.size("need ranges", ranges_left)?;
        if count == 0 {
            return Err(invalid("a range for each blob"));
        }
        ranges_left -= count;
        blobs.push(BlobNeeds { digest, ranges: decode_ranges(&mut numbers, count)? });
    }
    numbers.finish()?;
    Ok(blobs)
}

fn decode_digest(numbers: &mut Numbers<'_>) -> Result<Digest, DeltaError> {
    let (name, length) = match numbers.byte()? {
        1 => (Algorithm::Sha256.name(), 32),
        2 => (Algorithm::Sha512.name(), 64),
        _ => return Err(DeltaError::Invalid { part: PART, expected: "a known digest algorithm" }),
    };
    digest_of(name, numbers.bytes(length)?)
}

/// The digest whose raw bytes these are.
pub(super) fn digest_of(algorithm: &str, raw: &[u8]) -> Result<Digest, DeltaError> {
    let mut text = format!("{algorithm}:");
    for byte in raw {
        let digit =
            |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text.parse().map_err(|_| DeltaError::Invalid { part: PART, expected: "a digest" })
}

/// The raw bytes of a digest's hexadecimal part.
pub(super) fn from_hex(hex: &str) -> Vec<u8> {
    let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    hex.as_bytes().chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

fn decode_ranges(numbers: &mut Numbers<'_>, count: usize) -> Result<Vec<Range<u64>>, DeltaError> {
    let mut ranges = Vec::new();
    let mut end = 0u64;
    for index in 0..count {
        let gap = numbers.number()?;
        let length = numbers.number()?;
        if length == 0 || (gap == 0 && index > 0) {
            return Err(DeltaError::Invalid {
                part: PART,
                expected: "ranges that are not empty and do not touch",
            });
        }
        at_most("gap between ranges", gap, MAX_PLAIN_BYTES)?;
        at_most("range", length, MAX_PLAIN_BYTES)?;
        let start = end + gap;
        end = start + length;
        at_most("end of a range", end, MAX_PLAIN_BYTES)?;
        ranges.push(start..end);
    }
    Ok(ranges)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges may have one")]
mod tests {
    use super::*;

    fn needs(ranges: &[Range<u64>]) -> BlobNeeds {
        BlobNeeds { digest: Digest::of(b"old"), ranges: ranges.to_vec() }
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let sha512 = format!("sha512:{}", "5a".repeat(64)).parse().expect("valid");
        let blobs =
            [needs(&[0..5, 6..7, 1000..70_000]), BlobNeeds { digest: sha512, ranges: vec![9..10] }];
        assert_eq!(decode(&encode(&blobs)).expect("sound"), blobs);
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let mut touching = encode(&[needs(&[0..5, 6..7])]);
        let gap = touching.len() - 2;
        touching[gap] = 0;
        let mut empty = encode(&[needs(&[0..5, 6..7])]);
        empty[gap + 1] = 0;
        let mut endless = vec![1, 1];
        endless.extend([7; 32]);
        put(&mut endless, u64::MAX);
        let mut far = encode(&[needs(&[0..5])]);
        far.truncate(far.len() - 2);
        put(&mut far, u64::MAX);
        put(&mut far, u64::MAX);
        let twice = encode(&[needs(&[0..5]), needs(&[0..5])]);
        let many = [255, 255, 3];
        let trailing = [encode(&[]), vec![0]].concat();
        let no_range = encode(&[needs(&[])]);
        for (name, table) in [
            ("touching", &touching[..]),
            ("empty", &empty),
            ("endless", &endless),
            ("far", &far),
            ("twice", &twice),
            ("many", &many),
            ("trailing", &trailing),
            ("no range", &no_range),
            ("nothing", &[]),
        ] {
            assert!(decode(table).is_err(), "{name} was taken");
        }
    }
}
