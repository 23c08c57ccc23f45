//! The bodies of answers: bytes, or a download that is written elsewhere while it is sent.
//!
//! A download has a length that was promised. If less comes, the body ends with an error, and hyper breaks the
//! connection: nobody takes a part for the whole.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many pieces of a download wait for a client at most.
const PIECES_WAITING_MAX: usize = 8;
/// A piece of a download has no more bytes.
const PIECE_MAX_BYTES: usize = 256 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Bytes(Option<Bytes>),
    Download(Download),
}

#[derive(Debug)]
struct Download {
    pieces: mpsc::Receiver<Bytes>,
    left_bytes: u64,
    writing: JoinHandle<()>,
}

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

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self(Kind::Bytes(None))
    }

    /// These bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(Some(bytes.into()).filter(|bytes| !bytes.is_empty())))
    }

    /// `length_bytes` bytes that the task `writing` puts into a pipe. When the body is dropped, the task ends.
    pub(super) fn download(outlet: Outlet, length_bytes: u64, writing: JoinHandle<()>) -> Self {
        Self(Kind::Download(Download { pieces: outlet.0, left_bytes: length_bytes, writing }))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.writing.abort();
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

impl Download {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left_bytes == 0 {
            return Poll::Ready(None);
        }
        let Some(piece) = ready!(self.pieces.poll_recv(context)) else {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        };
        match self.left_bytes.checked_sub(piece.len() as u64) {
            Some(left_bytes) => self.left_bytes = left_bytes,
            None => return Poll::Ready(Some(Err(io::ErrorKind::InvalidData.into()))),
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Download(download) => {
                download.poll(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_none(),
            Kind::Download(download) => download.left_bytes == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::Download(download) => download.left_bytes,
        })
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
        let body = Body::download(outlet, promised_bytes, writing);
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
