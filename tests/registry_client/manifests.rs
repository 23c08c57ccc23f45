//! Manifests: verified, bounded, retried; and what their failures say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use kharon::digest::Digest;
use kharon::manifest::{MANIFEST_MAX_BYTES, Manifest, MediaType};
use kharon::reference::TagOrDigest;
use kharon::registry::SubjectSupport;
use kharon::registry::credentials::CredentialStore;

use crate::server::{End, Reply, Server, registries};
use crate::{chain, repository, tag};

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn digest() -> Digest {
    Digest::of(INDEX.as_bytes())
}

fn manifest() -> Manifest {
    Manifest::parse(INDEX.into(), None).expect("valid")
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says_or_nothing() {
    let lie = Digest::of(b"lie").to_string();
    for (path, header, body, good) in [
        ("1", None, INDEX, true),
        ("1", Some(digest().to_string()), INDEX, true),
        ("1", Some("nonsense".to_owned()), INDEX, true),
        ("1", Some(lie.clone()), INDEX, false),
        ("digest", Some(lie.clone()), INDEX, true),
        ("digest", Some(digest().to_string()), r#"{"schemaVersion":2,"manifests":[ ]}"#, false),
    ] {
        let shown = format!("{path} {header:?} {body}");
        let server = Server::start(move |_| {
            let reply = Reply::new(200).with("content-type", "text/plain; charset=utf-8");
            let reply = header
                .iter()
                .fold(reply, |reply, digest| reply.with("Docker-Content-Digest", digest.clone()));
            reply.body(body)
        })
        .await;
        let which = if path == "1" { tag("1") } else { TagOrDigest::Digest(digest()) };
        match server.registry().manifest(&repository(), &which).await {
            Ok(manifest) => {
                assert!(good, "{shown}");
                assert_eq!(
                    (manifest.raw.as_ref(), manifest.digest()),
                    (INDEX.as_bytes(), &digest())
                );
            }
            Err(error) => assert!(!good && error.is_damaged_content(), "{shown}: {error}"),
        }
        let log = server.log();
        let accept = log[0].header("accept").unwrap_or_default();
        assert!(accept.contains(MediaType::OCI_INDEX) && accept.ends_with("*/*"), "{accept}");
    }
}

#[tokio::test]
async fn an_endless_manifest_is_not_read_to_its_end() {
    for end in [End::Endless, End::Whole] {
        let server =
            Server::start(move |_| Reply::new(200).body(vec![b' '; 5_000_000]).end(end)).await;
        let error =
            server.registry().manifest(&repository(), &tag("1")).await.expect_err("endless");
        assert!(error.to_string().contains(&MANIFEST_MAX_BYTES.to_string()), "{error}");
        assert_eq!(server.log().len(), 1);
    }
}

#[tokio::test]
async fn a_torn_manifest_is_fetched_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let reply = Reply::new(200).body(INDEX);
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => reply.end(End::Cut(10)),
            1 => reply.end(End::Nothing),
            _ => reply,
        }
    })
    .await;
    server.registry().manifest(&repository(), &tag("1")).await.expect("the third time");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn what_passes_by_is_tried_again_and_what_does_not_is_not() {
    for (status, temporary) in [
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (408, true),
        (409, false),
        (429, true),
        (500, true),
        (501, false),
        (502, true),
        (503, true),
        (504, true),
    ] {
        let server = Server::start(move |_| Reply::new(status)).await;
        let error = server.registry().manifest(&repository(), &tag("1")).await.expect_err("no");
        assert_eq!((error.status(), error.is_temporary()), (Some(status), temporary));
        assert_eq!(error.is_refusal(), status < 500 && !temporary, "{status}");
        assert_eq!(server.log().len(), if temporary { 4 } else { 1 }, "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_in_both_forms() {
    for is_date in [false, true] {
        let asked = AtomicUsize::new(0);
        let server = Server::start(move |_| {
            // A date has no fractions: two seconds from now is at least one away.
            let date = httpdate(SystemTime::now() + Duration::from_secs(2));
            let wait = if is_date { date } else { "1".to_owned() };
            match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::new(429).with("retry-after", wait),
                _ => Reply::new(200).body(INDEX),
            }
        })
        .await;
        let start = Instant::now();
        server.registry().manifest(&repository(), &tag("1")).await.expect("the second time");
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(server.log().len(), 2);
    }
}

fn httpdate(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[tokio::test]
async fn an_error_names_registry_repository_and_thing() {
    let server = Server::start(|seen| {
        let status = if seen.method == "PUT" { 400 } else { 404 };
        Reply::new(status).body(
            r#"{"errors":[{"code":"MANIFEST_INVALID","message":"layers\u0007 missing"},{"code":"X"}]}"#,
        )
    })
    .await;
    let registry = server.registry();
    let error =
        registry.put_manifest(&repository(), &tag("1"), &manifest()).await.expect_err("refused");
    let host = &server.address;
    assert_eq!(
        error.to_string(),
        format!("`{host}` refused manifest `a/b:1`: 400 MANIFEST_INVALID: layers missing")
    );
    let error = registry.manifest(&repository(), &tag("1")).await.expect_err("missing");
    assert_eq!(
        error.to_string(),
        format!("`{host}` does not have manifest `a/b:1`: 404 MANIFEST_INVALID: layers missing")
    );
    assert_eq!(registry.find_manifest(&repository(), &tag("1")).await.expect("an answer"), None);
    assert_eq!(registry.head_manifest(&repository(), &tag("1")).await.expect("an answer"), None);
    assert_eq!(registry.manifest_digest(&repository(), &tag("1")).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_digest_that_head_does_not_tell_is_fetched() {
    for (head, requests) in [
        (Reply::new(200).with("docker-content-digest", digest().to_string()), 1),
        (Reply::new(200), 2),
        (Reply::new(405), 2),
    ] {
        let server = Server::start(move |seen| match seen.method.as_str() {
            "HEAD" => head.clone(),
            _ => Reply::new(200).body(INDEX),
        })
        .await;
        let found = server.registry().manifest_digest(&repository(), &tag("1")).await;
        assert_eq!(found.expect("an answer"), Some(digest()));
        assert_eq!(server.log().len(), requests);
    }
}

#[tokio::test]
async fn a_pushed_manifest_keeps_its_bytes_and_a_registry_that_changes_them_is_caught() {
    let server = Server::start(|seen| match seen.target.rsplit('/').next() {
        Some("subject") => Reply::new(201).with("OCI-Subject", Digest::of(b"x").to_string()),
        Some("lie") => {
            Reply::new(201).with("docker-content-digest", Digest::of(b"lie").to_string())
        }
        _ => Reply::new(202).with("docker-content-digest", digest().to_string()),
    })
    .await;
    let registry = server.registry();
    let push =
        async |name: &str| registry.put_manifest(&repository(), &tag(name), &manifest()).await;
    assert_eq!(push("subject").await.expect("taken"), SubjectSupport::Acknowledged);
    assert_eq!(push("1").await.expect("taken"), SubjectSupport::NotAcknowledged);
    assert!(push("lie").await.expect_err("changed").is_damaged_content());
    let seen = &server.log()[0];
    assert_eq!(
        (seen.body.as_slice(), seen.header("content-type")),
        (INDEX.as_bytes(), Some(MediaType::OCI_INDEX))
    );
}

#[tokio::test]
async fn what_the_registry_says_of_its_quota_is_remembered() {
    let server = Server::start(|_| {
        Reply::new(200)
            .with("ratelimit-limit", "100;w=21600")
            .with("ratelimit-remaining", "76;w=21600")
            .body(INDEX)
    })
    .await;
    let registry = server.registry();
    assert_eq!(registry.pull_quota(), None);
    registry.manifest(&repository(), &tag("1")).await.expect("there");
    let quota = registry.pull_quota().expect("told");
    assert_eq!((quota.limit, quota.remaining, quota.window_seconds), (100, 76, Some(21600)));
}

#[tokio::test]
async fn a_registry_on_this_machine_may_speak_plain_http_and_is_asked_once() {
    let server = Server::start(|_| Reply::new(200).body(INDEX)).await;
    let registry = server.registry_with(|connections| connections.plain_http.clear());
    for _ in 0..3 {
        registry.manifest(&repository(), &tag("1")).await.expect("there");
    }
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_closed_port_is_waited_for_only_where_somebody_answered_before() {
    for (was_there, pauses) in [(false, 2), (true, 9)] {
        let server = Server::start(|_| Reply::new(200).with("connection", "close")).await;
        let (registries, recorder) = registries(
            &server,
            |connections| connections.retry.attempts = 10,
            CredentialStore::anonymous(),
        );
        let registry = registries.registry(&server.host()).expect("a client");
        if was_there {
            registry.check().await.expect("an answer");
        }
        drop(server);
        tokio::task::yield_now().await;
        let error = registry.check().await.expect_err("nobody listens");
        assert!(error.is_unreachable() && error.is_temporary(), "{}", chain(&error));
        assert_eq!(recorder.events().len(), pauses, "{}", chain(&error));
        let hint = error.hint().unwrap_or_default();
        assert_eq!(hint.contains("check the port"), !was_there, "{hint}");
    }
}

/// As distribution 2.8 fails on foreign layers that its configuration does not allow.
#[tokio::test]
async fn content_that_a_registry_fails_on_is_sent_fewer_times_than_others() {
    for (status, requests) in [(500, 3), (503, 4)] {
        let server = Server::start(move |_| Reply::new(status)).await;
        let put = server.registry().put_manifest(&repository(), &tag("1"), &manifest()).await;
        assert_eq!(put.expect_err("no").status(), Some(status));
        assert_eq!(server.log().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let server = Server::start_taking(|_| crate::server::Take::Never, |_| Reply::new(200)).await;
    let (registries, recorder) = registries(
        &server,
        |connections| connections.header_timeout = Duration::from_millis(50),
        CredentialStore::anonymous(),
    );
    let error = registries.registry(&server.host()).expect("a client").check().await;
    let error = error.expect_err("no answer");
    assert!(error.is_unreachable(), "{}", chain(&error));
    assert_eq!((server.log().len(), recorder.events().len()), (4, 3));
}
