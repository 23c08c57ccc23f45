//! The zip directory of a payload, read and checked by the `zip` crate, which is used nowhere else.
//!
//! Promises entries whose headers agree, each once (but see `doubles`), none overlapping, none
//! hidden, none encrypted, stored or deflated. Bytes in front of the first header and behind the end
//! record are let be.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

use super::doubles::{self, Renamed, Renames};
use super::fault::{Fault, Length, ZipFault};
use super::source::{BlobReader, Extent, Method};
use super::torn;
use crate::window::Window;

/// An entry as the directory has it.
#[derive(Clone, Debug)]
pub(super) struct ZipEntry {
    pub(super) name: String,
    pub(super) crc32: u32,
    pub(super) extent: Extent,
    pub(super) has_descriptor: bool,
}

/// All entries of a payload, in the order of the directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) file: Arc<File>,
    pub(super) length_bytes: u64,
    pub(super) entries: Vec<ZipEntry>,
    by_name: HashMap<String, Vec<usize>>,
}

type Archive = ZipArchive<BufReader<Renamed<Window>>>;

impl Directory {
    pub(super) fn read(file: Arc<File>) -> Result<Self, Fault> {
        let length_bytes = file.metadata().map_err(Fault::Io)?.len();
        if length_bytes == 0 {
            return Err(Fault::Empty);
        }
        let mut archive = open(&file, length_bytes, Renames::default())?;
        let renames = if archive.has_duplicate_names() {
            let shift_bytes = archive.offset();
            let start = archive.central_directory_start();
            let renames = doubles::find(&file, start, shift_bytes)?;
            archive = open(&file, length_bytes, renames.clone())?;
            renames
        } else {
            Renames::default()
        };
        let entries = read_entries(&mut archive, &renames)?;
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::with_capacity(entries.len());
        for (position, entry) in entries.iter().enumerate() {
            by_name.entry(entry.name.clone()).or_default().push(position);
        }
        Ok(Self { file, length_bytes, entries, by_name })
    }

    /// The first entry of this name, and its position.
    pub(super) fn get(&self, name: &str) -> Option<(usize, &ZipEntry)> {
        self.nth(name, 0)
    }

    /// The n-th entry of this name, from 0 on, and its position.
    pub(super) fn nth(&self, name: &str, n: usize) -> Option<(usize, &ZipEntry)> {
        self.by_name.get(name)?.get(n).map(|&position| (position, &self.entries[position]))
    }

    pub(super) fn reader(&self, entry: &ZipEntry) -> BlobReader {
        BlobReader::new(Arc::clone(&self.file), entry.extent)
    }

    /// All bytes of an entry, checked against its CRC-32. The caller has checked the size against a
    /// limit.
    pub(super) fn read_checked(&self, entry: &ZipEntry) -> Result<Vec<u8>, Fault> {
        let damaged = || Fault::Content { name: entry.name.clone() };
        let bytes = self.reader(entry).read_all().map_err(|error| match entry.extent.method {
            Method::Stored => Fault::Io(error),
            Method::Deflated => damaged(),
        })?;
        if crc32fast::hash(&bytes) == entry.crc32 { Ok(bytes) } else { Err(damaged()) }
    }
}

