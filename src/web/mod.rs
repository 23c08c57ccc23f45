//! `serve --web`: a page on the connected side from which a browser downloads images as tars and payloads.
//!
//! What is downloaded streams from the registry to the browser: nothing of it is kept on the disk, and little in
//! memory. Its length is known before its first byte, its end is only sent once all of it was found right, and what
//! goes wrong in between breaks the connection. Only registries that were allowed are asked, and wherever these send
//! us must have a public address ([`Reach`]). docs/web.md says what the page does, `/openapi.json` what programs can.
//!
//! Each request asks the registry anew, with tokens of its own, so that visitors share nothing and nothing grows.

mod answer;
mod downloads;
mod guard;
mod images;
mod payloads;
mod pipe;
mod query;
mod route;
mod uploaded;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use serde::Serialize;
use tokio::sync::Semaphore;

pub use crate::listen::Body;
use crate::listen::{CHALLENGE, Logins, Service};
use crate::make::{DEFAULT_JOBS, ReadLayers};
use crate::progress::{Event, Reporter};
use crate::reference::RegistryHost;
use crate::registry::{Connections, CredentialStore, Reach};
use crate::save::machine_platform;
use crate::serve::RequestBody;
use crate::units::format_bytes;

use answer::{Code, Refusal};
use downloads::Downloads;
use query::{Query, Wanted};
use route::Route;
use uploaded::{BASELINE_MAX_BYTES, Uploaded};

/// How many downloads may be under way unless it is said otherwise.
pub const DEFAULT_DOWNLOADS: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");
/// How many requests may ask registries at once what images are.
const LOOKS_AT_ONCE: usize = 16;
/// For how many of them one counts for each baseline that it needs in memory.
const LOOKS_PER_BASELINE: usize = 3;
/// When it is worth asking again what an image is, or to upload, in seconds.
const LOOK_AGAIN_SECONDS: u32 = 5;
/// How many uploads may come in at once, each in memory.
const UPLOADS_AT_ONCE: usize = 8;
/// How long an upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest query, in bytes: twenty images and a platform have less.
const QUERY_MAX_BYTES: usize = 16 * 1024;

/// How the page is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The registry of images that name none.
    pub registry: RegistryHost,
    /// All registries that may be asked; `registry` need not be named again.
    pub allowed: BTreeSet<RegistryHost>,
    /// How registries are reached. Their [`Reach`] is set here.
    pub connections: Connections,
    /// Who we are to them.
    pub credentials: CredentialStore,
    /// How many transfers run at once for one download.
    pub jobs: NonZeroUsize,
    /// How many downloads run at once.
    pub downloads_max: NonZeroUsize,
    /// The names by which this server is known, beside its addresses and `localhost`.
    pub public_names: BTreeSet<String>,
    /// Who may ask; everybody if not given.
    pub logins: Option<Logins>,
    /// How long registries may take to say what an image is.
    pub look_timeout: Duration,
}

impl Settings {
    /// Settings for images of `registry`, with everything else as it usually is.
    pub fn new(registry: RegistryHost) -> Self {
        Self {
            registry,
            allowed: BTreeSet::new(),
            connections: Connections::default(),
            credentials: CredentialStore::anonymous(),
            jobs: DEFAULT_JOBS,
            downloads_max: DEFAULT_DOWNLOADS,
            public_names: BTreeSet::new(),
            logins: None,
            look_timeout: Duration::from_secs(120),
        }
    }
}

/// The page and its API. Clones are the same server.
#[derive(Clone)]
pub struct Web(Arc<Shared>);

/// What all requests share.
struct Shared {
    settings: Settings,
    downloads: Downloads,
    looks: Semaphore,
    uploads: Semaphore,
    uploaded: Mutex<Uploaded>,
    /// What was read to convert images, so that the download need not read it again.
    read_layers: ReadLayers,
    reporter: Arc<dyn Reporter>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct About<'a> {
    version: &'a str,
    registry: &'a RegistryHost,
    registries: &'a BTreeSet<RegistryHost>,
    platform: String,
    downloads: Running,
    baseline_max_bytes: u64,
}

#[derive(Serialize)]
struct Running {
    running: usize,
    max: usize,
}

impl Web {
    /// A page with these settings. What happens is told to `reporter`.
    pub fn new(mut settings: Settings, reporter: Arc<dyn Reporter>) -> Self {
        settings.allowed.insert(settings.registry.clone());
        let mirrors = settings.connections.mirrors.values().flat_map(|of| &of.mirrors);
        let named = mirrors.map(|mirror| &mirror.host).chain(&settings.allowed).cloned().collect();
        settings.connections.reach = Reach::Public(named);
        Self(Arc::new(Shared {
            downloads: Downloads::new(settings.downloads_max),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
            uploaded: Mutex::default(),
            read_layers: ReadLayers::default(),
            reporter,
            settings,
        }))
    }

