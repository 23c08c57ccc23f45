//! The certificates of one host: authorities to trust and the client certificate to show there.
//!
//! `certs.d` is read as Docker and podman do (containers-certs.d(5)): a folder that is not there or
//! may not be entered holds nothing, anything broken inside is an error.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};

use super::super::bounded_file::{self, UnreadableFile};
use super::{ClientIdentity, ConnectionError, Connections};
use crate::reference::RegistryHost;

/// Whose authorities are trusted.
#[derive(Clone, Copy)]
pub(super) enum Trust {
    /// The system's, and those that the settings give.
    System,
    /// Those that the settings give.
    OnlyGiven,
}

/// What one host may see and must show.
#[derive(Default)]
pub(super) struct HostCertificates {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl HostCertificates {
    /// Reads what `connections` says about `host`.
    pub(super) fn read(
        connections: &Connections,
        host: &RegistryHost,
    ) -> Result<Self, ConnectionError> {
        let is_main = connections.main.as_ref() == Some(host);
        let mut authority_files = Vec::new();
        let mut identity_files = None;
        if is_main || connections.main.is_none() {
            authority_files.extend_from_slice(&connections.ca_files);
        }
        if let Some(settings) = connections.hosts.get(host) {
            authority_files.extend_from_slice(&settings.ca_files);
        }
        for directory in &connections.certs_directories {
            let folder = CertsFolder::list(&directory.join(host.as_str()))?;
            identity_files = folder.client_identity()?.or(identity_files);
            authority_files.extend(folder.authorities);
        }
        if is_main {
            identity_files = connections.client_identity.clone().or(identity_files);
        }
        let mut authorities = Vec::new();
        for path in authority_files {
            authorities.append(&mut read_authorities(&path)?);
        }
        Ok(Self { authorities, identity: identity_files.map(read_identity).transpose()? })
    }

    pub(super) fn apply(&self, builder: ClientBuilder, trust: Trust) -> ClientBuilder {
        let authorities = self.authorities.iter().cloned();
        let builder = match trust {
            Trust::System => builder.tls_certs_merge(authorities),
            Trust::OnlyGiven => builder.tls_certs_only(authorities),
        };
        match &self.identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        }
    }
}

/// The files of one `certs.d/HOST[:PORT]`.
#[derive(Default)]
struct CertsFolder {
    authorities: BTreeSet<PathBuf>,
    certificates: BTreeSet<PathBuf>,
    keys: BTreeSet<PathBuf>,
}

impl CertsFolder {
    fn list(folder: &Path) -> Result<Self, ConnectionError> {
        let mut files = Self::default();
        let unreadable = |error| UnreadableFile::io(folder, error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_closed(&error) => return Ok(files),
            Err(error) => return Err(unreadable(error).into()),
        };
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.authorities.insert(path),
                Some("cert") => files.certificates.insert(path),
                Some("key") => files.keys.insert(path),
                _ => false,
            };
        }
        Ok(files)
    }

    fn client_identity(&self) -> Result<Option<ClientIdentity>, ConnectionError> {
        let partner = |path: &Path, extension, partners: &BTreeSet<PathBuf>| {
            let partner = path.with_extension(extension);
            if partners.contains(&partner) {
                Ok(partner)
            } else {
                Err(ConnectionError::LonelyFile { found: path.to_owned(), missing: partner })
            }
        };
        for key in &self.keys {
            partner(key, "cert", &self.certificates)?;
        }
        let mut identities = self.certificates.iter().map(|certificate| {
            partner(certificate, "key", &self.keys)
                .map(|key| ClientIdentity { certificate: certificate.clone(), key })
        });
        let first = identities.next().transpose()?;
        match (first, identities.next().transpose()?) {
            (Some(first), Some(second)) => Err(ConnectionError::SeveralIdentities {
                first: first.certificate,
                second: second.certificate,
            }),
            (first, _) => Ok(first),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>, ConnectionError> {
    let broken = |source| ConnectionError::BrokenCertificates { path: path.to_owned(), source };
    let pem = bounded_file::read(path)?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(broken)?;
    if certificates.is_empty() {
        return Err(ConnectionError::NoCertificates { path: path.to_owned() });
    }
    try_out(|builder| builder.tls_certs_only(certificates.iter().cloned())).map_err(broken)?;
    Ok(certificates)
}

fn read_identity(files: ClientIdentity) -> Result<Identity, ConnectionError> {
    let mut pem = bounded_file::read(&files.certificate)?;
    pem.push(b'\n');
    pem.append(&mut bounded_file::read(&files.key)?);
    Identity::from_pem(&pem)
        .and_then(|identity| {
            try_out(|builder| builder.tls_certs_only([]).identity(identity.clone()))?;
            Ok(identity)
        })
        .map_err(|source| ConnectionError::BrokenIdentity {
            certificate: files.certificate,
            key: files.key,
            source,
        })
}

/// Builds a client and throws it away: only then does reqwest look into certificates and keys, and
/// only here it is known which file they come from.
fn try_out(settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> reqwest::Result<()> {
    settings(reqwest::Client::builder().no_proxy()).build().map(drop)
}
