//! Answers as the API words them: JSON documents, and refusals with a code, a message and advice.

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::failure::{self, ExitCode};
use crate::listen::Body;
use crate::printable::escaped;
use crate::registry;

/// Nothing but what this server itself has; nothing of it inline, and no page of others around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// The request makes no sense.
    Usage,
    /// The registry may not be asked.
    RegistryNotAllowed,
    /// Only users of the server may ask.
    LoginNeeded,
    /// Another site asks in the name of its visitor.
    CrossSite,
    /// There is no such path.
    NotFound,
    /// The registry has no such image.
    ImageUnknown,
    /// The baseline was never uploaded, or is forgotten by now.
    BaselineUnknown,
    /// What was uploaded is no receipt or inventory.
    BaselineInvalid,
    /// The path has another method.
    MethodNotAllowed,
    /// The request is too large.
    TooLarge,
    /// The request did not come in time.
    TooSlow,
    /// The server goes by other names.
    WrongHost,
    /// A registry cannot be reached, refused something, or sent something wrong.
    Registry,
    /// A registry took too long.
    RegistryTooSlow,
    /// As much is under way as may be.
    Busy,
    /// Something failed here.
    Internal,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::RegistryNotAllowed => "registry-not-allowed",
            Self::LoginNeeded => "login-needed",
            Self::CrossSite => "cross-site",
            Self::NotFound => "not-found",
            Self::ImageUnknown => "image-unknown",
            Self::BaselineUnknown => "baseline-unknown",
            Self::BaselineInvalid => "baseline-invalid",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::WrongHost => "wrong-host",
            Self::Registry => "registry",
            Self::RegistryTooSlow => "registry-too-slow",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Usage | Self::BaselineInvalid => StatusCode::BAD_REQUEST,
            Self::LoginNeeded => StatusCode::UNAUTHORIZED,
            Self::RegistryNotAllowed | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::NotFound | Self::ImageUnknown | Self::BaselineUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::Registry => StatusCode::BAD_GATEWAY,
            Self::RegistryTooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    message: String,
    hint: Option<String>,
    headers: Vec<(HeaderName, String)>,
}

#[derive(Serialize)]
struct Written<'a> {
    error: WrittenError<'a>,
}

#[derive(Serialize)]
struct WrittenError<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, headers: Vec::new() }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// As much is under way as may be; it is worth asking again in so many seconds.
    pub(super) fn busy(message: &str, again_seconds: u32) -> Self {
        Self::new(Code::Busy, message)
            .with_hint(format!("try again in {again_seconds} seconds"))
            .with(RETRY_AFTER, again_seconds.to_string())
    }

    pub(super) fn is_internal(&self) -> bool {
        self.code == Code::Internal
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let error = WrittenError {
            code: self.code.text(),
            message: &self.message,
            hint: self.hint.as_deref(),
        };
        let mut response = document(&Written { error });
        *response.status_mut() = self.code.status();
        for (name, value) in &self.headers {
            set(&mut response, name, value);
        }
        response
    }
}

/// What a verb said, in words that are for everybody. Paths and troubles of this machine are not.
impl From<&anyhow::Error> for Refusal {
    fn from(error: &anyhow::Error) -> Self {
        let is_unknown = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<registry::Error>().is_some_and(registry::Error::is_not_found)
        };
        let code = match ExitCode::of(error) {
            ExitCode::Usage => Code::Usage,
            ExitCode::Registry if error.chain().any(is_unknown) => Code::ImageUnknown,
            ExitCode::Registry => Code::Registry,
            _ => {
                return Self::new(Code::Internal, "the server could not do this; its log says why");
            }
        };
        let refusal = Self::new(code, escaped(&format!("{error:#}")));
        match failure::hints(error).as_slice() {
            [] => refusal,
            hints => refusal.with_hint(escaped(&hints.join("; "))),
        }
    }
}

/// An answer with a JSON document.
pub(super) fn document(value: &impl Serialize) -> Response<Body> {
    // Nothing that is written here has keys that are no texts.
    content("application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// An answer with content of a type.
pub(super) fn content(media_type: &str, bytes: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::of(bytes));
    set(&mut response, &CONTENT_TYPE, media_type);
    response
}

/// Sets a header. A value that cannot be one falls away; none of ours is such.
pub(super) fn set(response: &mut Response<Body>, name: &HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// What every answer says about itself.
pub(super) fn protect(response: &mut Response<Body>) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        set(response, &name, value);
    }
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
