//! Lists that a registry gives page by page: tags and referrers (distribution-spec, "Content
//! discovery"; pagination by `Link`, RFC 8288).

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Deserialize;

use super::access::Access;
use super::client::{Ask, Registry};
use super::error::{Error, Kind};
use super::http::{Method, headers, resolve, same_origin};
use super::manifests::unless_not_found;
use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::reference::{RepositoryName, Tag};

/// How many tags are asked for at once; registries cut it to what they like.
const TAGS_PER_PAGE: u32 = 1000;
/// A list of tags without pages at all, of a repository with hundreds of thousands.
const PAGE_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// More pages than any repository has, so that a list without end ends.
const PAGES_MAX: usize = 10_000;

/// What a registry knows to refer to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// The descriptors that it lists.
    Listed(Vec<Descriptor>),
    /// It has no such list: look for the fallback tag.
    NoApi,
}

impl Registry {
    /// All tags of a repository in the registry's order, each once; none if the registry does not know
    /// the repository. What is no tag by the specification is left out.
    ///
    /// # Errors
    /// Whatever keeps the registry from listing them.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let name = self.api_name(repository);
        let subject = self.subject(format!("the tags of `{name}`"));
        let path = format!("{name}/tags/list?n={TAGS_PER_PAGE}");
        let ask = self.ask(Method::GET, Access::pull(&name), &path, subject).await?;
        let (mut tags, mut seen) = (Vec::new(), BTreeSet::new());
        let pages = self.pages(ask.clone(), |body| {
            let page: Page = serde_json::from_slice(body).map_err(|_| {
                ask.subject.error(Kind::Protocol("expected a list of tags, found none".to_owned()))
            })?;
            let valid = page.tags.unwrap_or_default().into_iter().filter_map(|t| t.parse().ok());
            tags.extend(valid.filter(|tag: &Tag| seen.insert(tag.clone())));
            Ok(())
        });
        let listed = unless_not_found(pages.await)?;
        Ok(listed.map(|()| tags))
    }

    /// What refers to the manifest with `digest`.
    ///
    /// # Errors
    /// Whatever keeps the registry from listing them, though it has the list.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Referrers, Error> {
        let name = self.api_name(repository);
        let subject = self.subject(format!("the referrers of `{name}@{digest}`"));
        let path = format!("{name}/referrers/{digest}");
        let mut ask = self.ask(Method::GET, Access::pull(&name), &path, subject).await?;
        ask.request = ask.request.with(headers::ACCEPT, MediaType::OCI_INDEX);
        let mut found = Vec::new();
        let mut is_index = true;
        let pages = self.pages(ask.clone(), |body| {
            match referrers_page(body) {
                Some(page) => found.extend(self.readable(page, &ask)),
                None => is_index = false,
            }
            Ok(())
        });
        match pages.await {
            Ok(()) if is_index => Ok(Referrers::Listed(found)),
            Ok(()) => Ok(Referrers::NoApi),
            Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 501)) => {
                Ok(Referrers::NoApi)
            }
            Err(error) => Err(error),
        }
    }

    /// The descriptors that can be read; a person is told of the others.
    fn readable(&self, page: Vec<serde_json::Value>, ask: &Ask) -> Vec<Descriptor> {
        let read = |value| match serde_json::from_value(value) {
            Ok(descriptor) => Some(descriptor),
            Err(error) => {
                let kind = Kind::Protocol(format!("a referrer cannot be read ({error})"));
                self.http().reporter.warn(ask.subject.error(kind).to_string());
                None
            }
        };
        page.into_iter().filter_map(read).collect()
    }

    /// Gives the body of each page to `take`.
    async fn pages(
        &self,
        mut ask: Ask,
        mut take: impl FnMut(&Bytes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut asked = BTreeSet::new();
        for _ in 0..PAGES_MAX {
            asked.insert(ask.request.url.to_string());
            let (response, body) = self.read(&ask, PAGE_MAX_BYTES).await?;
            take(&body)?;
            let next = response.values(headers::LINK).find_map(next_page);
            let Some(next) = next else { return Ok(()) };
            let url = resolve(response.url(), next).map_err(|kind| ask.subject.error(kind))?;
            if !same_origin(&url, response.url()) || asked.contains(url.as_str()) {
                break;
            }
            ask.request.url = url;
        }
        let what = "expected a next page, found one that was there, or at another host".to_owned();
        Err(ask.subject.error(Kind::Protocol(what)))
    }
}

/// The list in an index, none if this is none.
fn referrers_page(body: &[u8]) -> Option<Vec<serde_json::Value>> {
    #[derive(Deserialize)]
    struct Page {
        manifests: Option<Vec<serde_json::Value>>,
        #[serde(rename = "schemaVersion")]
        schema_version: Option<u32>,
    }
    let page: Page = serde_json::from_slice(body).ok()?;
    match (page.manifests, page.schema_version) {
        (Some(manifests), _) => Some(manifests),
        // `"manifests": null` is how some registries write an empty list.
        (None, Some(2)) => Some(Vec::new()),
        (None, _) => None,
    }
}

/// The target of `rel="next"` in a `Link` header.
fn next_page(link: &str) -> Option<&str> {
    let mut rest = link;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        let parameters = &after[..after.find('<').unwrap_or(after.len())];
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_every_spelling() {
        for (link, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("<x>;rel=next", Some("x")),
            (r#"<p>; rel="prev", <n>; title="a,b"; REL="Next""#, Some("n")),
            ("<p>; rel=prev", None),
            ("<p", None),
            ("", None),
        ] {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }

    #[test]
    fn a_list_of_referrers_is_told_from_anything_else() {
        for (body, expected) in [
            (r#"{"schemaVersion":2,"manifests":[{},{}]}"#, Some(2)),
            (r#"{"schemaVersion":2,"manifests":null}"#, Some(0)),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
            ("[]", None),
        ] {
            assert_eq!(referrers_page(body.as_bytes()).map(|list| list.len()), expected, "{body}");
        }
    }
}
