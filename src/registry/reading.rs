//! A blob read by a thread that may block.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::runtime::Handle;

use super::blob::RemoteBlob;
use super::stream::BlobStream;

/// The bytes of a blob, for code that reads and waits. Torn streams are taken up again as everywhere.
/// Nothing is checked here. Must not be used on a thread that runs async tasks.
#[derive(Debug)]
pub struct BlockingBlob {
    runtime: Handle,
    blob: RemoteBlob,
    stream: Option<BlobStream>,
    piece: Bytes,
}

impl RemoteBlob {
    /// The blob from its beginning; `runtime` does the talking.
    pub fn blocking(self, runtime: Handle) -> BlockingBlob {
        BlockingBlob { runtime, blob: self, stream: None, piece: Bytes::new() }
    }
}

impl BlockingBlob {
    async fn next(&mut self) -> Result<Option<Bytes>, super::Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.blob.open(0..u64::MAX).await?),
        };
        stream.next().await
    }
}

impl Read for BlockingBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let runtime = self.runtime.clone();
            let piece = runtime.block_on(self.next()).map_err(io::Error::other)?;
            self.piece = piece.unwrap_or_default();
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
