//! What is served is called: volumes as one payload, and names as push-payload would give them.

use kharon::digest::Digest;
use kharon::manifest::Manifest;
use kharon::names::TargetNames;
use kharon::payload::Payload;
use kharon::shelf::ShelfRequest;

use crate::cli::Desk;
use crate::kit::{Job, dangling};
use crate::served::{Site, request};
use crate::support::images::{Image, random_layer};
use crate::volumes;

#[tokio::test]
async fn volumes_together_are_served_as_the_payload_that_they_are() {
    let job = volumes::job();
    let files = volumes::volumes(&job).await;
    assert!(files.len() > 2, "{files:?}");
    // In another order than they were written in.
    let payloads = Payload::open_each(&files.iter().rev().cloned().collect::<Vec<_>>());
    let site = Site::open(ShelfRequest::new(payloads.expect("one payload")), None).await;
    assert_eq!(site.get("/v2/_catalog").await.1, r#"{"repositories":["app","lib/other"]}"#);
    for (repository, tag) in [("app", "1"), ("lib/other", "2")] {
        let (status, raw) = site.get(&format!("/v2/{repository}/manifests/{tag}")).await;
        assert_eq!((status, Some(&raw)), (200, job.source.manifest(repository, tag).as_ref()));
        for blob in Manifest::parse(raw, None).expect("a manifest").blobs() {
            let (status, whole) =
                site.get(&format!("/v2/{repository}/blobs/{}", blob.digest)).await;
            assert_eq!((status, &Digest::of(&whole)), (200, &blob.digest));
            // Across the cut of the blob that is larger than a volume.
            let Some(cut) = whole.get(1_000_000..1_100_000) else { continue };
            let (status, part) = site.part(&blob.digest, "bytes=1000000-1099999").await;
            assert!(status == 206 && part == cut);
        }
    }
    assert_eq!(site.shelf.lacking(), Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_volume_ends_the_start_and_is_named() {
    let job = volumes::job();
    let files = volumes::volumes(&job).await;
    let paths: Vec<&str> = files.iter().map(|file| file.to_str().expect("text")).collect();
    let desk = Desk::new();
    for missing in [0, 1, paths.len() - 1] {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--payload"];
        arguments.extend(paths.iter().enumerate().filter(|it| it.0 != missing).map(|it| it.1));
        let ran = desk.run(&arguments);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        let hint = format!("hint: name volume {} too", missing + 1);
        assert!(ran.stderr.contains(&hint), "{}", ran.stderr);
    }
    // The folder has them all, but for one.
    std::fs::remove_file(&files[1]).expect("removed");
    let folder = job.folder.path().to_str().expect("text");
    let ran = desk.run(&["serve", "--listen", "127.0.0.1:0", "--payload", folder]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("name volume 2 too"), "{}", ran.stderr);
}

#[tokio::test]
async fn names_are_those_that_a_push_would_give() {
    let job = Job::new();
    for (repository, seed) in [("app", 1), ("lib/tool", 2), ("lib/other", 3)] {
        job.source.put(repository, "1", &Image::oci(&[random_layer(seed, 3000)]));
    }
    let packed = job.pack("all.zip", &["app:1", "lib/tool:1", "lib/other:1"]).await;
    let names = || TargetNames {
        prefix: Some("site".parse().expect("a name")),
        renames: ["app=web/app", "lib=tools"].map(|rename| rename.parse().expect("valid")).into(),
    };
    let site = Site::open(ShelfRequest { names: names(), ..request(&job, &[&packed]) }, None).await;
    let catalog = site.get("/v2/_catalog").await.1;
    let expected = ["site/tools/other", "site/tools/tool", "site/web/app"];
    assert_eq!(catalog, serde_json::json!({ "repositories": expected }).to_string());
    job.push_as(&packed.path, kharon::push::PushRequest { names: names(), ..job.push_request() })
        .await;
    assert_eq!(dangling(&job.far), Vec::<String>::new());
    for repository in expected {
        let (status, raw) = site.get(&format!("/v2/{repository}/manifests/1")).await;
        assert_eq!((status, Some(raw)), (200, job.far.manifest(repository, "1")), "{repository}");
        let tags = site.get(&format!("/v2/{repository}/tags/list")).await.1;
        let listed = serde_json::json!({ "name": repository, "tags": ["1"] });
        assert_eq!(tags, listed.to_string());
    }
    for former in ["app", "web/app", "site/app", "lib/tool"] {
        assert_eq!(site.get(&format!("/v2/{former}/manifests/1")).await.0, 404, "{former}");
    }
    let desk = Desk::new();
    let path = packed.path.to_str().expect("text");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--payload", path];
    for (options, part) in [
        (&["--rename", "app=lib/tool"][..], "lib/tool"),
        (&["--rename", "app=UPPER"], "UPPER"),
        (&["--prefix", "Site"], "Site"),
    ] {
        let ran = desk.run(&[&serve[..], options].concat());
        assert_eq!(ran.code, Some(2), "{options:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{options:?}: {}", ran.stderr);
    }
}
