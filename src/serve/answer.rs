//! Answers, and refusals as the distribution-spec words them.

use std::fmt;
use std::io;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::layout;
use crate::listen::Body;
use crate::shelf::Absent;

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
    pub(super) fn new(code: Code, message: impl fmt::Display) -> Self {
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
