//! Files read at any offset, by several threads at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Reads into `buffer` from `offset` on, without moving anything that other threads see.
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    #[cfg(unix)]
    use std::os::unix::fs::FileExt;
    #[cfg(windows)]
    use std::os::windows::fs::FileExt;

    loop {
        #[cfg(unix)]
        let result = file.read_at(buffer, offset);
        #[cfg(windows)]
        let result = file.seek_read(buffer, offset);
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// As [`read_at`], but until `buffer` is full or the file ends. `offset` may be anything.
pub(crate) fn fill_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    // Beyond this, systems answer with an error instead of the end of the file.
    if offset > i64::MAX as u64 - buffer.len() as u64 {
        return Ok(0);
    }
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, offset + filled as u64, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// As [`fill_at`], but a file that ends before `buffer` is full is an `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    if fill_at(file, offset, buffer)? < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// A range of a file with a position of its own.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    file: Arc<File>,
    start: u64,
    length_bytes: u64,
    position: u64,
}

impl Window {
    /// `length_bytes` bytes of `file` from `start` on.
    pub(crate) fn new(file: Arc<File>, start: u64, length_bytes: u64) -> Self {
        Self { file, start, length_bytes, position: 0 }
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length_bytes.saturating_sub(self.position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = read_at(&self.file, self.start + self.position, &mut buffer[..wanted])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.length_bytes.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
