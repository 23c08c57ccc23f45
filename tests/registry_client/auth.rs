//! Challenges, tokens and who gets to see credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kharon::reference::RepositoryName;
use kharon::registry::credentials::{Credentials, Secret};

use crate::server::{Reply, Seen, Server, login};
use crate::{repository, tag};

/// A registry that wants a token, and is its own token service. `is_good` judges tokens by their
/// number, and by how often they were shown.
async fn with_tokens(
    expires_in: &'static str,
    is_good: impl Fn(usize, usize) -> bool + Send + Sync + 'static,
) -> Server {
    let (given, shown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Server::start(move |seen: &Seen| {
        if seen.target.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            shown.store(0, Ordering::SeqCst);
            return Reply::new(200)
                .body(format!(r#"{{"token":"t{number}","expires_in":{expires_in}}}"#));
        }
        let number = seen.authorization().and_then(|token| token.strip_prefix("Bearer t"));
        let number: usize = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        if number > 0 && is_good(number, shown.fetch_add(1, Ordering::SeqCst)) {
            return Reply::new(200).body("content");
        }
        let realm = format!("http://{}/token", seen.header("host").unwrap_or_default());
        let (name, _) = seen.target[4..].split_once("/blobs/").unwrap_or(("none", ""));
        Reply::new(401).with(
            "WWW-Authenticate",
            format!(r#"bEARER scope="repository:{name}:pull",service="s, \"x\"",Realm="{realm}""#),
        )
    })
    .await
}

fn digest() -> kharon::digest::Digest {
    kharon::digest::Digest::of(b"")
}

#[tokio::test]
async fn a_token_is_fetched_when_asked_for_and_then_sent_at_once() {
    let server = with_tokens("300", |_, _| true).await;
    let registry = server.registry_as(login());
    for _ in 0..3 {
        assert_eq!(registry.blob_size(&repository(), &digest()).await.expect("there"), Some(7));
    }
    let log = server.log();
    let seen: Vec<_> =
        log.iter().map(|seen| (seen.method.as_str(), seen.authorization())).collect();
    assert_eq!(
        seen,
        [
            ("HEAD", None),
            ("GET", Some("Basic ZmVycnk6b2JvbHVz")),
            ("HEAD", Some("Bearer t1")),
            ("HEAD", Some("Bearer t1")),
            ("HEAD", Some("Bearer t1")),
        ]
    );
    assert_eq!(log[1].target, "/token?service=s%2C+%22x%22&scope=repository%3Aa%2Fb%3Apull");
}

#[tokio::test]
async fn each_repository_has_its_own_token_and_a_mount_asks_for_both() {
    let server = with_tokens("300", |_, _| true).await;
    let registry = server.registry();
    let other: RepositoryName = "c".parse().expect("valid");
    for repository in [&repository(), &other, &repository()] {
        registry.blob_size(repository, &digest()).await.expect("there");
    }
    let _ = registry.mount_blob(&repository(), &digest(), &other).await;
    let tokens: Vec<_> = server.log().into_iter().filter(|seen| seen.is("GET", "/token")).collect();
    assert_eq!(tokens.len(), 3);
    let scopes = "scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull";
    assert!(tokens[2].target.ends_with(scopes), "{}", tokens[2].target);
}

#[tokio::test]
async fn a_token_to_write_serves_to_read() {
    let server = with_tokens("300", |_, _| true).await;
    let registry = server.registry();
    // The session has no `Location`, but the token is there.
    registry.start_upload(&repository()).await.expect_err("no location");
    registry.blob_size(&repository(), &digest()).await.expect("there");
    assert_eq!(server.count("GET", "/token"), 1);
    assert_eq!(server.log().last().and_then(Seen::authorization), Some("Bearer t1"));
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_a_run_is_renewed_once() {
    let server = with_tokens("300", |_, shown| shown < 2).await;
    let registry = server.registry();
    for _ in 0..6 {
        registry.blob_size(&repository(), &digest()).await.expect("there");
    }
    // A first challenge, six answers, and two tokens that were refused the third time.
    assert_eq!(server.count("GET", "/token"), 3);
    assert_eq!(server.count("HEAD", "/blobs/"), 1 + 6 + 2);
}

#[tokio::test]
async fn a_token_that_is_never_taken_ends_the_matter() {
    let server = with_tokens("300", |_, _| false).await;
    for (registry, told) in [
        (server.registry(), "without credentials"),
        (server.registry_as(login()), "with credentials"),
    ] {
        let before = server.log().len();
        let error = registry.blob_size(&repository(), &digest()).await.expect_err("denied");
        assert!(error.is_unauthorized() && error.is_refusal() && !error.is_temporary());
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("credentials were used")), "{error}");
        assert_eq!(server.log().len() - before, 3);
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let server = with_tokens("0.001", |_, _| true).await;
    let registry = server.registry();
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        registry.blob_size(&repository(), &digest()).await.expect("there");
    }
    assert_eq!(server.count("GET", "/token"), 3);
    assert_eq!(server.log().iter().filter(|seen| seen.authorization().is_none()).count(), 4);
    assert_eq!(server.count("HEAD", "/blobs/"), 4, "only the first was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_one_token() {
    let server = with_tokens("300", |_, _| true).await;
    let registry = server.registry();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.blob_size(&repository(), &digest()).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("there");
    }
    assert_eq!(server.count("GET", "/token"), 1);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post_and_never_sent_elsewhere() {
    let server = Server::start(|seen| {
        if seen.is("POST", "/token") {
            return Reply::new(200).body(r#"{"access_token":"good","expires_in":"300"}"#);
        }
        if seen.authorization() == Some("Bearer good") {
            return Reply::new(200);
        }
        let realm = r#"Basic realm="x", Bearer realm="/token",service=s"#;
        Reply::new(401).with("www-authenticate", realm)
    })
    .await;
    let registry = server.registry_as(Credentials::IdentityToken(Secret::new("refresh/me")));
    registry.blob_size(&repository(), &digest()).await.expect("there");
    let log = server.log();
    assert_eq!(
        String::from_utf8_lossy(&log[1].body),
        "grant_type=refresh_token&client_id=kharon&service=s\
         &scope=repository%3Aa%2Fb%3Apull&refresh_token=refresh%2Fme"
    );
    assert_eq!(log.iter().filter(|seen| seen.target.contains("refresh")).count(), 0);
}

#[tokio::test]
async fn basic_credentials_are_sent_once_asked_for() {
    let server = Server::start(|seen| match seen.authorization() {
        Some("Basic ZmVycnk6b2JvbHVz") => Reply::new(200),
        _ => Reply::new(401)
            .with("www-authenticate", r#"Digest realm="x""#)
            .with("www-authenticate", r#"BASIC realm="x""#),
    })
    .await;
    let registry = server.registry_as(login());
    registry.check().await.expect("let in");
    registry.blob_size(&repository(), &digest()).await.expect("there");
    assert_eq!(server.requests().len(), 3);

    let wrong = Credentials::Basic { username: "ferry".to_owned(), password: Secret::new("no") };
    let error = server.registry_as(wrong).check().await.expect_err("denied");
    assert!(error.to_string().contains("with credentials"), "{error}");
    let error = server.registry().check().await.expect_err("denied");
    assert!(error.to_string().contains("without credentials"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("docker login")));
}

#[tokio::test]
async fn whoever_a_registry_redirects_to_gets_no_credentials_not_even_when_asking() {
    let storage =
        Server::start(|_| Reply::new(401).with("www-authenticate", r#"Basic realm="x""#)).await;
    let target = storage.url("/x?signature=secret");
    let server = Server::start(move |seen| match seen.authorization() {
        Some(_) => Reply::new(307).with("location", target.clone()),
        None => Reply::new(401).with("www-authenticate", "Basic"),
    })
    .await;
    let error = server
        .registry_as(login())
        .manifest(&repository(), &tag("1"))
        .await
        .expect_err("the storage wants credentials");
    assert!(error.is_unauthorized());
    assert!(storage.log().iter().all(|seen| seen.authorization().is_none()));
    assert_eq!(storage.log().len(), 1);
    assert!(error.to_string().contains(&storage.address), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_token_service_named_by_anybody_but_the_registry_is_not_asked() {
    let storage = Server::start(|seen| {
        let realm = format!("http://{}/token", seen.header("host").unwrap_or_default());
        Reply::new(401).with("www-authenticate", format!(r#"Bearer realm="{realm}",service=s"#))
    })
    .await;
    let target = storage.url("/x");
    let server = Server::start(move |_| Reply::new(307).with("location", target.clone())).await;
    let registry = server.registry_as(login());
    registry.manifest(&repository(), &tag("1")).await.expect_err("the storage wants a token");
    registry.blob_size(&repository(), &digest()).await.expect_err("the storage wants a token");
    assert!(storage.log().iter().all(|seen| seen.target == "/x"));
}

#[tokio::test]
async fn a_token_service_that_has_trouble_is_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            return match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::new(503),
                _ => Reply::new(200).body(r#"{"token":"good"}"#),
            };
        }
        match seen.authorization() {
            Some("Bearer good") => Reply::new(200),
            _ => Reply::new(401).with("www-authenticate", r#"Bearer realm="/token""#),
        }
    })
    .await;
    server.registry().check().await.expect("let in");
    assert_eq!(server.count("GET", "/token"), 2);
}
