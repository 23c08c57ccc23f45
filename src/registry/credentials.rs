//! Who kharon is at a registry: the logins of the command line, of podman and skopeo, and of Docker.
//!
//! The first of these that knows the host wins:
//!
//! 1. the login given for exactly this host ([`CredentialStore::with_explicit`]);
//! 2. the login that kharon's `config.toml` leads to ([`CredentialStore::with_referenced`]);
//! 3. the file in `REGISTRY_AUTH_FILE`; without that variable `$XDG_RUNTIME_DIR/containers/auth.json`
//!    (`/run/containers/UID/auth.json` without a session);
//! 4. `$XDG_CONFIG_HOME/containers/auth.json`, by default below `~/.config`;
//! 5. `$DOCKER_CONFIG/config.json`, by default below `~/.docker`.
//!
//! This is skopeo's order (containers-auth.json(5)): podman's files before Docker's. Inside a file:
//!
//! 1. the helper that `credHelpers` names for the host. It has the last word in its file, as with
//!    Docker and podman; an empty name means the entries of the file, as with Docker;
//! 2. the helper in `credsStore`, as with Docker;
//! 3. the entry of `auths` with the longest name that covers the repository (`host/a/b`, `host/a`,
//!    `host`). Docker never looks there if there is a `credsStore`; podman writes there even then.
//!
//! Files are read at each question and a helper's answer is kept for minutes only, so a login
//! renewed in the middle of a run is found. No message and no `Debug` shows a secret.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use self::auth_file::{AuthFile, Source};
pub use self::error::CredentialError;
use self::helper::{HelperName, Helpers};
pub use self::referenced::{PasswordSource, Referenced};
use super::bounded_file;
pub use super::bounded_file::UnreadableFile;
pub use super::search_paths::SearchPaths;
use crate::reference::{RegistryHost, RepositoryName};

mod auth_file;
mod error;
mod helper;
mod referenced;
#[cfg(test)]
mod tests;

/// A text that is never shown: a password or a token.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What to show to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// A login.
    Basic {
        /// The user's name; may be empty.
        username: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// An `OAuth2` refresh token, to be traded for access tokens.
    IdentityToken(Secret),
    /// A bearer token for the registry itself.
    RegistryToken(Secret),
}

/// Finds credentials by host.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    explicit: HashMap<RegistryHost, Credentials>,
    referenced: HashMap<RegistryHost, Referenced>,
    files: Vec<CredentialFile>,
    /// Clones share what they answered.
    helpers: Arc<Helpers>,
}

/// A file that may know credentials.
#[derive(Clone, Debug)]
struct CredentialFile {
    path: PathBuf,
    on_missing: OnMissing,
}

/// What it means that a file is not there.
#[derive(Clone, Copy, Debug)]
enum OnMissing {
    /// It was named, so it should be there.
    Fail,
    /// It knows nothing.
    Pass,
}

impl CredentialStore {
    /// Knows nobody, whatever files there are.
    pub fn anonymous() -> Self {
        Self::from_search_paths(SearchPaths::default())
    }

    /// Knows the logins of this user. No file is read before a host is asked for.
    pub fn from_environment() -> Self {
        Self::from_search_paths(SearchPaths::from_environment())
    }

    /// Knows the logins in the files that `paths` lead to.
    pub fn from_search_paths(paths: SearchPaths) -> Self {
        let in_directory = |directory: Option<PathBuf>, name: &str| {
            directory.map(|directory| (directory.join(name), OnMissing::Pass))
        };
        let first = match paths.registry_auth_file {
            Some(path) => Some((path, OnMissing::Fail)),
            None => paths.runtime_auth_file.map(|path| (path, OnMissing::Pass)),
        };
        let podman = in_directory(paths.config_directory, "containers/auth.json");
        let docker = in_directory(paths.docker_directory, "config.json");
        let files = [first, podman, docker].into_iter().flatten();
        Self {
            explicit: HashMap::new(),
            referenced: HashMap::new(),
            files: files.map(|(path, on_missing)| CredentialFile { path, on_missing }).collect(),
            helpers: Arc::new(Helpers::new(paths.programs)),
        }
    }

    /// Shows `credentials` to `host`, whatever the files say, and to no other host.
    #[must_use]
    pub fn with_explicit(mut self, host: RegistryHost, credentials: Credentials) -> Self {
        self.explicit.insert(host, credentials);
        self
    }

    /// Shows the login that `referenced` leads to to `host`, before what Docker's and podman's files say.
    #[must_use]
    pub fn with_referenced(mut self, host: RegistryHost, referenced: Referenced) -> Self {
        self.referenced.insert(host, referenced);
        self
    }

    /// What to show to `host`, for work in `repository` where that is known.
    ///
    /// # Errors
    /// [`CredentialError`] if a file or helper that is asked does not answer as it should. A file
    /// behind the one that knows the host is not asked.
    pub async fn find(
        &self,
        host: &RegistryHost,
        repository: Option<&RepositoryName>,
    ) -> Result<Credentials, CredentialError> {
        if let Some(credentials) = self.explicit.get(host) {
            return Ok(credentials.clone());
        }
        if let Some(referenced) = self.referenced.get(host)
            && let Some(credentials) = referenced.find(host, &self.helpers).await?
        {
            return Ok(credentials);
        }
        for file in &self.files {
            if let Some(credentials) = self.find_in(file, host, repository).await? {
                return Ok(credentials);
            }
        }
        Ok(Credentials::Anonymous)
    }

    async fn find_in(
        &self,
        file: &CredentialFile,
        host: &RegistryHost,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        let Some(auth_file) = file.read().await? else { return Ok(None) };
        for source in auth_file.sources(host, repository) {
            let found = match source {
                Source::Helper { name, server } => {
                    let name = HelperName::parse(name).ok_or_else(|| {
                        CredentialError::HelperName { host: host.clone(), path: file.path.clone() }
                    })?;
                    self.helpers.ask(name, server).await?
                }
                Source::Entry(entry) => entry.credentials().map_err(|_| {
                    CredentialError::BrokenEntry { host: host.clone(), path: file.path.clone() }
                })?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl CredentialFile {
    async fn read(&self) -> Result<Option<AuthFile>, CredentialError> {
        let path = self.path.clone();
        // A home on a network, or a pipe in its place, may block.
        let bytes = match tokio::task::spawn_blocking(move || bounded_file::read(&path)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if error.is_missing() => {
                return match self.on_missing {
                    OnMissing::Pass => Ok(None),
                    OnMissing::Fail => Err(CredentialError::Missing { path: self.path.clone() }),
                };
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(panic) => return Err(UnreadableFile::io(&self.path, panic.into()).into()),
        };
        match AuthFile::parse(&bytes) {
            Ok(auth_file) => Ok(Some(auth_file)),
            Err(malformed) => Err(CredentialError::Malformed {
                path: self.path.clone(),
                line: malformed.line,
                column: malformed.column,
            }),
        }
    }
}
