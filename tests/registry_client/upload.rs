//! Blobs sent: whole, in chunks, mounted; and what a damaged source leaves behind, which is nothing.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use kharon::digest::Digest;
use kharon::manifest::Descriptor;
use kharon::reference::RepositoryName;
use kharon::registry::{BlobSource, Error, Mount, Registry, UploadOptions, UploadSession};

use crate::server::{End, Reply, Seen, Server, Take};
use crate::{chain, content, descriptor, repository};

const MIB: usize = 1024 * 1024;

/// Bytes in memory, in pieces.
struct Bytewise(Bytes);

impl BlobSource for Bytewise {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let from = usize::try_from(from_byte).expect("small");
        let mut rest = self.0.slice(from.min(self.0.len())..);
        let next = move || {
            let piece = rest.split_to(rest.len().min(100_000));
            (!piece.is_empty()).then_some(Ok(piece))
        };
        stream::iter(std::iter::from_fn(next)).boxed()
    }
}

struct Unreadable;

impl BlobSource for Unreadable {
    fn open(&self, _from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        stream::iter([Ok(Bytes::from_static(b"abc")), Err(io::Error::other("disk on fire"))])
            .boxed()
    }
}

fn chunked() -> UploadOptions {
    UploadOptions {
        chunk_size_bytes: 2 * MIB as u64,
        whole_up_to_bytes: 1,
        ..UploadOptions::default()
    }
}

/// Sends `bytes`, which should be what `descriptor` says, and gives the progress in sum.
async fn send(
    registry: &Registry,
    descriptor: &Descriptor,
    bytes: Vec<u8>,
    session: Option<UploadSession>,
    options: UploadOptions,
) -> (Result<(), Error>, i64) {
    let told = AtomicI64::new(0);
    let tell = |more| {
        let sum = told.fetch_add(more, Ordering::SeqCst) + more;
        assert!((0..=descriptor.size.cast_signed()).contains(&sum), "{sum}");
    };
    let source = Arc::new(Bytewise(bytes.into()));
    let sent =
        registry.upload_blob(&repository(), descriptor, session, source, &options, &tell).await;
    (sent, told.load(Ordering::SeqCst))
}

/// A registry that takes uploads as the specification says, with relative addresses that change.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    session: usize,
    received: Vec<u8>,
    steps: usize,
    blobs: Vec<Vec<u8>>,
}

impl Store {
    fn blobs(&self) -> Vec<Vec<u8>> {
        self.0.lock().expect("no panic").blobs.clone()
    }

