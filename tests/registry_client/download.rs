//! Blobs by ranges: redirects, torn streams, servers that ignore what they are asked.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kharon::registry::{BlobStream, Error, RemoteBlob};

use crate::server::{End, Reply, Seen, Server, login};
use crate::{chain, content, descriptor, repository};

const SIZE: usize = 1000;

/// The bytes of a range of the content.
fn part(range: &Range<u64>) -> Vec<u8> {
    let at = |byte: u64| usize::try_from(byte).expect("small");
    content(SIZE)[at(range.start)..at(range.end)].to_vec()
}

async fn collect(mut stream: BlobStream) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn read(blob: &RemoteBlob, range: Range<u64>) -> Result<Vec<u8>, Error> {
    collect(blob.open(range).await?).await
}

fn blob(server: &Server) -> RemoteBlob {
    server.registry().blob(&repository(), &descriptor(&content(SIZE)))
}

#[tokio::test]
async fn a_range_is_asked_for_unless_it_is_everything() {
    let server = Server::start(|seen| Reply::range_of(&content(SIZE), seen)).await;
    for (range, asked) in [
        (0..1000, None),
        (0..u64::MAX, None),
        (0..10, Some((0, 9))),
        (990..1000, Some((990, 999))),
        (5..6, Some((5, 5))),
    ] {
        let stream = blob(&server).open(range.clone()).await.expect("there");
        let extent = range.start..range.end.min(1000);
        assert_eq!(stream.extent(), extent);
        let bytes = collect(stream).await.expect("whole");
        assert_eq!(bytes, part(&extent));
        assert_eq!(server.log().last().and_then(Seen::range), asked);
    }
    let before = server.log().len();
    assert_eq!(read(&blob(&server), 7..7).await.expect("nothing"), b"");
    assert_eq!(server.log().len(), before, "nothing is asked for to read nothing");
}

#[tokio::test]
async fn a_server_that_ignores_ranges_serves_all_the_same() {
    let server = Server::start(|_| Reply::new(200).body(content(SIZE))).await;
    let beginning = blob(&server).open(0..10).await.expect("there");
    assert_eq!(beginning.extent(), 0..1000);
    assert_eq!(collect(beginning).await.expect("whole"), content(SIZE));
    let middle = blob(&server).open(300..400).await.expect("there");
    assert_eq!(middle.extent(), 300..400);
    assert_eq!(collect(middle).await.expect("whole"), content(SIZE)[300..400]);
}

#[tokio::test]
async fn a_redirect_is_followed_without_credentials_and_remembered_until_refused() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&refusals);
    let storage = Server::start(move |seen| {
        if left.load(Ordering::SeqCst) > 0 {
            left.fetch_sub(1, Ordering::SeqCst);
            return Reply::new(403);
        }
        Reply::range_of(&content(SIZE), seen)
    })
    .await;
    let target = storage.url("/data");
    let server = Server::start(move |seen| match (seen.authorization(), seen.target.as_str()) {
        (None, _) => Reply::new(401).with("www-authenticate", "Basic realm=x"),
        (_, "/elsewhere") => Reply::new(302).with("location", target.clone()),
        _ => Reply::new(307).with("location", "/elsewhere"),
    })
    .await;
    let blob = server.registry_as(login()).blob(&repository(), &descriptor(&content(SIZE)));
    for range in [0..10, 10..20, 20..1000] {
        let expected = part(&range);
        assert_eq!(read(&blob.clone(), range).await.expect("there"), expected);
    }
    assert_eq!((server.log().len(), storage.log().len()), (3, 3));
    assert!(storage.log().iter().all(|seen| seen.authorization().is_none()));

    refusals.store(1, Ordering::SeqCst);
    read(&blob, 0..10).await.expect("asked anew");
    assert_eq!((server.log().len(), storage.log().len()), (5, 5));

    refusals.store(9, Ordering::SeqCst);
    let error = read(&blob, 0..10).await.expect_err("refused for good");
    assert_eq!(error.status(), Some(403), "{error}");
    assert_eq!((server.log().len(), storage.log().len()), (7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_first_readers_one_asks_the_registry() {
    let storage = Server::start(|seen| Reply::range_of(&content(SIZE), seen)).await;
    let target = storage.url("/data");
    let server = Server::start(move |_| Reply::new(307).with("location", target.clone())).await;
    let blob = blob(&server);
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let blob = blob.clone();
            tokio::spawn(async move { read(&blob, n * 100..n * 100 + 100).await })
        })
        .collect();
    let mut bytes = Vec::new();
    for task in tasks {
        bytes.extend(task.await.expect("no panic").expect("there"));
    }
    assert_eq!(bytes, content(SIZE));
    assert_eq!((server.log().len(), storage.log().len()), (1, 10));
}

