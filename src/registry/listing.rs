//! Lists that a registry gives page by page: tags and referrers (distribution-spec, "Content
//! discovery"; pagination by `Link`, RFC 8288), and repositories (Docker Registry HTTP API V2, "Catalog").

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::access::Access;
use super::client::{Ask, Registry};
use super::error::{Error, Kind};
use super::http::{Method, headers, resolve, same_origin};
use super::manifests::unless_not_found;
use super::mirrored::{Asked, Turn};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::reference::{RepositoryName, Tag};

/// How many names are asked for at once; registries cut it to what they like.
const NAMES_PER_PAGE: u32 = 1000;
/// An answer with so many names may have been cut by a registry that does not say so with `Link`.
const ASK_ON_FROM: usize = 100;
/// A list of tags without pages at all, of a repository with hundreds of thousands.
const PAGE_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// More pages than any repository has, so that a list without end ends.
const PAGES_MAX: usize = 10_000;
/// The most tags or repositories that a list may have on all pages: several times those of the largest
/// repositories.
const NAMES_MAX: usize = 1_000_000;
/// The most manifests that may be listed for one subject: real ones have dozens.
const REFERRERS_MAX: usize = 10_000;

/// What a registry knows to refer to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// The descriptors that it lists.
    Listed(Vec<Descriptor>),
    /// It has no such list: look for the fallback tag.
    NoApi,
}

impl Registry {
    /// All repositories in the registry's order, each once. What is no name by the specification is left
    /// out.
    ///
    /// # Errors
    /// Whatever keeps the registry from listing them, as many do by design; more than a million of them.
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>, Error> {
        let mut turn = Turn::new(self, None);
        loop {
            let answer = turn.place().registry.repositories_here().await;
            let names = answer.map(|names: Vec<RepositoryName>| {
                names.into_iter().filter_map(|name| turn.place().original_name(name)).collect()
            });
            if let Some(names) = turn.settled(names, Asked::Often) {
                return names;
            }
        }
    }

    async fn repositories_here(&self) -> Result<Vec<RepositoryName>, Error> {
        let path = format!("_catalog?n={NAMES_PER_PAGE}");
        let subject = self.subject("its list of repositories");
        let ask = self.ask(Method::GET, Access::catalog(), &path, subject).await?;
        self.names(ask, "a list of repositories").await
    }

