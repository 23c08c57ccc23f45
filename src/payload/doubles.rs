//! Two entries of one name, as docker-charon writes them for images that differ only in `/` and `_`.
//!
//! The `zip` crate keeps only the last of them, and refuses both when it checks headers. So the
//! later ones are given names of their own before it sees them: the first byte of such a name is
//! replaced by the entry's number, in the directory and in the local header. Only manifests of
//! docker-charon may stand twice.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::charon::MANIFESTS_FOLDER;
use super::fault::{Fault, ZipFault};
use super::headers::{DIRECTORY_SIGNATURE, EXTRA_ZIP64, LOCAL_BYTES, RECORD_BYTES};
use crate::window::fill_at;

/// How often one name may stand: the numbers are control characters, which no name holds. An image
/// with four slashes has sixteen spellings.
const SAME_NAME_MAX: usize = 16;

/// Which bytes of the file to show as others.
#[derive(Clone, Debug, Default)]
pub(super) struct Renames(BTreeMap<u64, u8>);

impl Renames {
    /// The name that stands in the file where this one was made up.
    pub(super) fn true_name(&self, name: &str) -> Option<String> {
        let first = *name.as_bytes().first()?;
        let made_up = !self.0.is_empty() && usize::from(first) < SAME_NAME_MAX;
        made_up.then(|| format!("{}{}", &MANIFESTS_FOLDER[..1], &name[1..]))
    }
}

/// Finds the entries that stand twice in the directory at `start`. Offsets in it do not count the
/// `shift_bytes` in front of the zip. The zip crate has walked this directory before.
pub(super) fn find(file: &File, start: u64, shift_bytes: u64) -> Result<Renames, Fault> {
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut renames = Renames::default();
    let mut at = start;
    while let Some(record) = Record::read(file, at).map_err(Fault::Io)? {
        let count = seen.entry(record.name.clone()).or_default();
        if *count > 0 {
            let is_manifest = record.name.starts_with(MANIFESTS_FOLDER.as_bytes());
            if !is_manifest || *count >= SAME_NAME_MAX {
                let name = String::from_utf8_lossy(&record.name).into_owned();
                return Err(Fault::EntryTwice { name });
            }
            let number = u8::try_from(*count).unwrap_or(u8::MAX);
            let local = record.local_offset.and_then(|offset| offset.checked_add(shift_bytes));
            let local = local.ok_or_else(|| Fault::Directory(ZipFault::from("lying offset")))?;
            renames.0.insert(at + RECORD_BYTES as u64, number);
            renames.0.insert(local.saturating_add(LOCAL_BYTES as u64), number);
        }
        *count += 1;
        at += record.length_bytes;
    }
    Ok(renames)
}

/// A record of the directory, as far as it matters here.
struct Record {
    name: Vec<u8>,
    /// Absent where it does not fit its field and the ZIP64 field is broken.
    local_offset: Option<u64>,
    length_bytes: u64,
}

impl Record {
    /// The record at `at`, if there is one.
    fn read(file: &File, at: u64) -> io::Result<Option<Self>> {
        let mut fixed = [0; RECORD_BYTES];
        if fill_at(file, at, &mut fixed)? < fixed.len() || fixed[..4] != DIRECTORY_SIGNATURE {
            return Ok(None);
        }
        let word = |offset: usize| u16::from_le_bytes([fixed[offset], fixed[offset + 1]]);
        let long = |offset: usize| u32::from(word(offset)) | u32::from(word(offset + 2)) << 16;
        let (name_bytes, extra_bytes, comment_bytes) = (word(28), word(30), word(32));
        let mut rest = vec![0; usize::from(name_bytes) + usize::from(extra_bytes)];
        if fill_at(file, at + RECORD_BYTES as u64, &mut rest)? < rest.len() {
            return Ok(None);
        }
        let extra = rest.split_off(usize::from(name_bytes));
        let markers = [long(24), long(20)].iter().filter(|&&size| size == u32::MAX).count();
        let local_offset = match long(42) {
            u32::MAX => zip64_value(&extra, markers),
            offset => Some(u64::from(offset)),
        };
        let variable_bytes =
            u64::from(name_bytes) + u64::from(extra_bytes) + u64::from(comment_bytes);
        Ok(Some(Self {
            name: rest,
            local_offset,
            length_bytes: RECORD_BYTES as u64 + variable_bytes,
        }))
    }
}

/// The `n`-th 8-byte value of the ZIP64 field.
pub(super) fn zip64_value(mut extra: &[u8], n: usize) -> Option<u64> {
    while let [kind_low, kind_high, low, high, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let field = rest.get(..length)?;
        if u16::from_le_bytes([*kind_low, *kind_high]) == EXTRA_ZIP64 {
            let value = field.get(n * 8..n * 8 + 8)?;
            return value.try_into().ok().map(u64::from_le_bytes);
        }
        extra = &rest[length..];
    }
    None
}

/// A reader that shows some bytes as others.
#[derive(Clone, Debug)]
pub(super) struct Renamed<R> {
    inner: R,
    renames: Renames,
    position: u64,
}

impl<R> Renamed<R> {
    /// `inner` stands at its start.
    pub(super) fn new(inner: R, renames: Renames) -> Self {
        Self { inner, renames, position: 0 }
    }
}

impl<R: Read> Read for Renamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let end = self.position + count as u64;
        for (offset, byte) in self.renames.0.range(self.position..end) {
            let index = usize::try_from(offset - self.position).unwrap_or(usize::MAX);
            if let Some(shown) = buffer.get_mut(index) {
                *shown = *byte;
            }
        }
        self.position = end;
        Ok(count)
    }
}

impl<R: Seek> Seek for Renamed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.inner.seek(to)?;
        Ok(self.position)
    }
}
