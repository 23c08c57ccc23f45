//! One request and its answer: clients by address, redirects, time limits, troubles told apart.
//!
//! Knows nothing of registries, credentials or retries. `reqwest` ends here.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
pub(super) use reqwest::{Method, StatusCode, Url};

use super::answer::Response;
use super::connection::{Connection, Connections, HostSettings, NotPublic};
use super::error::{Failure, Identity, Kind, Trouble};
use super::outgoing::{Outgoing, Waiting};
use super::retry;
use super::throttle::{Limits, Throttle};
use crate::progress::Reporter;
use crate::reference::RegistryHost;

pub(super) mod headers {
    //! The headers that are spoken here.
    pub(crate) use reqwest::header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION,
        RANGE, WWW_AUTHENTICATE,
    };
    pub(crate) const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";
    pub(crate) const OCI_SUBJECT: &str = "oci-subject";
    pub(crate) const OCI_CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";
}

/// More redirects than any registry has a use for.
const REDIRECTS_MAX: usize = 10;
/// How often a body in flight is looked after at most.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// What rustls says to bytes that are no TLS record. It is no dependency of ours, so the words have to
/// do; a test holds them.
const NO_TLS: &str = "received corrupt message";
/// A connection came to stand and was closed before it was of use.
const HANG_UPS: [io::ErrorKind; 2] = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];

/// What all requests of a run share.
pub(super) struct Http {
    pub(super) connections: Connections,
    pub(super) reporter: Arc<dyn Reporter>,
    throttle: Arc<Throttle>,
    /// The limits of single registries.
    host_throttles: HashMap<RegistryHost, Arc<Throttle>>,
    /// By origin: scheme, host and port.
    peers: Mutex<HashMap<String, Peer>>,
}

/// Who is asked.
#[derive(Clone)]
struct Peer {
    client: reqwest::Client,
    /// Whether it answered in this run: if so, it is worth waiting for when it is gone.
    has_answered: Arc<AtomicBool>,
}

impl Peer {
    fn new(connection: &Connection) -> Self {
        Self { client: connection.client.clone(), has_answered: Arc::default() }
    }
}

/// A request that can be sent again.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// How much longer than usual the answer may take.
    pub(super) patience: Duration,
    /// The registry that sent us to this address, where it is not its own.
    pub(super) on_behalf_of: Option<RegistryHost>,
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Body {
    Empty,
    Bytes(Bytes),
    Stream(Arc<Outgoing>),
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        let headers = HeaderMap::new();
        let body = Body::Empty;
        Self { method, url, headers, body, patience: Duration::ZERO, on_behalf_of: None }
    }

    pub(super) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Adds a header. A value that cannot stand in a header is left out: none of ours is one.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    #[must_use]
    pub(super) fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    fn length_bytes(&self) -> Option<u64> {
        match &self.body {
            Body::Stream(outgoing) => Some(outgoing.length_bytes()),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Empty => {
                [Method::POST, Method::PUT, Method::PATCH].contains(&self.method).then_some(0)
            }
        }
    }
}

/// A header that says who asks. It is only ever sent to the origin it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) identity: Identity,
}

impl Authorization {
    /// `scheme` and a secret, or none if the secret cannot stand in a header.
    pub(super) fn new(scheme: &str, secret: &str, identity: Identity) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
        header.set_sensitive(true);
        Some(Self { header, identity })
    }
}

impl Http {
    pub(super) fn new(connections: Connections, reporter: Arc<dyn Reporter>) -> Self {
        let throttle = Arc::new(Throttle::new(connections.rate_limit_bytes_per_second));
        let of_host = |(host, settings): (&RegistryHost, &HostSettings)| {
            let rate = settings.rate_limit_bytes_per_second?;
            Some((host.clone(), Arc::new(Throttle::new(Some(rate)))))
        };
        let host_throttles = connections.hosts.iter().filter_map(of_host).collect();
        Self { connections, reporter, throttle, host_throttles, peers: Mutex::default() }
    }

    /// What holds for `request`: the limit of the registry on whose behalf it is sent.
    fn limits(&self, request: &Request) -> Limits {
        let mut host = None;
        if !self.host_throttles.is_empty() {
            let own = || authority(&request.url).parse().ok();
            let registry = request.on_behalf_of.clone().or_else(own);
            host = registry.and_then(|registry| self.host_throttles.get(&registry).cloned());
        }
        Limits { all: Arc::clone(&self.throttle), host }
    }

