//! Why a folder cannot be used as a layout.

use std::io;
use std::path::{Path, PathBuf};

/// A folder that cannot be opened, read or written as an OCI image layout.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds files, but none that makes it a layout.
    #[error("expected an empty folder or an OCI image layout, found other files in `{0}`")]
    NotALayout(PathBuf),
    /// The folder is only to be read, and is no layout.
    #[error("expected an OCI image layout in `{0}`, found none")]
    NoLayout(PathBuf),
    /// The layout was opened only to be read.
    #[error("cannot write to `{0}`, which was opened only to be read")]
    ReadOnly(PathBuf),
    /// The folder is a layout of a version that this code does not know.
    #[error("expected an OCI image layout of version 1 in `{path}`, found `{found}`")]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// The version that stands there.
        found: String,
    },
    /// `index.json` is no image index.
    #[error("expected an OCI image index in `{path}`, found something else")]
    Index {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Another process serves the folder.
    #[error("expected `{path}` to be free, found it in use by process {process}")]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// The process that wrote it, as it stands there.
        process: String,
    },
    /// A blob on disk is not what its name says.
    #[error("expected the content of `{0}`, found other bytes in its file")]
    Damaged(crate::digest::Digest),
    /// The file system refused.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was to be done.
        verb: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotALayout(_) => {
                Some("name a new or empty folder, an unzipped payload or an OCI layout".to_owned())
            }
            Self::NoLayout(_) => Some(
                "name an unzipped payload or an OCI layout; without `--read-only` an empty folder becomes one"
                    .to_owned(),
            ),
            Self::Index { path, .. } => Some(format!(
                "bring `{}` back from a copy; the blobs beside it are untouched",
                path.display()
            )),
            Self::InUse { path, .. } => Some(format!(
                "stop the other server first; if there is none, remove `{}`",
                path.display()
            )),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("the folder must be writable for the user who runs the server; with `--read-only` it need not".to_owned())
                }
                io::ErrorKind::StorageFull => Some("make room on the disk".to_owned()),
                io::ErrorKind::NotADirectory => Some("name a folder, not a file".to_owned()),
                _ => None,
            },
            Self::Damaged(_) => Some("remove the file and push the image again".to_owned()),
            Self::ReadOnly(_) | Self::Version { .. } => None,
        }
    }

    /// Wraps a system error with what was being done.
    pub(super) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, path: path.to_owned(), source }
    }
}
