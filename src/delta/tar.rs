//! Where files lie in a tar: just enough of the format to find names and contents.
//!
//! Only the maker uses this, and nothing depends on it being right: a tar that is read wrongly makes a
//! larger delta, never a wrong one. What does not parse is one content without a name.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::window::read_exact_at;

const BLOCK_BYTES: usize = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Extension headers above this are not read; real ones hold a path.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// What may follow the end mark and still count as headers: GNU tar fills up its record of 10 KiB.
const MAX_END_BYTES: u64 = 64 << 10;

/// One entry: headers (with the former content's padding before them), then content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The path without `./` and `/` before it; empty where there is none.
    pub path: String,
    pub meta: Range<u64>,
    pub content: Range<u64>,
}

/// The entries of the tar in `file`; they cover all `size_bytes` without a gap.
pub(super) fn entries(file: &File, size_bytes: u64) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut start = 0;
    while let Some(entry) = next_entry(file, start, size_bytes)? {
        start = entry.content.end;
        entries.push(entry);
    }
    if start < size_bytes {
        let is_end = !entries.is_empty() && size_bytes - start <= MAX_END_BYTES;
        let cut = if is_end { size_bytes } else { start };
        let path = String::new();
        entries.push(Entry { path, meta: start..cut, content: cut..size_bytes });
    }
    Ok(entries)
}

fn next_entry(file: &File, start: u64, size_bytes: u64) -> io::Result<Option<Entry>> {
    let mut position = start.next_multiple_of(BLOCK);
    let mut extension = Extension::default();
    loop {
        let mut block = [0; BLOCK_BYTES];
        if position + BLOCK > size_bytes {
            return Ok(None);
        }
        read_exact_at(file, position, &mut block)?;
        let Some(header) = Header::parse(&block) else { return Ok(None) };
        position += BLOCK;
        if header.is_extension() {
            if header.size_bytes > MAX_EXTENSION_BYTES || position + header.size_bytes > size_bytes
            {
                return Ok(None);
            }
            let length = usize::try_from(header.size_bytes).unwrap_or(0);
            let mut bytes = vec![0; length];
            read_exact_at(file, position, &mut bytes)?;
            extension.read(header.kind, &bytes);
            position += header.size_bytes.next_multiple_of(BLOCK);
            continue;
        }
        // GNU's old sparse files have further maps behind the header.
        let mut more = header.kind == b'S' && block[482] != 0;
        while more {
            if position + BLOCK > size_bytes {
                return Ok(None);
            }
            read_exact_at(file, position, &mut block)?;
            more = block[504] != 0;
            position += BLOCK;
        }
        let has_content = !matches!(header.kind, b'1'..=b'6');
        let length = extension.size_bytes.unwrap_or(header.size_bytes);
        let length = if has_content { length } else { 0 };
        let end = position.checked_add(length).filter(|end| *end <= size_bytes);
        let Some(end) = end else { return Ok(None) };
        let path = extension.path.unwrap_or(header.path);
        let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
        return Ok(Some(Entry { path, meta: start..position, content: position..end }));
    }
}

struct Header {
    kind: u8,
    path: String,
    size_bytes: u64,
}

impl Header {
    fn parse(block: &[u8; BLOCK_BYTES]) -> Option<Self> {
        let sum: u64 = block.iter().enumerate().fold(0, |sum, (index, byte)| {
            sum + u64::from(if (148..156).contains(&index) { b' ' } else { *byte })
        });
        if number(&block[148..156]) != Some(sum) {
            return None;
        }
        let mut path = text(&block[..100]);
        if &block[257..263] == b"ustar\0" && block[345] != 0 {
            path = format!("{}/{path}", text(&block[345..500]));
        }
        Some(Self { kind: block[156], path, size_bytes: number(&block[124..136])? })
    }

    fn is_extension(&self) -> bool {
        matches!(self.kind, b'x' | b'g' | b'X' | b'L' | b'K')
    }
}

/// What extension headers say about the entry behind them.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    size_bytes: Option<u64>,
}

impl Extension {
    fn read(&mut self, kind: u8, bytes: &[u8]) {
        match kind {
            b'L' => self.path = Some(text(bytes)),
            b'x' | b'X' => self.read_pax(bytes),
            _ => {}
        }
    }

    /// Records of the form `<length> <key>=<value>\n`.
    fn read_pax(&mut self, mut bytes: &[u8]) {
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let length = String::from_utf8_lossy(&bytes[..space]).parse().unwrap_or(0);
            if length <= space + 1 || length > bytes.len() {
                return;
            }
            let record = String::from_utf8_lossy(&bytes[space + 1..length]);
            match record.trim_end_matches('\n').split_once('=') {
                Some(("path", path)) => self.path = Some(path.to_owned()),
                Some(("size", size)) => self.size_bytes = size.parse().ok(),
                _ => {}
            }
            bytes = &bytes[length..];
        }
    }
}

/// The text up to the first zero byte.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// An octal number, or GNU's binary one.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let tail = &field[field.len() - 8..];
        return Some(tail.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let digits = text(field);
    let digits = digits.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}