    pub(super) fn attempts(&self) -> retry::Attempts {
        retry::Attempts::new(self.connections.retry, Arc::clone(&self.reporter))
    }

    /// Uses `connection` for everything at the origins of `urls`.
    pub(super) fn remember(&self, connection: &Connection, urls: &[Url]) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        for url in urls {
            peers.insert(origin(url), Peer::new(connection));
        }
    }

    /// Who answers at `url`, asked with the settings that hold for its host.
    fn peer(&self, url: &Url) -> Result<Peer, Kind> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&origin(url)) {
            return Ok(peer.clone());
        }
        let host: RegistryHost = authority(url)
            .parse()
            .map_err(|_| Kind::Protocol("sends us to an address without a usable host".into()))?;
        let connection = if url.scheme() == "http" {
            let mut connections = self.connections.clone();
            connections.plain_http.insert(host.clone());
            connections.connect(&host)
        } else {
            self.connections.connect(&host)
        };
        let peer = Peer::new(&connection.map_err(Kind::Connection)?);
        peers.insert(origin(url), peer.clone());
        Ok(peer)
    }

    /// Sends `request`, follows redirects of a GET or HEAD, and gives whatever answer comes in the
    /// end. `authorization` goes to the request's own origin, and nowhere else.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: &Request,
        authorization: Option<&Authorization>,
    ) -> Result<Response, Failure> {
        let follows = [Method::GET, Method::HEAD].contains(&request.method);
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let trusted = authorization.filter(|_| same_origin(&url, &request.url));
            let at = || Some(authority(&url));
            let sent = self.send_to(url.clone(), request, trusted).await;
            let inner = sent.map_err(|kind| Failure { kind, at: at() })?;
            let identity = trusted.map_or(Identity::Anonymous, |trusted| trusted.identity);
            let limits = self.limits(request);
            let response = Response::new(inner, url.clone(), Arc::clone(self), identity, limits);
            if !follows || !is_redirect(response.status()) {
                return Ok(response);
            }
            let next = response.location()?;
            response.finish().await;
            url = next;
        }
        let kind = Kind::Protocol(format!("more than {REDIRECTS_MAX} redirects"));
        Err(Failure { kind, at: Some(authority(&url)) })
    }

    async fn send_to(
        &self,
        url: Url,
        request: &Request,
        authorization: Option<&Authorization>,
    ) -> Result<reqwest::Response, Kind> {
        let Peer { client, has_answered } = self.peer(&url)?;
        let mut sent = client.request(request.method.clone(), url).headers(request.headers.clone());
        if let Some(authorization) = authorization {
            sent = sent.header(header::AUTHORIZATION, authorization.header.clone());
        }
        if let Some(length_bytes) = request.length_bytes() {
            sent = sent.header(header::CONTENT_LENGTH, length_bytes);
        }
        let limit = self.connections.header_timeout + request.patience;
        let answer = match &request.body {
            Body::Empty => within(limit, sent).await,
            Body::Bytes(bytes) => within(limit, sent.body(bytes.clone())).await,
            Body::Stream(outgoing) => {
                let _stop = StopOnDrop(outgoing);
                let pieces = outgoing.begin(self.limits(request));
                let sent = sent.body(reqwest::Body::wrap_stream(pieces));
                self.watch(outgoing, limit, sent).await
            }
        };
        match answer {
            Err(Kind::Transport { trouble: Trouble::Closed, source })
                if has_answered.load(Ordering::Relaxed) =>
            {
                Err(Kind::Transport { trouble: Trouble::Connect, source })
            }
            Err(kind) => Err(kind),
            Ok(response) => {
                has_answered.store(true, Ordering::Relaxed);
                Ok(response)
            }
        }
    }

    /// Sends a streamed body and gives up when the connection takes nothing more of it.
    async fn watch(
        &self,
        outgoing: &Outgoing,
        answer_limit: Duration,
        sent: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Kind> {
        let stall_limit = self.connections.stall_timeout;
        let every =
            (stall_limit.min(answer_limit) / 4).clamp(Duration::from_millis(1), WATCH_EVERY);
        let mut look = tokio::time::interval(every);
        let sending = sent.send();
        tokio::pin!(sending);
        loop {
            tokio::select! {
                answer = &mut sending => return answer.map_err(transport),
                _ = look.tick() => {}
            }
            let trouble = match outgoing.waiting() {
                Waiting::Connection(idle) if idle >= stall_limit => Trouble::Stalled(stall_limit),
                Waiting::Answer(idle) if idle >= answer_limit => Trouble::NoAnswer(answer_limit),
                _ => continue,
            };
            return Err(Kind::Transport { trouble, source: None });
        }
    }
}

