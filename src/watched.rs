//! Reports how much of a blob was read.

use std::io::{self, Read};
use std::sync::Arc;

use crate::digest::Digest;
use crate::progress::{Event, Reporter};

/// Bytes of a blob that are reported as they pass.
pub(crate) struct Watched<R> {
    bytes: R,
    digest: Digest,
    seen_bytes: u64,
    reporter: Arc<dyn Reporter>,
}

impl<R> Watched<R> {
    /// Reports that the blob `digest` of `size_bytes` bytes begins to move.
    pub(crate) fn new(
        bytes: R,
        digest: &Digest,
        size_bytes: u64,
        reporter: &Arc<dyn Reporter>,
    ) -> Self {
        reporter.report(Event::BlobStarted { digest: digest.clone(), bytes: size_bytes });
        let reporter = Arc::clone(reporter);
        Self { bytes, digest: digest.clone(), seen_bytes: 0, reporter }
    }

    /// Reports that all was in vain.
    pub(crate) fn rewind(self) {
        let Self { digest, seen_bytes: bytes, .. } = self;
        self.reporter.report(Event::BlobRewound { digest, bytes });
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        let (digest, bytes) = (self.digest.clone(), count as u64);
        self.reporter.report(Event::BlobAdvanced { digest, bytes });
        self.seen_bytes += bytes;
        Ok(count)
    }
}