    /// All tags of a repository in the registry's order, each once; none if the registry does not know
    /// the repository. What is no tag by the specification is left out.
    ///
    /// # Errors
    /// Whatever keeps the registry from listing them; more than a million of them.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, Error> {
        let name = self.api_name(repository);
        let mut turn = Turn::new(self, Some(&name));
        loop {
            let place = turn.place();
            let answer = place.registry.tags_here(&place.name(&name)).await;
            if let Some(answer) = turn.settled(answer, Asked::Often) {
                return unless_not_found(answer);
            }
        }
    }

    async fn tags_here(&self, repository: &RepositoryName) -> Result<Vec<Tag>, Error> {
        let name = self.api_name(repository);
        let subject = self.subject(format!("the tags of `{name}`"));
        let path = format!("{name}/tags/list?n={NAMES_PER_PAGE}");
        let ask = self.ask(Method::GET, Access::pull(&name), &path, subject).await?;
        self.names(ask, "a list of tags").await
    }

    /// The names on all pages that are valid, each once.
    async fn names<T>(&self, ask: Ask, what: &str) -> Result<Vec<T>, Error>
    where
        T: FromStr + Clone + Ord,
    {
        #[derive(Deserialize)]
        struct Page {
            #[serde(alias = "repositories")]
            tags: Option<AtMost<String, NAMES_MAX>>,
        }
        let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
        let mut listed = Count::new(NAMES_MAX, "names");
        let mut from = ask.clone();
        loop {
            let (known, mut last_page, mut last) = (seen.len(), 0, None);
            let pages = self.pages(from, |body| {
                let page: Page = serde_json::from_slice(body).map_err(|_| {
                    ask.subject.error(Kind::Protocol(format!("expected {what}, found none")))
                })?;
                let page = page.tags.map_or_else(Vec::new, |tags| tags.list);
                listed.add(page.len()).map_err(|kind| ask.subject.error(kind))?;
                (last_page, last) = (page.len(), page.last().cloned());
                let valid = page.into_iter().filter_map(|name| name.parse().ok());
                names.extend(valid.filter(|name: &T| seen.insert(name.clone())));
                Ok(())
            });
            match pages.await {
                // A registry that does not know `last` has given everything.
                Err(error) if error.is_refusal() && known > 0 => break,
                Err(error) => return Err(error),
                Ok(Pages::Linked) => break,
                Ok(Pages::One) => {}
            }
            let Some(last) = last.filter(|_| last_page >= ASK_ON_FROM && seen.len() > known) else {
                break;
            };
            from = ask.clone();
            from.request.url.query_pairs_mut().append_pair("last", &last);
        }
        Ok(names)
    }

    /// What refers to the manifest with `digest`.
    ///
    /// # Errors
    /// Whatever keeps the registry from listing them, though it has the list; more than ten thousand
    /// of them.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Referrers, Error> {
        let name = self.api_name(repository);
        let mut turn = Turn::new(self, Some(&name));
        loop {
            let place = turn.place();
            let answer = place.registry.referrers_here(&place.name(&name), digest).await;
            // A mirror without the list says nothing of what refers to it.
            if matches!(answer, Ok(Referrers::NoApi)) && turn.skip() {
                continue;
            }
            if let Some(answer) = turn.settled(answer, Asked::Often) {
                return answer;
            }
        }
    }

    async fn referrers_here(
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
        let mut listed = Count::new(REFERRERS_MAX, "manifests");
        let pages = self.pages(ask.clone(), |body| {
            match referrers_page(body) {
                Some(page) => {
                    listed.add(page.len()).map_err(|kind| ask.subject.error(kind))?;
                    found.extend(self.readable(page, &ask));
                }
                None => is_index = false,
            }
            Ok(())
        });
        match pages.await {
            Ok(_) if is_index => Ok(Referrers::Listed(found)),
            Ok(_) => Ok(Referrers::NoApi),
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
    ) -> Result<Pages, Error> {
        let mut asked = BTreeSet::new();
        for _ in 0..PAGES_MAX {
            asked.insert(ask.request.url.to_string());
            let (response, body) = self.read(&ask, PAGE_MAX_BYTES).await?;
            take(&body)?;
            let next = response.values(headers::LINK).find_map(next_page);
            let Some(next) = next else {
                return Ok(if asked.len() > 1 { Pages::Linked } else { Pages::One });
            };
            let url = resolve(response.url(), next).map_err(|kind| ask.subject.error(kind))?;
            if !same_origin(&url, response.url()) || asked.contains(url.as_str()) {
                let what = "expected a next page, found one that was there, or at another host";
                return Err(ask.subject.error(Kind::Protocol(what.to_owned())));
            }
            ask.request.url = url;
        }
        Err(ask.subject.error(Kind::TooMany { limit: PAGES_MAX, what: "pages" }))
    }
}

/// How a list came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// In one answer, which says nothing of others.
    One,
    /// In several, each of which said where the next one is.
    Linked,
}

/// How many entries came on all pages so far.
struct Count {
    limit: usize,
    what: &'static str,
    found: usize,
}

impl Count {
    fn new(limit: usize, what: &'static str) -> Self {
        Self { limit, what, found: 0 }
    }

    fn add(&mut self, more: usize) -> Result<(), Kind> {
        self.found += more;
        if self.found > self.limit {
            return Err(Kind::TooMany { limit: self.limit, what: self.what });
        }
        Ok(())
    }
}

/// The first entries of a list, one more than `MAX` at the most: a page of nothing but commas and
/// braces would be many times as large in memory.
struct AtMost<T, const MAX: usize> {
    list: Vec<T>,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Entries<T, MAX> {
            type Value = AtMost<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while list.len() <= MAX {
                    match entries.next_element()? {
                        Some(entry) => list.push(entry),
                        None => return Ok(AtMost { list }),
                    }
                }
                while entries.next_element::<IgnoredAny>()?.is_some() {}
                Ok(AtMost { list })
            }
        }

        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

/// The list in an index, none if this is none.
fn referrers_page(body: &[u8]) -> Option<Vec<serde_json::Value>> {
    #[derive(Deserialize)]
    struct Page {
        manifests: Option<AtMost<serde_json::Value, REFERRERS_MAX>>,
        #[serde(rename = "schemaVersion")]
        schema_version: Option<u32>,
    }
    let page: Page = serde_json::from_slice(body).ok()?;
    match (page.manifests, page.schema_version) {
        (Some(manifests), _) => Some(manifests.list),
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
    fn no_more_of_a_page_is_kept_than_shows_that_it_is_too_much() {
        let page = |entries: usize| {
            let entries = vec!["{}"; entries].join(",");
            referrers_page(format!(r#"{{"manifests":[{entries}]}}"#).as_bytes()).expect("a list")
        };
        for (entries, kept) in [
            (REFERRERS_MAX, REFERRERS_MAX),
            (REFERRERS_MAX + 1, REFERRERS_MAX + 1),
            (REFERRERS_MAX * 2, REFERRERS_MAX + 1),
        ] {
            assert_eq!(page(entries).len(), kept, "{entries}");
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
