//! An OCI registry over payloads or a folder: the distribution-spec 1.1's pull, push and content discovery.
//!
//! The folder is an OCI image layout ([`crate::layout`]); an unzipped payload is served as it is. Payloads are read in
//! place ([`crate::shelf`]) and lie over the folder, which takes what is pushed.
//! Every blob is visible in every repository, so a mount succeeds whenever the blob is here at all.
//! There is no deletion. TLS and logins are [`crate::listen`]'s. Manifests whose blobs or children are missing are refused, so nothing that
//! is served points at nothing; payloads that were made sparse are served with their holes.
//!
//! [`Server::handle`] answers one request without any transport; [`Bound::run`] serves them on a listener.

mod answer;
mod blobs;
mod bring;
mod error;
mod lists;
mod manifests;
mod reading;
mod route;
mod store;
mod uploads;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::header::{HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use answer::{Code, Refusal, bare};
pub use error::Error;
use route::{Query, Route};
use store::{Folder, Store};

use crate::layout::{Durability, Layout, Uploads};
pub use crate::listen::Body;
use crate::listen::{CHALLENGE, Listener, Logins, Service};
use crate::shelf::Shelf;

/// How much of a refused request's body is read, in bytes, so that the client gets to see the
/// refusal; a client that sends more finds the connection closed.
const DRAIN_MAX_BYTES: usize = 8 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often idle uploads are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How far `index.json` may lag behind what was pushed.
const SETTLE_INTERVAL: Duration = Duration::from_millis(250);
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a request's body must be: a stream of [`Bytes`] that may fail.
pub trait RequestBody:
    HttpBody<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send
{
}

impl<B> RequestBody for B
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
}

/// A registry over payloads and a folder, or one of them. Clones serve the same.
#[derive(Clone, Debug)]
pub struct Server {
    store: Store,
    logins: Option<Logins>,
}

impl Service for Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.handle(request).await
    }
}

impl Server {
    /// A registry over the OCI layout in `directory`; an empty or missing folder becomes one.
    ///
    /// # Errors
    /// [`Error::Layout`] if the folder is something else, damaged, in use or not writable.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_with(directory, Durability::Synced)
    }

    /// As [`Self::open`], with a choice whether pushed content must outlive a power cut.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(directory: &Path, durability: Durability) -> Result<Self, Error> {
        Ok(Self::over(None, Some(Layout::open(directory, durability)?)))
    }

    /// A registry over payloads, with a folder beneath them, or over one of the two. The folder takes what is pushed,
    /// unless it was opened only to be read.
    pub fn over(shelf: Option<Arc<Shelf>>, layout: Option<Layout>) -> Self {
        let folder = layout.map(|layout| {
            let uploads = Arc::new(Uploads::new(&layout));
            Folder { layout: Arc::new(layout), uploads }
        });
        Self { store: Store { shelf, folder }, logins: None }
    }

    /// The folder behind the registry, if there is one.
    pub fn layout(&self) -> Option<&Layout> {
        self.store.folder.as_ref().map(|folder| folder.layout.as_ref())
    }

    /// The same for those alone who have a login.
    #[must_use]
    pub fn with_logins(mut self, logins: Logins) -> Self {
        self.logins = Some(logins);
        self
    }

    /// Listens at `address`; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is taken or not ours.
    pub async fn bind(self, address: SocketAddr) -> Result<Bound, Error> {
        Ok(self.on(Listener::bind(address, None).await?))
    }

    /// The server on a listener.
    pub fn on(self, listener: Listener) -> Bound {
        Bound { server: self, listener }
    }

    /// Answers one request.
    pub async fn handle<B: RequestBody>(&self, request: Request<B>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut body = Box::pin(body);
        let mut response = match self.answered(&head, body.as_mut()).await {
            Ok(response) => response,
            Err(refusal) => {
                drop(tokio::time::timeout(DRAIN_TIMEOUT, drain(body.as_mut())).await);
                refusal.into_response()
            }
        };
        if head.method == Method::HEAD {
            let length = HttpBody::size_hint(response.body()).exact().unwrap_or_default();
            let headers = response.headers_mut();
            headers.entry(hyper::header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
            *response.body_mut() = Body::empty();
        }
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        response
    }

    async fn answered<B: RequestBody>(
        &self,
        head: &Parts,
        body: Pin<&mut B>,
    ) -> Result<Response<Body>, Refusal> {
        refuse_browsers(head)?;
        if let Some(logins) = &self.logins
            && !logins.allow(&head.headers).await
        {
            return Err(Refusal::new(Code::Unauthorized, "name and password are needed")
                .header(hyper::header::WWW_AUTHENTICATE, CHALLENGE.to_owned()));
        }
        let route = Route::of(head.uri.path())?;
        let query = Query::of(head.uri.query());
        match (&head.method, route) {
            (&Method::GET | &Method::HEAD, Route::Base) => {
                Ok(answer::document(&[], &serde_json::json!({})))
            }
            (&Method::GET, Route::Catalog) => lists::catalog(&self.store, &query),
            (&Method::GET, Route::Tags(name)) => lists::tags(&self.store, &name, &query),
            (&Method::GET, Route::Referrers(name, digest)) => {
                let store = self.store.clone();
                blocking(move || lists::referrers(&store, &name, &digest, &query)).await
            }
            (&Method::GET | &Method::HEAD, Route::Manifest(name, what)) => {
                let store = self.store.clone();
                blocking(move || manifests::get(&store, &name, &what)).await
            }
            (&Method::PUT, Route::Manifest(name, what)) => {
                manifests::put(&self.store, self.folder()?, head, body, name, what, &query).await
            }
            (&Method::GET, Route::Blob(_, digest)) => blobs::get(self, head, digest).await,
            (&Method::HEAD, Route::Blob(_, digest)) => blobs::head(self, digest).await,
            (&Method::POST, Route::Uploads(name)) => {
                uploads::post(self, self.folder()?, head, body, name, &query).await
            }
            (method, Route::Upload(name, id)) => {
                let folder = self.folder()?;
                uploads::on_session(folder, method, head, body, name, id, &query).await
            }
            (method, _) => Err(unsupported(method)),
        }
    }

    /// The folder that takes what is pushed.
    fn folder(&self) -> Result<&Folder, Refusal> {
        let folder = self.store.folder.as_ref();
        folder.filter(|folder| !folder.layout.is_read_only()).ok_or_else(|| {
            let message = "this registry is read-only: nothing can be pushed to it";
            Refusal::new(Code::Unsupported, message)
                .header(hyper::header::ALLOW, "GET, HEAD".to_owned())
        })
    }
}