#[tokio::test]
async fn redirects_without_end_end() {
    let server = Server::start(|seen| {
        let number: usize =
            seen.target.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Reply::new(302).with("location", format!("/x/{}", number + 1))
    })
    .await;
    let error = blob(&server).open(0..10).await.expect_err("a chase");
    assert!(error.to_string().contains("redirects"), "{error}");
    assert_eq!(server.log().len(), 11);
}

#[tokio::test]
async fn a_stream_that_tears_or_stands_still_goes_on_where_it_was() {
    for end in [End::Cut(100), End::Stall(100)] {
        for ignores_range in [false, true] {
            let server = Server::start(move |seen| {
                let first = seen.range().map_or(0, |(first, _)| first);
                if ignores_range {
                    // Each time a little further.
                    let count = first + 200;
                    let end = match end {
                        End::Cut(_) => End::Cut(count),
                        _ => End::Stall(count),
                    };
                    return Reply::new(200).body(content(SIZE)).end(end);
                }
                let reply = Reply::range_of(&content(SIZE), seen);
                if reply.body.len() <= 100 { reply } else { reply.end(end) }
            })
            .await;
            let registry = server.registry_with(|connections| {
                connections.stall_timeout = Duration::from_millis(60);
            });
            let blob = registry.blob(&repository(), &descriptor(&content(SIZE)));
            let bytes = read(&blob, 0..1000).await;
            let bytes = bytes.unwrap_or_else(|error| panic!("{end:?}: {}", chain(&error)));
            assert_eq!(bytes, content(SIZE));
            let starts: Vec<_> =
                server.log().iter().map(|s| s.range().map_or(0, |(first, _)| first)).collect();
            let expected: Vec<_> = if ignores_range {
                (0..1000).step_by(200).collect()
            } else {
                (0..1000).step_by(100).collect()
            };
            assert_eq!(starts, expected, "{end:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_gets_nowhere_ends() {
    let server = Server::start(|seen| Reply::range_of(&content(SIZE), seen).end(End::Cut(0))).await;
    let error = read(&blob(&server), 0..1000).await.expect_err("nothing came");
    assert!(error.is_temporary() && !error.is_damaged_content(), "{}", chain(&error));
    assert_eq!(server.log().len(), 4);
}

#[tokio::test]
async fn too_few_bytes_are_damage_and_too_many_are_not_read() {
    // Without a length, the end of the connection looks like the end of the blob.
    let server = Server::start(|seen| match seen.range() {
        None => Reply::new(200).body(&content(SIZE)[..400]).end(End::Unsized),
        Some(_) => Reply::new(416),
    })
    .await;
    let error = read(&blob(&server), 0..1000).await.expect_err("short");
    assert!(error.is_damaged_content(), "{}", chain(&error));
    assert!(chain(&error).contains("found only 400"), "{}", chain(&error));

    let server = Server::start(|_| Reply::new(200).body(content(SIZE)).end(End::Endless)).await;
    assert_eq!(read(&blob(&server), 0..1000).await.expect("bounded"), content(SIZE));
    assert_eq!(read(&blob(&server), 900..950).await.expect("bounded"), content(SIZE)[900..950]);
}

#[tokio::test]
async fn an_answer_for_other_bytes_is_an_error() {
    for range in ["bytes 0-9/1000", "bytes 10-30/1000", "bytes 10-19/999", "bytes */1000", ""] {
        let server = Server::start(move |_| {
            Reply::new(206).with("content-range", range).body(&content(SIZE)[10..20])
        })
        .await;
        let error = blob(&server).open(10..20).await.expect_err(range);
        assert!(error.to_string().contains("expected `bytes 10-19/1000`"), "{error}");
        assert_eq!(server.log().len(), 1);
    }
    let server = Server::start(|_| Reply::new(200).body(content(999))).await;
    blob(&server).open(0..1000).await.expect_err("another size");
}

#[tokio::test]
async fn a_blobs_size_and_presence_are_told() {
    let storage = Server::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(403),
        _ => Reply::range_of(&content(SIZE), seen),
    })
    .await;
    let target = storage.url("/data");
    let digest = descriptor(&content(SIZE)).digest;
    for (reply, size, readable) in [
        (Reply::new(200).with("content-length", "1000"), Some(1000), true),
        (Reply::new(307).with("location", target), Some(1000), true),
        (Reply::new(404), None, false),
    ] {
        let shown = format!("{reply:?}");
        let server = Server::start(move |seen| match (reply.status, seen.method.as_str()) {
            (200, "GET") => Reply::range_of(&content(SIZE), seen),
            _ => reply.clone(),
        })
        .await;
        let registry = server.registry();
        let found = registry.blob_size(&repository(), &digest).await.expect(&shown);
        assert_eq!(found, size, "{shown}");
        let found = registry.can_read_blob(&repository(), &digest).await.expect(&shown);
        assert_eq!(found, readable, "{shown}");
    }
}

#[tokio::test]
async fn presence_is_proved_by_a_byte() {
    let digest = descriptor(&content(SIZE)).digest;
    // HEAD answers from a cache, and the content is gone.
    let server = Server::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(200).with("content-length", "1000"),
        _ => Reply::new(404),
    })
    .await;
    let registry = server.registry();
    assert_eq!(registry.blob_size(&repository(), &digest).await.expect("told"), Some(1000));
    assert!(!registry.can_read_blob(&repository(), &digest).await.expect("told"));
    assert_eq!(server.log()[1].header("range"), Some("bytes=0-0"));

    let server = Server::start(|_| Reply::new(416)).await;
    assert!(server.registry().can_read_blob(&repository(), &digest).await.expect("empty"));
    let server = Server::start(|_| Reply::new(200).body(content(SIZE)).end(End::Cut(0))).await;
    server.registry().can_read_blob(&repository(), &digest).await.expect_err("no byte came");
}

