//! Bits in DEFLATE's order: the lowest of a byte first (RFC 1951, section 3.1.1).

use std::io::{self, Read, Write};

use super::error::Error;

/// How much is read or written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads bits and bytes.
#[derive(Debug)]
pub struct BitReader<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    at_end: bool,
    bits: u64,
    count: u32,
    read_bytes: u64,
}

impl<R: Read> BitReader<R> {
    /// Reads from `reader`.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            at_end: false,
            bits: 0,
            count: 0,
            read_bytes: 0,
        }
    }

    /// How many bytes were used up, a begun one included.
    pub fn used_bytes(&self) -> u64 {
        self.read_bytes - (self.end - self.start) as u64 - u64::from(self.count / 8)
    }

    /// How many bits of the current byte were used up: 0 to 7.
    pub fn phase(&self) -> u8 {
        ((8 - self.count % 8) % 8) as u8
    }

    /// Makes at least 56 bits available, fewer only where the stream ends.
    ///
    /// # Errors
    /// [`Error::ReadGzip`].
    #[inline]
    pub fn refill(&mut self) -> Result<(), Error> {
        if let Some(bytes) = self.buffer[self.start..self.end].first_chunk::<8>() {
            self.bits |= u64::from_le_bytes(*bytes) << self.count;
            let taken = (63 - self.count) / 8;
            self.start += taken as usize;
            self.count += taken * 8;
            // Bits above `count` are those of the next byte: they come again.
            return Ok(());
        }
        self.refill_slowly()
    }

    #[cold]
    fn refill_slowly(&mut self) -> Result<(), Error> {
        self.bits &= (1u64 << self.count) - 1;
        while self.count < 56 {
            if self.start == self.end && !self.fill()? {
                break;
            }
            self.bits |= u64::from(self.buffer[self.start]) << self.count;
            self.start += 1;
            self.count += 8;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<bool, Error> {
        while !self.at_end {
            match self.reader.read(&mut self.buffer) {
                Ok(0) => self.at_end = true,
                Ok(found) => {
                    self.start = 0;
                    self.end = found;
                    self.read_bytes += found as u64;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::ReadGzip(error)),
            }
        }
        Ok(false)
    }

    /// How many bits can be had without a refill.
    #[inline]
    pub fn available(&self) -> u32 {
        self.count
    }

    /// The next bits, lowest first; above [`BitReader::available`] they mean nothing.
    #[inline]
    pub fn peek(&self) -> u64 {
        self.bits
    }

    /// Drops `count` bits, which must be available.
    #[inline]
    pub fn consume(&mut self, count: u32) {
        self.bits >>= count;
        self.count -= count;
    }

    /// The next `count` bits (at most 32), or `None` where the stream ends.
    ///
    /// # Errors
    /// [`Error::ReadGzip`].
    pub fn bits(&mut self, count: u32) -> Result<Option<u32>, Error> {
        if self.count < count {
            self.refill()?;
            if self.count < count {
                return Ok(None);
            }
        }
        let value = (self.bits & ((1u64 << count) - 1)) as u32;
        self.consume(count);
        Ok(Some(value))
    }

    /// The next byte, from a byte boundary, or `None` where the stream ends.
    ///
    /// # Errors
    /// [`Error::ReadGzip`].
    pub fn byte(&mut self) -> Result<Option<u8>, Error> {
        Ok(self.bits(8)?.map(|bits| bits as u8))
    }

    /// Up to four of the next bytes, from a byte boundary, without using them up.
    ///
    /// # Errors
    /// [`Error::ReadGzip`].
    pub fn peek_bytes(&mut self) -> Result<([u8; 4], usize), Error> {
        if self.count < 32 {
            self.refill()?;
        }
        Ok(((self.bits as u32).to_le_bytes(), (self.count as usize / 8).min(4)))
    }

    /// Copies up to `limit` bytes into `target`, from a byte boundary; fewer only where the stream ends.
    ///
    /// # Errors
    /// [`Error::ReadGzip`].
    pub fn bytes(&mut self, limit: usize, target: &mut Vec<u8>) -> Result<usize, Error> {
        let mut copied = 0;
        while copied < limit && self.count >= 8 {
            target.push(self.bits as u8);
            self.consume(8);
            copied += 1;
        }
        if copied == limit {
            return Ok(copied);
        }
        self.bits = 0;
        while copied < limit {
            if self.start == self.end && !self.fill()? {
                break;
            }
            let take = (limit - copied).min(self.end - self.start);
            target.extend_from_slice(&self.buffer[self.start..self.start + take]);
            self.start += take;
            copied += take;
        }
        Ok(copied)
    }
}

/// Writes bits and bytes, up to a limit.
#[derive(Debug)]
pub struct BitWriter<W> {
    writer: W,
    buffer: Vec<u8>,
    bits: u64,
    count: u32,
    written: u64,
    limit_bytes: u64,
}

impl<W: Write> BitWriter<W> {
    /// Writes at most `limit_bytes` bytes to `writer`.
    pub fn new(writer: W, limit_bytes: u64) -> Self {
        let buffer = Vec::with_capacity(BUFFER_BYTES + 16);
        Self { writer, buffer, bits: 0, count: 0, written: 0, limit_bytes }
    }

    /// How many bits of the current byte are written: 0 to 7.
    pub fn phase(&self) -> u8 {
        (self.count % 8) as u8
    }

    /// Writes the low `count` bits (at most 32) of `value`; the bits above must be 0.
    ///
    /// # Errors
    /// [`Error::WriteGzip`], [`Error::TooLarge`].
    #[inline]
    pub fn bits(&mut self, value: u32, count: u32) -> Result<(), Error> {
        self.bits |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.buffer.extend_from_slice(&(self.bits as u32).to_le_bytes());
            self.bits >>= 32;
            self.count -= 32;
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Fills the current byte up with the low bits of `padding`.
    ///
    /// # Errors
    /// Those of [`BitWriter::bits`].
    pub fn align(&mut self, padding: u8) -> Result<(), Error> {
        let missing = (8 - self.count % 8) % 8;
        self.bits(u32::from(padding) & ((1 << missing) - 1), missing)
    }

    /// Writes bytes at a byte boundary.
    ///
    /// # Errors
    /// Those of [`BitWriter::bits`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        while self.count > 0 {
            self.buffer.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
        for part in bytes.chunks(BUFFER_BYTES) {
            self.buffer.extend_from_slice(part);
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.written += self.buffer.len() as u64;
        if self.written > self.limit_bytes {
            return Err(Error::TooLarge { limit_bytes: self.limit_bytes });
        }
        self.writer.write_all(&self.buffer).map_err(Error::WriteGzip)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left, at a byte boundary, and says how many bytes there were.
    ///
    /// # Errors
    /// Those of [`BitWriter::bits`].
    pub fn finish(mut self) -> Result<u64, Error> {
        self.bytes(&[])?;
        self.flush()?;
        self.writer.flush().map_err(Error::WriteGzip)?;
        Ok(self.written)
    }
}