/// Runs what blocks on the disk where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::new(Code::Unknown, error)))
}

/// A page that somebody visits could have their browser push here, also to a registry that only this machine reaches.
/// No client of registries sends what browsers say of themselves.
fn refuse_browsers(head: &Parts) -> Result<(), Refusal> {
    let is_of_browser = [ORIGIN, SEC_FETCH_SITE].iter().any(|name| head.headers.contains_key(name));
    if matches!(head.method, Method::GET | Method::HEAD) || !is_of_browser {
        return Ok(());
    }
    Err(Refusal::new(Code::Denied, "browsers cannot push to this registry"))
}

fn unsupported(method: &Method) -> Refusal {
    Refusal::new(Code::Unsupported, format!("this registry has no {method} here"))
}

/// Reads what is left of a refused request.
async fn drain<B: RequestBody>(mut body: Pin<&mut B>) {
    let mut seen_bytes = 0;
    while seen_bytes < DRAIN_MAX_BYTES {
        match body.frame().await {
            Some(Ok(frame)) => seen_bytes += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Bound {
    server: Server,
    listener: Listener,
}

impl Bound {
    /// Where it listens, with the port that it really has.
    pub fn local_address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    /// Serves until `shutdown` is ready; requests under way then have ten seconds to end.
    pub async fn run(self, shutdown: impl Future) {
        let folder = self.server.store.folder.clone();
        let folder = folder.filter(|folder| !folder.layout.is_read_only());
        let chores: Vec<_> = folder
            .iter()
            .flat_map(|folder| {
                let settling = tokio::spawn(settle_always(Arc::clone(&folder.layout)));
                [settling, tokio::spawn(sweep_always(Arc::clone(&folder.uploads)))]
            })
            .collect();
        self.listener.run(self.server, shutdown).await;
        for chore in chores {
            chore.abort();
        }
        if let Some(Folder { layout, .. }) = folder {
            drop(spawn_blocking(move || layout.settle()).await);
        }
    }
}

/// Lets `index.json` follow. What the disk refuses is tried again, and nothing is lost by it.
async fn settle_always(layout: Arc<Layout>) {
    let mut interval = tokio::time::interval(SETTLE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let layout = Arc::clone(&layout);
        drop(spawn_blocking(move || layout.settle()).await);
    }
}

/// Lets idle uploads go.
async fn sweep_always(uploads: Arc<Uploads>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let uploads = Arc::clone(&uploads);
        drop(spawn_blocking(move || uploads.drop_idle(Instant::now())).await);
    }
}

/// An answer that says where something now is.
fn created(location: String, digest: &crate::digest::Digest) -> Response<Body> {
    bare(
        StatusCode::CREATED,
        &[(hyper::header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())],
    )
}
