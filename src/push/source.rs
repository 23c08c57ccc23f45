//! A blob of the payload, raw or rebuilt, as the body of an upload.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use crate::payload::BlobReader;
use crate::registry::{BlobSource, RemoteBlob};
use crate::window::Window;

/// How much is read from the payload at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// How many such pieces may wait for the network.
const PIECES_WAITING_MAX: usize = 4;

/// A blob that can be read from any byte on, and as often as an upload begins anew.
#[derive(Clone)]
pub(super) enum Content {
    /// Raw in the payload.
    Payload(Box<BlobReader>),
    /// In memory.
    Bytes(&'static [u8]),
    /// In a temporary file.
    File { file: Arc<File>, size_bytes: u64 },
}

impl Content {
    fn bytes_from(self, from_byte: u64) -> Box<dyn Read + Send> {
        match self {
            Self::Payload(reader) => Box::new((*reader).bytes_from(from_byte)),
            Self::Bytes(bytes) => {
                let from = usize::try_from(from_byte).unwrap_or(usize::MAX).min(bytes.len());
                Box::new(&bytes[from..])
            }
            Self::File { file, size_bytes } => {
                Box::new(Window::new(file, from_byte, size_bytes.saturating_sub(from_byte)))
            }
        }
    }
}

impl BlobSource for Content {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let content = self.clone();
        tokio::task::spawn_blocking(move || read(content.bytes_from(from_byte), &sender));
        stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) }).boxed()
    }
}

/// Blobs of the far registry, one behind the other.
pub(super) struct Joined(pub(super) Vec<RemoteBlob>);

impl BlobSource for Joined {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let (mut streams, mut start) = (Vec::new(), 0);
        for blob in &self.0 {
            let size = blob.descriptor().size;
            let skipped = from_byte.saturating_sub(start).min(size);
            if skipped < size {
                streams.push(BlobSource::open(blob, skipped));
            }
            start += size;
        }
        stream::iter(streams).flatten().boxed()
    }
}

/// Sends all bytes until the end, an error, or nobody listens.
fn read(mut content: impl Read, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut buffer = vec![0; READ_BYTES];
        let piece = content.read(&mut buffer).map(|length| {
            buffer.truncate(length);
            Bytes::from(buffer)
        });
        let failed = piece.is_err();
        let is_end = piece.as_ref().is_ok_and(Bytes::is_empty);
        if is_end || pieces.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}
