//! What a layer may cost: plain bytes, and memory for what stands between the files of a tar.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// The most plain bytes for one byte of a blob: what DEFLATE can give (RFC 1951: 258 bytes with two bits).
/// zstd and sparse files can give more, real layers do not.
const PLAIN_FOR_ONE: u64 = 1032;
/// More plain bytes that any layer may have, so that small ones are never too small, in bytes.
const PLAIN_MORE_BYTES: u64 = 1 << 20;
/// The most that may stand between two files, in bytes: long names, links and attributes are kept in memory. Go
/// takes 1 MiB for each.
const BETWEEN_MAX_BYTES: u64 = 4 << 20;

/// The most plain bytes that are taken of a blob, and the most that are written for it.
pub(super) fn plain_max_bytes(blob_bytes: u64) -> u64 {
    blob_bytes.saturating_mul(PLAIN_FOR_ONE).saturating_add(PLAIN_MORE_BYTES)
}

/// Why no more is read of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Plain,
    Between,
}

/// Counts what a tar's reader takes.
#[derive(Clone, Debug)]
pub(super) struct Meter(Rc<State>);

#[derive(Debug)]
struct State {
    left_bytes: Cell<u64>,
    /// `None` while a file's content is read.
    between_bytes: Cell<Option<u64>>,
    hit: Cell<Option<Limit>>,
}

impl Meter {
    pub(super) fn new(plain_max_bytes: u64) -> Self {
        Self(Rc::new(State {
            left_bytes: Cell::new(plain_max_bytes),
            between_bytes: Cell::new(None),
            hit: Cell::new(None),
        }))
    }

    /// What comes now is a header and what belongs to it.
    pub(super) fn between_files(&self) {
        self.0.between_bytes.set(Some(BETWEEN_MAX_BYTES));
    }

    /// What comes now is content.
    pub(super) fn in_file(&self) {
        self.0.between_bytes.set(None);
    }

    /// The limit that was hit, if one was.
    pub(super) fn hit(&self) -> Option<Limit> {
        self.0.hit.get()
    }

    /// `plain`, counted as it is read.
    pub(super) fn read<R: Read>(&self, plain: R) -> Metered<R> {
        Metered { plain, meter: self.clone() }
    }

    /// Counts bytes.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let stop = |limit| {
            self.0.hit.set(Some(limit));
            Err(io::Error::other("more than a layer may have"))
        };
        if let Some(between) = self.0.between_bytes.get() {
            match between.checked_sub(bytes) {
                Some(left) => self.0.between_bytes.set(Some(left)),
                None => return stop(Limit::Between),
            }
        }
        match self.0.left_bytes.get().checked_sub(bytes) {
            Some(left) => self.0.left_bytes.set(left),
            None => return stop(Limit::Plain),
        }
        Ok(())
    }
}

/// Bytes that are counted as they pass.
pub(super) struct Metered<R> {
    plain: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.plain.read(buffer)?;
        self.meter.take(count as u64)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends_at_the_limit_and_says_which() {
        let zeros = || io::repeat(0).take(10 << 20);
        let meter = Meter::new(5 << 20);
        assert!(io::copy(&mut meter.read(zeros()), &mut io::sink()).is_err());
        assert_eq!(meter.hit(), Some(Limit::Plain));
        let meter = Meter::new(20 << 20);
        meter.between_files();
        assert!(io::copy(&mut meter.read(zeros()), &mut io::sink()).is_err());
        assert_eq!(meter.hit(), Some(Limit::Between));
        let meter = Meter::new(20 << 20);
        meter.between_files();
        meter.in_file();
        assert!(io::copy(&mut meter.read(zeros()), &mut io::sink()).is_ok());
        assert_eq!(meter.hit(), None);
    }
}