    /// Answers one request.
    pub async fn handle<B: RequestBody>(&self, request: Request<B>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut response = match self.answered(&head, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        if head.method == Method::HEAD {
            leave_out_body(&mut response);
        }
        answer::protect(&mut response);
        response
    }

    async fn answered<B: RequestBody>(
        &self,
        head: &Parts,
        body: B,
    ) -> Result<Response<Body>, Refusal> {
        let shared = &self.0;
        let found = Route::of(&head.method, head.uri.path());
        let kind = found.as_ref().map_or(guard::Kind::Api, |route| route.kind());
        guard::check(head, kind, &shared.settings.public_names)?;
        if let Some(logins) = &shared.settings.logins
            && !logins.allow(&head.headers).await
        {
            return Err(Refusal::new(Code::LoginNeeded, "this server asks for a login")
                .with(WWW_AUTHENTICATE, CHALLENGE));
        }
        if head.uri.query().is_some_and(|query| query.len() > QUERY_MAX_BYTES) {
            let message = format!("expected a query of at most {QUERY_MAX_BYTES} bytes");
            return Err(Refusal::new(Code::TooLarge, message).with_hint("name fewer images"));
        }
        let query = || Query::of(head.uri.query());
        match found? {
            Route::File(media_type, text) => {
                let mut response = answer::content(media_type, Bytes::from_static(text.as_bytes()));
                answer::set(&mut response, &CACHE_CONTROL, "no-cache");
                Ok(response)
            }
            Route::Settings => Ok(self.about()),
            Route::Image => images::describe(shared, query()?).await,
            Route::Tar => images::download(shared, &head.method, query()?).await,
            Route::Plan => payloads::describe(shared, query()?).await,
            Route::Payload => payloads::download(shared, &head.method, query()?).await,
            Route::Baselines => {
                let Ok(_turn) = shared.uploads.try_acquire() else {
                    let message = "too many uploads are coming in right now";
                    return Err(Refusal::busy(message, LOOK_AGAIN_SECONDS));
                };
                let bytes = self.receive(body).await?;
                payloads::upload(shared, head, bytes).await
            }
        }
    }

    fn about(&self) -> Response<Body> {
        let Shared { settings, downloads, .. } = &*self.0;
        answer::document(&About {
            version: env!("CARGO_PKG_VERSION"),
            registry: &settings.registry,
            registries: &settings.allowed,
            platform: machine_platform().to_string(),
            downloads: Running { running: downloads.running(), max: downloads.max() },
            baseline_max_bytes: BASELINE_MAX_BYTES,
        })
    }

    /// Reads a body, as far as it may go.
    async fn receive<B: RequestBody>(&self, body: B) -> Result<Bytes, Refusal> {
        let max = usize::try_from(BASELINE_MAX_BYTES).unwrap_or(usize::MAX);
        let body = pin!(Limited::new(body, max));
        let received = tokio::time::timeout(UPLOAD_TIMEOUT, body.collect()).await;
        match received {
            Ok(Ok(received)) => Ok(received.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let most = format_bytes(BASELINE_MAX_BYTES);
                let message = format!("expected a receipt or inventory of at most {most}");
                let hint = "use `kharon make-payload --against` for larger ones";
                Err(Refusal::new(Code::TooLarge, message).with_hint(hint))
            }
            Ok(Err(_)) => Err(Refusal::new(Code::Usage, "the request broke off")),
            Err(_) => Err(Refusal::new(Code::TooSlow, "the request did not come in time")),
        }
    }
}

/// The length that it has stays.
fn leave_out_body(response: &mut Response<Body>) {
    let length = response.body().size_hint().exact().unwrap_or_default();
    response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    *response.body_mut() = Body::empty();
}

impl Service for Web {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.handle(request).await
    }
}

impl Shared {
    fn reporter(&self) -> &Arc<dyn Reporter> {
        &self.reporter
    }

    fn uploaded(&self) -> MutexGuard<'_, Uploaded> {
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, query: Query) -> Result<Wanted, Refusal> {
        query.wanted(&self.settings.registry, &self.settings.allowed)
    }

    /// Asks registries, if not too many do so already, for as long as that may take.
    async fn look<T>(&self, asking: BoxFuture<'static, anyhow::Result<T>>) -> Result<T, Refusal> {
        self.look_against(0, asking).await
    }

    /// The same with so many baselines in memory.
    async fn look_against<T>(
        &self,
        baselines: usize,
        asking: BoxFuture<'static, anyhow::Result<T>>,
    ) -> Result<T, Refusal> {
        let cost = (1 + baselines * LOOKS_PER_BASELINE).min(LOOKS_AT_ONCE);
        let Ok(_turn) = self.looks.try_acquire_many(u32::try_from(cost).unwrap_or(1)) else {
            let message = "too many are asking about images right now";
            return Err(Refusal::busy(message, LOOK_AGAIN_SECONDS));
        };
        let Ok(answer) = tokio::time::timeout(self.settings.look_timeout, asking).await else {
            return Err(Refusal::new(Code::RegistryTooSlow, "the registry did not answer in time")
                .with_hint("try again later"));
        };
        answer.map_err(|error| {
            let refusal = Refusal::from(&error);
            if refusal.is_internal() {
                self.reporter.warn(format!("a request failed: {error:#}"));
            }
            refusal
        })
    }
}

/// Passes on what people may want to know of single requests as details.
struct Details(Arc<dyn Reporter>);

fn details(reporter: &Arc<dyn Reporter>) -> Arc<dyn Reporter> {
    Arc::new(Details(Arc::clone(reporter)))
}

impl Reporter for Details {
    fn report(&self, event: Event) {
        if let Event::Warning { message } | Event::Note { message } | Event::Detail { message } =
            event
        {
            self.0.detail(message);
        }
    }
}
