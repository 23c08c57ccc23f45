//! Answers: bodies that stream a file, and refusals as the distribution-spec words them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::layout;

/// How much of a blob is read at once, in bytes.
const READ_BYTES: u64 = 1024 * 1024;

/// The body of an answer: bytes, or a part of a file that is read as it is sent.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Bytes(Option<Bytes>),
    File(FilePart),
}

#[derive(Debug)]
struct FilePart {
    reading: JoinHandle<io::Result<(File, Bytes)>>,
    /// How many bytes are still to be sent.
    left_bytes: u64,
    /// How many of them have not even been asked for.
    unread_bytes: u64,
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

    /// `length_bytes` bytes of `file` from `start_bytes` on. The next part is read while one is sent.
    pub(super) fn of_file(mut file: File, start_bytes: u64, length_bytes: u64) -> Self {
        if length_bytes == 0 {
            return Self::empty();
        }
        let first_bytes = length_bytes.min(READ_BYTES);
        let reading = spawn_blocking(move || {
            file.seek(SeekFrom::Start(start_bytes))?;
            read_part(file, first_bytes)
        });
        let unread_bytes = length_bytes - first_bytes;
        Self(Kind::File(FilePart { reading, left_bytes: length_bytes, unread_bytes }))
    }
}

fn read_part(file: File, bytes: u64) -> io::Result<(File, Bytes)> {
    let mut part = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    let mut limited = file.take(bytes);
    limited.read_to_end(&mut part)?;
    if part.len() as u64 != bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((limited.into_inner(), part.into()))
}

impl FilePart {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left_bytes == 0 {
            return Poll::Ready(None);
        }
        let (file, bytes) = match ready!(Pin::new(&mut self.reading).poll(context)) {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.left_bytes -= bytes.len() as u64;
        if self.unread_bytes > 0 {
            let next_bytes = self.unread_bytes.min(READ_BYTES);
            self.unread_bytes -= next_bytes;
            self.reading = spawn_blocking(move || read_part(file, next_bytes));
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
            Kind::File(part) => {
                part.poll(context).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_none(),
            Kind::File(part) => part.left_bytes == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::File(part) => part.left_bytes,
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
