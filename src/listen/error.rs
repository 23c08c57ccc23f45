//! Why an address cannot be listened at.

use std::io;
use std::net::SocketAddr;

/// An address that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at `{address}`")]
pub struct Error {
    /// The address as asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => Some(format!(
                "something listens there already; choose another port, such as `--listen {}:{}`",
                host(self.address),
                self.address.port().checked_add(1).unwrap_or(5000)
            )),
            io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 need special rights; choose a higher one".to_owned())
            }
            io::ErrorKind::AddrNotAvailable => {
                Some("this machine has no such address; `0.0.0.0` is all it has".to_owned())
            }
            _ => None,
        }
    }
}

fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}