fn open(file: &Arc<File>, length_bytes: u64, renames: Renames) -> Result<Archive, Fault> {
    let window = Window::new(Arc::clone(file), 0, length_bytes);
    let reader = BufReader::new(Renamed::new(window, renames));
    match ZipArchive::new(reader) {
        // A zip inside the last blob of a payload that was cut passes for the payload's own end.
        Ok(archive) if torn::first_header(file)?.is_some_and(|start| start < archive.offset()) => {
            match torn::diagnose(file, length_bytes)? {
                Some(fault @ Fault::CutShort { .. }) => Err(fault),
                _ => Ok(archive),
            }
        }
        Ok(archive) => Ok(archive),
        Err(ZipError::Io(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(Fault::Io(error))
        }
        Err(error) => Err(match torn::diagnose(file, length_bytes)? {
            Some(Fault::CutShort { expected: Length::Unknown, .. })
                if torn::has_end_record(file, length_bytes)? =>
            {
                Fault::Directory(foreign(error))
            }
            Some(fault) => fault,
            None => Fault::Directory(foreign(error)),
        }),
    }
}

fn read_entries(archive: &mut Archive, renames: &Renames) -> Result<Vec<ZipEntry>, Fault> {
    let mut entries = Vec::with_capacity(archive.len());
    for position in 0..archive.len() {
        entries.push(read_entry(archive, position, renames)?);
    }
    if let Err(error) = archive.validate_header_consistency() {
        return Err(culprit(archive, &entries, error));
    }
    for (position, entry) in entries.iter_mut().enumerate() {
        let data_start = archive.by_index_raw(position).map(|entry| entry.data_start());
        let data_start = data_start.map_err(|error| Fault::Directory(foreign(error)))?;
        entry.extent.start = data_start.ok_or(Fault::Hidden)?;
    }
    Ok(entries)
}

/// What the directory alone says; where the data starts is not known yet.
fn read_entry(archive: &Archive, position: usize, renames: &Renames) -> Result<ZipEntry, Fault> {
    let damaged = |error| Fault::Directory(foreign(error));
    let entry = archive.by_index_data(position).map_err(damaged)?;
    let name = entry.name().map_err(damaged)?;
    let name = renames.true_name(&name).unwrap_or_else(|| name.into_owned());
    if escapes(&name) {
        return Err(Fault::UnsafeName { name });
    }
    if entry.encrypted() {
        return Err(Fault::Encrypted { name });
    }
    let method = match entry.compression() {
        CompressionMethod::Stored => Method::Stored,
        CompressionMethod::Deflated => Method::Deflated,
        other => return Err(Fault::Compressed { name, method: other.to_string() }),
    };
    let (stored_bytes, size_bytes) = (entry.compressed_size(), entry.size());
    if method == Method::Stored && stored_bytes != size_bytes {
        return Err(Fault::EntrySize { name, expected: size_bytes, found: stored_bytes });
    }
    let extent = Extent { start: 0, stored_bytes, size_bytes, method };
    let has_descriptor = entry.flags().is_using_data_descriptor();
    Ok(ZipEntry { name, crc32: entry.crc32(), extent, has_descriptor })
}

fn escapes(name: &str) -> bool {
    name.starts_with('/')
        || name.contains(['\\', '\0'])
        || name.split('/').any(|part| matches!(part, "." | ".."))
        || name.as_bytes().get(1) == Some(&b':')
}

/// Which entry made the zip crate refuse the headers, and how.
fn culprit(archive: &mut Archive, entries: &[ZipEntry], error: ZipError) -> Fault {
    let name = |position: usize| entries[position].name.clone();
    let mut extents = Vec::with_capacity(entries.len());
    for position in 0..archive.len() {
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        match archive.by_index_with_options(position, options) {
            Ok(entry) => {
                let start = entry.data_start().unwrap_or_default();
                let end = start.saturating_add(entry.compressed_size());
                extents.push((entry.header_start(), end, position));
            }
            Err(source) => return Fault::Header { name: name(position), source: foreign(source) },
        }
    }
    extents.sort_unstable();
    let ends_at = archive.central_directory_start();
    let follows = extents.iter().skip(1).map(|(start, ..)| *start).chain([ends_at]);
    for ((_, end, position), next) in extents.iter().zip(follows) {
        if *end > next {
            return Fault::Overlap { name: name(*position) };
        }
    }
    match error {
        ZipError::Io(error) => Fault::Io(error),
        _ => Fault::Hidden,
    }
}

/// An error of the zip crate without its type.
fn foreign(error: ZipError) -> ZipFault {
    Box::new(error)
}
