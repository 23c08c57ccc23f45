//! A page over test registries, asked without a network in between or with one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::http::request::Builder;
use hyper::{HeaderMap, Method, Request, StatusCode};
use kharon::listen::Listener;
use kharon::progress::Recorder;
use kharon::reference::RegistryHost;
use kharon::registry::{Connections, RetryPolicy};
use kharon::web::{Settings, Web};
use serde_json::Value;

use crate::support::registry::TestRegistry;

pub fn host(registry: &TestRegistry) -> RegistryHost {
    registry.host().parse().expect("a host")
}

pub fn connections(registries: &[&TestRegistry]) -> Connections {
    Connections {
        plain_http: registries.iter().map(|registry| host(registry)).collect(),
        certs_directories: Vec::new(),
        retry: RetryPolicy {
            attempts: 2,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(5),
        },
        ..Connections::default()
    }
}

/// Settings that allow these registries, the first for names that have none.
pub fn settings(registries: &[&TestRegistry]) -> Settings {
    let allowed = registries.iter().map(|registry| host(registry)).collect();
    let connections = connections(registries);
    Settings { allowed, connections, ..Settings::new(host(registries[0])) }
}

/// A page, and what it told whoever runs it.
pub struct Page {
    pub web: Web,
    pub told: Arc<Recorder>,
}

/// An answer, read to its end if it has one.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Nothing if the answer broke off.
    pub body: Option<Bytes>,
}

impl Page {
    pub fn over(registries: &[&TestRegistry]) -> Self {
        Self::with(settings(registries))
    }

    pub fn with(settings: Settings) -> Self {
        let told = Arc::new(Recorder::default());
        Self { web: Web::new(settings, told.clone()), told }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path), "").await
    }

    pub async fn head(&self, path: &str) -> Answer {
        self.send(request(Method::HEAD, path), "").await
    }

    pub async fn upload(&self, body: impl Into<Bytes>) -> Answer {
        let request = request(Method::POST, "/api/v1/baselines");
        self.send(request.header("content-type", "application/json"), body).await
    }

    pub async fn send(&self, request: Builder, body: impl Into<Bytes>) -> Answer {
        let request: Request<Full<Bytes>> =
            request.body(Full::new(body.into())).expect("a request");
        let (head, body) = self.web.handle(request).await.into_parts();
        let body = tokio::time::timeout(Duration::from_secs(30), body.collect()).await;
        let body = body.expect("an end").ok().map(http_body_util::Collected::to_bytes);
        Answer { status: head.status, headers: head.headers, body }
    }

    /// Lets it listen, and gives its address.
    pub async fn listen(&self, idle_timeout: Duration) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, None).await.expect("a port");
        let (address, web) = (listener.local_address(), self.web.clone());
        let listener = listener.with_idle_timeout(idle_timeout);
        tokio::spawn(listener.run(web, std::future::pending::<()>()));
        address
    }
}

pub fn request(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:5000")
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn bytes(&self) -> &Bytes {
        self.body.as_ref().expect("a whole answer")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(self.bytes()).expect("JSON")
    }

    /// The error must have this status and code, and these parts in its text.
    pub fn assert_refused(&self, status: u16, code: &str, parts: &[&str]) {
        let text = self.json().to_string();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.json()["error"]["code"], code, "{text}");
        for part in parts {
            assert!(text.contains(part), "expected `{part}` in {text}");
        }
    }
}

/// Asks over a connection; gives the head, and the bytes that came behind it until the connection ended.
pub fn fetch(address: SocketAddr, path: &str) -> (String, Vec<u8>) {
    let mut stream = connect(address, path);
    let mut all = Vec::new();
    // A connection that is reset has ended too.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let body = all.split_off(end);
    (String::from_utf8(all).expect("text"), body)
}

pub fn connect(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}