#[tokio::test]
async fn a_foreign_layer_is_read_from_its_addresses_in_turn_without_credentials() {
    let gone = Server::start(|_| Reply::new(404)).await;
    let server = Server::start(|seen| Reply::range_of(&content(SIZE), seen)).await;
    let mut descriptor = descriptor(&content(SIZE));
    let store = kharon::registry::credentials::CredentialStore::anonymous()
        .with_explicit(server.host(), login());
    let (registries, _) = crate::server::registries(&server, |_| {}, store);
    for urls in [vec![], vec!["file:///etc/passwd".to_owned()], vec!["no address".to_owned()]] {
        descriptor.urls = urls;
        registries.foreign_blob(&descriptor).expect_err("no address");
    }
    descriptor.urls = vec!["ftp://x/".to_owned(), gone.url("/layer"), server.url("/layer?x=1")];
    let blob = registries.foreign_blob(&descriptor).expect("addresses");
    assert_eq!(read(&blob, 0..500).await.expect("there"), content(SIZE)[..500]);
    assert_eq!(read(&blob, 500..1000).await.expect("there"), content(SIZE)[500..]);
    assert_eq!((gone.log().len(), server.log().len()), (1, 2));
    assert!(server.log().iter().all(|seen| seen.authorization().is_none()));
}

#[tokio::test]
async fn the_rate_limit_holds_for_all_streams_together() {
    let server = Server::start(|seen| Reply::range_of(&content(100_000), seen)).await;
    let registry = server.registry_with(|connections| {
        connections.rate_limit_bytes_per_second = Some(400_000);
    });
    let blob = registry.blob(&repository(), &descriptor(&content(100_000)));
    let start = Instant::now();
    let (one, two) = tokio::join!(read(&blob, 0..100_000), read(&blob, 0..100_000));
    assert_eq!(one.expect("there").len() + two.expect("there").len(), 200_000);
    // The last bytes are paid for by whoever comes next.
    read(&blob, 0..1).await.expect("there");
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}
