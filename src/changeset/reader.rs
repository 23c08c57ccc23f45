//! The entries of a changeset, one after the other.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::entry::{self, Entry};
use super::pax::{self, Pax};
use super::sparse::{Next, Sparse};

const BLOCK_BYTES: usize = 512;
/// The largest pax header, long name, or map of a sparse file, in bytes. Go takes 1 MiB for each.
const EXTENSION_MAX_BYTES: u64 = 4 << 20;

/// Why a changeset cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// It does not begin as a tar.
    #[error("it is no tar")]
    NoTar,
    /// It begins as one and does not go on so, or its bytes cannot be had.
    #[error("its tar is broken: {0}")]
    Broken(#[from] io::Error),
}

/// A changeset that is being read. What it reads as is the content of the entry that was asked for last.
pub(crate) struct Changeset<R> {
    plain: R,
    has_begun: bool,
    /// Packed bytes of the content that were not read yet.
    left_bytes: u64,
    padding_bytes: u64,
    sparse: Option<Sparse>,
    position: u64,
}

impl<R: Read> Changeset<R> {
    pub(crate) fn new(plain: R) -> Self {
        let (left_bytes, padding_bytes) = (0, 0);
        Self { plain, has_begun: false, left_bytes, padding_bytes, sparse: None, position: 0 }
    }