    fn location(state: &State) -> String {
        format!("/v2/a/b/blobs/uploads/s{}?_state=x%3D{}", state.session, state.steps)
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let mut state = self.0.lock().expect("no panic");
        if seen.is("POST", "/uploads/") {
            state.session += 1;
            state.received.clear();
            return Reply::new(202).with("location", Self::location(&state));
        }
        if seen.is("HEAD", "/blobs/") {
            let wanted = seen.target.rsplit('/').next().unwrap_or_default();
            let found = state.blobs.iter().find(|blob| Digest::of(blob).to_string() == wanted);
            return found.map_or(Reply::new(404), |blob| {
                Reply::new(200).with("content-length", blob.len().to_string())
            });
        }
        let at = Self::location(&state);
        if !seen.target.starts_with(&at) {
            return Reply::new(404);
        }
        match seen.method.as_str() {
            "PATCH" => {
                let first = seen.header("content-range").and_then(|r| r.split('-').next());
                if first != Some(&state.received.len().to_string()) {
                    return Reply::new(416);
                }
                state.received.extend_from_slice(&seen.body);
                state.steps += 1;
                Self::state(&state, 202)
            }
            "GET" => Self::state(&state, 204),
            "PUT" => {
                state.received.extend_from_slice(&seen.body);
                let digest = Digest::of(&state.received).to_string().replace(':', "%3A");
                if seen.target != format!("{at}&digest={digest}") {
                    return Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                let blob = std::mem::take(&mut state.received);
                state.blobs.push(blob);
                Reply::new(201).with("location", "/v2/a/b/blobs/x")
            }
            _ => Reply::new(204),
        }
    }

    fn state(state: &State, status: u16) -> Reply {
        let last = state.received.len().saturating_sub(1);
        Reply::new(status)
            .with("location", Self::location(state))
            .with("range", format!("0-{last}"))
    }
}

async fn store() -> (Server, Store) {
    let store = Store::default();
    let answers = store.clone();
    (Server::start(move |seen| answers.answer(seen)).await, store)
}

#[tokio::test]
async fn a_small_blob_goes_whole_and_a_large_one_in_chunks() {
    for (size, options, requests) in [
        (0, UploadOptions::default(), vec!["POST", "PUT"]),
        (1, UploadOptions::default(), vec!["POST", "PUT"]),
        (3 * MIB, UploadOptions::default(), vec!["POST", "PUT"]),
        (3 * MIB, chunked(), vec!["POST", "PATCH", "PATCH", "PUT"]),
        (4 * MIB, chunked(), vec!["POST", "PATCH", "PATCH", "PUT"]),
    ] {
        let (server, store) = store().await;
        let bytes = content(size);
        let (sent, told) =
            send(&server.registry(), &descriptor(&bytes), bytes.clone(), None, options).await;
        sent.unwrap_or_else(|error| panic!("{size}: {}", chain(&error)));
        assert_eq!(told, i64::try_from(size).expect("small"));
        let methods: Vec<_> = server.log().into_iter().map(|seen| seen.method).collect();
        assert_eq!(methods, requests, "{size}");
        assert!(store.blobs() == [bytes], "{size}");
    }
}

#[tokio::test]
async fn a_damaged_source_leaves_nothing_behind() {
    let bytes = content(3 * MIB);
    let truth = descriptor(&bytes);
    let mut flipped = bytes.clone();
    flipped[3 * MIB - 1] ^= 1;
    let (short, mut longer) = (bytes[..3 * MIB - 1].to_vec(), bytes.clone());
    longer.push(0);
    for options in [UploadOptions::default(), chunked()] {
        for wrong in [flipped.clone(), short.clone(), longer.clone(), Vec::new()] {
            let (server, store) = store().await;
            let (sent, _) = send(&server.registry(), &truth, wrong, None, options.clone()).await;
            let error = sent.expect_err("damaged");
            assert!(error.is_damaged_source() && !error.is_temporary(), "{}", chain(&error));
            assert!(store.blobs().is_empty());
            let log = server.log();
            assert!(!log.iter().any(|seen| seen.method == "PUT" && seen.complete));
            assert_eq!(log.iter().filter(|seen| seen.method == "DELETE").count(), 1);
            assert_eq!(log.iter().filter(|seen| seen.method == "POST").count(), 1);
        }
    }
    let (server, store) = store().await;
    let empty = descriptor(b"");
    let (sent, _) = send(&server.registry(), &empty, vec![1], None, UploadOptions::default()).await;
    assert!(sent.expect_err("damaged").is_damaged_source());
    assert!(store.blobs().is_empty());
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_told_apart_from_a_damaged_one() {
    let (server, store) = store().await;
    let sent = server
        .registry()
        .upload_blob(
            &repository(),
            &descriptor(b"abcdef"),
            None,
            Arc::new(Unreadable),
            &UploadOptions::default(),
            &|_| {},
        )
        .await;
    let error = sent.expect_err("unreadable");
    assert!(!error.is_damaged_source() && chain(&error).contains("disk on fire"), "{error}");
    assert!(store.blobs().is_empty());
    assert_eq!(server.count("DELETE", ""), 1);
}

#[tokio::test]
async fn requests_shrink_where_they_are_too_large() {
    let store = Store::default();
    let answers = store.clone();
    let server = Server::start_taking(
        |_| Take::All,
        move |seen| {
            if seen.body.len() > 1_500_000 { Reply::new(413) } else { answers.answer(seen) }
        },
    )
    .await;
    let bytes = content(5 * MIB);
    let (sent, told) = send(
        &server.registry(),
        &descriptor(&bytes),
        bytes.clone(),
        None,
        UploadOptions {
            chunk_size_bytes: 4 * MIB as u64,
            whole_up_to_bytes: 64 * MIB as u64,
            ..UploadOptions::default()
        },
    )
    .await;
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(store.blobs() == [bytes]);
    assert_eq!(told, 5 * 1024 * 1024);
    let sizes: Vec<_> = server
        .log()
        .iter()
        .filter(|seen| !seen.body.is_empty())
        .map(|seen| seen.body.len())
        .collect();
    // 5 MiB whole, 2.5 MiB, then 1.25 MiB four times.
    assert_eq!(sizes[..2], [5 * MIB, 5 * MIB / 2]);
    assert_eq!(sizes[2..], [5 * MIB / 4; 4]);

    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(202).with("location", "/s"),
        _ => Reply::new(413),
    })
    .await;
    let bytes = content(5 * MIB);
    let (sent, _) =
        send(&server.registry(), &descriptor(&bytes), bytes, None, UploadOptions::default()).await;
    assert_eq!(sent.expect_err("too small to be of use").status(), Some(413));
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_is_heard() {
    let store = Store::default();
    let answers = store.clone();
    let length = |seen: &Seen| seen.header("content-length").map_or(0, |n| n.parse().unwrap_or(0));
    let server = Server::start_taking(
        move |seen| if length(seen) > 3_000_000 { Take::Ignore } else { Take::All },
        move |seen| {
            if length(seen) > 3_000_000 { Reply::new(413) } else { answers.answer(seen) }
        },
    )
    .await;
    let bytes = content(5 * MIB);
    let (sent, _) = send(
        &server.registry(),
        &descriptor(&bytes),
        bytes.clone(),
        None,
        UploadOptions::default(),
    )
    .await;
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(store.blobs() == [bytes]);
}

#[tokio::test]
async fn a_torn_chunk_goes_on_where_the_session_stands() {
    for (kept, restarts) in [(300_000, 1), (0, 1), (usize::MAX, 2)] {
        let store = Store::default();
        let (answers, torn) = (store.clone(), Arc::new(AtomicUsize::new(0)));
        let (tears, session) = (Arc::clone(&torn), store.clone());
        let server = Server::start_taking(
            move |seen| {
                let second =
                    seen.header("content-range").is_some_and(|r| r.starts_with("2097152-"));
                if !second || tears.fetch_add(1, Ordering::SeqCst) > 0 {
                    return Take::All;
                }
                // The registry keeps a part of what came, or forgets the session.
                let mut state = session.0.lock().expect("no panic");
                if kept == usize::MAX {
                    state.session += 100;
                } else {
                    let bytes = content(5 * MIB);
                    state.received.extend_from_slice(&bytes[2 * MIB..2 * MIB + kept]);
                }
                Take::Cut(500_000)
            },
            move |seen| answers.answer(seen),
        )
        .await;
        let bytes = content(5 * MIB);
        let (sent, told) =
            send(&server.registry(), &descriptor(&bytes), bytes.clone(), None, chunked()).await;
        sent.unwrap_or_else(|error| panic!("{kept}: {}", chain(&error)));
        assert!(store.blobs() == [bytes], "{kept}");
        assert_eq!(told, 5 * 1024 * 1024);
        assert_eq!(server.count("POST", ""), restarts, "{kept}");
        let first_after = format!("{}-", 2 * MIB + kept.min(MIB));
        let resumed = server.log().iter().any(|seen| {
            seen.header("content-range").is_some_and(|range| range.starts_with(&first_after))
        });
        assert_eq!(resumed, kept != usize::MAX, "{kept}");
    }
}

#[tokio::test]
async fn a_registry_that_loses_every_session_is_given_up() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(202).with("location", "/s"),
        _ => Reply::new(404),
    })
    .await;
    for options in [UploadOptions::default(), chunked()] {
        let before = server.count("POST", "");
        let bytes = content(3 * MIB);
        let (sent, _) = send(&server.registry(), &descriptor(&bytes), bytes, None, options).await;
        sent.expect_err("lost");
        assert_eq!(server.count("POST", "") - before, 4);
    }
}