/// Makes sure that nobody goes on to read a body whose request was given up.
struct StopOnDrop<'a>(&'a Outgoing);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn within(limit: Duration, sent: reqwest::RequestBuilder) -> Result<reqwest::Response, Kind> {
    match tokio::time::timeout(limit, sent.send()).await {
        Ok(answer) => answer.map_err(transport),
        Err(_) => Err(Kind::Transport { trouble: Trouble::NoAnswer(limit), source: None }),
    }
}

/// Tells apart why there is no answer, or not all of it. The error is freed of its address, which
/// may hold the signature of a storage service.
pub(super) fn transport(error: reqwest::Error) -> Kind {
    let error = error.without_url();
    let trouble = if sources(&error).any(<dyn StdError>::is::<NotPublic>) {
        Trouble::NotPublic
    } else if error.is_dns() {
        Trouble::UnknownHost
    } else if causes(&error, |text| text.contains("certificate") || text.contains("fatal alert")) {
        Trouble::Certificate
    } else if causes(&error, |text| text.contains(NO_TLS)) {
        Trouble::NotTls
    } else if error.is_connect() && has_io_error(&error, &HANG_UPS) {
        Trouble::TlsEnded
    } else if error.is_connect() && has_io_error(&error, &[io::ErrorKind::ConnectionRefused]) {
        Trouble::Closed
    } else if error.is_connect() {
        Trouble::Connect
    } else if error.is_builder() {
        return Kind::Protocol("sends us to an address that cannot be asked".to_owned());
    } else {
        Trouble::Torn
    };
    Kind::Transport { trouble, source: Some(Box::new(error)) }
}

/// Whether one of these is among the causes of an error.
fn has_io_error(error: &(dyn StdError + 'static), kinds: &[io::ErrorKind]) -> bool {
    sources(error).any(|error| {
        std::iter::successors(error.downcast_ref::<io::Error>(), |&error| inner(error))
            .any(|error| kinds.contains(&error.kind()))
    })
}

/// The error in an error, which is no source of it.
fn inner(error: &io::Error) -> Option<&io::Error> {
    error.get_ref()?.downcast_ref()
}

fn causes(error: &(dyn StdError + 'static), matches: impl Fn(&str) -> bool) -> bool {
    sources(error).any(|error| matches(&error.to_string()))
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Scheme, host and port: what credentials are bound to.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// `host[:port]`, the port only where it is not the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Reads a `Location` or `Link` that came from `base`.
///
/// A registry behind a proxy that ends TLS often does not know that it is reached by https, and
/// sends us back to itself over plain http: such an address is taken as the https one.
pub(super) fn resolve(base: &Url, location: &str) -> Result<Url, Kind> {
    let unusable = || Kind::Protocol("sends us to an address that cannot be read".to_owned());
    let mut url = base.join(location).map_err(|_| unusable())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(unusable());
    }
    let is_own = url.host_str() == base.host_str() && url.port() == base.port();
    if base.scheme() == "https" && url.scheme() == "http" && is_own {
        url.set_scheme("https").map_err(|()| unusable())?;
    }
    Ok(url)
}

/// Writes pairs as `application/x-www-form-urlencoded`.
pub(super) fn form<'a>(base: &Url, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut url = base.clone();
    url.set_query(None);
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_relative_or_absolute_and_lead_to_hosts() {
        let base: Url = "https://r.example/v2/a/blobs/uploads/?x=1".parse().expect("valid");
        for (location, expected) in [
            ("/v2/u/1?_state=a%3D", Some("https://r.example/v2/u/1?_state=a%3D")),
            ("1", Some("https://r.example/v2/a/blobs/uploads/1")),
            ("https://cdn.example:8443/x", Some("https://cdn.example:8443/x")),
            ("http://cdn.example/x", Some("http://cdn.example/x")),
            ("http://r.example/v2/u/1", Some("https://r.example/v2/u/1")),
            ("http://r.example:8080/v2/u/1", Some("http://r.example:8080/v2/u/1")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("file:///etc/passwd", None),
            ("http://", None),
        ] {
            let found = resolve(&base, location).ok().map(String::from);
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }
}
