//! Tags and referrers, page by page.

use kharon::digest::Digest;
use kharon::registry::Referrers;

use crate::repository;
use crate::server::{Reply, Server};

#[tokio::test]
async fn tags_come_from_all_pages_once_and_without_nonsense() {
    let server = Server::start(|seen| {
        let (tags, next) = match seen.target.as_str() {
            "/v2/a/b/tags/list?n=1000" => (r#""b","a","../x""#, Some("</v2/a/b/tags/list?last=a>")),
            "/v2/a/b/tags/list?last=a" => (r#""a","c""#, Some("<list?last=c>")),
            "/v2/a/b/tags/list?last=c" => (r#""-d","e""#, None),
            other => panic!("{other} was asked for"),
        };
        let reply = Reply::new(200).body(format!(r#"{{"name":"a/b","tags":[{tags}]}}"#));
        next.iter().fold(reply, |reply, next| reply.with("Link", format!(r#"{next}; rel="next""#)))
    })
    .await;
    let tags = server.registry().tags(&repository()).await.expect("an answer").expect("known");
    let tags: Vec<&str> = tags.iter().map(kharon::reference::Tag::as_str).collect();
    assert_eq!(tags, ["b", "a", "c", "e"]);
}

#[tokio::test]
async fn an_unknown_repository_has_no_tags_and_an_empty_one_an_empty_list() {
    let server = Server::start(|_| Reply::new(404)).await;
    assert_eq!(server.registry().tags(&repository()).await.expect("an answer"), None);
    let server = Server::start(|_| Reply::new(200).body(r#"{"name":"a/b","tags":null}"#)).await;
    assert_eq!(server.registry().tags(&repository()).await.expect("an answer"), Some(Vec::new()));
    let server = Server::start(|_| Reply::new(200).body("<html>")).await;
    server.registry().tags(&repository()).await.expect_err("not a list");
}

#[tokio::test]
async fn a_list_that_goes_in_circles_ends() {
    let server = Server::start(|seen| {
        let next = if seen.target.ends_with("=x") { "y" } else { "x" };
        Reply::new(200)
            .with("link", format!("</v2/a/b/tags/list?last={next}>; rel=next"))
            .body(r#"{"tags":["1"]}"#)
    })
    .await;
    server.registry().tags(&repository()).await.expect_err("a circle");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn referrers_are_listed_or_there_is_no_such_list() {
    let digest = Digest::of(b"subject");
    let one = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":5,"artifactType":"x/y"}}"#
    );
    let unreadable = r#"{"mediaType":"x","digest":"blake3:00","size":5}"#;
    for (status, body, expected) in [
        (200, format!(r#"{{"schemaVersion":2,"manifests":[{one},{unreadable}]}}"#), Some(1)),
        (200, r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), Some(0)),
        (200, "<html>".to_owned(), None),
        (400, String::new(), None),
        (404, String::new(), None),
        (405, String::new(), None),
        (501, String::new(), None),
    ] {
        let shown = format!("{status} {body}");
        let server = Server::start(move |_| Reply::new(status).body(body.clone())).await;
        let found = server.registry().referrers(&repository(), &digest).await.expect(&shown);
        match found {
            Referrers::Listed(list) => assert_eq!(Some(list.len()), expected, "{shown}"),
            Referrers::NoApi => assert_eq!(None, expected, "{shown}"),
        }
        assert_eq!(server.requests(), [format!("GET /v2/a/b/referrers/{digest}")]);
    }
    let server = Server::start(|_| Reply::new(403)).await;
    let error = server.registry().referrers(&repository(), &digest).await.expect_err("denied");
    assert!(error.is_unauthorized());
}

#[tokio::test]
async fn a_list_without_end_is_given_up_at_a_limit_that_is_named() {
    let server = Server::start(|seen| {
        let (list, per_page, entry) = if seen.target.contains("/tags/") {
            ("tags", 300_000, r#""a""#)
        } else {
            ("manifests", 3000, "{}")
        };
        let entries = vec![entry; per_page].join(",");
        let page = seen.target.split_once("page=").map_or(0, |(_, page)| page.parse().expect("n"));
        let path = seen.target.split('?').next().expect("a path");
        Reply::new(200)
            .with("link", format!("<{path}?page={}>; rel=next", page + 1))
            .body(format!(r#"{{"schemaVersion":2,"{list}":[{entries}]}}"#))
    })
    .await;
    let digest = Digest::of(b"subject");
    let error = server.registry().referrers(&repository(), &digest).await.expect_err("no end");
    assert!(error.to_string().contains("more than 10000 manifests for the referrers"), "{error}");
    assert_eq!(server.count("GET", "/referrers/"), 4);
    let error = server.registry().tags(&repository()).await.expect_err("no end");
    assert!(error.to_string().contains("more than 1000000 names for the tags"), "{error}");
    assert_eq!(server.count("GET", "/tags/"), 4);
}

#[tokio::test]
async fn repositories_come_from_all_pages_once_and_without_nonsense() {
    let server = Server::start(|seen| {
        let (names, next) = match seen.target.as_str() {
            "/v2/_catalog?n=1000" => (r#""b/c","a""#, Some("</v2/_catalog?last=a&n=2>")),
            "/v2/_catalog?last=a&n=2" => (r#""a","UPPER","d""#, None),
            other => panic!("{other} was asked for"),
        };
        let reply = Reply::new(200).body(format!(r#"{{"repositories":[{names}]}}"#));
        next.iter().fold(reply, |reply, next| reply.with("Link", format!(r#"{next}; rel="next""#)))
    })
    .await;
    let names = server.registry().repositories().await.expect("an answer");
    let names: Vec<&str> = names.iter().map(kharon::reference::RepositoryName::as_str).collect();
    assert_eq!(names, ["b/c", "a", "d"]);
    let server = Server::start(|_| Reply::new(200).body(r#"{"repositories":null}"#)).await;
    assert_eq!(server.registry().repositories().await.expect("an answer"), []);
    let server = Server::start(|_| Reply::new(200).body("<html>")).await;
    server.registry().repositories().await.expect_err("not a list");
}
