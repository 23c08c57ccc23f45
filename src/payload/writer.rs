//! Writes a payload's zip from front to back, into anything that takes bytes: a pipe too.
//!
//! Promises the bytes that docs/payload-format.md lays down, the same for the same entries. Nothing
//! that was written is ever touched again, and without [`Writer::finish`] there is no directory, so
//! whatever was dropped on the way is no valid zip. Refuses entries that are shorter or longer than
//! promised, and two of one name.

use std::collections::HashSet;
use std::io::{self, Write};

use super::headers::{self, Header, Kind};
use super::index::Entry;
use crate::digest::Digest;

/// An output that may hold bytes of the payload already.
pub trait Keep: Write {
    /// Moves on behind `bytes`, which stand at this very place already.
    ///
    /// # Errors
    /// What the output answers.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A payload on its way into `W`. Content goes straight through; give a buffered `W` if it comes in
/// crumbs.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
    state: State,
    headers: Vec<Header>,
    entries: Vec<Entry>,
    names: HashSet<String>,
    written_bytes: u64,
}

#[derive(Debug)]
enum State {
    Between,
    Inside(Open),
    /// Part of something was written, so no offset can be trusted any more.
    Broken,
}

/// A streamed entry whose bytes are still to come.
#[derive(Debug)]
struct Open {
    header: Header,
    crc32: crc32fast::Hasher,
    seen_bytes: u64,
}

impl<W: Write> Writer<W> {
    /// An empty payload; `output` stands at its first byte.
    pub fn new(output: W) -> Self {
        Self {
            output,
            state: State::Between,
            headers: Vec::new(),
            entries: Vec::new(),
            names: HashSet::new(),
            written_bytes: 0,
        }
    }

    /// Writes a small entry whose bytes are all at hand.
    ///
    /// # Errors
    /// What the output answers; [`io::ErrorKind::InvalidInput`] inside another entry, after an
    /// error, for a second entry of this name, or for a name that no zip can hold.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = self.header(name, bytes.len() as u64, Kind::Small)?;
        header.crc32 = crc32fast::hash(bytes);
        self.put(&header.local())?;
        self.put(bytes)?;
        self.keep(header, Digest::of(bytes).hex().to_owned());
        Ok(())
    }

    /// Begins an entry of exactly `size_bytes` bytes, which come by [`Writer::write`].
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn begin(&mut self, name: &str, size_bytes: u64) -> io::Result<()> {
        let header = self.header(name, size_bytes, Kind::Streamed)?;
        self.put(&header.local())?;
        self.state = State::Inside(Open { header, crc32: crc32fast::Hasher::new(), seen_bytes: 0 });
        Ok(())
    }

    /// Takes the next bytes of the entry that was begun.
    ///
    /// # Errors
    /// What the output answers; [`io::ErrorKind::InvalidInput`] outside of an entry or for more
    /// bytes than were promised, which are not written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes)?;
        self.put(bytes)
    }

    /// Counts the next bytes of the entry that was begun.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let State::Inside(open) = &mut self.state else {
            return Err(misuse("expected an entry to be begun before its bytes are written"));
        };
        let seen_bytes = open.seen_bytes.saturating_add(bytes.len() as u64);
        if seen_bytes > open.header.size_bytes {
            let Header { name, size_bytes, .. } = &open.header;
            let message = format!("expected {size_bytes} bytes for the entry `{name}`, found more");
            self.state = State::Broken;
            return Err(misuse(message));
        }
        open.seen_bytes = seen_bytes;
        open.crc32.update(bytes);
        Ok(())
    }

    /// Ends the entry that was begun. `sha256` is the SHA-256 of its bytes in hexadecimal digits,
    /// which the caller knows from checking the blob.
    ///
    /// # Errors
    /// What the output answers; [`io::ErrorKind::InvalidInput`] outside of an entry or when bytes
    /// are missing.
    pub fn end(&mut self, sha256: String) -> io::Result<()> {
        let State::Inside(open) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(misuse("expected an entry to be begun before it is ended"));
        };
        let Open { mut header, crc32, seen_bytes } = open;
        if seen_bytes != header.size_bytes {
            let Header { name, size_bytes, .. } = &header;
            return Err(misuse(format!(
                "expected {size_bytes} bytes for the entry `{name}`, found only {seen_bytes}"
            )));
        }
        header.crc32 = crc32.finalize();
        self.put(&header.descriptor())?;
        self.state = State::Between;
        self.keep(header, sha256);
        Ok(())
    }

    /// The finished entries, in order: what `kharon.json` lists.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many bytes went into the output so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes the directory and hands the output back, flushed.
    ///
    /// # Errors
    /// What the output answers; [`io::ErrorKind::InvalidInput`] inside an entry or after an error.
    pub fn finish(mut self) -> io::Result<W> {
        self.check_between()?;
        let offset_bytes = self.written_bytes;
        let directory: Vec<u8> = self.headers.iter().flat_map(Header::record).collect();
        self.put(&directory)?;
        let count = self.headers.len() as u64;
        self.put(&headers::end_records(count, directory.len() as u64, offset_bytes))?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn header(&mut self, name: &str, size_bytes: u64, kind: Kind) -> io::Result<Header> {
        self.check_between()?;
        if name.is_empty() || name.len() > usize::from(u16::MAX) || !name.is_ascii() {
            return Err(misuse(format!("expected an ASCII name for an entry, found `{name}`")));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(misuse(format!("expected each entry once, found `{name}` again")));
        }
        let offset_bytes = self.written_bytes;
        Ok(Header { name: name.to_owned(), size_bytes, kind, crc32: 0, offset_bytes })
    }

    fn check_between(&self) -> io::Result<()> {
        match &self.state {
            State::Between => Ok(()),
            State::Inside(open) => {
                Err(misuse(format!("expected the entry `{}` to be ended first", open.header.name)))
            }
            State::Broken => Err(misuse("expected a whole payload, found one that failed before")),
        }
    }

    fn keep(&mut self, header: Header, sha256: String) {
        self.entries.push(Entry { name: header.name.clone(), size: header.size_bytes, sha256 });
        self.headers.push(header);
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let put = self.output.write_all(bytes);
        self.done(put, bytes)
    }

    fn done(&mut self, put: io::Result<()>, bytes: &[u8]) -> io::Result<()> {
        match put {
            Ok(()) => {
                self.written_bytes += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.state = State::Broken;
                Err(error)
            }
        }
    }
}

impl<W: Keep> Writer<W> {
    /// As [`Writer::write`], for bytes that the output holds at this place already.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn keep_written(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes)?;
        let kept = self.output.keep(bytes);
        self.done(kept, bytes)
    }
}

fn misuse(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}
