//! How to reach registries: the settings of one run, and the HTTP clients made from them.
//!
//! Every host gets a client of its own, for what is trusted and shown differs from host to host: the
//! authorities and the client certificate of the command line belong to the main registry, those of
//! `certs.d` to the host that their folder names. So a redirect to another host needs that host's
//! connection. Clients never follow a redirect, speak HTTP/1.1 only (the fastest for blobs), and
//! use the proxies of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) except
//! for hosts on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::redirect;

use self::certificates::{HostCertificates, Trust};
pub use self::error::ConnectionError;
pub use self::reach::{NotPublic, Reach};
use self::reach::{PublicOnly, Way};
pub use super::bounded_file::UnreadableFile;
use super::mirror::Mirrors;
use super::search_paths::SearchPaths;
use crate::reference::RegistryHost;

mod certificates;
mod error;
mod reach;
#[cfg(test)]
mod tests;

/// How many idle connections to one host are kept, so that as many concurrent transfers never pay
/// for a second handshake.
const IDLE_CONNECTIONS_PER_HOST: usize = 32;
const USER_AGENT: &str = concat!("kharon/", env!("CARGO_PKG_VERSION"));

/// The settings of a run. The default looks up the standard `certs.d` folders of the user.
#[derive(Clone, Debug)]
pub struct Connections {
    /// The registry named on the command line: the client identity belongs to it alone.
    pub main: Option<RegistryHost>,
    /// The hosts to speak plain HTTP to.
    pub plain_http: BTreeSet<RegistryHost>,
    /// PEM files of authorities to trust besides the system's: for `main`, or for every host where
    /// there is none.
    pub ca_files: Vec<PathBuf>,
    /// The client certificate to show to `main`, and to no other host.
    pub client_identity: Option<ClientIdentity>,
    /// Whether certificates of servers are checked, for every host.
    pub tls_verification: TlsVerification,
    /// Folders in the manner of Docker's `certs.d`, with a folder `HOST[:PORT]` per registry:
    /// `*.crt` are authorities to trust, `*.cert` and `*.key` a client certificate to show. A client
    /// certificate in a later folder replaces that of an earlier one.
    pub certs_directories: Vec<PathBuf>,
    /// The longest time to open a connection.
    pub connect_timeout: Duration,
    /// The longest time from the end of a request to the headers of its response.
    pub header_timeout: Duration,
    /// The longest time without a byte moving.
    pub stall_timeout: Duration,
    /// How failed requests are tried again.
    pub retry: RetryPolicy,
    /// The most to move in a second, all hosts and both directions together.
    pub rate_limit_bytes_per_second: Option<u64>,
    /// What is read in the place of registries. `push_payload` passes over it.
    pub mirrors: BTreeMap<RegistryHost, Mirrors>,
    /// What holds for one registry besides all of this.
    pub hosts: BTreeMap<RegistryHost, HostSettings>,
    /// Which hosts may be asked at all.
    pub reach: Reach,
}

/// The settings of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// PEM files of authorities to trust besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// The most to move in a second from and to this registry, both directions together.
    pub rate_limit_bytes_per_second: Option<u64>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            main: None,
            plain_http: BTreeSet::new(),
            ca_files: Vec::new(),
            client_identity: None,
            tls_verification: TlsVerification::default(),
            certs_directories: SearchPaths::from_environment().certs_directories(),
            connect_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            rate_limit_bytes_per_second: None,
            mirrors: BTreeMap::new(),
            hosts: BTreeMap::new(),
            reach: Reach::Anywhere,
        }
    }
}

/// A client certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate's file, with the chain behind it where there is one.
    pub certificate: PathBuf,
    /// The key's file, not encrypted.
    pub key: PathBuf,
}

/// Whether the certificates of servers are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVerification {
    /// They must be valid, for the host's name, and signed by a trusted authority.
    #[default]
    Verify,
    /// Any certificate will do.
    Skip,
}

/// How failed requests are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is sent at most.
    pub attempts: usize,
    /// The pause before the second attempt; it doubles from there.
    pub first_delay: Duration,
    /// The longest pause.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
        }
    }
}

/// How to talk to one host.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client that holds this host's connections.
    pub client: reqwest::Client,
    /// What to speak.
    pub scheme: Scheme,
}

/// What a host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP, as asked for.
    Http,
    /// HTTPS and nothing else.
    Https,
    /// A host on this machine: HTTPS, or HTTP where the answer is no TLS.
    HttpsOrHttp,
}

impl Connections {
    /// A client for `host`, with what is to be trusted and shown there. Reads the files that say so.
    ///
    /// # Errors
    /// [`ConnectionError`] names the file that cannot be used. A plain HTTP host never fails for
    /// want of certificates.
    pub fn connect(&self, host: &RegistryHost) -> Result<Connection, ConnectionError> {
        let way = self.reach.way_to(host)?;
        let scheme = self.scheme(host);
        let certificates = match scheme {
            Scheme::Http => HostCertificates::default(),
            Scheme::Https | Scheme::HttpsOrHttp => HostCertificates::read(self, host)?,
        };
        let build = |trust| certificates.apply(self.builder(host, &way), trust).build();
        let client = match build(Trust::System).or_else(|error| match scheme {
            Scheme::Https => Err(error),
            // Without any root the system's verifier cannot be made, which plain HTTP never needs.
            Scheme::Http | Scheme::HttpsOrHttp => build(Trust::OnlyGiven),
        }) {
            Ok(client) => client,
            Err(source) => return Err(ConnectionError::Client { host: host.clone(), source }),
        };
        Ok(Connection { client, scheme })
    }

    fn scheme(&self, host: &RegistryHost) -> Scheme {
        if self.plain_http.contains(host) {
            Scheme::Http
        } else if host.is_loopback() {
            Scheme::HttpsOrHttp
        } else {
            Scheme::Https
        }
    }

    fn builder(&self, host: &RegistryHost, way: &Way) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .http1_only()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
            .tls_danger_accept_invalid_certs(self.tls_verification == TlsVerification::Skip);
        // reqwest's 30 s would end an upload that waits for a slow disk before the stall timeout.
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(self.stall_timeout);
        match way {
            Way::Checked => builder.dns_resolver(PublicOnly::shared()).no_proxy(),
            Way::Usual if host.is_loopback() => builder.no_proxy(),
            Way::Usual => builder,
        }
    }
}
