//! Who may ask: programs, and pages of this server, by a name that this server has.
//!
//! A page of another site may not use the rights of its visitor here, neither by asking across sites (Fetch
//! Metadata, `Origin`) nor by giving its own name the address of this server (DNS rebinding; `Host`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::request::Parts;

use super::answer::{Code, Refusal};

/// Whether a path is for programs and our own page only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Page,
    Api,
}

/// Refuses what comes by another name or from another site.
pub(super) fn check(head: &Parts, kind: Kind, names: &BTreeSet<String>) -> Result<(), Refusal> {
    let host = text(&head.headers, HOST.as_str()).unwrap_or_default();
    if !is_ours(host, names) {
        return Err(Refusal::new(Code::WrongHost, "this server does not go by that name")
            .with_hint("use its address, or start it with `--public-name NAME`"));
    }
    if kind == Kind::Page {
        return Ok(());
    }
    let site = text(&head.headers, "sec-fetch-site").unwrap_or("none");
    let is_from_here = matches!(site, "none" | "same-origin");
    let origin = head.headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let is_own_origin = origin.is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    if is_from_here && is_own_origin {
        return Ok(());
    }
    Err(Refusal::new(Code::CrossSite, "another site may not ask this server")
        .with_hint("open this server's own page"))
}

/// Whether a `Host` is an address, this machine, or one of `names`.
fn is_ours(host: &str, names: &BTreeSet<String>) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default().trim_end_matches('.');
    let name = name.to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    is_local || name.parse::<IpAddr>().is_ok() || names.contains(&name)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn only_our_own_page_and_programs_may_ask() {
        let names = BTreeSet::from(["kharon.example".to_owned()]);
        for (kind, headers, expected) in [
            (Kind::Api, &[("host", "127.0.0.1:5000")][..], true),
            (Kind::Api, &[("host", "[::1]:5000")], true),
            (Kind::Api, &[("host", "LOCALHOST:5000")], true),
            (Kind::Api, &[("host", "10.1.2.3")], true),
            (Kind::Api, &[("host", "Kharon.example:80")], true),
            (Kind::Api, &[("host", "evil.example")], false),
            (Kind::Page, &[("host", "evil.example")], false),
            (Kind::Page, &[("host", "[evil]")], false),
            (Kind::Page, &[], false),
            (Kind::Api, &[("host", "localhost"), ("sec-fetch-site", "same-origin")], true),
            (Kind::Api, &[("host", "localhost"), ("sec-fetch-site", "same-site")], false),
            (Kind::Api, &[("host", "localhost"), ("sec-fetch-site", "cross-site")], false),
            (Kind::Page, &[("host", "localhost"), ("sec-fetch-site", "cross-site")], true),
            (Kind::Api, &[("host", "a.localhost:1"), ("origin", "http://a.localhost:1")], true),
            (Kind::Api, &[("host", "localhost:1"), ("origin", "http://localhost:2")], false),
            (Kind::Api, &[("host", "localhost"), ("origin", "https://evil.example")], false),
            (Kind::Api, &[("host", "localhost"), ("origin", "null")], false),
        ] {
            let mut request = Request::get("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(check(&head, kind, &names).is_ok(), expected, "{kind:?} {headers:?}");
        }
    }
}
