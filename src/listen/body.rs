//! The bodies of answers: bytes, or pieces that are made while those before them are sent.
//!
//! A body of pieces has a length that was promised. If less comes, or more, it ends with an error, and hyper breaks the
//! connection: nobody takes a part for the whole.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use hyper::body::{Frame, SizeHint};

/// The body of an answer.
pub struct Body(Kind);

enum Kind {
    Bytes(Option<Bytes>),
    Pieces { pieces: BoxStream<'static, io::Result<Bytes>>, left_bytes: u64 },
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

    /// `length_bytes` bytes in pieces.
    pub fn of_pieces(
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        length_bytes: u64,
    ) -> Self {
        Self(Kind::Pieces { pieces: pieces.boxed(), left_bytes: length_bytes })
    }

    fn left_bytes(&self) -> u64 {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::Pieces { left_bytes, .. } => *left_bytes,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("left_bytes", &self.left_bytes()).finish_non_exhaustive()
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (pieces, left_bytes) = match &mut self.0 {
            Kind::Bytes(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Pieces { left_bytes: 0, .. } => return Poll::Ready(None),
            Kind::Pieces { pieces, left_bytes } => (pieces, left_bytes),
        };
        let short = || Err(io::ErrorKind::UnexpectedEof.into());
        let piece = ready!(pieces.poll_next_unpin(context)).unwrap_or_else(short);
        let piece = piece.and_then(|piece| {
            let left = left_bytes.checked_sub(piece.len() as u64);
            *left_bytes = left.ok_or(io::ErrorKind::InvalidData)?;
            Ok(Frame::data(piece))
        });
        Poll::Ready(Some(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, Collected};

    use super::*;

    async fn sent(promised_bytes: u64, pieces: &[&'static [u8]]) -> io::Result<Bytes> {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        let body = Body::of_pieces(stream::iter(pieces), promised_bytes);
        body.collect().await.map(Collected::to_bytes)
    }

    #[tokio::test]
    async fn only_pieces_that_are_the_whole_end_well() {
        assert_eq!(sent(4, &[b"ab", b"", b"cd"]).await.expect("whole"), "abcd");
        assert_eq!(sent(0, &[]).await.expect("whole"), "");
        let short = sent(5, &[b"ab", b"cd"]).await.expect_err("short");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        let long = sent(3, &[b"ab", b"cd"]).await.expect_err("long");
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
        let torn = stream::iter([Ok(Bytes::from_static(b"ab")), Err(io::ErrorKind::Other.into())]);
        let torn = Body::of_pieces(torn, 4).collect().await.expect_err("torn");
        assert_eq!(torn.kind(), io::ErrorKind::Other);
    }
}
