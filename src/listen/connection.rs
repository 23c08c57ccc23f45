//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

use super::{Service, Tls};

/// How many header fields a request may have; clients send about ten.
const HEADERS_MAX: usize = 64;
/// The largest head of a request, and how much of a body is taken from the connection at once, in bytes.
const READ_BUFFER_BYTES: usize = 512 * 1024;
/// How long a connection may take to send a head, idle time between requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a client may take to agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// The first byte of a TLS connection: a record of the type "handshake" (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// What who speaks plain http to a TLS port is told.
const WANTS_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 35\r\n\r\nthis server speaks https, not http\n";

/// Serves one connection. One that fails is its client's to notice; no other suffers.
pub(super) async fn serve(
    service: impl Service,
    stream: TcpStream,
    tls: Option<Tls>,
    idle_timeout: Duration,
    mut stop: watch::Receiver<()>,
) {
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else {
        let stream = watched(stream, idle_timeout);
        return speak(service, TokioIo::new(stream), stop).await;
    };
    let mut stream = stream;
    let shaking = async {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first != [TLS_HANDSHAKE] {
            drop(stream.write_all(WANTS_TLS).await);
            return None;
        }
        tls.acceptor.accept(watched(stream, idle_timeout)).await.ok()
    };
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_TIMEOUT, shaking) => shaken,
        _ = stop.changed() => return,
    };
    if let Ok(Some(stream)) = shaken {
        speak(service, TokioIo::new(stream), stop).await;
    }
}

/// The stream, broken off when the other side takes nothing for too long.
fn watched(stream: TcpStream, idle_timeout: Duration) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(idle_timeout));
    Box::pin(stream)
}

async fn speak(
    service: impl Service,
    stream: impl Read + Write + Unpin,
    mut stop: watch::Receiver<()>,
) {
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(stream, answer)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}
