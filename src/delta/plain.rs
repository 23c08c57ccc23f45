//! Plain bytes in files, read at any offset.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::error::DeltaError;

/// Fills `buffer` with the file's bytes from `offset` on, without moving anything that other threads see.
///
/// # Errors
/// `UnexpectedEof` where the file ends before.
pub(super) fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        let mut filled = 0;
        while filled < buffer.len() {
            let from = offset + filled as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[filled..], from) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Appends `range` of the file to `bytes`.
pub(super) fn append(
    file: &File,
    range: &Range<u64>,
    bytes: &mut Vec<u8>,
) -> Result<(), DeltaError> {
    let start = bytes.len();
    bytes.resize(start + usize::try_from(range.end - range.start).unwrap_or(0), 0);
    read_exact_at(file, range.start, &mut bytes[start..]).map_err(DeltaError::Read)
}
