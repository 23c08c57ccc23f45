//! The needed bytes of the baseline blobs, at the far side: each blob streams by once, and only its
//! needed ranges are kept, in one temporary file that is the need space of the format.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::Path;

use crate::digest::Digest;
use crate::window::read_exact_at;

use super::error::DeltaError;
use super::needs::{BlobNeeds, Needs};

/// How many bytes of a baseline are handled at a time.
const STEP_BYTES: usize = 256 << 10;

/// The need space of one delta, on disk.
#[derive(Debug)]
pub struct Spool {
    needs: Needs,
    /// One file a blob, in the table's order; `None` until the blob was spooled.
    blobs: Vec<Option<File>>,
    /// Where each blob starts in the need space, and at last where the space ends.
    starts: Vec<u64>,
    workdir: std::path::PathBuf,
}

impl Spool {
    /// An empty spool; its temporary files will lie in `workdir` and have no name.
    pub fn new(needs: Needs, workdir: &Path) -> Self {
        let mut starts = vec![0];
        for blob in &needs.blobs {
            starts.push(starts.last().copied().unwrap_or(0) + blob.size_bytes());
        }
        let blobs = needs.blobs.iter().map(|_| None).collect();
        Self { needs, blobs, starts, workdir: workdir.to_owned() }
    }

    /// What it was made for.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Takes the plain bytes of baseline `digest` from `plain`, up to the last one that is needed.
    ///
    /// # Errors
    /// [`DeltaError::NotNeeded`], [`DeltaError::BaselineShort`], or a failed read or temporary file.
    pub fn fill(&mut self, digest: &Digest, plain: &mut impl Read) -> Result<(), DeltaError> {
        let mut intake = self.intake(digest)?;
        let mut buffer = vec![0; STEP_BYTES];
        while !intake.is_full() {
            match plain.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => intake.take(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DeltaError::Read(error)),
            }
        }
        self.keep(intake)
    }

    /// A place for the plain bytes of baseline `digest`, for callers that stream one blob into
    /// several spools. Give it back with [`Spool::keep`].
    ///
    /// # Errors
    /// [`DeltaError::NotNeeded`], or a temporary file that cannot be made.
    pub fn intake(&self, digest: &Digest) -> Result<Intake, DeltaError> {
        let needs = self.needs.blobs.iter().find(|blob| blob.digest == *digest).cloned();
        let needs = needs.ok_or_else(|| DeltaError::NotNeeded { digest: digest.clone() })?;
        let file = tempfile::tempfile_in(&self.workdir).map_err(DeltaError::Workdir)?;
        Ok(Intake {
            needs,
            next: 0,
            seen_bytes: 0,
            file: BufWriter::with_capacity(STEP_BYTES, file),
        })
    }

    /// Keeps what an [`Intake`] took.
    ///
    /// # Errors
    /// [`DeltaError::BaselineShort`] if bytes are missing, or a temporary file that cannot be written.
    pub fn keep(&mut self, intake: Intake) -> Result<(), DeltaError> {
        if !intake.is_full() {
            return Err(DeltaError::BaselineShort {
                expected: intake.needs.end(),
                found: intake.seen_bytes,
                digest: intake.needs.digest,
            });
        }
        let place = self.needs.blobs.iter().position(|blob| *blob == intake.needs);
        let Some(place) = place else { return Err(DeltaError::OtherNeeds) };
        let file = intake.file.into_inner();
        let file = file.map_err(|error| DeltaError::Workdir(error.into_error()))?;
        self.blobs[place] = Some(file);
        Ok(())
    }

    /// Refuses a spool that some blob never came into.
    pub(super) fn check_complete(&self) -> Result<(), DeltaError> {
        match self.blobs.iter().position(Option::is_none) {
            None => Ok(()),
            Some(index) => {
                let digest = self.needs.blobs[index].digest.clone();
                Err(DeltaError::BaselineMissing { digest })
            }
        }
    }

    /// Fills `buffer` from the need space. `offset` and length must lie inside it, as the tables'
    /// checks ensure.
    pub(super) fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), DeltaError> {
        while !buffer.is_empty() {
            let place = self.starts.partition_point(|start| *start <= offset) - 1;
            let outside = || DeltaError::Workdir(io::ErrorKind::UnexpectedEof.into());
            let file = self.blobs.get(place).and_then(Option::as_ref).ok_or_else(outside)?;
            let left = self.starts[place + 1] - offset;
            let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let (head, tail) = buffer.split_at_mut(count);
            read_exact_at(file, offset - self.starts[place], head).map_err(DeltaError::Workdir)?;
            offset += count as u64;
            buffer = tail;
        }
        Ok(())
    }
}

