//! The header in front of each gzip member (RFC 1952, section 2.3), kept as it is.

use std::io::Read;

use super::bits::BitReader;
use super::error::Error;

/// The longest header that is taken: an extra field of 64 KiB, a name and a comment fit with room to spare.
pub const MAX_HEADER_BYTES: usize = 256 << 10;

/// What every gzip member begins with: the magic number and DEFLATE.
pub const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Whether `bytes` can begin a gzip member that this module understands.
pub fn begins_member(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[..3] == MAGIC && bytes[3] & RESERVED == 0
}

/// Reads one header.
///
/// # Errors
/// [`Error::NotGzip`] for other bytes, [`Error::Truncated`] where the stream ends, [`Error::Corrupt`] where the
/// header is longer than [`MAX_HEADER_BYTES`].
pub fn read_header<R: Read>(reader: &mut BitReader<R>, plain_bytes: u64) -> Result<Vec<u8>, Error> {
    let (start, found) = reader.peek_bytes()?;
    if found == 0 {
        return Err(Error::NotGzip { found: "nothing" });
    }
    if found >= 4 && !begins_member(&start) {
        let found =
            if start[..3] == MAGIC { "reserved flags in its header" } else { "other bytes" };
        return Err(Error::NotGzip { found });
    }
    let mut header = Header { reader, bytes: Vec::with_capacity(16), plain_bytes };
    header.take(10)?;
    let flags = header.bytes[3];
    if !begins_member(&header.bytes) {
        return Err(Error::NotGzip { found: "other bytes" });
    }
    if flags & HAS_EXTRA != 0 {
        header.take(2)?;
        let length = &header.bytes[header.bytes.len() - 2..];
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        header.take(length)?;
    }
    for flag in [HAS_NAME, HAS_COMMENT] {
        if flags & flag != 0 {
            header.take_text()?;
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        header.take(2)?;
    }
    Ok(header.bytes)
}

struct Header<'a, R> {
    reader: &'a mut BitReader<R>,
    bytes: Vec<u8>,
    plain_bytes: u64,
}

impl<R: Read> Header<'_, R> {
    fn take(&mut self, count: usize) -> Result<(), Error> {
        if self.reader.bytes(count, &mut self.bytes)? < count {
            return Err(Error::Truncated { plain_bytes: self.plain_bytes });
        }
        Ok(())
    }

    fn take_text(&mut self) -> Result<(), Error> {
        loop {
            self.take(1)?;
            if self.bytes.last() == Some(&0) {
                return Ok(());
            }
            if self.bytes.len() > MAX_HEADER_BYTES {
                let found = "a header without end";
                return Err(Error::Corrupt { found, plain_bytes: self.plain_bytes });
            }
        }
    }
}
