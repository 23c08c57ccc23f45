//! The zip's own bytes: headers, descriptors, directory and end records, as docs/payload-format.md
//! lays them down (section "The zip") and PKWARE's APPNOTE 6.3 defines them.
//!
//! Pure: takes values, gives bytes or their number. ZIP64 stands where a value needs it, nowhere else.

/// From this value on a 4-byte field is a marker, and the value stands in a ZIP64 field.
const ZIP64_FROM: u64 = 0xFFFF_FFFF;
/// From this count on the 2-byte field is a marker.
const ZIP64_FROM_ENTRIES: u64 = 0xFFFF;
/// Version 4.5, the first with ZIP64; made on Unix, so that the attributes are a Unix mode.
const MADE_BY: u16 = (3 << 8) + NEEDED_ZIP64;
const NEEDED_PLAIN: u16 = 10;
const NEEDED_ZIP64: u16 = 45;
/// Bit 3: the CRC-32 follows the data.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// 1980-01-01, the first day that the format knows; the time is 0.
const DATE: u16 = 1 << 5 | 1;
/// A regular file, mode 0644.
const ATTRIBUTES: u32 = 0o100_644 << 16;
pub(super) const EXTRA_ZIP64: u16 = 0x0001;

pub(super) const LOCAL_SIGNATURE: [u8; 4] = *b"PK\x03\x04";
pub(super) const DIRECTORY_SIGNATURE: [u8; 4] = *b"PK\x01\x02";
pub(super) const DESCRIPTOR_SIGNATURE: [u8; 4] = *b"PK\x07\x08";
pub(super) const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END64_SIGNATURE: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_SIGNATURE: [u8; 4] = *b"PK\x06\x07";

/// A local header without name and extra fields, in bytes.
pub(super) const LOCAL_BYTES: usize = 30;
/// A record of the directory without name, extra fields and comment, in bytes.
pub(super) const RECORD_BYTES: usize = 46;
const END_BYTES: u64 = 22;
const END64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;

/// How an entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its bytes are at hand before its header is written, so the CRC-32 stands in the header.
    Small,
    /// Its bytes stream through; the CRC-32 follows them in a data descriptor.
    Streamed,
}

/// What the headers say about one entry.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) kind: Kind,
    /// Known from the start for small entries, only behind the data for streamed ones.
    pub(super) crc32: u32,
    /// Where the local header stands, counted from the start of the zip.
    pub(super) offset_bytes: u64,
}

impl Header {
    pub(super) fn local(&self) -> Vec<u8> {
        let mut bytes = LOCAL_SIGNATURE.to_vec();
        let large = self.size_bytes >= ZIP64_FROM;
        let crc32 = match self.kind {
            Kind::Small => self.crc32,
            Kind::Streamed => 0,
        };
        put16(&mut bytes, if large { NEEDED_ZIP64 } else { NEEDED_PLAIN });
        self.put_common(&mut bytes, crc32, if large { 20 } else { 0 });
        bytes.extend_from_slice(self.name.as_bytes());
        if large {
            put16(&mut bytes, EXTRA_ZIP64);
            put16(&mut bytes, 16);
            put64(&mut bytes, self.size_bytes);
            put64(&mut bytes, self.size_bytes);
        }
        bytes
    }

    /// What follows the data: nothing for a small entry.
    pub(super) fn descriptor(&self) -> Vec<u8> {
        if self.kind == Kind::Small {
            return Vec::new();
        }
        let mut bytes = DESCRIPTOR_SIGNATURE.to_vec();
        put32(&mut bytes, self.crc32);
        for _ in ["stored", "true"] {
            if self.size_bytes >= ZIP64_FROM {
                put64(&mut bytes, self.size_bytes);
            } else {
                put32(&mut bytes, marker32(self.size_bytes));
            }
        }
        bytes
    }

    /// The entry's record in the directory.
    pub(super) fn record(&self) -> Vec<u8> {
        let mut large = Vec::new();
        if self.size_bytes >= ZIP64_FROM {
            put64(&mut large, self.size_bytes);
            put64(&mut large, self.size_bytes);
        }
        if self.offset_bytes >= ZIP64_FROM {
            put64(&mut large, self.offset_bytes);
        }
        let large_bytes = u16::try_from(large.len()).unwrap_or(u16::MAX);
        let extra_bytes = if large.is_empty() { 0 } else { large_bytes + 4 };

        let mut bytes = DIRECTORY_SIGNATURE.to_vec();
        put16(&mut bytes, MADE_BY);
        put16(&mut bytes, if large.is_empty() { NEEDED_PLAIN } else { NEEDED_ZIP64 });
        self.put_common(&mut bytes, self.crc32, extra_bytes);
        for _ in ["comment", "disk", "internal attributes"] {
            put16(&mut bytes, 0);
        }
        put32(&mut bytes, ATTRIBUTES);
        put32(&mut bytes, marker32(self.offset_bytes));
        bytes.extend_from_slice(self.name.as_bytes());
        if !large.is_empty() {
            put16(&mut bytes, EXTRA_ZIP64);
            put16(&mut bytes, large_bytes);
            bytes.extend_from_slice(&large);
        }
        bytes
    }

