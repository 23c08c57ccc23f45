//! Why a zip has no directory: walks the local headers from the front and says where they end.
//!
//! Payloads hold true sizes in their local headers, so a payload that was cut tells how long it
//! should be: at least up to the end of the entry that was cut, and exactly once its last entry is
//! whole.

use std::fs::File;

use super::doubles::zip64_value;
use super::fault::{Fault, Length};
use super::headers::{
    DESCRIPTOR_SIGNATURE, DIRECTORY_SIGNATURE, DirectoryLength, END_SIGNATURE, LOCAL_BYTES,
    LOCAL_SIGNATURE,
};
use crate::window::fill_at;

/// How far text in front of the first header is looked through, in bytes.
const PREAMBLE_MAX_BYTES: usize = 64 * 1024;
/// How far from its end a zip may have its end record: the record and the longest comment, in bytes.
const END_MAX_BYTES: usize = 22 + 0xFFFF;

/// Where the first local header stands.
pub(super) fn first_header(file: &File) -> Result<Option<u64>, Fault> {
    let bytes = part(file, 0, PREAMBLE_MAX_BYTES)?;
    let position = bytes.windows(4).position(|window| window == LOCAL_SIGNATURE);
    Ok(position.map(|position| position as u64))
}

/// Whether something near the end of the file looks like the end record of a zip.
pub(super) fn has_end_record(file: &File, length_bytes: u64) -> Result<bool, Fault> {
    let bytes = part(file, length_bytes.saturating_sub(END_MAX_BYTES as u64), END_MAX_BYTES)?;
    Ok(bytes.windows(4).any(|window| window == END_SIGNATURE))
}

/// What is wrong with the file, if its entries tell. `None` where they are whole and what follows
/// them is as long as a directory of them.
pub(super) fn diagnose(file: &File, length_bytes: u64) -> Result<Option<Fault>, Fault> {
    let Some(start) = first_header(file)? else { return Ok(Some(Fault::NotAZip)) };
    let mut directory = DirectoryLength::default();
    let mut at = start;
    let expected = loop {
        let local = match Local::read(file, at)? {
            Found::Header(local) => local,
            Found::Directory => break Length::Exactly(directory.end_of_zip(at)),
            Found::End => break Length::AtLeast(directory.end_of_zip(at)),
            Found::Other => return Ok(Some(Fault::HeaderLost { offset: at })),
        };
        let (Some(size_bytes), Some(next)) = (local.size_bytes, local.end()) else {
            break Length::Unknown;
        };
        directory.add(local.name_bytes, size_bytes, at - start);
        at = next;
    };
    let whole = matches!(expected, Length::Exactly(expected) if expected <= length_bytes);
    Ok((!whole).then_some(Fault::CutShort { expected, found: length_bytes }))
}

enum Found {
    Header(Local),
    Directory,
    /// The file is over before a header is.
    End,
    Other,
}

/// A local header.
struct Local {
    name_bytes: u64,
    data_start: u64,
    /// Absent where the entry was streamed without knowing its size.
    size_bytes: Option<u64>,
    descriptor_bytes: u64,
}

impl Local {
    fn read(file: &File, at: u64) -> Result<Found, Fault> {
        let fixed = part(file, at, LOCAL_BYTES)?;
        match fixed.get(..4) {
            None => return Ok(Found::End),
            Some(signature) if signature == DIRECTORY_SIGNATURE => return Ok(Found::Directory),
            Some(signature) if signature != LOCAL_SIGNATURE => return Ok(Found::Other),
            Some(_) if fixed.len() < LOCAL_BYTES => return Ok(Found::End),
            Some(_) => {}
        }
        let word = |offset: usize| u16::from_le_bytes([fixed[offset], fixed[offset + 1]]);
        let long = |offset: usize| u32::from(word(offset)) | u32::from(word(offset + 2)) << 16;
        let (name_bytes, extra_bytes) = (u64::from(word(26)), usize::from(word(28)));
        let extra_start = at.saturating_add(LOCAL_BYTES as u64 + name_bytes);
        let extra = part(file, extra_start, extra_bytes)?;
        if extra.len() < extra_bytes {
            return Ok(Found::End);
        }
        let data_start = extra_start.saturating_add(extra_bytes as u64);
        let streams = word(6) & 1 << 3 != 0;
        let after = part(file, data_start, 16)?;
        let size_bytes = match long(18) {
            u32::MAX => zip64_value(&extra, 1),
            size => Some(u64::from(size)),
        };
        let descriptor_bytes = match (streams, zip64_value(&extra, 0)) {
            (false, _) => 0,
            (true, None) => 16,
            (true, Some(_)) => 24,
        };
        Ok(Found::Header(Self {
            name_bytes,
            data_start,
            size_bytes: size_bytes.filter(|&size| size > 0 || !streams || is_empty(&after)),
            descriptor_bytes,
        }))
    }

    /// Where the entry ends, with its descriptor.
    fn end(&self) -> Option<u64> {
        let data_end = self.data_start.saturating_add(self.size_bytes?);
        Some(data_end.saturating_add(self.descriptor_bytes))
    }
}

/// Whether these bytes are the data descriptor of an empty entry.
fn is_empty(after: &[u8]) -> bool {
    after.starts_with(&DESCRIPTOR_SIGNATURE) && after[4..].iter().all(|&byte| byte == 0)
}

/// Up to `length_bytes` bytes from `offset` on.
fn part(file: &File, offset: u64, length_bytes: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length_bytes];
    let filled = fill_at(file, offset, &mut bytes).map_err(Fault::Io)?;
    bytes.truncate(filled);
    Ok(bytes)
}
