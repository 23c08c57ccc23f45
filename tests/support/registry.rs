//! A registry inside of the test: the real server of this crate on a free port, with a journal of
//! what it was asked, faults, and the habits of other registries.
//!
//! ```ignore
//! let registry = TestRegistry::start();
//! let image = Image::oci(&[layer(&[("etc/motd", b"hello")])]);
//! registry.put("some/name", "1.0", &image);            // straight into its folder, not in the journal
//! registry.fail(Fault::on("GET", "/blobs/", Effect::CutBodyAfter(10)));
//! … let the client talk to registry.host() …
//! assert_eq!(registry.count("GET", "/blobs/"), 2);
//! registry.assert_no_violations();
//! ```
//!
//! - It has a thread of its own, so it also serves blocking tests and child processes, and stops on drop.
//! - Blobs belong to repositories here, as in most registries: what was neither pushed to a
//!   repository nor mounted there answers 404 ([`Options::blobs_shared`] turns that off).
//! - [`Options`] has the habits: login, redirects, refused mounts, no referrers API, sparse indexes and more.
//! - A *violation* is something that no client may do, such as to show a token to another host.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, LINK, LOCATION, RANGE, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kharon::digest::Digest;
use kharon::layout::Durability;
use kharon::manifest::{MANIFEST_MAX_BYTES, Manifest, MediaType};
use kharon::reference::{RepositoryName, TagOrDigest};
use kharon::serve::Server;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::access::{Access, Tokens, pairs};
use super::fault::{At, Effect, Endless, Fault, Faults, Faulty};
use super::images::Image;
use super::journal::{Exchange, Journal, Line, Side, repository_of};

/// The habits of a registry. The default is a plain one of today.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "habits have nothing to do with each other")]
pub struct Options {
    pub access: Access,
    /// Every blob is in every repository, as [`Server`] itself has it.
    pub blobs_shared: bool,
    /// A mount is answered with 202 and a session.
    pub mounts_refused: bool,
    /// Blobs are answered with 307 to another port, which must not see an `Authorization`.
    pub redirect: Option<Redirect>,
    /// An index may be pushed without all of its children, an image without all of its blobs.
    pub sparse_allowed: bool,
    /// There is no referrers API.
    pub no_referrers: bool,
    /// No answer has a `Docker-Content-Digest`.
    pub no_content_digest: bool,
    /// A tag that exists cannot be moved.
    pub immutable_tags: bool,
    /// A proxy in front answers 413 to longer bodies, in bytes.
    pub body_max_bytes: Option<u64>,
    /// So many manifests may be fetched (GET), as `ratelimit-*` headers say; then 429.
    pub manifest_pulls: Option<u32>,
    pub locations: Locations,
    /// A request body that breaks off kills its upload session, as distribution 2.8 does.
    pub torn_uploads_die: bool,
    /// Ranges are not known: every GET is answered with 200 and everything.
    pub no_ranges: bool,
    /// Lists of repositories and tags have no more names in one answer, and no `Link` to the next: Nexus is such.
    pub lists_cut_at: Option<usize>,
    /// Every request waits so long for its answer.
    pub latency: Duration,
}

/// How blobs are redirected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redirect {
    /// After so many requests an address is refused with 403, as signed ones are when they expire.
    pub uses: Option<usize>,
}

/// How upload sessions are named to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locations {
    /// `/v2/…`
    #[default]
    Relative,
    /// `http://host/v2/…`
    Absolute,
    /// `http://host/v2/…?_state=…`, without which, to the letter, the session is not found.
    WithState,
}

/// Has characters that a client breaks who decodes and encodes it.
const STATE: &str = "_state=a%2Bb%3D%3D%2F~";

type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;
/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed on purpose")]
struct Closed;

