//! Why the server cannot run.

use crate::{layout, listen};

/// A server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be served.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] listen::Error),
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => error.hint(),
            Self::Listen(error) => error.hint(),
        }
    }
}
