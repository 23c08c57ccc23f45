//! A download that is written elsewhere while it is sent.

use std::io::{self, Write};
use std::task::Context;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::listen::Body;

/// How many pieces of a download wait for a client at most.
const PIECES_WAITING_MAX: usize = 8;
/// A piece of a download has no more bytes.
const PIECE_MAX_BYTES: usize = 256 * 1024;

/// Where a download is written. Blocks while the client has enough.
pub(super) struct Pipe(mpsc::Sender<Bytes>);

/// A pipe whose pieces a [`Body`] is to send.
pub(super) struct Outlet(mpsc::Receiver<Bytes>);

/// A pipe from whoever writes a download to the body that sends it.
pub(super) fn pipe() -> (Pipe, Outlet) {
    let (pipe, outlet) = mpsc::channel(PIECES_WAITING_MAX);
    (Pipe(pipe), Outlet(outlet))
}

impl Pipe {
    /// Keeps a download that broke off from ending before it was told of.
    pub(super) fn held(&self) -> Self {
        Self(self.0.clone())
    }
}

/// `length_bytes` bytes that the task `writing` puts into a pipe. When the body is dropped, the task ends.
pub(super) fn download(outlet: Outlet, length_bytes: u64, writing: JoinHandle<()>) -> Body {
    let (mut pieces, writing) = (outlet.0, Writing(writing));
    let next = move |context: &mut Context<'_>| {
        let _held = &writing;
        pieces.poll_recv(context).map(|piece| piece.map(Ok))
    };
    Body::of_pieces(stream::poll_fn(next), length_bytes)
}

/// A task that ends with this.
struct Writing(JoinHandle<()>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_MAX_BYTES)];
        if !piece.is_empty() {
            let sent = self.0.blocking_send(Bytes::copy_from_slice(piece));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn sent(promised_bytes: u64, written: &'static [&'static [u8]]) -> io::Result<Bytes> {
        let (mut pipe, outlet) = pipe();
        let writing = tokio::task::spawn_blocking(move || {
            // Whoever does not read on need not be written to.
            written.iter().try_for_each(|piece| pipe.write_all(piece)).unwrap_or_default();
        });
        let body = download(outlet, promised_bytes, writing);
        body.collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn only_a_download_that_is_whole_ends_well() {
        assert_eq!(sent(4, &[b"ab", b"", b"cd"]).await.expect("whole"), "abcd");
        assert_eq!(sent(0, &[]).await.expect("whole"), "");
        let short = sent(5, &[b"ab", b"cd"]).await.expect_err("short");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        let long = sent(3, &[b"ab", b"cd"]).await.expect_err("long");
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn who_writes_for_nobody_is_told() {
        let (mut pipe, outlet) = pipe();
        drop(outlet);
        let written = tokio::task::spawn_blocking(move || pipe.write_all(b"x")).await;
        let error = written.expect("it ran").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
