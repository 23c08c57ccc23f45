//! What a [`TestRegistry`](super::registry::TestRegistry) was asked and what it answered.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use hyper::http::request::Parts;

/// One request and its answer.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// In upper case.
    pub method: String,
    /// Without the query. Redirected blobs are `/storage/…`, tokens `/token`.
    pub path: String,
    /// Behind the `?`; empty without one.
    pub query: String,
    pub range: Option<String>,
    pub content_range: Option<String>,
    pub content_type: Option<String>,
    pub accept: Option<String>,
    pub user_agent: Option<String>,
    /// As the header said; `None` for chunked bodies.
    pub content_length: Option<u64>,
    /// Whether there was an `Authorization`.
    pub authorized: bool,
    /// 0 as long as there is no answer, and for ever where the connection was closed without one.
    pub status: u16,
    /// What really arrived.
    pub request_body_bytes: u64,
    /// What was handed to the connection.
    pub response_body_bytes: u64,
}

impl Exchange {
    fn of(head: &Parts) -> Self {
        let text = |name: hyper::header::HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        Self {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            range: text(RANGE),
            content_range: text(CONTENT_RANGE),
            content_type: text(CONTENT_TYPE),
            accept: text(hyper::header::ACCEPT),
            user_agent: text(hyper::header::USER_AGENT),
            content_length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            authorized: head.headers.contains_key(AUTHORIZATION),
            ..Self::default()
        }
    }

    /// `METHOD /path?query -> status`, for messages of tests.
    pub fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{} -> {}", self.method, self.path, self.query, self.status)
    }

    /// The repository of the path, if it has one.
    pub fn repository(&self) -> Option<&str> {
        repository_of(&self.path)
    }
}

/// The repository that a path of the API names.
pub fn repository_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v2/")?;
    let ends = ["/blobs/", "/manifests/", "/tags/", "/referrers/"];
    Some(&rest[..ends.iter().filter_map(|end| rest.find(end)).min()?])
}

/// All exchanges, in the order in which their requests came.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Exchange>>>);

impl Journal {
    pub fn all(&self) -> Vec<Exchange> {
        self.with(|all| all.clone())
    }

    pub fn clear(&self) {
        self.with(Vec::clear);
    }

    pub(super) fn begin(&self, head: &Parts) -> Line {
        let exchange = Exchange::of(head);
        let line = self.with(|all| {
            all.push(exchange);
            all.len() - 1
        });
        Line { journal: self.clone(), line }
    }

    fn with<T>(&self, with: impl FnOnce(&mut Vec<Exchange>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place of one exchange in the journal.
#[derive(Clone, Debug)]
pub(super) struct Line {
    journal: Journal,
    line: usize,
}

impl Line {
    pub(super) fn note(&self, note: impl FnOnce(&mut Exchange)) {
        // A journal that was cleared meanwhile has no such line.
        self.journal.with(|all| all.get_mut(self.line).map(note));
    }

    /// Counts what passes through `body`, to the request or to the answer.
    pub(super) fn count<B>(&self, body: B, side: Side) -> Counted<B> {
        Counted { body, line: self.clone(), side }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Request,
    Answer,
}

/// A body whose bytes are counted.
pub(super) struct Counted<B> {
    body: B,
    line: Line,
    side: Side,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            let side = self.side;
            self.line.note(|exchange| match side {
                Side::Request => exchange.request_body_bytes += bytes,
                Side::Answer => exchange.response_body_bytes += bytes,
            });
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
