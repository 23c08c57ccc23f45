//! Bodies that are read as they are sent, each piece while the one before it is on its way.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::listen::Body;
use crate::window::Window;

/// How much is read at once, in bytes. A client that takes nothing holds some three times as much of memory.
const READ_BYTES: u64 = 256 * 1024;

/// What is called when all was read, or when reading failed.
pub(super) type Ended = Box<dyn FnOnce(Result<(), &io::Error>) + Send>;

/// `length_bytes` bytes of `file` from `start_bytes` on.
pub(super) fn of_file(file: File, start_bytes: u64, length_bytes: u64) -> Body {
    let window = Window::new(Arc::new(file), start_bytes, length_bytes);
    of_reader(Box::new(window), length_bytes, None)
}

/// All that `reader` gives, which must be `length_bytes` bytes: the last of them are only sent when it has said that they
/// are the last.
pub(super) fn of_reader(
    reader: Box<dyn Read + Send>,
    length_bytes: u64,
    ended: Option<Ended>,
) -> Body {
    if length_bytes == 0 {
        return Body::empty();
    }
    let source = Source { reader, ended, unread_bytes: length_bytes };
    let pieces = stream::try_unfold(Some(source.read()), async |next| {
        let Some(next) = next else { return Ok(None) };
        let (source, piece) = next.await.map_err(io::Error::other)??;
        Ok(Some((piece, (source.unread_bytes > 0).then(|| source.read()))))
    });
    Body::of_pieces(pieces, length_bytes)
}

/// Where the bytes come from, and who wants to know how it went.
struct Source {
    reader: Box<dyn Read + Send>,
    ended: Option<Ended>,
    unread_bytes: u64,
}

impl Source {
    /// Begins to read the next piece.
    fn read(mut self) -> JoinHandle<io::Result<(Self, Bytes)>> {
        spawn_blocking(move || {
            let piece = self.piece();
            if (piece.is_err() || self.unread_bytes == 0)
                && let Some(ended) = self.ended.take()
            {
                ended(piece.as_ref().map(drop));
            }
            piece.map(|piece| (self, piece))
        })
    }

    fn piece(&mut self) -> io::Result<Bytes> {
        let length_bytes = self.unread_bytes.min(READ_BYTES);
        self.unread_bytes -= length_bytes;
        let mut piece = Vec::with_capacity(usize::try_from(length_bytes).unwrap_or_default());
        (&mut self.reader).take(length_bytes).read_to_end(&mut piece)?;
        if piece.len() as u64 != length_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.unread_bytes == 0 && self.reader.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there are more bytes"));
        }
        Ok(piece.into())
    }
}
