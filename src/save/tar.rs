//! The tar around an archive of images, written from its beginning to its end.
//!
//! Entries are what `docker save` writes: regular files and folders, mode 0644 and 0755, owner 0, time 0, so that the
//! same images give the same bytes. A name that is too long for a header has GNU's long name in front.

use std::io::{self, Read as _, Write};

/// The blocks that a tar is made of, in bytes.
const BLOCK_BYTES: u64 = 512;
/// Two empty blocks end a tar, in bytes.
pub(super) const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// The header of a file, with its long name in front where it has one.
pub(super) fn file_header(name: &str, size_bytes: u64) -> io::Result<Vec<u8>> {
    header(name, tar::EntryType::Regular, 0o644, size_bytes)
}

/// The header of a folder.
pub(super) fn folder_header(name: &str) -> io::Result<Vec<u8>> {
    header(name, tar::EntryType::Directory, 0o755, 0)
}

fn header(name: &str, kind: tar::EntryType, mode: u32, size_bytes: u64) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
    let mut builder = tar::Builder::new(Vec::new());
    // The content follows from elsewhere.
    builder.append_data(&mut header, name, io::empty())?;
    Ok(builder.get_ref().clone())
}

/// How many bytes a content takes, filled up to whole blocks; `None` beyond all measure.
pub(super) fn padded_bytes(size_bytes: u64) -> Option<u64> {
    size_bytes.checked_next_multiple_of(BLOCK_BYTES)
}

/// Fills a content of `size_bytes` up to whole blocks.
pub(super) fn pad(out: &mut impl Write, size_bytes: u64) -> io::Result<()> {
    zeros(out, (BLOCK_BYTES - size_bytes % BLOCK_BYTES) % BLOCK_BYTES)
}

/// Ends the tar.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    zeros(out, END_BYTES)
}

fn zeros(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes), out).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_and_large_sizes_are_read_back() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let mut out = Vec::new();
        for (name, content) in [("short", &b"x"[..]), (&long, b""), ("whole", &[7; 512])] {
            out.extend(file_header(name, content.len() as u64).expect("a header"));
            out.extend(content);
            pad(&mut out, content.len() as u64).expect("written");
        }
        end(&mut out).expect("written");
        let mut archive = tar::Archive::new(&out[..]);
        let mut read = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("read");
            read.push((name, content));
        }
        let expected = [
            ("short".to_owned(), vec![b'x']),
            (long, Vec::new()),
            ("whole".to_owned(), vec![7; 512]),
        ];
        assert_eq!(read, expected);
        let header = file_header("large", 20 << 30).expect("a header");
        let header = tar::Header::from_byte_slice(&header);
        assert_eq!(header.entry_size().expect("a size"), 20 << 30);
    }
}
