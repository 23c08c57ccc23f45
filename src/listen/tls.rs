//! The certificate of a listener and its key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};

use crate::registry::bounded_file::{self, UnreadableFile};

/// What a listener shows to its clients. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// A certificate and a key that are of no use to a listener.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// One of the files cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// A file holds something else.
    #[error("expected {expected} in PEM form in `{}`, found none", path.display())]
    Nothing {
        /// What should be in it.
        expected: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file is broken.
    #[error("cannot read the PEM form of `{}`: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is another certificate's.
    #[error(
        "expected the key of the first certificate in `{}`, found another one in `{}`",
        certificate.display(),
        key.display()
    )]
    OtherKey {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate, or the kind of the key, is of no use.
    #[error("cannot use the certificate in `{}` with the key in `{}`", certificate.display(), key.display())]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

impl InvalidTls {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreadable(_) => return None,
            Self::Nothing { expected, .. } if expected.contains("key") => {
                "name the private key with `--tls-key`, without a passphrase; `openssl pkey -in KEY -out PLAIN` takes one off"
            }
            Self::Nothing { .. } | Self::Pem { .. } => {
                "name a PEM file: the server's certificate first, then the others of its chain"
            }
            Self::OtherKey { .. } => {
                "the server's own certificate must come first in its file, before those of its authorities; \
                 `openssl x509 -pubkey -noout -in CERT` and `openssl pkey -pubout -in KEY` print the same for a pair"
            }
            Self::Unusable { .. } => {
                "use an X.509 certificate of version 3 with a key of RSA (2048 bits or more), ECDSA or Ed25519"
            }
        };
        Some(hint.to_owned())
    }
}

impl Tls {
    /// Reads a certificate, with its chain behind it, and the key of the certificate, both in PEM form. Blocks.
    ///
    /// # Errors
    /// [`InvalidTls`] says which file is wrong and why.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, InvalidTls> {
        let bytes = bounded_file::read(certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| invalid_pem(certificate, "a certificate", &error))?;
        if chain.is_empty() {
            let path = certificate.to_owned();
            return Err(InvalidTls::Nothing { expected: "a certificate", path });
        }
        let bytes = bounded_file::read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|error| invalid_pem(key, "a private key", &error))?;
        let files = || (certificate.to_owned(), key.to_owned());
        let unusable = |error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let (certificate, key) = files();
                InvalidTls::OtherKey { certificate, key }
            }
            source => {
                let (certificate, key) = files();
                InvalidTls::Unusable { certificate, key, source }
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

fn invalid_pem(path: &Path, expected: &'static str, error: &pem::Error) -> InvalidTls {
    let path = path.to_owned();
    match error {
        pem::Error::NoItemsFound => InvalidTls::Nothing { expected, path },
        error => InvalidTls::Pem { path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_that_do_not_serve_are_named() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
        let folder = tempfile::tempdir().expect("a folder");
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let (certificate, key) = (fixtures.join("server.cert"), fixtures.join("server.key"));
        Tls::read(&certificate, &key).expect("a pair");
        let chain = [&certificate, &fixtures.join("authority.crt")];
        let chain = chain.map(|path| fs::read_to_string(path).expect("text"));
        Tls::read(&written("chain", &chain.concat()), &key).expect("a chain");
        let [server, authority] = chain;
        let torn = &server[..server.len() / 2];
        for (certificate, key, part) in [
            (certificate.clone(), fixtures.join("client.key"), "found another one"),
            (written("wrong order", &(authority + &server)), key.clone(), "found another one"),
            (key.clone(), key.clone(), "expected a certificate in PEM form"),
            (certificate.clone(), certificate.clone(), "expected a private key in PEM form"),
            (written("torn", torn), key.clone(), "cannot read the PEM form"),
            (written("text", "nothing"), key.clone(), "expected a certificate"),
            (folder.path().join("missing"), key, "cannot read"),
        ] {
            let error = Tls::read(&certificate, &key).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.hint().is_some() || part == "cannot read", "{error}");
        }
    }
}
