//! Why the server cannot run.

use std::io;
use std::net::SocketAddr;

use crate::layout;

/// A server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be served.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The address cannot be listened at.
    #[error("cannot listen at `{address}`")]
    Listen {
        /// The address as asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => error.hint(),
            Self::Listen { address, source } => match source.kind() {
                io::ErrorKind::AddrInUse => Some(format!(
                    "something listens there already; choose another port, such as `--listen {}:{}`",
                    host(*address),
                    address.port().checked_add(1).unwrap_or(5000)
                )),
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 need special rights; choose a higher one".to_owned())
                }
                io::ErrorKind::AddrNotAvailable => {
                    Some("this machine has no such address; `0.0.0.0` is all it has".to_owned())
                }
                _ => None,
            },
        }
    }
}

fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}
