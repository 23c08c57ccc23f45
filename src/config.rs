//! `config.toml`: what a user and a machine say about registries (docs/configuration.md).
//!
//! Pure: takes a file's text, gives settings. The home of `toml`. A key that is not known is an error, and
//! so is a password: only where it can be found may stand there.

mod raw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::Usage;
use crate::reference::RegistryHost;
use crate::registry::{Mirror, PasswordSource};

/// The settings of one file, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// At most so many bytes a second, all registries together.
    pub rate_limit_bytes_per_second: Option<u64>,
    /// What is said about single registries.
    pub registries: BTreeMap<RegistryHost, RegistrySettings>,
}

/// What is said about one registry; what is not said is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// What is read in its place, in order.
    pub mirrors: Option<Vec<Mirror>>,
    /// Whether it is never asked itself.
    pub mirror_only: Option<bool>,
    /// PEM files of authorities to trust.
    pub ca_files: Option<Vec<PathBuf>>,
    /// Whether it is spoken to in plain http.
    pub plain_http: Option<bool>,
    /// The user's name.
    pub username: Option<String>,
    /// Where the password is.
    pub password: Option<PasswordSource>,
    /// At most so many bytes a second, from and to it.
    pub rate_limit_bytes_per_second: Option<u64>,
}

impl Config {
    /// Reads `text`, the content of `file`. Paths in it begin at the file's folder.
    ///
    /// # Errors
    /// [`Usage`] names the file, and line and key where there is one.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Usage> {
        raw::parse(text, file)
    }

    /// These settings, and those of `beneath` where these say nothing.
    #[must_use]
    pub fn over(mut self, beneath: Self) -> Self {
        self.rate_limit_bytes_per_second =
            self.rate_limit_bytes_per_second.or(beneath.rate_limit_bytes_per_second);
        for (host, settings) in beneath.registries {
            let own = self.registries.remove(&host).unwrap_or_default();
            self.registries.insert(host, own.over(settings));
        }
        self
    }

    /// Refuses logins of which a part is missing in all files together.
    ///
    /// # Errors
    /// [`Usage`] names the registry and what is missing.
    pub fn refuse_halves(&self) -> Result<(), Usage> {
        for (host, settings) in &self.registries {
            let missing = match (&settings.username, &settings.password) {
                (Some(_), None) => "`username` needs a password",
                (None, Some(PasswordSource::Variable(_) | PasswordSource::File(_))) => {
                    "a password needs `username`"
                }
                _ => continue,
            };
            return Err(Usage::new(format!("config.toml: {missing} for registry `{host}`"))
                .with_hint(
                    "a login is `username` and `password-env` or `password-file`, or `credential-helper`",
                ));
        }
        Ok(())
    }
}

impl RegistrySettings {
    fn over(self, beneath: Self) -> Self {
        Self {
            mirrors: self.mirrors.or(beneath.mirrors),
            mirror_only: self.mirror_only.or(beneath.mirror_only),
            ca_files: self.ca_files.or(beneath.ca_files),
            plain_http: self.plain_http.or(beneath.plain_http),
            username: self.username.or(beneath.username),
            password: self.password.or(beneath.password),
            rate_limit_bytes_per_second: self
                .rate_limit_bytes_per_second
                .or(beneath.rate_limit_bytes_per_second),
        }
    }
}

#[cfg(test)]
mod tests;
