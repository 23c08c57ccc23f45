//! Manifests in and out.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName};
use hyper::http::request::Parts;
use serde_json::json;
use tokio::time::timeout;

use super::answer::{Code, Refusal, with_body};
use super::bring::bring;
use super::route::Query;
use super::store::{Folder, Store};
use super::{CONTENT_DIGEST, RequestBody, blocking, created};
use crate::digest::Digest;
use crate::layout::Layout;
use crate::listen::Body;
use crate::manifest::{InvalidManifest, MANIFEST_MAX_BYTES, Manifest, MediaType};
use crate::reference::{RepositoryName, Tag, TagOrDigest};

/// How long a manifest may take to arrive: a client that stands still would keep its connection for ever.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(120);
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// How many tags one request may set; the distribution-spec asks for at least ten.
const TAGS_MAX: usize = 100;

/// Answers with the manifest as it was pushed, whatever the client would accept.
pub(super) fn get(
    store: &Store,
    name: &RepositoryName,
    what: &TagOrDigest,
) -> Result<Response<Body>, Refusal> {
    let unknown = || Refusal::new(Code::ManifestUnknown, format!("no manifest {what} in {name}"));
    let descriptor = store.find(name, what).ok_or_else(unknown)?;
    let raw = store.read_manifest(name, &descriptor.digest)?.ok_or_else(unknown)?;
    let headers = [
        (CONTENT_TYPE, descriptor.media_type.to_string()),
        (CONTENT_DIGEST, descriptor.digest.to_string()),
        (ETAG, format!("\"{}\"", descriptor.digest)),
    ];
    Ok(with_body(StatusCode::OK, &headers, Body::of(raw)))
}

pub(super) async fn put<B: RequestBody>(
    all: &Store,
    folder: &Folder,
    head: &Parts,
    body: Pin<&mut B>,
    name: RepositoryName,
    what: TagOrDigest,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let tags = tags_of(&what, query)?;
    let raw = read(body, RECEIVE_TIMEOUT).await?;
    let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.map(MediaType::new);
    let manifest = Manifest::parse(raw, media_type.as_ref()).map_err(|error| invalid(&error))?;
    let manifest = match &what {
        TagOrDigest::Tag(_) => manifest,
        TagOrDigest::Digest(digest) => manifest
            .verified_as(digest)
            .map_err(|mismatch| Refusal::new(Code::DigestInvalid, mismatch))?,
    };
    let digest = manifest.digest().clone();
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
    let mut response = created(format!("/v2/{name}/manifests/{digest}"), &digest);
    let by_query = match what {
        TagOrDigest::Tag(_) => Vec::new(),
        TagOrDigest::Digest(_) => tags.clone(),
    };
    refuse_held(all, &name, &tags, &digest)?;
    bring(all, folder, &name, &manifest).await?;
    let layout = Arc::clone(&folder.layout);
    blocking(move || store(&layout, &name, &tags, &manifest)).await?;
    let subject = subject.iter().map(|subject| (SUBJECT, subject.to_string()));
    let tags = by_query.iter().map(|tag| (TAG, tag.to_string()));
    for (header, value) in subject.chain(tags) {
        if let Ok(value) = value.parse() {
            response.headers_mut().append(header, value);
        }
    }
    Ok(response)
}

/// A payload's tag would go on naming what the payload says: a push that seems to move it is refused.
fn refuse_held(
    store: &Store,
    name: &RepositoryName,
    tags: &[Tag],
    digest: &Digest,
) -> Result<(), Refusal> {
    let Some(shelf) = &store.shelf else { return Ok(()) };
    for tag in tags {
        let held = shelf.find(name, &TagOrDigest::Tag(tag.clone()));
        if let Some(held) = held.filter(|held| held.digest() != digest) {
            let held = held.digest();
            let message =
                format!("the tag {name}:{tag} is a payload's and names {held}: push another tag");
            return Err(Refusal::new(Code::Denied, message));
        }
    }
    Ok(())
}

fn store(
    layout: &Layout,
    name: &RepositoryName,
    tags: &[Tag],
    manifest: &Manifest,
) -> Result<(), Refusal> {
    let missing = layout.missing(name, manifest);
    if !missing.is_empty() {
        let details = missing.iter().map(|digest| json!({ "digest": digest })).collect();
        let message = "the manifest names content that is not here";
        return Err(Refusal::with_details(Code::ManifestBlobUnknown, message, details));
    }
    Ok(layout.put_manifest(name, tags, manifest)?)
}

/// The tag of the path, and those of `?tag=` behind a digest.
fn tags_of(what: &TagOrDigest, query: &Query) -> Result<Vec<Tag>, Refusal> {
    if let TagOrDigest::Tag(tag) = what {
        return Ok(vec![tag.clone()]);
    }
    let tags: Result<Vec<Tag>, _> = query.all("tag").map(str::parse).collect();
    let tags = tags.map_err(|error| Refusal::new(Code::TagInvalid, error))?;
    if tags.len() > TAGS_MAX {
        return Err(Refusal::new(Code::TagInvalid, format!("more than {TAGS_MAX} tags"))
            .status(StatusCode::URI_TOO_LONG));
    }
    Ok(tags)
}

async fn read<B: RequestBody>(body: Pin<&mut B>, within: Duration) -> Result<Bytes, Refusal> {
    let max_bytes = usize::try_from(MANIFEST_MAX_BYTES).unwrap_or(usize::MAX);
    match timeout(within, Limited::new(body, max_bytes).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::new(
            Code::SizeInvalid,
            format!("a manifest may have {MANIFEST_MAX_BYTES} bytes"),
        )),
        Ok(Err(_)) => Err(Refusal::new(Code::ManifestInvalid, "the manifest broke off")),
        Err(_) => Err(Refusal::new(Code::ManifestInvalid, "the manifest did not come in time")
            .status(StatusCode::REQUEST_TIMEOUT)),
    }
}

fn invalid(error: &InvalidManifest) -> Refusal {
    use std::error::Error as _;
    let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(Code::ManifestInvalid, format!("{error}{reason}"))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    #[tokio::test]
    async fn a_manifest_that_does_not_come_is_given_up() {
        let soon = Duration::from_millis(10);
        let silent = StreamBody::new(stream::pending::<std::io::Result<Frame<Bytes>>>());
        let refused = read(pin!(silent), soon).await.expect_err("it never comes");
        assert_eq!(refused.into_response().status(), StatusCode::REQUEST_TIMEOUT);
        let come = read(pin!(Full::new(Bytes::from_static(b"{}"))), RECEIVE_TIMEOUT).await;
        assert_eq!(come.expect("it came"), "{}");
    }
}
