//! All registries of a run, and how one of them is asked: with what it wants to see, and again when
//! a failure passes by.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::access::Access;
use super::answer::Response;
use super::auth::Auth;
use super::blob::RemoteBlob;
use super::challenge;
use super::connection::{Connections, Scheme};
use super::credentials::CredentialStore;
use super::error::{Error, Kind, Subject, Trouble};
use super::http::{Http, Method, Request, Url, headers, same_origin};
use super::mirror::Mirror;
use super::mirrored::{Asked, Copy, Mirrored, Turn};
use super::retry::Attempts;
use crate::manifest::Descriptor;
use crate::progress::Reporter;
use crate::reference::{RegistryHost, RepositoryName};

/// All clients of one run, one for each registry. They share the rate limit.
pub struct Registries {
    http: Arc<Http>,
    credentials: Arc<CredentialStore>,
    known: Mutex<HashMap<RegistryHost, Registry>>,
    /// Those with mirrors.
    mirrored: Mutex<HashMap<RegistryHost, Registry>>,
}

impl Registries {
    /// Clients that connect, log in and report as told.
    pub fn new(
        connections: Connections,
        credentials: CredentialStore,
        reporter: Arc<dyn Reporter>,
    ) -> Self {
        Self {
            http: Arc::new(Http::new(connections, reporter)),
            credentials: Arc::new(credentials),
            known: Mutex::default(),
            mirrored: Mutex::default(),
        }
    }

    /// The client of `host`, always the same one. Where the settings name mirrors it reads from them.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// If the settings for this host, or for a mirror of it, are of no use.
    pub fn registry(&self, host: &RegistryHost) -> Result<Registry, Error> {
        let Some(mirrors) = self.http.connections.mirrors.get(host) else {
            return self.direct(host);
        };
        let mut mirrored = self.mirrored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = mirrored.get(host) {
            return Ok(registry.clone());
        }
        let copy = |mirror: &Mirror| {
            let registry = self.direct(&mirror.host)?;
            Ok(Arc::new(Copy::new(registry, mirror.prefix.clone())))
        };
        let copies = mirrors.mirrors.iter().map(copy).collect::<Result<_, Error>>()?;
        let of = Arc::new(Mirrored { copies, original: mirrors.original });
        let registry = Registry { mirrored: Some(of), ..self.direct(host)? };
        mirrored.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    /// The client of `host` itself.
    fn direct(&self, host: &RegistryHost) -> Result<Registry, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = known.get(host) {
            return Ok(registry.clone());
        }
        let registry = Registry::new(host, Arc::clone(&self.http), Arc::clone(&self.credentials))?;
        known.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    /// A foreign layer: read from the addresses in its descriptor in turn, without credentials.
    ///
    /// # Errors
    /// If none of them is an `http` or `https` address.
    pub fn foreign_blob(&self, descriptor: &Descriptor) -> Result<RemoteBlob, Error> {
        RemoteBlob::foreign(Arc::clone(&self.http), descriptor)
    }
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries").finish_non_exhaustive()
    }
}

/// One registry. A clone is the same client: it shares tokens, connections and what was learned.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    /// What is read in its place.
    mirrored: Option<Arc<Mirrored>>,
}

struct Inner {
    host: RegistryHost,
    http: Arc<Http>,
    auth: Auth,
    scheme: Scheme,
    base: OnceCell<Url>,
    quota: Mutex<Option<PullQuota>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.inner.host.as_str()).finish()
    }
}

/// How many pulls a registry still allows, as Docker Hub tells it in `ratelimit-*` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullQuota {
    /// How many pulls a window has.
    pub limit: u64,
    /// How many of them are left.
    pub remaining: u64,
    /// How long a window is, in seconds.
    pub window_seconds: Option<u64>,
}

impl PullQuota {
    fn read(limit: &str, remaining: &str) -> Option<Self> {
        let count = |text: &str| text.split(';').next().and_then(|count| count.trim().parse().ok());
        let window = |text: &str| {
            let parts = text.split(';').skip(1);
            parts.filter_map(|part| part.trim().strip_prefix("w=")).find_map(|w| w.parse().ok())
        };
        Some(Self {
            limit: count(limit)?,
            remaining: count(remaining)?,
            window_seconds: window(limit).or_else(|| window(remaining)),
        })
    }
}

/// A question to a registry, whole but for the registry's address.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) access: Access,
    pub(super) request: Request,
    pub(super) subject: Subject,
}

