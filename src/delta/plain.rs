//! Plain bytes in files.

use std::fs::File;
use std::ops::Range;

use crate::window::read_exact_at;

use super::error::DeltaError;

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