/// A running registry.
pub struct TestRegistry {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

struct Shared {
    server: Server,
    options: Options,
    address: SocketAddr,
    storage: SocketAddr,
    journal: Journal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    tokens: Tokens,
    /// Which blobs are in which repositories.
    links: BTreeSet<(String, Digest)>,
    /// How often each redirect was used.
    redirects: HashMap<String, usize>,
    manifest_pulls: u32,
    violations: Vec<String>,
}

impl TestRegistry {
    /// A plain registry of today.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A registry with habits.
    pub fn start_with(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::open_with(folder.path(), Durability::Relaxed).expect("a registry");
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let storage = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let shared = Arc::new(Shared {
                    server,
                    options,
                    address: listener.local_addr().expect("an address"),
                    storage: storage.local_addr().expect("an address"),
                    journal: Journal::default(),
                    state: Mutex::default(),
                });
                ready.send(Arc::clone(&shared)).expect("somebody waits");
                tokio::spawn(accept(Arc::clone(&shared), listener));
                tokio::spawn(accept(shared, storage));
                drop(stopped.await);
            });
            // Stalled bodies wait for ever; reads of files end by themselves.
            runtime.shutdown_background();
        });
        let shared = started.recv().expect("the registry starts");
        Self { shared, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    /// `127.0.0.1:<port>`, as it stands in front of image names.
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// `http://127.0.0.1:<port>` and a path such as `/v2/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.shared.address)
    }

    /// A full reference: `reference("some/name:1.0")`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.shared.address)
    }

    /// The server itself, without journal, faults and habits.
    pub fn server(&self) -> &Server {
        &self.shared.server
    }

    /// Everything asked and answered so far, in the order in which requests came.
    pub fn journal(&self) -> Vec<Exchange> {
        self.shared.journal.all()
    }

    /// Forgets the journal, for tests that count only what comes now.
    pub fn clear_journal(&self) {
        self.shared.journal.clear();
    }

    /// The exchanges with this method (empty: any) whose path contains this text.
    pub fn exchanges(&self, method: &str, part: &str) -> Vec<Exchange> {
        let matches = |exchange: &Exchange| {
            (method.is_empty() || exchange.method == method) && exchange.path.contains(part)
        };
        self.journal().into_iter().filter(matches).collect()
    }

    /// How many those are.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.exchanges(method, part).len()
    }

    /// How many bytes of blobs arrived for a repository, in vain or not.
    pub fn blob_bytes_sent_to(&self, repository: &str) -> u64 {
        self.blob_exchanges(repository).map(|exchange| exchange.request_body_bytes).sum()
    }

    /// How many requests brought bytes of blobs for a repository.
    pub fn blob_bodies_sent_to(&self, repository: &str) -> usize {
        self.blob_exchanges(repository).filter(|exchange| exchange.request_body_bytes > 0).count()
    }

    /// How many bytes of blobs were sent out, redirected ones included.
    pub fn blob_bytes_fetched(&self) -> u64 {
        let is_blob = |exchange: &Exchange| {
            exchange.method == "GET"
                && (exchange.path.contains("/blobs/sha") || exchange.path.starts_with("/storage/"))
                && (200..300).contains(&exchange.status)
        };
        let blobs = self.journal().into_iter().filter(is_blob);
        blobs.map(|exchange| exchange.response_body_bytes).sum()
    }

    fn blob_exchanges(&self, repository: &str) -> impl Iterator<Item = Exchange> {
        let prefix = format!("/v2/{repository}/blobs/");
        self.journal().into_iter().filter(move |exchange| exchange.path.starts_with(&prefix))
    }

    /// Lets something go wrong.
    pub fn fail(&self, fault: Fault) {
        self.shared.state().faults.add(fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// How many requests a fault befell: 0 ends a sweep over the n-th request.
    pub fn faults_struck(&self) -> usize {
        self.shared.state().faults.struck
    }

    /// What clients did that none may do.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Fails the test if a client did what none may do.
    pub fn assert_no_violations(&self) {
        assert_eq!(self.violations(), Vec::<String>::new());
    }

    /// Stores a blob in a repository, straight into the folder.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        self.put_blob_as(repository, &Digest::of(bytes), bytes);
        Digest::of(bytes)
    }

    fn put_blob_as(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        self.shared.state().links.insert((repository.to_owned(), digest.clone()));
        self.server().layout().expect("a folder").write_blob(digest, bytes).expect("written");
    }

    /// Stores an image, chart or index with all that belongs to it, under a tag, or with `""`
    /// without one. Straight into the folder.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) -> Digest {
        for blob in &image.blobs {
            self.put_blob_as(repository, &blob.descriptor.digest, &blob.bytes);
        }
        for child in &image.children {
            self.put(repository, "", child);
        }
        let tags: Vec<_> = Some(tag)
            .filter(|tag| !tag.is_empty())
            .map(|tag| tag.parse().expect("a tag"))
            .into_iter()
            .collect();
        let layout = self.server().layout().expect("a folder");
        layout.put_manifest(&name(repository), &tags, &image.manifest).expect("stored");
        image.digest().clone()
    }

    /// The bytes of a manifest, by tag or digest.
    pub fn manifest(&self, repository: &str, what: &str) -> Option<Bytes> {
        let found = self
            .server()
            .layout()
            .expect("a folder")
            .find(&name(repository), &tag_or_digest(what))?;
        self.server().layout().expect("a folder").read_manifest(&found.digest).expect("readable")
    }

    /// What a tag names.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        let found = self
            .server()
            .layout()
            .expect("a folder")
            .find(&name(repository), &tag_or_digest(tag))?;
        Some(found.digest)
    }

    /// All tags of a repository; none if there is no such repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let tags =
            self.server().layout().expect("a folder").tags(&name(repository)).unwrap_or_default();
        tags.iter().map(ToString::to_string).collect()
    }

    /// Whether a repository has a blob.
    pub fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.server().layout().expect("a folder").has_blob(digest)
            && (self.shared.options.blobs_shared || self.shared.is_linked(repository, digest))
    }

    /// Takes a blob out of a repository, as a clean-up of the registry would.
    pub fn forget_blob(&self, repository: &str, digest: &Digest) {
        self.shared.state().links.remove(&(repository.to_owned(), digest.clone()));
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn name(repository: &str) -> RepositoryName {
    repository.parse().expect("a repository")
}

fn tag_or_digest(text: &str) -> TagOrDigest {
    match text.parse() {
        Ok(digest) => TagOrDigest::Digest(digest),
        Err(_) => TagOrDigest::Tag(text.parse().expect("a tag or digest")),
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| Arc::clone(&shared).serve(request));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn boxed(response: Response<kharon::serve::Body>) -> Response<AnyBody> {
    response.map(BodyExt::boxed_unsync)
}

fn plain(status: u16, body: &str) -> Response<AnyBody> {
    let body = Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn refusal(status: u16, code: &str) -> Response<AnyBody> {
    plain(
        status,
        &json!({ "errors": [{ "code": code, "message": "as the test wants it" }] }).to_string(),
    )
}

fn set_header(response: &mut Response<AnyBody>, name: &'static str, value: &str) {
    response.headers_mut().insert(name, value.parse().expect("a header"));
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_linked(&self, repository: &str, digest: &Digest) -> bool {
        self.state().links.contains(&(repository.to_owned(), digest.clone()))
    }

    /// One request through journal, faults, and all habits.
    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnyBody>, Closed> {
        let (mut head, body) = request.into_parts();
        let line = self.journal.begin(&head);
        tokio::time::sleep(self.options.latency).await;
        let effect = self.state().faults.strike(&head);
        let (mut on_request, mut on_answer) = (None, None);
        match &effect {
            Some(Effect::Status(status, headers)) => {
                drop(line.count(body, Side::Request).collect().await);
                let mut response = refusal(*status, "UNKNOWN");
                for (name, value) in headers {
                    set_header(&mut response, name, value);
                }
                return Ok(finish(&line, response, None));
            }
            Some(Effect::Answer(status, headers, bytes)) => {
                drop(line.count(body, Side::Request).collect().await);
                let mut response = plain(*status, "");
                // Without a size of its own, so that a header may lie about it.
                let body = stream::iter([Ok(Frame::data(bytes.clone()))]);
                *response.body_mut() = StreamBody::new(body).boxed_unsync();
                for (name, value) in headers {
                    set_header(&mut response, name, value);
                }
                return Ok(finish(&line, response, None));
            }
            Some(Effect::Endless) => {
                let mut response = plain(200, "");
                *response.body_mut() = Endless.boxed_unsync();
                return Ok(finish(&line, response, None));
            }
            Some(Effect::Body(text)) => return Ok(finish(&line, plain(200, text), None)),
            Some(Effect::CloseBeforeHeaders) => return Err(Closed),
            Some(Effect::Hang) => std::future::pending().await,
            Some(Effect::Wait(time)) => tokio::time::sleep(*time).await,
            Some(Effect::IgnoreRange) => drop(head.headers.remove(RANGE)),
            Some(Effect::CutBodyAfter(bytes)) => on_answer = Some(At::Cut(*bytes)),
            Some(Effect::StallBodyAfter(bytes)) => on_answer = Some(At::Stall(*bytes)),
            Some(Effect::Corrupt(offset)) => on_answer = Some(At::Corrupt(*offset)),
            Some(Effect::CutRequestAfter(bytes)) => on_request = Some(At::Cut(*bytes)),
            Some(Effect::StallRequestAfter(bytes)) => on_request = Some(At::Stall(*bytes)),
            Some(Effect::LoseAnswer | Effect::Header(..)) | None => {}
        }
        let body = line.count(Faulty::new(body, on_request), Side::Request);
        let mut response = self.answer(&mut head, body).await;
        match effect {
            Some(Effect::LoseAnswer | Effect::CutRequestAfter(_)) => return Err(Closed),
            Some(Effect::Header(name, Some(value))) => set_header(&mut response, name, &value),
            Some(Effect::Header(name, None)) => drop(response.headers_mut().remove(name)),
            _ => {}
        }
        Ok(finish(&line, response, on_answer))
    }

    async fn answer<B>(&self, head: &mut Parts, body: B) -> Response<AnyBody>
    where
        B: Body<Data = Bytes, Error = std::io::Error> + Send + Unpin,
    {
        if self.options.no_ranges {
            head.headers.remove(RANGE);
        }
        if head.uri.path().starts_with("/storage/") {
            return self.stored(head).await;
        }
        if head.uri.path() == "/token" {
            return self.token(head, body).await;
        }
        if let Err(challenge) =
            self.state().tokens.check(&self.options.access, head, &self.address.to_string())
        {
            let mut response = refusal(401, "UNAUTHORIZED");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge.0.parse().expect("a header"));
            return response;
        }
        if let Some(response) = self.refuse(head) {
            drop(body.collect().await);
            return response;
        }
        let path = head.uri.path().to_owned();
        let pushes_manifest = head.method == Method::PUT && path.contains("/manifests/");
        let mut response = if pushes_manifest {
            self.put_manifest(head, body).await
        } else {
            let request = Request::from_parts(head.clone(), body);
            boxed(self.server.handle(request).await)
        };
        self.note_links(head, response.status());
        self.dress(head, &mut response);
        if self.options.torn_uploads_die
            && head.method == Method::PATCH
            && response.status() == StatusCode::BAD_REQUEST
        {
            self.server.handle(cancel(&path)).await;
        }
        response
    }

    /// What the habits refuse before the server is asked. May change what it is asked.
    fn refuse(&self, head: &mut Parts) -> Option<Response<AnyBody>> {
        self.cut_list(head);
        let path = head.uri.path().to_owned();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok()).unwrap_or_default();
        if self.options.body_max_bytes.is_some_and(|max_bytes| length > max_bytes) {
            return Some(plain(413, "<html>413 Request Entity Too Large</html>"));
        }
        if self.options.no_referrers && path.contains("/referrers/") {
            return Some(plain(404, "404 page not found"));
        }
        if head.method == Method::GET && path.contains("/manifests/") && self.is_out_of_pulls() {
            return Some(refusal(429, "TOOMANYREQUESTS"));
        }
        if self.options.locations == Locations::WithState && is_session(&path) {
            let query = head.uri.query().unwrap_or_default();
            if !query.split('&').any(|pair| pair == STATE) {
                self.state().violations.push(format!("the state is gone from `{}`", head.uri));
                return Some(refusal(404, "BLOB_UPLOAD_UNKNOWN"));
            }
        }
        if head.method == Method::POST {
            self.weigh_mount(head);
        }
        self.refuse_blob(head)
    }

    /// A list that is to be cut is asked for in pages of that size.
    fn cut_list(&self, head: &mut Parts) {
        let Some(most) = self.options.lists_cut_at.filter(|_| is_list(head.uri.path())) else {
            return;
        };
        let asked = head.uri.query().unwrap_or_default();
        let rest: Vec<&str> = asked.split('&').filter(|pair| !pair.starts_with("n=")).collect();
        let path = format!("{}?n={most}&{}", head.uri.path(), rest.join("&"));
        head.uri = Uri::try_from(path).expect("a path");
    }

    fn is_out_of_pulls(&self) -> bool {
        let Some(max) = self.options.manifest_pulls else { return false };
        let mut state = self.state();
        state.manifest_pulls += 1;
        state.manifest_pulls > max
    }

    /// A mount that is not to be is the start of an upload.
    fn weigh_mount(&self, head: &mut Parts) {
        let parameters = pairs(head.uri.query().unwrap_or_default());
        let value = |key| parameters.iter().find(|(found, _)| found == key).map(|(_, value)| value);
        let Some(digest) = value("mount").and_then(|digest| digest.parse::<Digest>().ok()) else {
            return;
        };
        let from = value("from").map(String::as_str);
        let is_there =
            self.options.blobs_shared || from.is_some_and(|from| self.is_linked(from, &digest));
        if self.options.mounts_refused || !is_there {
            head.uri = Uri::try_from(head.uri.path()).expect("a path");
        }
    }

    /// A blob that is not in this repository is not there; one that is may be elsewhere.
    fn refuse_blob(&self, head: &Parts) -> Option<Response<AnyBody>> {
        if head.method != Method::GET && head.method != Method::HEAD {
            return None;
        }
        let (_, digest) = head.uri.path().split_once("/blobs/")?;
        let digest: Digest = digest.parse().ok()?;
        let repository = repository_of(head.uri.path())?;
        if !self.options.blobs_shared && !self.is_linked(repository, &digest) {
            return Some(refusal(404, "BLOB_UNKNOWN"));
        }
        if self.options.redirect.is_none() || head.method == Method::HEAD {
            return None;
        }
        let mut state = self.state();
        let signature = format!("s{}", state.redirects.len());
        state.redirects.insert(signature.clone(), 0);
        let location = format!("http://{}/storage/{digest}?signature={signature}", self.storage);
        let mut response = plain(307, "");
        response.headers_mut().insert(LOCATION, location.parse().expect("a header"));
        Some(response)
    }

    /// The other host, to which blobs are redirected.
    async fn stored(&self, head: &Parts) -> Response<AnyBody> {
        if head.headers.contains_key(AUTHORIZATION) {
            let violation = format!("credentials were shown to the storage: `{}`", head.uri.path());
            self.state().violations.push(violation);
            return plain(400, "only one way to log in is allowed");
        }
        let signature = head.uri.query().unwrap_or_default().replace("signature=", "");
        {
            let mut state = self.state();
            let max = self.options.redirect.and_then(|redirect| redirect.uses);
            match state.redirects.get_mut(&signature) {
                Some(uses) if max.is_none_or(|max| *uses < max) => *uses += 1,
                _ => return plain(403, "<Error><Code>AccessDenied</Code></Error>"),
            }
        }
        let digest = head.uri.path().trim_start_matches("/storage/");
        let mut request = Request::new(Full::<Bytes>::default());
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = head.headers.clone();
        *request.uri_mut() = Uri::try_from(format!("/v2/storage/blobs/{digest}")).expect("a path");
        let mut response = boxed(self.server.handle(request).await);
        response.headers_mut().remove("docker-content-digest");
        response.headers_mut().remove("docker-distribution-api-version");
        response
    }

    async fn token<B: Body<Data = Bytes> + Send + Unpin>(
        &self,
        head: &Parts,
        body: B,
    ) -> Response<AnyBody> {
        let form = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        let form = String::from_utf8_lossy(&form).into_owned();
        let granted = self.state().tokens.grant(&self.options.access, head, &form);
        match granted {
            Some(token) => {
                let mut response = plain(200, &token.to_string());
                set_header(&mut response, "content-type", "application/json");
                response
            }
            None => refusal(401, "UNAUTHORIZED"),
        }
    }

    /// A manifest is looked at before the server gets it.
    async fn put_manifest<B>(&self, head: &Parts, body: B) -> Response<AnyBody>
    where
        B: Body<Data = Bytes, Error = std::io::Error> + Send + Unpin,
    {
        let Ok(raw) = body.collect().await.map(Collected::to_bytes) else {
            return refusal(400, "MANIFEST_INVALID");
        };
        let path = head.uri.path();
        let repository = repository_of(path).unwrap_or_default().to_owned();
        let what = path.rsplit('/').next().unwrap_or_default();
        let media_type = head.headers.get(hyper::header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok()).map(MediaType::new);
        let manifest = Manifest::parse(raw.clone(), media_type.as_ref()).ok();
        if let Some(manifest) = manifest.filter(|_| raw.len() as u64 <= MANIFEST_MAX_BYTES) {
            if self.options.immutable_tags && self.is_moved(&repository, what, manifest.digest()) {
                return refusal(412, "PRECONDITION");
            }
            let is_absent = |digest: &&Digest| {
                !self.options.blobs_shared && !self.is_linked(&repository, digest)
            };
            let blobs = manifest.blobs().filter(|blob| !blob.is_foreign());
            let absent: Vec<Value> = blobs
                .map(|blob| &blob.digest)
                .filter(is_absent)
                .map(|digest| json!({ "code": "MANIFEST_BLOB_UNKNOWN", "detail": { "digest": digest } }))
                .collect();
            if !self.options.sparse_allowed && !absent.is_empty() {
                return plain(404, &json!({ "errors": absent }).to_string());
            }
            let what = tag_or_digest(what);
            if self.options.sparse_allowed
                && let Some(response) = self.put_sparse(&repository, &what, manifest)
            {
                return response;
            }
        }
        let request = Request::from_parts(head.clone(), Full::new(raw));
        boxed(self.server.handle(request).await)
    }

    fn is_moved(&self, repository: &str, what: &str, digest: &Digest) -> bool {
        let Ok(repository) = repository.parse() else { return false };
        let Ok(tag) = what.parse() else { return false };
        let found =
            self.server.layout().expect("a folder").find(&repository, &TagOrDigest::Tag(tag));
        found.is_some_and(|found| found.digest != *digest)
    }

    /// Stores a manifest whose content is missing, which the server itself would refuse.
    fn put_sparse(
        &self,
        repository: &str,
        what: &TagOrDigest,
        manifest: Manifest,
    ) -> Option<Response<AnyBody>> {
        let repository: RepositoryName = repository.parse().ok()?;
        if self.server.layout().expect("a folder").missing(&repository, &manifest).is_empty() {
            return None;
        }
        let (tags, manifest) = match what {
            TagOrDigest::Tag(tag) => (vec![tag.clone()], manifest),
            TagOrDigest::Digest(digest) => (Vec::new(), manifest.verified_as(digest).ok()?),
        };
        self.server
            .layout()
            .expect("a folder")
            .put_manifest(&repository, &tags, &manifest)
            .expect("stored");
        let mut response = plain(201, "");
        let location = format!("/v2/{repository}/manifests/{}", manifest.digest());
        set_header(&mut response, "location", &location);
        set_header(&mut response, "docker-content-digest", &manifest.digest().to_string());
        if let Some(subject) = &manifest.subject {
            set_header(&mut response, "oci-subject", &subject.digest.to_string());
        }
        Some(response)
    }

    /// What was pushed or mounted is in the repository from now on.
    fn note_links(&self, head: &Parts, status: StatusCode) {
        let is_upload = head.uri.path().contains("/blobs/uploads");
        let Some(repository) = repository_of(head.uri.path()) else { return };
        if !is_upload || status != StatusCode::CREATED {
            return;
        }
        for (key, value) in pairs(head.uri.query().unwrap_or_default()) {
            if let Ok(digest) = value.parse()
                && (key == "digest" || key == "mount")
            {
                self.state().links.insert((repository.to_owned(), digest));
            }
        }
    }

    /// Makes an answer look as the habits say.
    fn dress(&self, head: &Parts, response: &mut Response<AnyBody>) {
        if self.options.lists_cut_at.is_some() && is_list(head.uri.path()) {
            response.headers_mut().remove(LINK);
        }
        if self.options.no_content_digest {
            response.headers_mut().remove("docker-content-digest");
        }
        if self.options.no_referrers {
            response.headers_mut().remove("oci-subject");
        }
        if let Some(max) = self.options.manifest_pulls
            && head.uri.path().contains("/manifests/")
        {
            let left = max.saturating_sub(self.state().manifest_pulls);
            set_header(response, "ratelimit-limit", &format!("{max};w=21600"));
            set_header(response, "ratelimit-remaining", &format!("{left};w=21600"));
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location.map(str::to_owned) else { return };
        let state = if is_session(&location) { format!("?{STATE}") } else { String::new() };
        let location = match self.options.locations {
            Locations::Relative => return,
            Locations::Absolute => format!("http://{}{location}", self.address),
            Locations::WithState => format!("http://{}{location}{state}", self.address),
        };
        set_header(response, "location", &location);
    }
}

fn is_list(path: &str) -> bool {
    path.ends_with("/_catalog") || path.ends_with("/tags/list")
}

fn is_session(path: &str) -> bool {
    path.split_once("/blobs/uploads/").is_some_and(|(_, id)| !id.is_empty())
}

fn cancel(path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = Uri::try_from(path).expect("a path");
    request
}

/// The last step of every answer: it is noted, and its body counted.
fn finish(line: &Line, response: Response<AnyBody>, at: Option<At>) -> Response<AnyBody> {
    let status = response.status().as_u16();
    line.note(|exchange| exchange.status = status);
    response.map(|body| line.count(Faulty::new(body, at), Side::Answer).boxed_unsync())
}
