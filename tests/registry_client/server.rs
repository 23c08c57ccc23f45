//! A server on this machine that answers as a test tells it, byte for byte, and keeps what it saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kharon::progress::Recorder;
use kharon::reference::RegistryHost;
use kharon::registry::connection::{Connections, RetryPolicy};
use kharon::registry::credentials::{CredentialStore, Credentials, Secret};
use kharon::registry::{Registries, Registry};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the whole body came.
    pub complete: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }

    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// The first and last byte that were asked for.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// Nothing comes any more after so many bytes of the body.
    Stall(usize),
    /// There is no length, and the connection is closed as if that were the end.
    Unsized,
    /// There is no length, and the body comes again and again.
    Endless,
    /// The connection is closed without an answer.
    Nothing,
}

/// What a test does with a request's body before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    All,
    /// So many bytes, then the connection is closed.
    Cut(usize),
    /// Nothing, for ever.
    Never,
    /// Nothing: the answer comes at once.
    Ignore,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), end: End::Whole }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// What a range request for `content` gets.
    pub fn range_of(content: &[u8], seen: &Seen) -> Self {
        match seen.range() {
            None => Self::new(200).body(content),
            Some((first, last)) => Self::new(206)
                .with("content-range", format!("bytes {first}-{last}/{}", content.len()))
                .body(&content[first..=last]),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;
type Taking = dyn Fn(&Seen) -> Take + Send + Sync;

pub struct Server {
    pub address: String,
    log: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_taking(|_| Take::All, script).await
    }

    pub async fn start_taking(
        take: impl Fn(&Seen) -> Take + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (script, take): (Arc<Script>, Arc<Taking>) = (Arc::new(script), Arc::new(take));
        let seen = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, take, seen) = (script.clone(), take.clone(), seen.clone());
                tokio::spawn(async move { serve(stream, &*take, &*script, &seen).await });
            }
        });
        Self { address, log, task }
    }

    /// A server that speaks TLS, and counts who comes to it.
    pub async fn start_tls(
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> (Self, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (log, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let (script, acceptor): (Arc<Script>, _) = (Arc::new(script), acceptor());
        let (seen, count) = (Arc::clone(&log), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                AtomicUsize::fetch_add(&count, 1, Ordering::SeqCst);
                let (script, acceptor, seen) = (script.clone(), acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &|_| Take::All, &*script, &seen).await;
                    }
                });
            }
        });
        (Self { address: format!("localhost:{port}"), log, task }, connections)
    }

    pub fn host(&self) -> RegistryHost {
        self.address.parse().expect("a host")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn log(&self) -> Vec<Seen> {
        self.log.lock().expect("no panic").clone()
    }

    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|seen| seen.is(method, part)).count()
    }

    /// Methods and targets in the order in which they came.
    pub fn requests(&self) -> Vec<String> {
        self.log().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    pub fn registry(&self) -> Registry {
        self.registry_as(Credentials::Anonymous)
    }

    pub fn registry_as(&self, credentials: Credentials) -> Registry {
        let store = CredentialStore::anonymous().with_explicit(self.host(), credentials);
        registries(self, |_| {}, store).0.registry(&self.host()).expect("a client")
    }

    pub fn registry_with(&self, change: impl FnOnce(&mut Connections)) -> Registry {
        let (registries, _) = registries(self, change, CredentialStore::anonymous());
        registries.registry(&self.host()).expect("a client")
    }
}

pub fn registries(
    server: &Server,
    change: impl FnOnce(&mut Connections),
    store: CredentialStore,
) -> (Registries, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let mut connections = Connections {
        plain_http: [server.host()].into(),
        certs_directories: Vec::new(),
        retry: RetryPolicy {
            attempts: 4,
            first_delay: Duration::from_millis(5),
            longest_delay: Duration::from_millis(20),
        },
        ..Connections::default()
    };
    change(&mut connections);
    (Registries::new(connections, store, recorder.clone()), recorder)
}

pub fn login() -> Credentials {
    Credentials::Basic { username: "ferry".to_owned(), password: Secret::new("obolus") }
}

/// Accepts TLS with the certificate of the fixtures, which is for `localhost`.
fn acceptor() -> TlsAcceptor {
    let fixture = |name: &str| {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
    };
    let certificate = CertificateDer::from_pem_file(fixture("server.cert")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(stream: impl Stream, take: &Taking, script: &Script, log: &Mutex<Vec<Seen>>) {
    let mut stream = BufReader::new(stream);
    while let Some(mut seen) = head(&mut stream).await {
        let length = seen.header("content-length").map_or(0, |n| n.parse().expect("a number"));
        assert!(seen.header("transfer-encoding").is_none(), "chunked encoding was used");
        let taking = take(&seen);
        let wanted = match taking {
            Take::All => length,
            Take::Cut(bytes) => bytes.min(length),
            Take::Never | Take::Ignore => 0,
        };
        let read = (&mut stream).take(wanted as u64).read_to_end(&mut seen.body).await;
        seen.complete = read.is_ok() && seen.body.len() == length;
        let gone = seen.body.len() < wanted;
        let reply = (!gone && matches!(taking, Take::All | Take::Ignore)).then(|| script(&seen));
        log.lock().expect("no panic").push(seen.clone());
        if taking == Take::Never {
            std::future::pending::<()>().await;
        }
        let Some(reply) = reply else { return };
        if send(&mut stream, &reply, seen.method == "HEAD").await.is_none() {
            return;
        }
    }
}

async fn head(stream: &mut BufReader<impl Stream>) -> Option<Seen> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
        if text.len() == 1 && text[0] == 0x16 {
            // The beginning of a TLS handshake, which this server does not speak.
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok()?;
            return None;
        }
    }
    let text = String::from_utf8(text).expect("a head of text");
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let headers = lines.filter_map(|line| line.split_once(':'));
    Some(Seen {
        method: first.next()?.to_owned(),
        target: first.next()?.to_owned(),
        headers: headers.map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect(),
        ..Seen::default()
    })
}

async fn send(stream: &mut BufReader<impl Stream>, reply: &Reply, is_head: bool) -> Option<()> {
    let Reply { status, headers, body, end } = reply;
    if *end == End::Nothing {
        return None;
    }
    let mut head = format!("HTTP/1.1 {status} x\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let is_sized = headers.iter().any(|(name, _)| name == "content-length");
    if !matches!(end, End::Unsized | End::Endless) && !is_sized {
        head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    if is_head {
        return Some(());
    }
    match *end {
        End::Cut(bytes) | End::Stall(bytes) => {
            stream.write_all(&body[..bytes.min(body.len())]).await.ok()?;
            stream.flush().await.ok()?;
            if matches!(end, End::Stall(_)) {
                std::future::pending::<()>().await;
            }
            None
        }
        End::Endless => loop {
            stream.write_all(body).await.ok()?;
        },
        End::Unsized => {
            stream.write_all(body).await.ok()?;
            None
        }
        End::Whole | End::Nothing => stream.write_all(body).await.ok(),
    }
}
