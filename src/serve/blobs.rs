//! Blobs on their way out, whole or a range of them.

use std::io::Read as _;

use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::answer::{Code, Refusal, bare, with_body};
use super::reading::{Ended, of_file, of_reader};
use super::store::Found;
use super::{CONTENT_DIGEST, Server};
use crate::digest::Digest;
use crate::listen::Body;

/// Blobs up to this size, in bytes, are checked before anything of them is sent.
const SMALL_BYTES: u64 = 1024 * 1024;

pub(super) async fn head(server: &Server, digest: Digest) -> Result<Response<Body>, Refusal> {
    let size_bytes = server.store.size_bytes(&digest).await?;
    let mut headers = headers_of(&digest);
    headers.push((CONTENT_LENGTH, size_bytes.to_string()));
    Ok(bare(StatusCode::OK, &headers))
}

pub(super) async fn get(
    server: &Server,
    head: &Parts,
    digest: Digest,
) -> Result<Response<Body>, Refusal> {
    let found = server.store.blob(&digest).await?;
    let size_bytes = found.size_bytes();
    let mut headers = headers_of(&digest);
    match wanted(head, &digest, size_bytes) {
        Wanted::Everything => {
            let body = everything(found).await?;
            Ok(with_body(StatusCode::OK, &headers, body))
        }
        Wanted::Part { first, last } => {
            headers.push((CONTENT_RANGE, format!("bytes {first}-{last}/{size_bytes}")));
            let body = part(found, first, last - first + 1).await?;
            Ok(with_body(StatusCode::PARTIAL_CONTENT, &headers, body))
        }
        Wanted::Nothing => Err(Refusal::new(Code::BlobUnknown, "the blob ends before that range")
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header(CONTENT_RANGE, format!("bytes */{size_bytes}"))),
    }
}

/// A whole blob. Of a payload, its end is only sent when all of it was right; a small one is sent only then.
async fn everything(found: Found) -> Result<Body, Refusal> {
    match found {
        Found::File(blob) => Ok(of_file(blob.file, 0, blob.size_bytes)),
        Found::Content(shelf, content) => {
            let size_bytes = content.size_bytes();
            let content = if size_bytes <= SMALL_BYTES {
                shelf.checked(content.digest()).await?
            } else {
                content
            };
            let reader = Box::new(content.verified());
            let ended: Ended = Box::new(move |read| shelf.was_read(&content, read));
            Ok(of_reader(reader, size_bytes, Some(ended)))
        }
    }
}

/// A part of a blob. One of a payload is read to its end first: a part cannot be compared with a digest.
async fn part(found: Found, first: u64, length_bytes: u64) -> Result<Body, Refusal> {
    match found {
        Found::File(blob) => Ok(of_file(blob.file, first, length_bytes)),
        Found::Content(shelf, content) => {
            let content = shelf.checked(content.digest()).await?;
            let reader = Box::new(content.bytes_from(first).take(length_bytes));
            Ok(of_reader(reader, length_bytes, None))
        }
    }
}

fn headers_of(digest: &Digest) -> Vec<(hyper::header::HeaderName, String)> {
    vec![
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (ETAG, format!("\"{digest}\"")),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ]
}

/// How much of a blob a request asks for (RFC 9110, section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Everything,
    /// Both inclusive.
    Part {
        first: u64,
        last: u64,
    },
    Nothing,
}

fn wanted(head: &Parts, digest: &Digest, size_bytes: u64) -> Wanted {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_another = |tag: &str| tag.trim().trim_matches('"') != digest.to_string();
    match text(RANGE) {
        Some(range) if !text(IF_RANGE).is_some_and(is_another) => range_of(range, size_bytes),
        _ => Wanted::Everything,
    }
}

/// One range. Several at once, other units and what breaks the grammar are ignored. One that ends before
/// it begins may be ignored or refused (section 14.2): it is refused, as the conformance suite of the
/// distribution-spec takes a registry that ignores it for one that knows no ranges.
fn range_of(text: &str, size_bytes: u64) -> Wanted {
    let Some((first, last)) =
        text.trim().strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::Everything;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let open_end = last.is_empty() && !first.is_empty();
    match (number(first), if open_end { Some(u64::MAX) } else { number(last) }) {
        (None, Some(suffix)) if first.is_empty() => match suffix.min(size_bytes) {
            0 => Wanted::Nothing,
            length => Wanted::Part { first: size_bytes - length, last: size_bytes - 1 },
        },
        (Some(first), Some(last)) if last < first || first >= size_bytes => Wanted::Nothing,
        (Some(first), Some(last)) => Wanted::Part { first, last: last.min(size_bytes - 1) },
        _ => Wanted::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_rfc_says() {
        let part = |first, last| Wanted::Part { first, last };
        for (text, wanted) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-100", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-100", part(0, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-20", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Nothing),
            ("bytes=15-12", Wanted::Nothing),
            ("bytes=15-x", Wanted::Everything),
            ("bytes=0-1,3-4", Wanted::Everything),
            ("bytes=", Wanted::Everything),
            ("bytes=-", Wanted::Everything),
            ("bytes=a-b", Wanted::Everything),
            ("bytes=+1-2", Wanted::Everything),
            ("lines=0-1", Wanted::Everything),
        ] {
            assert_eq!(range_of(text, 10), wanted, "{text}");
        }
        assert_eq!(range_of("bytes=0-0", 0), Wanted::Nothing);
        assert_eq!(range_of("bytes=-1", 0), Wanted::Nothing);
    }
}
