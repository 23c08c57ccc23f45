//! A listener: HTTP/1.1 with or without TLS, and an end in good order. Who may ask what is its service's
//! matter; [`Logins`] knows the passwords.
//!
//! It promises that a connection that fails harms no other, that a client has limits for heads,
//! handshakes and for taking answers, and that requests under way may end when it is told to stop.

mod body;
mod connection;
mod error;
mod logins;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use body::Body;
pub use error::Error;
pub use logins::{CHALLENGE, InvalidLogins, Logins};
pub use tls::{InvalidTls, Tls};

/// How long requests may go on after the listener was told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How many connections there are at most; more wait for their turn.
const CONNECTIONS_MAX: usize = 1024;
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests. Clones answer as one.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one request. A body that fails breaks the connection off.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// An address that is listened at.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    local_address: SocketAddr,
    tls: Option<Tls>,
    idle_timeout: Duration,
}

impl Listener {
    /// Listens at `address`; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error`] if the address is taken or not ours.
    pub async fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, Error> {
        let listen = |source| Error { address, source };
        let tcp = TcpListener::bind(address).await.map_err(listen)?;
        let local_address = tcp.local_addr().map_err(listen)?;
        Ok(Self { tcp, local_address, tls, idle_timeout: IDLE_TIMEOUT })
    }

    /// The same with another limit for how long a client may take nothing of an answer.
    #[must_use]
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// Where it listens, with the port that it really has.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// The beginning of its addresses, such as `https://127.0.0.1:5000`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.local_address)
    }

    /// Whether other machines may reach it.
    pub fn is_exposed(&self) -> bool {
        !self.local_address.ip().is_loopback()
    }

    /// Whether what is sent can be read on the way.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Lets `service` answer until `shutdown` is ready; requests under way then have ten seconds to end.
    pub async fn run(self, service: impl Service, shutdown: impl Future) {
        let mut shutdown = std::pin::pin!(shutdown);
        let stop = watch::Sender::new(());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = &mut shutdown => break,
                accepted = self.tcp.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let (service, tls, idle) = (service.clone(), self.tls.clone(), self.idle_timeout);
                        let stopped = stop.subscribe();
                        connections.spawn(connection::serve(service, stream, tls, idle, stopped));
                    }
                    // Out of file descriptors, or a client that went away again.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.tcp);
        stop.send_replace(());
        let all_ended = async { while connections.join_next().await.is_some() {} };
        drop(tokio::time::timeout(STOP_TIMEOUT, all_ended).await);
    }
}