#[tokio::test]
async fn a_whole_request_that_tears_is_sent_again_in_a_new_session() {
    let store = Store::default();
    let (answers, torn) = (store.clone(), AtomicUsize::new(0));
    let server = Server::start_taking(
        move |seen| match seen.method.as_str() {
            "PUT" if torn.fetch_add(1, Ordering::SeqCst) < 2 => Take::Cut(1000),
            _ => Take::All,
        },
        move |seen| answers.answer(seen),
    )
    .await;
    let bytes = content(MIB);
    let (sent, told) = send(
        &server.registry(),
        &descriptor(&bytes),
        bytes.clone(),
        None,
        UploadOptions::default(),
    )
    .await;
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(store.blobs() == [bytes]);
    assert_eq!((told, server.count("POST", "")), (1024 * 1024, 3));
}

#[tokio::test]
async fn a_blob_that_arrived_though_the_answer_did_not_is_not_sent_again() {
    let store = Store::default();
    let answers = store.clone();
    let server = Server::start(move |seen| {
        let reply = answers.answer(seen);
        if seen.method == "PUT" { reply.end(End::Nothing) } else { reply }
    })
    .await;
    let bytes = content(1000);
    let (sent, told) = send(
        &server.registry(),
        &descriptor(&bytes),
        bytes.clone(),
        None,
        UploadOptions::default(),
    )
    .await;
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!((told, server.count("PUT", ""), store.blobs().len()), (1000, 1, 1));
}

