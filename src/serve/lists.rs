//! What is here: repositories, tags, referrers. All in pages where the client asks for them.

use std::collections::BTreeMap;

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderName, LINK};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Code, Refusal, document};
use super::route::{Query, encode};
use super::store::Store;
use crate::digest::Digest;
use crate::listen::Body;
use crate::manifest::{Descriptor, MediaType};
use crate::reference::RepositoryName;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Where a page of referrers ends, in bytes: clients read no manifest above 4 MiB.
const REFERRERS_PAGE_BYTES: usize = 2 * 1024 * 1024;

pub(super) fn catalog(store: &Store, query: &Query) -> Result<Response<Body>, Refusal> {
    let names = store.repositories().iter().map(RepositoryName::to_string).collect();
    let page = Page::of(names, query)?;
    let link = page.link("/v2/_catalog");
    Ok(document(link.as_slice(), &json!({ "repositories": page.items })))
}

pub(super) fn tags(
    store: &Store,
    name: &RepositoryName,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let unknown = || Refusal::new(Code::NameUnknown, format!("no repository {name} here"));
    let tags = store.tags(name).ok_or_else(unknown)?;
    let page = Page::of(tags.iter().map(ToString::to_string).collect(), query)?;
    let link = page.link(&format!("/v2/{name}/tags/list"));
    Ok(document(link.as_slice(), &json!({ "name": name, "tags": page.items })))
}

/// A part of a sorted list.
struct Page {
    items: Vec<String>,
    /// How many were asked for, where there are more.
    more: Option<usize>,
}

impl Page {
    fn of(mut items: Vec<String>, query: &Query) -> Result<Self, Refusal> {
        let count = query.get("n").map(str::parse::<usize>).transpose();
        let count = count
            .map_err(|_| Refusal::new(Code::PaginationNumberInvalid, "`n` must be a number"))?;
        if let Some(last) = query.get("last") {
            items.retain(|item| item.as_str() > last);
        }
        let more = count.filter(|count| *count > 0 && items.len() > *count);
        items.truncate(count.unwrap_or(usize::MAX));
        Ok(Self { items, more })
    }

    fn link(&self, path: &str) -> Option<(HeaderName, String)> {
        let (count, last) = (self.more?, encode(self.items.last()?));
        Some((LINK, format!("<{path}?n={count}&last={last}>; rel=\"next\"")))
    }
}

pub(super) fn referrers(
    store: &Store,
    name: &RepositoryName,
    subject: &Digest,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = query.get("artifactType").filter(|wanted| !wanted.is_empty());
    let last = query.get("last").and_then(|last| last.parse::<Digest>().ok());
    let mut listed: Vec<Value> = Vec::new();
    let mut page_bytes = 0;
    let mut headers = vec![(CONTENT_TYPE, MediaType::OCI_INDEX.to_owned())];
    if wanted.is_some() {
        headers.push((FILTERS_APPLIED, "artifactType".to_owned()));
    }
    for descriptor in store.referrers(name, subject) {
        if last.as_ref().is_some_and(|last| descriptor.digest <= *last) {
            continue;
        }
        let Some(raw) = store.read_manifest(name, &descriptor.digest)? else { continue };
        let Some(described) = described(descriptor, &raw) else { continue };
        if wanted.is_some() && described.artifact_type.as_deref() != wanted {
            continue;
        }
        let described = json!(described);
        let described_bytes = described.to_string().len();
        if page_bytes > 0 && page_bytes + described_bytes > REFERRERS_PAGE_BYTES {
            headers.extend(next_referrers(name, subject, wanted, listed.last()));
            break;
        }
        page_bytes += described_bytes;
        listed.push(described);
    }
    let index =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed });
    Ok(document(&headers, &index))
}

fn next_referrers(
    name: &RepositoryName,
    subject: &Digest,
    wanted: Option<&str>,
    last: Option<&Value>,
) -> Option<(HeaderName, String)> {
    let last = last?.get("digest")?.as_str()?;
    let filter = wanted.map(|wanted| format!("&artifactType={}", encode(wanted)));
    let filter = filter.unwrap_or_default();
    let path = format!("/v2/{name}/referrers/{subject}?last={last}{filter}");
    Some((LINK, format!("<{path}>; rel=\"next\"")))
}

/// What a referrer says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    artifact_type: Option<String>,
    config: Option<Config>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

/// A referrer's descriptor as the distribution-spec wants it listed (section "Listing Referrers").
fn described(descriptor: Descriptor, raw: &[u8]) -> Option<Descriptor> {
    let referrer: Referrer = serde_json::from_slice(raw).ok()?;
    let artifact_type = referrer.artifact_type.filter(|artifact_type| !artifact_type.is_empty());
    let artifact_type = artifact_type.or(referrer.config.map(|config| config.media_type));
    Some(Descriptor { artifact_type, annotations: referrer.annotations, ..descriptor })
}
