//! A blob of the payload, raw or rebuilt, as the body of an upload.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
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
    let mut buffers = Buffers::default();
    loop {
        let mut buffer = buffers.take();
        let piece = content.read(&mut buffer).map(|length| {
            buffer.truncate(length);
            buffers.lend(buffer)
        });
        let failed = piece.is_err();
        let is_end = piece.as_ref().is_ok_and(Bytes::is_empty);
        if is_end || pieces.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

/// Buffers that are read into again once nobody holds what was in them: fresh memory for every piece costs
/// more than the reading.
#[derive(Default)]
struct Buffers {
    /// The longest lent comes first.
    lent: VecDeque<BytesMut>,
}

impl Buffers {
    fn take(&mut self) -> BytesMut {
        let is_back = self.lent.front_mut().is_some_and(|oldest| oldest.try_reclaim(READ_BYTES));
        let mut buffer = if is_back { self.lent.pop_front() } else { None }.unwrap_or_default();
        buffer.resize(READ_BYTES, 0);
        buffer
    }

    /// What is in `buffer`, which comes back by itself.
    fn lend(&mut self, mut buffer: BytesMut) -> Bytes {
        let piece = buffer.split().freeze();
        self.lent.push_back(buffer);
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_read_into_again_once_nobody_holds_its_piece() {
        let mut buffers = Buffers::default();
        let mut lend = |byte: u8| {
            let mut buffer = buffers.take();
            buffer.fill(byte);
            (buffer.as_ptr(), buffers.lend(buffer))
        };
        let (first_place, first) = lend(1);
        let (second_place, second) = lend(2);
        assert_ne!(first_place, second_place);
        drop(second);
        assert_eq!(first, vec![1; READ_BYTES]);
        drop(first);
        let (third_place, third) = lend(3);
        let (fourth_place, fourth) = lend(4);
        assert_eq!([third_place, fourth_place], [first_place, second_place]);
        assert_eq!((third, fourth), (vec![3; READ_BYTES].into(), vec![4; READ_BYTES].into()));
    }

    #[test]
    fn everything_is_sent_in_pieces_and_then_no_more() {
        let content: Vec<u8> = (0_u8..251).cycle().take(3 * READ_BYTES + 5).collect();
        let (sender, mut pieces) = mpsc::channel(8);
        read(content.as_slice(), &sender);
        drop(sender);
        let mut found = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            found.extend_from_slice(&piece.expect("readable"));
        }
        assert!(found == content);
    }
}
