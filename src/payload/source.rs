//! Bytes of a payload at their offsets, for several threads at a time.
//!
//! A stored entry is read where it lies. One that was compressed by a user who packed the payload
//! again is inflated from its start; going back costs inflating it again.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use crate::unpack::{DeflateReader, deflate_reader};
use crate::window::{Window, fill_at, read_at};

/// How an entry's bytes lie in the zip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// Where an entry's bytes lie in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) stored_bytes: u64,
    pub(super) size_bytes: u64,
    pub(super) method: Method,
}

/// Reads one blob or other entry of a payload, be it in parts, at any offset and never beyond it. A clone
/// reads on its own.
#[derive(Clone, Debug)]
pub struct BlobReader {
    /// One behind the other, none empty but where there is only one.
    parts: Vec<EntryBytes>,
}

/// The bytes of one entry.
#[derive(Debug)]
struct EntryBytes {
    file: Arc<File>,
    extent: Extent,
    inflating: Mutex<Option<Inflating>>,
}

#[derive(Debug)]
struct Inflating {
    decoder: DeflateReader<Window>,
    position: u64,
}

impl Clone for EntryBytes {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.file), self.extent)
    }
}

impl BlobReader {
    pub(super) fn new(file: Arc<File>, extent: Extent) -> Self {
        Self { parts: vec![EntryBytes::new(file, extent)] }
    }

    /// Whether it consists of several entries.
    pub fn is_in_parts(&self) -> bool {
        self.parts.len() > 1
    }

    /// Several entries as one.
    pub(super) fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
        Self { parts: parts.into_iter().flat_map(|part| part.parts).collect() }
    }

    /// The content's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.extent.size_bytes).sum()
    }

    /// Reads some bytes from `offset` on; none at the end.
    ///
    /// # Errors
    /// What the file answers; [`io::ErrorKind::UnexpectedEof`] if it became shorter since it was
    /// opened; [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::InvalidInput`] where compressed
    /// bytes are damaged.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut start = 0;
        for part in &self.parts {
            let end = start + part.extent.size_bytes;
            if offset < end {
                return part.read_at(offset - start, buffer);
            }
            start = end;
        }
        Ok(0)
    }

    /// The bytes from `position` on, one after the other.
    pub fn bytes_from(self, position: u64) -> impl Read + Send {
        Sequential { reader: self, position }
    }

    /// What stands behind the last entry's bytes in the file.
    pub(super) fn read_behind(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(EntryBytes { file, extent, .. }) = self.parts.last() else { return Ok(0) };
        fill_at(file, extent.start.saturating_add(extent.stored_bytes), buffer)
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.extent.stored_bytes).sum()
    }

    /// Everything, for entries whose size was checked against a limit.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.size_bytes()).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_at(filled as u64, &mut bytes[filled..])?;
        }
        Ok(bytes)
    }
}

impl EntryBytes {
    fn new(file: Arc<File>, extent: Extent) -> Self {
        Self { file, extent, inflating: Mutex::new(None) }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.extent.size_bytes.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..wanted];
        let count = match self.extent.method {
            Method::Stored => read_at(&self.file, self.extent.start + offset, buffer)?,
            Method::Deflated => self.inflate_at(offset, buffer)?,
        };
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("expected {left} more bytes, found the end of the file"),
            ));
        }
        Ok(count)
    }

    fn inflate_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inflating = self.inflating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = match inflating.take() {
            Some(state) if state.position <= offset => state,
            _ => {
                let Extent { start, stored_bytes, .. } = self.extent;
                let window = Window::new(Arc::clone(&self.file), start, stored_bytes);
                Inflating { decoder: deflate_reader(window), position: 0 }
            }
        };
        while state.position < offset {
            let skip = usize::try_from(offset - state.position).unwrap_or(usize::MAX);
            let mut skipped = [0; 16 * 1024];
            let skip = skip.min(skipped.len());
            let count = state.decoder.read(&mut skipped[..skip])?;
            if count == 0 {
                return Ok(0);
            }
            state.position += count as u64;
        }
        let count = state.decoder.read(buffer)?;
        state.position += count as u64;
        *inflating = Some(state);
        Ok(count)
    }
}

/// The bytes of an entry, one after the other.
struct Sequential {
    reader: BlobReader,
    position: u64,
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.reader.size_bytes() {
            return Ok(0);
        }
        let count = self.reader.read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}
