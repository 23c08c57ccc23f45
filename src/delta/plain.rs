//! Plain bytes in files.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::window::read_exact_at;

use super::error::DeltaError;

/// How many bytes are passed at a time.
const STEP_BYTES: usize = 1 << 20;

/// Gives `take` the bytes of `range` of the file, one after the other.
///
/// # Errors
/// `UnexpectedEof` where the file ends before.
pub(super) fn pass(file: &File, range: &Range<u64>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let step = |left: u64| usize::try_from(left).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
    let mut buffer = vec![0; step(range.end - range.start)];
    let mut position = range.start;
    while position < range.end {
        let bytes = &mut buffer[..step(range.end - position)];
        read_exact_at(file, position, bytes)?;
        take(bytes);
        position += bytes.len() as u64;
    }
    Ok(())
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