#[tokio::test]
async fn a_connection_that_takes_nothing_any_more_is_torn() {
    let store = Store::default();
    let (answers, stalled) = (store.clone(), AtomicUsize::new(0));
    let server = Server::start_taking(
        move |seen| match seen.method.as_str() {
            "PUT" if stalled.fetch_add(1, Ordering::SeqCst) == 0 => Take::Never,
            _ => Take::All,
        },
        move |seen| answers.answer(seen),
    )
    .await;
    let registry = server.registry_with(|connections| {
        connections.stall_timeout = Duration::from_secs(1);
    });
    // More than the buffers of a loopback connection take.
    let bytes = content(16 * MIB);
    let blob = descriptor(&bytes);
    let sending = send(&registry, &blob, bytes.clone(), None, UploadOptions::default());
    let sent = tokio::time::timeout(Duration::from_secs(30), sending).await;
    let (sent, _) = sent.expect("given up in time");
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(store.blobs() == [bytes]);
    assert_eq!(server.count("POST", ""), 2);
}

#[tokio::test]
async fn a_mount_is_done_or_refused_and_its_session_used() {
    let from: RepositoryName = "c".parse().expect("valid");
    let bytes = content(1000);
    let blob = descriptor(&bytes);
    let target = format!("/v2/a/b/blobs/uploads/?mount={}&from=c", blob.digest);

    let server = Server::start(|_| Reply::new(201)).await;
    let mount = server.registry().mount_blob(&repository(), &blob.digest, &from).await;
    assert!(matches!(mount.expect("an answer"), Mount::Mounted));
    assert_eq!(server.requests(), [format!("POST {target}")]);

    for status in [400, 401, 403, 404, 405] {
        let server = Server::start(move |_| Reply::new(status)).await;
        let mount = server.registry().mount_blob(&repository(), &blob.digest, &from).await;
        assert!(matches!(mount.expect("an answer"), Mount::Refused(None)), "{status}");
    }

    let (server, store) = store().await;
    let registry = server.registry();
    let mount = registry.mount_blob(&repository(), &blob.digest, &from).await.expect("an answer");
    let Mount::Refused(session @ Some(_)) = mount else { panic!("{mount:?}") };
    let (sent, _) = send(&registry, &blob, bytes.clone(), session, UploadOptions::default()).await;
    sent.expect("sent");
    assert!(store.blobs() == [bytes]);
    assert_eq!(server.count("POST", ""), 1);
}