impl Registry {
    fn new(
        host: &RegistryHost,
        http: Arc<Http>,
        credentials: Arc<CredentialStore>,
    ) -> Result<Self, Error> {
        let subject = Subject::new(host, "anything");
        let connection = http.connections.connect(host);
        let connection = connection.map_err(|error| subject.error(Kind::Connection(error)))?;
        let urls = ["http", "https"].map(|scheme| base_url(scheme, host));
        let [plain, secure] = urls.map(|url| url.map_err(|kind| subject.error(kind)));
        let (plain, secure) = (plain?, secure?);
        http.remember(&connection, &[plain.clone(), secure.clone()]);
        let base = match connection.scheme {
            Scheme::Http => OnceCell::new_with(Some(plain)),
            Scheme::Https => OnceCell::new_with(Some(secure)),
            Scheme::HttpsOrHttp => OnceCell::new(),
        };
        let auth = Auth::new(Arc::clone(&http), host.clone(), credentials);
        let scheme = connection.scheme;
        let host = host.clone();
        let inner = Inner { host, http, auth, scheme, base, quota: Mutex::default() };
        Ok(Self { inner: Arc::new(inner), mirrored: None })
    }

    /// The registry's name.
    pub fn host(&self) -> &RegistryHost {
        &self.inner.host
    }

