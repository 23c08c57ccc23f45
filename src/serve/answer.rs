//! Answers: bodies that stream a blob, and refusals as the distribution-spec words them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::layout;
use crate::shelf::Absent;
use crate::window::Window;

/// How much of a blob is read at once, in bytes.
const READ_BYTES: u64 = 1024 * 1024;

/// The body of an answer: bytes, or something that is read as it is sent.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Bytes(Option<Bytes>),
    Reader(Reading),
}

/// What is called when all was read, or when reading failed.
pub(super) type Ended = Box<dyn FnOnce(Result<(), &io::Error>) + Send>;

struct Reading {
    next: JoinHandle<io::Result<(Source, Bytes)>>,
    /// How many bytes are still to be sent.
    left_bytes: u64,
    /// How many of them have not even been asked for.
    unread_bytes: u64,
}

/// Where the bytes come from, and who wants to know how it went.
struct Source {
    reader: Box<dyn Read + Send>,
    ended: Option<Ended>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("left_bytes", &self.left_bytes).finish_non_exhaustive()
    }
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self(Kind::Bytes(None))
    }

    /// These bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(Some(bytes.into()).filter(|bytes| !bytes.is_empty())))
    }

    /// `length_bytes` bytes of `file` from `start_bytes` on.
    pub(super) fn of_file(file: File, start_bytes: u64, length_bytes: u64) -> Self {
        let window = Window::new(Arc::new(file), start_bytes, length_bytes);
        Self::of_reader(Box::new(window), length_bytes, None)
    }

    /// All that `reader` gives, which must be `length_bytes` bytes: the last of them are only sent when it has said
    /// that they are the last. The next part is read while one is sent.
    pub(super) fn of_reader(
        reader: Box<dyn Read + Send>,
        length_bytes: u64,
        ended: Option<Ended>,
    ) -> Self {
        let source = Source { reader, ended };
        if length_bytes == 0 {
            return Self::empty();
        }
        let first_bytes = length_bytes.min(READ_BYTES);
        let unread_bytes = length_bytes - first_bytes;
        let next = spawn_blocking(move || source.read(first_bytes, unread_bytes));
        Self(Kind::Reader(Reading { next, left_bytes: length_bytes, unread_bytes }))
    }
}

impl Source {
    /// Reads `bytes` bytes, behind which `unread_bytes` are left.
    fn read(mut self, bytes: u64, unread_bytes: u64) -> io::Result<(Self, Bytes)> {
        let read = self.read_part(bytes, unread_bytes);
        if (read.is_err() || unread_bytes == 0)
            && let Some(ended) = self.ended.take()
        {
            ended(read.as_ref().map(drop));
        }
        read.map(|bytes| (self, bytes))
    }

    fn read_part(&mut self, bytes: u64, unread_bytes: u64) -> io::Result<Bytes> {
        let mut part = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        (&mut self.reader).take(bytes).read_to_end(&mut part)?;
        if part.len() as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if unread_bytes == 0 && self.reader.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there are more bytes"));
        }
        Ok(part.into())
    }
}

impl Reading {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left_bytes == 0 {
            return Poll::Ready(None);
        }
        let (source, bytes) = match ready!(Pin::new(&mut self.next).poll(context)) {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.left_bytes -= bytes.len() as u64;
        if self.unread_bytes > 0 {
            let next_bytes = self.unread_bytes.min(READ_BYTES);
            self.unread_bytes -= next_bytes;
            let unread_bytes = self.unread_bytes;
            self.next = spawn_blocking(move || source.read(next_bytes, unread_bytes));
        }
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Reader(part) => {
                part.poll(context).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_none(),
            Kind::Reader(part) => part.left_bytes == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::Reader(part) => part.left_bytes,
        })
    }
}

/// An answer without a body.
pub(super) fn bare(status: StatusCode, headers: &[(HeaderName, String)]) -> Response<Body> {
    with_body(status, headers, Body::empty())
}

/// An answer with a JSON document.
pub(super) fn document(headers: &[(HeaderName, String)], value: &Value) -> Response<Body> {
    let mut response = with_body(StatusCode::OK, headers, Body::of(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().entry(CONTENT_TYPE).or_insert(json);
    response
}

/// An answer with any body. A header that cannot be written as one falls away.
pub(super) fn with_body(
    status: StatusCode,
    headers: &[(HeaderName, String)],
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// The error codes of the distribution-spec (section "Error codes"), and two that `distribution` added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    TagInvalid,
    TooManyRequests,
    Unauthorized,
    Unknown,
    Unsupported,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// One or more errors, as the distribution-spec writes them.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    errors: Vec<Value>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl std::fmt::Display) -> Self {
        let errors = vec![json!({ "code": code.text(), "message": message.to_string() })];
        Self { status: code.status(), headers: Vec::new(), errors }
    }

    /// One error of this kind for each detail.
    pub(super) fn with_details(code: Code, message: &str, details: Vec<Value>) -> Self {
        let error = |detail| json!({ "code": code.text(), "message": message, "detail": detail });
        let errors = details.into_iter().map(error).collect();
        Self { status: code.status(), headers: Vec::new(), errors }
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = document(&self.headers, &json!({ "errors": self.errors }));
        *response.status_mut() = self.status;
        response
    }
}

/// The disk failed us. Paths of the server are none of the client's business.
impl From<layout::Error> for Refusal {
    fn from(error: layout::Error) -> Self {
        let is_full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
        match error {
            layout::Error::Io { source, .. } if is_full(&source) => {
                Self::new(Code::Unknown, "the registry's disk is full")
                    .status(StatusCode::INSUFFICIENT_STORAGE)
            }
            layout::Error::Damaged(digest) => {
                Self::new(Code::Unknown, format!("the registry's copy of {digest} is damaged"))
            }
            _ => Self::new(Code::Unknown, "the registry cannot use its disk"),
        }
    }
}

/// A blob of a payload that cannot be had: not here, or not any more.
impl From<Absent> for Refusal {
    fn from(absent: Absent) -> Self {
        let code = match &absent {
            Absent::Unknown(_) | Absent::Expected { .. } | Absent::NoBaseline { .. } => {
                Code::BlobUnknown
            }
            Absent::Damaged(_) | Absent::Unrestorable(_) => Code::Unknown,
        };
        Self::new(code, absent)
    }
}