#[tokio::test]
async fn no_body_is_sent_to_be_refused_for_want_of_a_token() {
    let store = Store::default();
    let answers = store.clone();
    let server = Server::start(move |seen| match seen.authorization() {
        _ if seen.target.starts_with("/token") => Reply::new(200).body(r#"{"token":"good"}"#),
        Some("Bearer good") => answers.answer(seen),
        _ => Reply::new(401).with("www-authenticate", r#"Bearer realm="/token""#),
    })
    .await;
    let (registry, bytes) = (server.registry(), content(3 * MIB));
    let (blob, from) = (descriptor(&bytes), "c".parse().expect("valid"));
    let mount = registry.mount_blob(&repository(), &blob.digest, &from).await.expect("an answer");
    let Mount::Refused(mounting @ Some(_)) = mount else { panic!("{mount:?}") };
    assert!(!format!("{mounting:?}").contains("_state"), "{mounting:?}");
    let (sent, _) = send(&registry, &blob, bytes.clone(), mounting, chunked()).await;
    sent.expect("sent");
    let opened = registry.start_upload(&repository()).await.expect("opened");
    let (sent, _) = send(&registry, &blob, bytes, Some(opened), chunked()).await;
    sent.expect("sent");
    let log = server.log();
    let mut bodies = log.iter().filter(|seen| !seen.body.is_empty());
    assert!(bodies.all(|seen| seen.authorization().is_some()));
}

#[tokio::test]
async fn a_session_can_be_given_up_whatever_the_registry_thinks_of_it() {
    for status in [200, 204, 400, 401, 403, 404, 405] {
        let server = Server::start(move |seen| match seen.method.as_str() {
            "POST" => Reply::new(202).with("location", "/s?x=1"),
            _ => Reply::new(status),
        })
        .await;
        let registry = server.registry();
        let session = registry.start_upload(&repository()).await.expect("opened");
        registry.cancel_upload(session).await.expect("given up");
        assert_eq!(server.requests(), ["POST /v2/a/b/blobs/uploads/", "DELETE /s?x=1"]);
    }
}

#[tokio::test]
async fn a_session_at_another_address_gets_no_credentials() {
    let (storage, store) = store().await;
    let (answers, address) = (store.clone(), storage.address.clone());
    let server = Server::start(move |seen| {
        if seen.authorization().is_none() {
            return Reply::new(401).with("www-authenticate", "Basic realm=x");
        }
        let reply = answers.answer(seen);
        let location = reply.headers.first().map(|(_, path)| format!("http://{address}{path}"));
        Reply::new(reply.status).with("location", location.unwrap_or_default())
    })
    .await;
    let bytes = content(1000);
    let registry = server.registry_as(crate::server::login());
    let (sent, _) =
        send(&registry, &descriptor(&bytes), bytes.clone(), None, UploadOptions::default()).await;
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(store.blobs() == [bytes]);
    assert_eq!(storage.log().len(), 1);
    assert!(storage.log().iter().all(|seen| seen.authorization().is_none()));
}

#[tokio::test]
async fn chunks_are_as_large_as_the_registry_wants_them() {
    let store = Store::default();
    let answers = store.clone();
    let server = Server::start(move |seen| {
        answers.answer(seen).with("OCI-Chunk-Min-Length", (3 * MIB).to_string())
    })
    .await;
    let bytes = content(5 * MIB);
    let (sent, _) =
        send(&server.registry(), &descriptor(&bytes), bytes.clone(), None, chunked()).await;
    sent.expect("sent");
    let sizes: Vec<_> =
        server.log().iter().filter(|s| s.method == "PATCH").map(|s| s.body.len()).collect();
    assert_eq!(sizes, [3 * MIB, 2 * MIB]);
}

#[tokio::test]
async fn a_registry_without_chunks_gets_the_blob_whole() {
    let store = Store::default();
    let answers = store.clone();
    let server = Server::start(move |seen| match seen.method.as_str() {
        "PATCH" => Reply::new(405),
        _ => answers.answer(seen),
    })
    .await;
    let bytes = content(5 * MIB);
    let (sent, _) =
        send(&server.registry(), &descriptor(&bytes), bytes.clone(), None, chunked()).await;
    sent.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(store.blobs() == [bytes]);
}

#[tokio::test]
async fn a_blob_is_copied_from_one_repository_to_another() {
    let bytes = content(3 * MIB);
    let all = bytes.clone();
    let asked = AtomicUsize::new(0);
    let origin = Server::start(move |seen| {
        let reply = Reply::range_of(&all, seen);
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => reply.end(End::Cut(MIB)),
            _ => reply,
        }
    })
    .await;
    let (server, store) = store().await;
    let source = Arc::new(origin.registry().blob(&repository(), &descriptor(&bytes)));
    let (registry, blob) = (server.registry(), descriptor(&bytes));
    // Uploads run in tasks of their own.
    let task = tokio::spawn(async move {
        let options = UploadOptions::default();
        registry.upload_blob(&repository(), &blob, None, source, &options, &|_| {}).await
    });
    task.await.expect("no panic").expect("copied");
    assert!(store.blobs() == [bytes]);
    assert_eq!((origin.log().len(), server.count("PUT", "")), (2, 1));
}
