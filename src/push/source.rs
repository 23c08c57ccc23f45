//! A blob of the payload as the body of an upload.

use std::io;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use crate::payload::BlobReader;
use crate::registry::BlobSource;

/// How much is read from the payload at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// How many such pieces may wait for the network.
const PIECES_WAITING_MAX: usize = 4;

/// Reads a blob out of the payload, from any byte on and as often as an upload begins anew.
pub(super) struct FromPayload(pub(super) BlobReader);

impl BlobSource for FromPayload {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let reader = self.0.clone();
        tokio::task::spawn_blocking(move || read(&reader, from_byte, &sender));
        stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) }).boxed()
    }
}

/// Sends the bytes from `from_byte` on until the end, an error, or nobody listens.
fn read(reader: &BlobReader, from_byte: u64, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    let mut at = from_byte;
    while at < reader.size_bytes() {
        let left = usize::try_from(reader.size_bytes() - at).unwrap_or(usize::MAX);
        let mut buffer = vec![0; left.min(READ_BYTES)];
        let piece = reader.read_at(at, &mut buffer).map(|length| {
            buffer.truncate(length);
            Bytes::from(buffer)
        });
        let length = piece.as_ref().map_or(0, Bytes::len);
        if pieces.blocking_send(piece).is_err() || length == 0 {
            return;
        }
        at += length as u64;
    }
}
