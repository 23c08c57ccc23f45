//! Bytes that are checked against a digest and a size while they pass.

use std::io::{self, Read, Write};

use crate::digest::{Digest, Mismatch, Verifier};

/// Reads a blob to its end and says there whether it is the one that was promised.
///
/// A mismatch is an [`io::ErrorKind::InvalidData`] that holds the [`Mismatch`]; the end of the bytes is
/// only reported when they are right.
#[derive(Debug)]
pub struct VerifiedReader<R> {
    bytes: R,
    verifier: Option<Verifier>,
}

impl<R: Read> VerifiedReader<R> {
    /// Expects `size_bytes` bytes with `digest` in `bytes`.
    pub fn new(bytes: R, digest: Digest, size_bytes: u64) -> Self {
        Self { bytes, verifier: Some(Verifier::new(digest, size_bytes)) }
    }

    /// Reads what is left, only to check it.
    ///
    /// # Errors
    /// What reading runs into; the mismatch.
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        if count > 0 {
            if let Some(verifier) = &mut self.verifier {
                verifier.update(&buffer[..count]).map_err(mismatch)?;
            }
        } else if !buffer.is_empty()
            && let Some(verifier) = self.verifier.take()
        {
            verifier.finish().map_err(mismatch)?;
        }
        Ok(count)
    }
}

/// Writes a blob; [`VerifiedWriter::finish`] says whether it is the one that was promised.
#[derive(Debug)]
pub struct VerifiedWriter<W> {
    out: W,
    verifier: Verifier,
}

impl<W: Write> VerifiedWriter<W> {
    /// Expects `size_bytes` bytes with `digest`.
    pub fn new(out: W, digest: Digest, size_bytes: u64) -> Self {
        Self { out, verifier: Verifier::new(digest, size_bytes) }
    }

    /// Whether all bytes came and were right.
    ///
    /// # Errors
    /// The mismatch.
    pub fn finish(self) -> Result<(), Mismatch> {
        self.verifier.finish()
    }
}

impl<W: Write> Write for VerifiedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.verifier.update(&bytes[..count]).map_err(mismatch)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn mismatch(mismatch: Mismatch) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, mismatch)
}

/// The mismatch in an error of this module, however deep other readers have wrapped it.
pub fn mismatch_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Mismatch> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_promised_bytes_come_to_an_end() {
        let digest = Digest::of(b"content");
        for (bytes, is_right) in
            [(&b"content"[..], true), (b"conten", false), (b"contend", false), (b"contents", false)]
        {
            let reader = || VerifiedReader::new(bytes, digest.clone(), 7);
            let read = reader().read_to_end(&mut Vec::new());
            assert_eq!(read.is_ok(), is_right, "{bytes:?}");
            assert_eq!(reader().finish().is_ok(), is_right, "{bytes:?}");
            if let Err(error) = read {
                assert!(mismatch_in(&io::Error::other(error)).is_some(), "{bytes:?}");
            }
            let mut writer = VerifiedWriter::new(Vec::new(), digest.clone(), 7);
            let written = writer.write_all(bytes).is_ok() && writer.finish().is_ok();
            assert_eq!(written, is_right, "{bytes:?}");
        }
    }
}
