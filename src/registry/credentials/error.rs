//! Why credentials cannot be found. Messages never quote what a file or helper holds.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::bounded_file::UnreadableFile;
use crate::reference::RegistryHost;

/// A file or helper that does not answer as it should.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file of credentials is there but cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// The file that `REGISTRY_AUTH_FILE` names is not there.
    #[error("expected the file `{}` that REGISTRY_AUTH_FILE names, found none", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The variable that should hold the password is not set.
    #[error("expected the password for `{host}` in the environment variable {name}, found none")]
    VariableMissing {
        /// Whose password it is.
        host: RegistryHost,
        /// The variable.
        name: String,
    },
    /// The file that should hold a password does not.
    #[error("expected a password on the first line of `{}`, found none", path.display())]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// A file of credentials is not JSON of the shape that Docker and podman write.
    #[error(
        "expected the JSON of Docker or podman in `{}`, found something else in line {line}, column {column}",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 for an end of the line.
        column: usize,
    },
    /// The entry of a host holds no login.
    #[error(
        "expected base64 of `user:password` as `auth` of `{host}` in `{}`, found something else",
        path.display()
    )]
    BrokenEntry {
        /// The host that the entry stands for.
        host: RegistryHost,
        /// The file.
        path: PathBuf,
    },
    /// A file names a helper that can be none.
    #[error(
        "expected the name of a credential helper for `{host}` in `{}`, found other than letters, digits, `.`, `_` and `-`",
        path.display()
    )]
    HelperName {
        /// The host that the helper should know.
        host: RegistryHost,
        /// The file.
        path: PathBuf,
    },
    /// The helper's program is in no folder of `PATH`.
    #[error("expected the credential helper `{program}` for `{server}` in PATH, found none")]
    HelperMissing {
        /// Its program.
        program: String,
        /// What it was to be asked for.
        server: String,
    },
    /// The helper cannot be started.
    #[error("cannot run the credential helper `{program}` for `{server}`")]
    HelperUnusable {
        /// Its program.
        program: String,
        /// What it was to be asked for.
        server: String,
        /// What the operating system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The helper ended with an error.
    #[error("the credential helper `{program}` failed for `{server}`: {message}")]
    HelperFailed {
        /// Its program.
        program: String,
        /// What it was asked for.
        server: String,
        /// The first line of what it said, or its exit status.
        message: String,
    },
    /// The helper did not end.
    #[error("the credential helper `{program}` did not answer for `{server}` in {seconds} s")]
    HelperSilent {
        /// Its program.
        program: String,
        /// What it was asked for.
        server: String,
        /// How long it had.
        seconds: u64,
    },
    /// The helper's answer breaks the protocol.
    #[error(
        "expected JSON with `Username` and `Secret` from the credential helper `{program}` for `{server}`, found something else"
    )]
    HelperAnswer {
        /// Its program.
        program: String,
        /// What it was asked for.
        server: String,
    },
}

impl CredentialError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable(_) => None,
            Self::VariableMissing { name, .. } => {
                Some(format!("set {name}, or change `password-env` in config.toml"))
            }
            Self::NoPassword { .. } => {
                Some("write it there, or change `password-file` in config.toml".to_owned())
            }
            Self::Missing { .. } => Some(
                "`podman login` writes the file; unset REGISTRY_AUTH_FILE to use the usual ones"
                    .to_owned(),
            ),
            Self::Malformed { path, .. } => {
                Some(format!("repair `{}`, or move it away and log in again", path.display()))
            }
            Self::BrokenEntry { host, .. } => {
                Some(format!("`docker login {host}` writes the entry anew"))
            }
            Self::HelperName { path, .. } => Some(format!(
                "in `{}` a helper goes without its `docker-credential-` and without a folder",
                path.display()
            )),
            Self::HelperMissing { program, server } => Some(format!(
                "install `{program}`, or take it out of `credsStore` or `credHelpers`, or give a \
                 user name and a password for `{server}`"
            )),
            Self::HelperUnusable { program, .. }
            | Self::HelperFailed { program, .. }
            | Self::HelperSilent { program, .. }
            | Self::HelperAnswer { program, .. } => Some(format!(
                "run `{program} get` by hand to see why, or give a user name and a password for \
                 the registry, which go without it"
            )),
        }
    }
}
