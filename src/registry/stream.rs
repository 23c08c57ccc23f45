//! The bytes of a blob as they come, taken up again where they tear.

use std::fmt;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::answer::Response;
use super::blob::RemoteBlob;
use super::error::{Error, Kind, Trouble};
use super::range::Found;
use super::retry::Attempts;
use super::section::BlobSource;
use crate::digest::Mismatch;
use crate::manifest::Descriptor;

/// The bytes of a part of a blob, in order.
pub struct BlobStream {
    blob: RemoteBlob,
    extent: Range<u64>,
    position: u64,
    body: Option<Response>,
    skip_bytes: u64,
    attempts: Attempts,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?} at {}", self.extent, self.blob, self.position)
    }
}

/// What comes of a blob whose server gives all of it, whatever was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The range, unless it was the blob's beginning.
    Cut,
    /// Everything from the range's start on.
    Take,
}

impl BlobStream {
    pub(super) async fn open(
        blob: RemoteBlob,
        range: Range<u64>,
        rest: Rest,
    ) -> Result<Self, Error> {
        let size_bytes = blob.size_bytes();
        let end = range.end.min(size_bytes);
        let extent = range.start.min(end)..end;
        let (position, attempts) = (extent.start, blob.http().attempts());
        let mut stream = Self { blob, extent, position, body: None, skip_bytes: 0, attempts };
        if !stream.extent.is_empty() || size_bytes == 0 {
            let found = stream.connect().await?;
            if found.is_whole && (rest == Rest::Take || stream.position == 0) {
                stream.extent.end = size_bytes;
            }
            stream.read_from(found);
        }
        Ok(stream)
    }

    /// Which bytes of the blob come. More than was asked for only where a server gives the whole blob
    /// to one who wanted its beginning.
    pub fn extent(&self) -> Range<u64> {
        self.extent.clone()
    }

    /// The next bytes, none behind the last one. A stream that tears or stands still is taken up
    /// again where it tore. Can be dropped while it waits; no byte is lost then.
    ///
    /// # Errors
    /// If the stream tore more often than is tolerated without a byte in between;
    /// [`Error::is_damaged_content`] if the registry has fewer bytes than it should.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.extent.end {
            if self.body.is_none() {
                let found = self.connect().await?;
                self.read_from(found);
            }
            let Some(body) = self.body.as_mut() else { continue };
            let error = match body.piece().await {
                Ok(Some(piece)) => match self.wanted(piece) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => self.ended_early(),
                Err(failure) => self.blob.subject().error(failure),
            };
            self.body = None;
            self.attempts.pause_after(error).await.map_err(|error| self.judged(error))?;
        }
        self.body = None;
        Ok(None)
    }

    async fn connect(&mut self) -> Result<Found, Error> {
        loop {
            match self.blob.find(&(self.position..self.extent.end)).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let paused = self.attempts.pause_after(error).await;
                    paused.map_err(|error| self.judged(error))?;
                }
            }
        }
    }

    fn read_from(&mut self, found: Found) {
        self.skip_bytes = found.skip_bytes;
        self.body = Some(found.response);
    }

    /// The part of `piece` that was asked for.
    fn wanted(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let skipped = self.skip_bytes.min(piece.len() as u64);
        self.skip_bytes -= skipped;
        let left = self.extent.end - self.position;
        // Both are at most the piece's length, which is a `usize`.
        let _ = piece.split_to(usize::try_from(skipped).unwrap_or(usize::MAX));
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        if piece.is_empty() {
            return None;
        }
        self.position += piece.len() as u64;
        self.attempts.reset();
        Some(piece)
    }

    /// A clean end in front of the last byte: perhaps a proxy gave up, so it is worth another try.
    fn ended_early(&self) -> Error {
        let kind = Kind::Transport { trouble: Trouble::EndedEarly, source: None };
        self.blob.subject().error(kind)
    }

    /// Ends and refusals that say that there are no more bytes are damage.
    fn judged(&self, error: Error) -> Error {
        let no_more = error.trouble() == Some(Trouble::EndedEarly) || error.status() == Some(416);
        if !no_more {
            return error;
        }
        let Descriptor { digest, size, .. } = self.blob.descriptor();
        let (digest, expected, found) = (digest.clone(), *size, self.position);
        self.blob.subject().error(Kind::Damaged(Mismatch::TooShort { digest, expected, found }))
    }
}

impl BlobSource for RemoteBlob {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let blob = self.clone();
        let opened = async move { Self::open(&blob, from_byte..u64::MAX).await };
        stream::once(opened)
            .flat_map(|opened| match opened {
                Ok(stream) => pieces(stream).left_stream(),
                Err(error) => stream::iter([Err(io::Error::other(error))]).right_stream(),
            })
            .boxed()
    }
}

fn pieces(stream: BlobStream) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match stream.next().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(stream))),
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    })
}