    /// The next entry. Content of the former that was not read is passed over.
    ///
    /// # Errors
    /// [`Flaw::NoTar`] before the first entry only.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Flaw> {
        let (mut pax, mut long_name, mut long_target) = (None, None, None);
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else {
                if pax.is_some() || long_name.is_some() || long_target.is_some() {
                    return Err(broken("the entry of an extended header is missing"));
                }
                return Ok(None);
            };
            let size = size(&header.as_old().size)?;
            match header.entry_type() {
                EntryType::XHeader => pax = Some(Pax::parse(&self.extension(size)?)?),
                EntryType::GNULongName => long_name = Some(until_zero(self.extension(size)?)),
                EntryType::GNULongLink => long_target = Some(until_zero(self.extension(size)?)),
                // Nothing in them counts for engines.
                EntryType::XGlobalHeader => self.content_follows(size),
                _ => {
                    let mut pax = pax.unwrap_or_default();
                    let entry = Entry::new(&header, &mut pax, long_name, long_target)?;
                    if !entry.has_no_content() {
                        self.content_follows(pax.size.unwrap_or(size));
                        self.find_holes(&header, pax)?;
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn content_follows(&mut self, bytes: u64) {
        self.left_bytes = bytes;
        self.padding_bytes = (BLOCK_BYTES as u64 - bytes % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
        (self.sparse, self.position) = (None, 0);
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let bytes = self.left_bytes.saturating_add(self.padding_bytes);
        let passed = io::copy(&mut self.plain.by_ref().take(bytes), &mut io::sink())?;
        self.content_follows(0);
        if passed == bytes { Ok(()) } else { Err(cut()) }
    }

    /// The next header; none where the tar ends, whatever follows there.
    fn header(&mut self) -> Result<Option<Header>, Flaw> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let Some(block) = self.block()? else {
            return if is_first { Err(Flaw::NoTar) } else { Ok(None) };
        };
        if is_zero(&block) {
            return match self.block()? {
                Some(second) if !is_zero(&second) => Err(broken("an empty block in its middle")),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        if has_checksum(&header) {
            return Ok(Some(header));
        }
        Err(if is_first { Flaw::NoTar } else { broken("a header whose checksum is wrong") })
    }

    /// The next block; none at the end.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.plain.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(block))
    }

    /// The content of an extended header.
    fn extension(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        if bytes > EXTENSION_MAX_BYTES {
            let message = format!("an extended header of more than {EXTENSION_MAX_BYTES} bytes");
            return Err(io::Error::other(message));
        }
        self.content_follows(bytes);
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn find_holes(&mut self, header: &Header, pax: Pax) -> io::Result<()> {
        let (numbers, real_size) = if header.entry_type() == EntryType::GNUSparse {
            self.old_map(header)?
        } else if pax.sparse.is_in_content {
            (self.map_in_content()?, pax.sparse.real_size)
        } else if !pax.sparse.map.is_empty() || pax.sparse.real_size.is_some() {
            (pax.sparse.map, pax.sparse.real_size)
        } else {
            return Ok(());
        };
        let real_size = real_size.ok_or_else(|| io::Error::other("a sparse file of no size"))?;
        self.sparse = Some(Sparse::new(&numbers, real_size, self.left_bytes)?);
        Ok(())
    }

    /// GNU's first kind of sparse files: the map stands in the header, and in blocks behind it.
    fn old_map(&mut self, header: &Header) -> io::Result<(Vec<u64>, Option<u64>)> {
        let gnu = header.as_gnu().ok_or_else(|| io::Error::other("a sparse file of no kind"))?;
        let mut numbers = Vec::new();
        let mut take = |parts: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for part in parts.iter().filter(|part| !part.is_empty()) {
                numbers.extend([size(&part.offset)?, size(&part.numbytes)?]);
            }
            if numbers.len() as u64 * 8 > EXTENSION_MAX_BYTES {
                return Err(io::Error::other("a map of a sparse file beyond all measure"));
            }
            Ok(())
        };
        take(&gnu.sparse)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&self.block()?.ok_or_else(cut)?);
            take(&more.sparse)?;
            is_extended = more.is_extended();
        }
        Ok((numbers, Some(size(&gnu.realsize)?)))
    }

    /// GNU's version 1.0: the content begins with blocks of decimal numbers, of which the first is how many pairs follow.
    fn map_in_content(&mut self) -> io::Result<Vec<u64>> {
        let wrong = || io::Error::other("a map of a sparse file that makes no sense");
        let (mut numbers, mut digits, mut count, mut taken) = (Vec::new(), Vec::new(), None, 0);
        while count.is_none_or(|count| numbers.len() as u64 / 2 < count) {
            taken += BLOCK_BYTES as u64;
            if taken > EXTENSION_MAX_BYTES || self.left_bytes < BLOCK_BYTES as u64 {
                return Err(wrong());
            }
            self.left_bytes -= BLOCK_BYTES as u64;
            for byte in self.block()?.ok_or_else(cut)? {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                // What is behind the last number fills the block.
                if count.is_some_and(|count| numbers.len() as u64 / 2 >= count) {
                    break;
                }
                let number = pax::number(&digits)?;
                digits.clear();
                match count {
                    None => count = Some(number),
                    Some(_) => numbers.push(number),
                }
            }
        }
        Ok(numbers)
    }

    fn read_packed(&mut self, buffer: &mut [u8], most_bytes: u64) -> io::Result<usize> {
        let wanted = usize::try_from(most_bytes.min(self.left_bytes)).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let count = self.plain.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(cut());
        }
        self.left_bytes -= count as u64;
        Ok(count)
    }
}

impl<R: Read> Read for Changeset<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let next = match &mut self.sparse {
            None => Next::Data(u64::MAX),
            Some(sparse) => sparse.at(self.position),
        };
        let count = match next {
            Next::End => 0,
            Next::Data(most_bytes) => self.read_packed(buffer, most_bytes)?,
            Next::Zeros(bytes) => {
                let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..count].fill(0);
                count
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

fn size(field: &[u8]) -> io::Result<u64> {
    u64::try_from(entry::number(field)?).map_err(io::Error::other)
}

fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Some old writers took bytes for signed.
fn has_checksum(header: &Header) -> bool {
    let Ok(found) = header.cksum() else { return false };
    let (mut unsigned, mut signed) = (0_u32, 0_i32);
    for (at, byte) in header.as_bytes().iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += u32::from(byte);
        signed += i32::from(byte.cast_signed());
    }
    found == unsigned || i64::from(found) == i64::from(signed)
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too soon")
}

fn broken(why: &str) -> Flaw {
    Flaw::Broken(io::Error::other(why.to_owned()))
}

#[cfg(test)]
mod tests;