    /// What the registry last said about the pulls that it still allows.
    pub fn pull_quota(&self) -> Option<PullQuota> {
        *self.inner.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This registry, whatever mirrors it has.
    pub(super) fn direct(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), mirrored: None }
    }

    pub(super) fn mirrored(&self) -> Option<&Mirrored> {
        self.mirrored.as_deref()
    }

    /// Asks whether this is a registry that lets us in (`GET /v2/`), or one of its mirrors.
    ///
    /// # Errors
    /// Whatever keeps it from saying yes.
    pub async fn check(&self) -> Result<(), Error> {
        let mut turn = Turn::new(self, None);
        loop {
            let answer = turn.place().registry.check_here().await;
            if let Some(answer) = turn.settled(answer, Asked::Often) {
                return answer;
            }
        }
    }

    async fn check_here(&self) -> Result<(), Error> {
        let subject = self.subject("its API at `/v2/`");
        let ask = self.ask(Method::GET, Access::registry(), "", subject).await?;
        self.answer(&ask).await?.finish().await;
        Ok(())
    }

    pub(super) fn http(&self) -> &Arc<Http> {
        &self.inner.http
    }

    pub(super) fn subject(&self, thing: impl Into<String>) -> Subject {
        Subject::new(&self.inner.host, thing)
    }

    /// The repository as this registry's addresses and scopes name it.
    pub(super) fn api_name<'a>(&self, repository: &'a RepositoryName) -> Cow<'a, RepositoryName> {
        let short = self.inner.host.is_docker_hub() && !repository.as_str().contains('/');
        match short.then(|| repository.under("library")) {
            Some(Ok(full)) => Cow::Owned(full),
            _ => Cow::Borrowed(repository),
        }
    }

    /// A question about `path` below `/v2/`.
    pub(super) async fn ask(
        &self,
        method: Method,
        access: Access,
        path: &str,
        subject: Subject,
    ) -> Result<Ask, Error> {
        let base = self.base().await?;
        let url = super::http::resolve(base, &format!("/v2/{path}"));
        let url = url.map_err(|kind| subject.error(kind))?;
        Ok(Ask { access, request: Request::new(method, url), subject })
    }

    /// The registry's address. A registry on this machine is asked once whether it speaks TLS.
    pub(super) async fn base(&self) -> Result<&Url, Error> {
        self.inner.base.get_or_try_init(|| self.find_base()).await
    }

    async fn find_base(&self) -> Result<Url, Error> {
        let subject = self.subject("its API at `/v2/`");
        let secure = base_url("https", &self.inner.host).map_err(|kind| subject.error(kind))?;
        let mut attempts = self.inner.http.attempts();
        loop {
            let sent = self.inner.http.send(&Request::get(secure.clone()), None).await;
            let error = match sent.map_err(|failure| subject.error(failure)) {
                Ok(response) => {
                    response.finish().await;
                    return Ok(secure);
                }
                Err(error) => error,
            };
            let is_plain = matches!(error.trouble(), Some(Trouble::NotTls | Trouble::TlsEnded));
            if self.inner.scheme == Scheme::HttpsOrHttp && is_plain {
                return base_url("http", &self.inner.host).map_err(|kind| subject.error(kind));
            }
            attempts.pause_after(error).await?;
        }
    }

    /// Asks, and asks again while failures pass by. The answer is a success.
    pub(super) async fn answer(&self, ask: &Ask) -> Result<Response, Error> {
        self.answer_within(self.inner.http.attempts(), ask).await
    }

    /// Asks as [`Self::answer`] does, as often as `attempts` says.
    pub(super) async fn answer_within(
        &self,
        mut attempts: Attempts,
        ask: &Ask,
    ) -> Result<Response, Error> {
        loop {
            match self.answer_once(ask).await {
                Ok(response) => return Ok(response),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }

    /// Asks as [`Self::answer`] does, and reads the answer's body too.
    pub(super) async fn read(&self, ask: &Ask, limit: u64) -> Result<(Response, Bytes), Error> {
        let mut attempts = self.inner.http.attempts();
        loop {
            let error = match self.answer_once(ask).await {
                Ok(mut response) => match response.bytes(limit).await {
                    Ok(body) => return Ok((response, body)),
                    Err(failure) => ask.subject.error(failure),
                },
                Err(error) => error,
            };
            attempts.pause_after(error).await?;
        }
    }

    /// Asks one time, and once more if the registry wants to see something first. The answer is a
    /// success.
    pub(super) async fn answer_once(&self, ask: &Ask) -> Result<Response, Error> {
        let response = self.authorized(ask).await?;
        self.remember_quota(&response);
        if response.is_page_for(&ask.request.method) {
            let what = "expected the answer of a registry, found a web page".to_owned();
            Err(ask.subject.error(response.failure(Kind::Protocol(what))))
        } else if response.status().is_success() {
            Ok(response)
        } else {
            Err(ask.subject.error(response.refusal().await))
        }
    }

    async fn authorized(&self, ask: &Ask) -> Result<Response, Error> {
        let base = self.base().await?;
        let auth = &self.inner.auth;
        // A session may live at another address: that one gets nothing of ours.
        let is_own = same_origin(&ask.request.url, base);
        let known = if is_own { auth.known(&ask.access, base).await? } else { None };
        let sent = self.inner.http.send(&ask.request, known.as_ref()).await;
        let response = sent.map_err(|failure| ask.subject.error(failure))?;
        // Only the registry itself may ask for credentials, not what it redirects to.
        if response.status() != 401 || !same_origin(response.url(), base) || !is_own {
            return Ok(response);
        }
        let challenges = challenge::parse(response.values(headers::WWW_AUTHENTICATE));
        let better = auth.answer(&challenges, &ask.access, base, known.as_ref()).await?;
        let Some(better) = better else { return Ok(response) };
        response.finish().await;
        let sent = self.inner.http.send(&ask.request, Some(&better)).await;
        sent.map_err(|failure| ask.subject.error(failure))
    }

    fn remember_quota(&self, response: &Response) {
        let limit = response.value("ratelimit-limit");
        let remaining = response.value("ratelimit-remaining");
        if let (Some(limit), Some(remaining)) = (limit, remaining)
            && let Some(quota) = PullQuota::read(limit, remaining)
        {
            *self.inner.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
        }
    }
}

fn base_url(scheme: &str, host: &RegistryHost) -> Result<Url, Kind> {
    format!("{scheme}://{}/v2/", host.api_authority())
        .parse()
        .map_err(|_| Kind::Protocol("its name makes no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn short_names_are_long_in_docker_hubs_addresses_and_nowhere_else() {
        let hub = RegistryHost::docker_hub();
        let own: RegistryHost = "localhost:5000".parse().expect("valid");
        let connections =
            Connections { plain_http: [hub.clone(), own.clone()].into(), ..Connections::default() };
        let registries =
            Registries::new(connections, CredentialStore::anonymous(), Arc::new(Silent));
        for (host, name, expected) in [
            (&hub, "python", "library/python"),
            (&hub, "library/python", "library/python"),
            (&hub, "a/b", "a/b"),
            (&own, "python", "python"),
        ] {
            let registry = registries.registry(host).expect("a client");
            let name: RepositoryName = name.parse().expect("valid");
            assert_eq!(registry.api_name(&name).as_str(), expected, "{host}");
        }
    }

    #[test]
    fn a_quota_is_read_as_docker_hub_writes_it() {
        let quota =
            |limit, remaining, window_seconds| Some(PullQuota { limit, remaining, window_seconds });
        for (limit, remaining, expected) in [
            ("100;w=21600", "76;w=21600", quota(100, 76, Some(21600))),
            ("100", "0", quota(100, 0, None)),
            ("200; w=60", "1", quota(200, 1, Some(60))),
            ("many", "1", None),
        ] {
            assert_eq!(PullQuota::read(limit, remaining), expected, "{limit} {remaining}");
        }
    }
}
