//! An answer: its headers, its body in pieces or within a limit, or what it says went wrong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use super::error::{Failure, Identity, Kind, Refusal, Trouble};
use super::http::{Http, Method, StatusCode, Url, authority, headers, resolve, transport};
use super::retry::retry_after;
use super::throttle::Limits;

/// Enough for an error's code and message.
const ERROR_BODY_MAX_BYTES: u64 = 64 * 1024;
/// A body that does not matter is not waited for longer than this.
const COURTESY_WAIT: Duration = Duration::from_secs(2);
/// How much of an error is shown.
const DETAIL_MAX_CHARS: usize = 300;

/// An answer whose body is still to be read.
pub(super) struct Response {
    inner: reqwest::Response,
    url: Url,
    http: Arc<Http>,
    identity: Identity,
    limits: Limits,
}

impl Response {
    pub(super) fn new(
        inner: reqwest::Response,
        url: Url,
        http: Arc<Http>,
        identity: Identity,
        limits: Limits,
    ) -> Self {
        Self { inner, url, http, identity, limits }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Whether something in front of the registry answered a request to write with a page, such as one to
    /// log in. Some registries call their empty 201 and 202 `text/html`, so the status counts too.
    pub(super) fn is_page_for(&self, method: &Method) -> bool {
        let writes = [Method::PUT, Method::PATCH, Method::POST].contains(method);
        let media_type = self.value(headers::CONTENT_TYPE).unwrap_or_default();
        writes && self.status() == StatusCode::OK && media_type.starts_with("text/html")
    }

    /// The address that answered, after all redirects.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The values of a header that are text.
    pub(super) fn values(&self, name: impl AsRef<str>) -> impl Iterator<Item = &str> {
        let values = self.inner.headers().get_all(name.as_ref()).into_iter();
        values.filter_map(|value| value.to_str().ok())
    }

    /// The value of a header.
    pub(super) fn value(&self, name: impl AsRef<str>) -> Option<&str> {
        self.values(name).next().map(str::trim)
    }

    /// The number in a header.
    pub(super) fn number(&self, name: impl AsRef<str>) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// The address in `Location`.
    pub(super) fn location(&self) -> Result<Url, Failure> {
        let location = self.inner.headers().get(headers::LOCATION);
        let found = match location.map(|value| String::from_utf8_lossy(value.as_bytes())) {
            Some(location) => resolve(&self.url, location.trim()),
            None => Err(Kind::Protocol("expected a `Location`, found none".to_owned())),
        };
        found.map_err(|kind| self.failure(kind))
    }

    pub(super) fn failure(&self, kind: Kind) -> Failure {
        Failure { kind, at: Some(authority(&self.url)) }
    }

    /// The next piece of the body, none at its end. Can be dropped while it waits.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        self.limits.ready().await;
        let limit = self.http.connections.stall_timeout;
        let read = match tokio::time::timeout(limit, self.inner.chunk()).await {
            Ok(read) => read.map_err(transport),
            Err(_) => Err(Kind::Transport { trouble: Trouble::Stalled(limit), source: None }),
        };
        let piece = read.map_err(|kind| self.failure(kind))?;
        self.limits.spend(piece.as_ref().map_or(0, Bytes::len));
        Ok(piece)
    }

    /// The whole body, if it has at most `limit_bytes`.
    pub(super) async fn bytes(&mut self, limit_bytes: u64) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        let mut left = limit_bytes;
        while let Some(piece) = self.piece().await? {
            left = left
                .checked_sub(piece.len() as u64)
                .ok_or_else(|| self.failure(Kind::TooLarge { limit_bytes }))?;
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Reads a small body to its end, so that the connection can serve again.
    pub(super) async fn finish(mut self) {
        // An answer that is not worth reading is dropped with its connection.
        let _ = tokio::time::timeout(COURTESY_WAIT, self.bytes(ERROR_BODY_MAX_BYTES)).await;
    }

    /// What an answer that is no success says.
    pub(super) async fn refusal(self) -> Failure {
        let identity = self.identity;
        self.refusal_to(identity).await
    }

    /// What an answer that is no success says to one who showed `identity` in the body.
    pub(super) async fn refusal_to(mut self, identity: Identity) -> Failure {
        let wait = self.value("retry-after").and_then(|v| retry_after(v, SystemTime::now()));
        let body = tokio::time::timeout(COURTESY_WAIT, self.bytes(ERROR_BODY_MAX_BYTES)).await;
        let detail = match body {
            Ok(Ok(body)) => detail(&body),
            _ => None,
        };
        let reason = || self.status().canonical_reason().unwrap_or_default().to_owned();
        self.failure(Kind::Status(Refusal {
            status: self.status().as_u16(),
            detail: detail.unwrap_or_else(reason),
            retry_after: wait,
            identity,
        }))
    }
}

/// The first error of an answer as the distribution-spec shapes it, fit to be shown.
fn detail(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: Option<serde_json::Value>,
        message: Option<String>,
    }
    let mut errors = serde_json::from_slice::<Errors>(body).ok()?.errors;
    // distribution 2.8 puts two that say nothing before the one about a foreign layer.
    errors.sort_by_key(|one| one.code.as_ref().is_some_and(|code| code == "UNKNOWN"));
    let one = errors.into_iter().next()?;
    let code = match one.code {
        Some(serde_json::Value::String(code)) => Some(code),
        Some(code) if !code.is_null() => Some(code.to_string()),
        _ => None,
    };
    let parts: Vec<String> = [code, one.message].into_iter().flatten().collect();
    let text = parts.join(": ");
    let shown = text.chars().filter(|character| !character.is_control());
    let shown: String = shown.take(DETAIL_MAX_CHARS).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_that_tells_something_is_shown_without_control_characters_and_not_at_length()
    {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_INVALID","message":"layers missing","detail":{}}]}"#,
                Some("MANIFEST_INVALID: layers missing"),
            ),
            (
                r#"{"errors":[{"code":"DENIED","message":"a\u001b[31m\nb"}]}"#,
                Some("DENIED: a[31mb"),
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, Some("DENIED")),
            (r#"{"errors":[{"code":403,"message":"no"}]}"#, Some("403: no")),
            (
                r#"{"errors":[{"code":"UNKNOWN","message":"x"},{"code":"DENIED","message":"y"}]}"#,
                Some("DENIED: y"),
            ),
            (
                r#"{"errors":[{"code":"UNKNOWN","message":"x"},{"code":"UNKNOWN"}]}"#,
                Some("UNKNOWN: x"),
            ),
            (r#"{"errors":[{}]}"#, None),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(detail(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(1000));
        assert_eq!(detail(long.as_bytes()).map(|text| text.len()), Some(DETAIL_MAX_CHARS));
    }
}
