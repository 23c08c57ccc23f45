//! Logins whose password is somewhere else: in a variable, in a file, with a helper.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::bounded_file::{self, UnreadableFile};
use super::helper::{HelperName, Helpers};
use super::{CredentialError, Credentials, Secret};
use crate::reference::RegistryHost;

/// Where a password is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// In the environment variable of this name.
    Variable(String),
    /// On the first line of this file.
    File(PathBuf),
    /// The program `docker-credential-NAME` knows user name and password.
    Helper {
        /// NAME.
        name: String,
        /// The file that says so.
        settings: PathBuf,
    },
}

/// A login that is put together when a registry asks for it.
#[derive(Clone)]
pub struct Referenced {
    /// The user's name; not used where a helper knows it.
    pub username: String,
    /// Where the password is.
    pub password: PasswordSource,
    /// What the environment says, where the password is in a variable.
    pub variable: Option<Secret>,
}

impl fmt::Debug for Referenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {:?}", self.username, self.password)
    }
}

impl Referenced {
    /// The login; none if a helper knows none.
    pub(super) async fn find(
        &self,
        host: &RegistryHost,
        helpers: &Helpers,
    ) -> Result<Option<Credentials>, CredentialError> {
        let password = match &self.password {
            PasswordSource::Variable(name) => self.variable.clone().ok_or_else(|| {
                CredentialError::VariableMissing { host: host.clone(), name: name.clone() }
            })?,
            PasswordSource::File(path) => read_password(path).await?,
            PasswordSource::Helper { name, settings } => {
                let name = HelperName::parse(name).ok_or_else(|| CredentialError::HelperName {
                    host: host.clone(),
                    path: settings.clone(),
                })?;
                return helpers.ask(name, host.as_str()).await;
            }
        };
        Ok(Some(Credentials::Basic { username: self.username.clone(), password }))
    }
}

async fn read_password(path: &Path) -> Result<Secret, CredentialError> {
    let file = path.to_owned();
    // A home on a network, or a pipe in its place, may block.
    let bytes = match tokio::task::spawn_blocking(move || bounded_file::read(&file)).await {
        Ok(bytes) => bytes?,
        Err(panic) => return Err(UnreadableFile::io(path, panic.into()).into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.contains('\u{fffd}') {
        return Err(CredentialError::NoPassword { path: path.to_owned() });
    }
    Ok(Secret::new(line))
}