    /// The fields that local header and record share, from the flags to the lengths.
    fn put_common(&self, bytes: &mut Vec<u8>, crc32: u32, extra_bytes: u16) {
        put16(bytes, if self.kind == Kind::Streamed { FLAG_DESCRIPTOR } else { 0 });
        put16(bytes, 0); // stored
        put16(bytes, 0); // midnight
        put16(bytes, DATE);
        put32(bytes, crc32);
        put32(bytes, marker32(self.size_bytes));
        put32(bytes, marker32(self.size_bytes));
        put16(bytes, u16::try_from(self.name.len()).unwrap_or(u16::MAX));
        put16(bytes, extra_bytes);
    }
}

/// The records that end a zip whose directory has `entries` records in `size_bytes` bytes from
/// `offset_bytes` on.
pub(super) fn end_records(entries: u64, size_bytes: u64, offset_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if end_needs_zip64(entries, size_bytes, offset_bytes) {
        bytes.extend_from_slice(&END64_SIGNATURE);
        put64(&mut bytes, END64_BYTES - 12); // what follows this field
        put16(&mut bytes, MADE_BY);
        put16(&mut bytes, NEEDED_ZIP64);
        put32(&mut bytes, 0);
        put32(&mut bytes, 0);
        for value in [entries, entries, size_bytes, offset_bytes] {
            put64(&mut bytes, value);
        }
        bytes.extend_from_slice(&LOCATOR_SIGNATURE);
        put32(&mut bytes, 0);
        put64(&mut bytes, offset_bytes + size_bytes);
        put32(&mut bytes, 1);
    }
    let entries = u16::try_from(entries.min(ZIP64_FROM_ENTRIES)).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&END_SIGNATURE);
    for value in [0, 0, entries, entries] {
        put16(&mut bytes, value);
    }
    put32(&mut bytes, marker32(size_bytes));
    put32(&mut bytes, marker32(offset_bytes));
    put16(&mut bytes, 0);
    bytes
}

fn end_needs_zip64(entries: u64, size_bytes: u64, offset_bytes: u64) -> bool {
    entries >= ZIP64_FROM_ENTRIES || size_bytes >= ZIP64_FROM || offset_bytes >= ZIP64_FROM
}

/// An entry of a payload that is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedEntry<'a> {
    /// The entry's name.
    pub name: &'a str,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// How it will be written.
    pub kind: Kind,
}

impl PlannedEntry<'_> {
    /// The bytes in front of its content, and behind it.
    fn around_bytes(&self) -> (u64, u64) {
        let large = self.size_bytes >= ZIP64_FROM;
        let local_bytes = LOCAL_BYTES as u64 + self.name.len() as u64 + if large { 20 } else { 0 };
        let descriptor_bytes = match (self.kind, large) {
            (Kind::Small, _) => 0,
            (Kind::Streamed, false) => 16,
            (Kind::Streamed, true) => 24,
        };
        (local_bytes, descriptor_bytes)
    }
}

/// Where the header of each of `entries` begins, and where its content does.
pub fn entry_starts<'a>(
    entries: impl IntoIterator<Item = PlannedEntry<'a>>,
) -> impl Iterator<Item = (u64, u64)> {
    entries.into_iter().scan(0_u64, |end, entry| {
        let ((before, behind), header) = (entry.around_bytes(), *end);
        let content = header.saturating_add(before);
        *end = content.saturating_add(entry.size_bytes).saturating_add(behind);
        Some((header, content))
    })
}

/// The exact length in bytes of the payload that [`Writer`](super::Writer) makes of `entries`, in
/// this order.
pub fn payload_length<'a>(entries: impl IntoIterator<Item = PlannedEntry<'a>>) -> u64 {
    let (mut content_bytes, mut directory) = (0_u64, DirectoryLength::default());
    for entry in entries {
        directory.add(entry.name.len() as u64, entry.size_bytes, content_bytes);
        let (before, behind) = entry.around_bytes();
        content_bytes =
            content_bytes.saturating_add(before + behind).saturating_add(entry.size_bytes);
    }
    directory.end_of_zip(content_bytes)
}

/// Counts the bytes of a directory that is not written, or was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DirectoryLength {
    entries: u64,
    bytes: u64,
}

impl DirectoryLength {
    pub(super) fn add(&mut self, name_bytes: u64, size_bytes: u64, offset_bytes: u64) {
        let extra_bytes = match (size_bytes >= ZIP64_FROM, offset_bytes >= ZIP64_FROM) {
            (false, false) => 0,
            (false, true) => 4 + 8,
            (true, false) => 4 + 16,
            (true, true) => 4 + 24,
        };
        self.entries += 1;
        self.bytes += RECORD_BYTES as u64 + name_bytes + extra_bytes;
    }

    /// Where a zip ends whose directory starts at `offset_bytes`.
    pub(super) fn end_of_zip(self, offset_bytes: u64) -> u64 {
        let zip64_bytes = if end_needs_zip64(self.entries, self.bytes, offset_bytes) {
            END64_BYTES + LOCATOR_BYTES
        } else {
            0
        };
        offset_bytes.saturating_add(self.bytes + zip64_bytes + END_BYTES)
    }
}

/// The value, or the marker that sends a reader to the ZIP64 field.
fn marker32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn put16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}
