//! Why no client can be made for a host.

use std::path::PathBuf;

use super::super::bounded_file::UnreadableFile;
use super::reach::NotPublic;
use crate::reference::RegistryHost;

/// Settings that make no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// A file of certificates or keys cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// The host may not be asked.
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
    /// A file of authorities holds none.
    #[error("expected PEM certificates in `{}`, found none", path.display())]
    NoCertificates {
        /// The file.
        path: PathBuf,
    },
    /// A file of authorities holds something that is no certificate.
    #[error("expected PEM certificates in `{}`, found a broken one", path.display())]
    BrokenCertificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: reqwest::Error,
    },
    /// A client certificate and its key do not make an identity.
    #[error("expected a PEM certificate in `{}` and its key in `{}`", certificate.display(), key.display())]
    BrokenIdentity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        #[source]
        source: reqwest::Error,
    },
    /// A client certificate without its key, or the reverse.
    #[error("expected `{}` beside `{}`, found none", missing.display(), found.display())]
    LonelyFile {
        /// The file of the pair that is there.
        found: PathBuf,
        /// The file that should stand beside it.
        missing: PathBuf,
    },
    /// A folder holds client certificates to choose from.
    #[error("expected one client certificate, found `{}` and `{}`", first.display(), second.display())]
    SeveralIdentities {
        /// One of them.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// The TLS library cannot work with the settings.
    #[error("cannot set up TLS for `{host}`")]
    Client {
        /// The host.
        host: RegistryHost,
        /// What the library says.
        #[source]
        source: reqwest::Error,
    },
}

impl ConnectionError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable(_) => None,
            Self::NotPublic(_) => Some(NotPublic::hint()),
            Self::NoCertificates { .. } | Self::BrokenCertificates { .. } => Some(
                "PEM is text with `-----BEGIN CERTIFICATE-----`; `openssl x509 -inform der` makes it \
                 from the binary form"
                    .to_owned(),
            ),
            Self::BrokenIdentity { .. } => {
                Some("the key must belong to the certificate and have no passphrase".to_owned())
            }
            Self::LonelyFile { .. } => {
                Some("a client certificate is a pair `NAME.cert` and `NAME.key`".to_owned())
            }
            Self::SeveralIdentities { .. } => {
                Some("leave the one that the registry knows".to_owned())
            }
            Self::Client { host, .. } => Some(format!(
                "this machine may have no trusted authorities: install its `ca-certificates`, or \
                 name the one that signed the certificate of `{host}`"
            )),
        }
    }
}
