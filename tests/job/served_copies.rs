//! Copies of blobs that are not what they should be: deltas, caches, payloads. Nothing wrong is given out as whole, and
//! what can be had from elsewhere is.

use std::fs;

use kharon::digest::Digest;
use kharon::payload::Payload;
use kharon::shelf::ShelfRequest;

use crate::deltas::with_delta;
use crate::kit::{Job, assert_told};
use crate::served::{Site, request, upgrades};
use crate::support::images::{Blob, Image, random_layer};

/// The blob, asked for in two ways: nothing, or the right bytes.
async fn assert_right_or_nothing(site: &Site, blob: &Blob) -> (u16, u16) {
    let (status, part) = site.part(blob.digest(), "bytes=5-104").await;
    assert!(status != 206 || part == blob.bytes[5..105]);
    let (whole_status, whole) = site.get(&format!("/v2/app/blobs/{}", blob.digest())).await;
    assert!(whole_status != 200 || whole == blob.bytes);
    (status, whole_status)
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x10;
    bytes
}

fn opened(job: &Job, payloads: Vec<Payload>) -> ShelfRequest {
    ShelfRequest { workdir: job.folder.path().to_owned(), ..ShelfRequest::new(payloads) }
}

#[tokio::test]
async fn a_damaged_delta_gives_nothing_and_is_named() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let delta = packed[1].open().delta(blobs[1].digest()).expect("a delta").size_bytes();
    let last = usize::try_from(delta).expect("small") - 1;
    for at in [0, 8, 9, 20, 60, 120, last / 2, last] {
        let path = with_delta(&packed[1], blobs[1].digest(), |bytes| flipped(bytes, at));
        let payloads = vec![packed[0].open(), Payload::open(&path).expect("a payload")];
        let site = Site::open(opened(&job, payloads), None).await;
        assert_eq!(assert_right_or_nothing(&site, &blobs[1]).await, (500, 500), "byte {at}");
        let entry = format!("deltas/sha256/{}", blobs[1].digest().hex());
        assert_told(&site.told.warnings(), &["2.changed.zip", &entry]);
        // It is not tried again, and the other images are served.
        assert_eq!(site.told.warnings().len(), 1, "{:?}", site.told.warnings());
        site.assert_blob(&blobs[0]).await;
    }
    for length in [0, 5, 60, last] {
        let short = |bytes: Vec<u8>| bytes[..length].to_vec();
        let path = with_delta(&packed[1], blobs[1].digest(), short);
        let payloads = vec![packed[0].open(), Payload::open(&path).expect("a payload")];
        let site = Site::open(opened(&job, payloads), None).await;
        assert_eq!(assert_right_or_nothing(&site, &blobs[1]).await, (500, 500), "{length} bytes");
    }
}

#[tokio::test]
async fn where_one_delta_is_damaged_another_payload_serves_at_once() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let path = with_delta(&packed[1], blobs[1].digest(), |bytes| flipped(bytes, 70));
    // The later one counts first.
    let damaged = Payload::open(&path).expect("a payload");
    let payloads = vec![packed[0].open(), packed[1].open(), packed[2].open(), damaged];
    let site = Site::open(opened(&job, payloads), None).await;
    site.assert_blob(&blobs[2]).await;
    site.assert_blob(&blobs[1]).await;
    assert_eq!(site.told.warnings().len(), 1, "{:?}", site.told.warnings());
}

#[tokio::test]
async fn where_one_copy_is_damaged_another_serves_at_once() {
    let job = Job::new();
    let blob = random_layer(1, 300_000);
    job.source.put("app", "1", &Image::oci(std::slice::from_ref(&blob)));
    let packed = [job.pack("1.zip", &["app:1"]).await, job.pack("2.zip", &["app:1"]).await];
    let mut bytes = packed[1].bytes();
    let at = bytes.windows(64).position(|found| found == &blob.bytes[1000..1064]).expect("there");
    bytes[at] ^= 1;
    fs::write(&packed[1].path, &bytes).expect("written");
    for first_range in [true, false] {
        let site = Site::open(request(&job, &[&packed[0], &packed[1]]), None).await;
        if first_range {
            let (status, part) = site.part(blob.digest(), "bytes=1000-1063").await;
            assert!(status == 206 && part == blob.bytes[1000..1064]);
        }
        site.assert_blob(&blob).await;
        assert_told(&site.told.warnings(), &["2.zip", &blob.digest().to_string()]);
        assert_eq!(site.told.warnings().len(), 1, "{:?}", site.told.warnings());
    }
}

#[tokio::test]
async fn a_cache_that_was_changed_is_noticed_and_its_blob_rebuilt() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let packed: Vec<_> = packed.iter().collect();
    let kept = &blobs[1];
    let name = format!("sha256-{}", kept.digest().hex());
    for (what, change, ways) in [
        (
            "a byte",
            (|bytes| flipped(bytes, 1000)) as fn(Vec<u8>) -> Vec<u8>,
            &["whole", "part", "as a baseline"][..],
        ),
        ("shorter", |bytes| bytes[..bytes.len() / 2].to_vec(), &["whole"]),
        ("longer", |bytes| [bytes, b"more".to_vec()].concat(), &["part"]),
    ] {
        for asked in ways {
            let cache = job.path(&format!("{what} {asked}"));
            fs::create_dir(&cache).expect("a folder");
            // A former server left it, and it was right when this one started.
            fs::write(cache.join(&name), &kept.bytes).expect("written");
            let request = ShelfRequest { cache: Some(cache.clone()), ..request(&job, &packed) };
            let site = Site::open(request, None).await;
            fs::write(cache.join(&name), change(kept.bytes.to_vec())).expect("written");
            match *asked {
                "whole" => {
                    let path = format!("/v2/app/blobs/{}", kept.digest());
                    assert!(site.get(&path).await == (200, kept.bytes.clone()), "{what}");
                }
                "part" => {
                    let (status, part) = site.part(kept.digest(), "bytes=900-1100").await;
                    assert!(status == 206 && part == kept.bytes[900..=1100], "{what}");
                }
                _ => site.assert_blob(&blobs[2]).await,
            }
            assert_eq!(fs::read(cache.join(&name)).expect("it is kept again"), kept.bytes);
        }
    }
}

#[tokio::test]
async fn another_blob_under_a_name_of_the_cache_is_not_given_out() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let cache = job.path("cache");
    fs::create_dir(&cache).expect("a folder");
    // As large as it should be, and altogether another one.
    let file = cache.join(format!("sha256-{}", blobs[1].digest().hex()));
    fs::write(&file, vec![7; blobs[1].bytes.len()]).expect("written");
    // Nobody asked for these.
    fs::write(cache.join(format!("sha256-{}", Digest::of(b"x").hex())), "x").expect("written");
    fs::write(cache.join("notes.txt"), "mine").expect("written");
    let packed: Vec<_> = packed.iter().collect();
    let request = ShelfRequest { cache: Some(cache.clone()), ..request(&job, &packed) };
    let site = Site::open(request, None).await;
    site.assert_blob(&blobs[1]).await;
    assert_told(&site.told.warnings(), &["cache", &blobs[1].digest().to_string()]);
    assert_eq!(fs::read(&file).expect("a file"), blobs[1].bytes);
    assert_eq!(fs::read(cache.join("notes.txt")).expect("a file"), b"mine");
    let unlisted = Digest::of(b"x");
    assert_eq!(site.get(&format!("/v2/app/blobs/{unlisted}")).await.0, 404);
}