/// Picks the needed ranges out of one baseline's plain bytes as they stream by.
#[derive(Debug)]
pub struct Intake {
    needs: BlobNeeds,
    /// The range that is being filled.
    next: usize,
    seen_bytes: u64,
    file: BufWriter<File>,
}

impl Intake {
    /// Whether the last needed byte was seen, so that the rest need not be read.
    pub fn is_full(&self) -> bool {
        self.next == self.needs.ranges.len()
    }

    /// Takes the next plain bytes of the blob.
    ///
    /// # Errors
    /// [`DeltaError::Workdir`] if they cannot be kept.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        let end = self.seen_bytes + bytes.len() as u64;
        while let Some(range) = self.needs.ranges.get(self.next) {
            let part = overlap(range, self.seen_bytes..end);
            if part.start < part.end {
                let from = usize::try_from(part.start - self.seen_bytes).unwrap_or(usize::MAX);
                let to = usize::try_from(part.end - self.seen_bytes).unwrap_or(usize::MAX);
                self.file.write_all(&bytes[from..to]).map_err(DeltaError::Workdir)?;
            }
            if range.end > end {
                break;
            }
            self.next += 1;
        }
        self.seen_bytes = end;
        Ok(())
    }
}

fn overlap(range: &Range<u64>, seen: Range<u64>) -> Range<u64> {
    range.start.max(seen.start)..range.end.min(seen.end)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges may have one")]
mod tests {
    use super::*;

    fn needs(ranges: &[Range<u64>]) -> Needs {
        let blob = |text: &[u8]| BlobNeeds { digest: Digest::of(text), ranges: ranges.to_vec() };
        Needs {
            output_bytes: 0,
            output_digest: Digest::of(b""),
            blobs: vec![blob(b"one"), blob(b"two")],
        }
    }

    #[test]
    fn only_the_needed_ranges_are_kept_whatever_the_pieces_they_come_in() {
        let plain: Vec<u8> = (0..=255).collect();
        let workdir = tempfile::tempdir().expect("a temporary folder");
        for step in [1, 3, 10, 256] {
            let mut spool = Spool::new(needs(&[2..5, 7..8, 200..210]), workdir.path());
            for text in [&b"two"[..], b"one"] {
                let mut intake = spool.intake(&Digest::of(text)).expect("needed");
                for piece in plain.chunks(step) {
                    intake.take(piece).expect("taken");
                }
                spool.keep(intake).expect("complete");
            }
            spool.check_complete().expect("both came");
            let mut bytes = [0; 28];
            spool.read_at(0, &mut bytes).expect("inside");
            let once = [&plain[2..5], &plain[7..8], &plain[200..210]].concat();
            assert_eq!(bytes[..], [&once[..], &once].concat());
            assert!(spool.read_at(20, &mut bytes).is_err());
        }
    }

    #[test]
    fn a_short_a_foreign_and_a_missing_baseline_are_named() {
        let workdir = tempfile::tempdir().expect("a temporary folder");
        let mut spool = Spool::new(needs(&[0..10]), workdir.path());
        let digest = Digest::of(b"one");
        let short = spool.fill(&digest, &mut &b"123456789"[..]);
        assert!(matches!(short, Err(DeltaError::BaselineShort { expected: 10, found: 9, .. })));
        let foreign = spool.fill(&Digest::of(b"three"), &mut &b"1234567890"[..]);
        assert!(matches!(foreign, Err(DeltaError::NotNeeded { .. })));
        spool.fill(&digest, &mut &b"1234567890 and more"[..]).expect("long enough");
        let missing = spool.check_complete();
        assert!(matches!(missing, Err(DeltaError::BaselineMissing { .. })));
    }
}
