//! Downloads: the bytes of the command line, with a length; broken where the registry is; so many at once.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use kharon::make::{self, Deltas, Destination, MakeRequest, ReadLayers, parse_images};
use kharon::manifest::MediaType;
use kharon::payload::Payload;
use kharon::progress::Silent;
use kharon::receipt::{Kind, Receipt, Repository};
use kharon::registry::{CredentialStore, Registries};
use kharon::save::{Existing, Origin, Platforms, SaveRequest, Target, save};
use kharon::web::Settings;

use crate::kit::{Page, connect, connections, fetch, host, settings};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::old_registry::put;
use crate::support::registry::TestRegistry;
use crate::support::schema1::OldImage;

const LIMIT: Duration = Duration::from_secs(30);

async fn saved(source: &TestRegistry, image: &str, platforms: Platforms) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.tar");
    let registries =
        Registries::new(connections(&[source]), CredentialStore::anonymous(), Arc::new(Silent));
    let request = SaveRequest {
        wanted: parse_images(&[image], &host(source)).expect("images"),
        origin: Origin::Registries(registries, ReadLayers::default()),
        platforms,
        rewrite: None,
        target: Target::File(path.clone(), Existing::Refuse),
        jobs: make::DEFAULT_JOBS,
    };
    save(request, Arc::new(Silent)).await.expect("saved");
    std::fs::read(path).expect("a tar")
}

#[tokio::test]
async fn a_tar_is_what_save_writes_and_its_length_is_known() {
    let source = TestRegistry::start();
    let amd = Image::oci_for("linux/amd64", &[random_layer(1, 300_000), random_layer(2, 0)]);
    let arm = Image::oci_for("linux/arm64", &[random_layer(3, 70_001)]);
    source.put("team/app", "1", &Image::index(&[amd, arm.clone()]));
    let page = Page::over(&[&source]);
    for (query, platforms, name) in [
        (
            "platform=linux/amd64",
            Platforms::One("linux/amd64".parse().expect("valid")),
            "team_app_1_linux-amd64.tar",
        ),
        (
            "platform=linux%2Farm64",
            Platforms::One("linux/arm64".parse().expect("valid")),
            "team_app_1_linux-arm64.tar",
        ),
        ("platform=all", Platforms::All, "team_app_1.tar"),
    ] {
        let expected = saved(&source, "team/app:1", platforms).await;
        let path = format!("/api/v1/tar?image=team/app:1&{query}");
        let head = page.head(&path).await;
        let found = page.get(&path).await;
        for answer in [&head, &found] {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-length"), expected.len().to_string());
            assert_eq!(answer.header("content-type"), "application/x-tar");
            let disposition = format!("attachment; filename=\"{name}\"");
            assert_eq!(answer.header("content-disposition"), disposition);
        }
        assert!(head.bytes().is_empty());
        assert!(found.bytes() == &expected, "another tar");
        let about = page.get(&format!("/api/v1/image?image=team/app:1&{query}")).await.json();
        assert_eq!(about["tarBytes"], expected.len());
        assert_eq!(about["images"][0]["platforms"].as_array().map(Vec::len), Some(2));
        // The address that it gives leads to the same even when the tag has moved.
        let download = about["download"].as_str().expect("an address").to_owned();
        source.put("team/app", "1", &arm);
        assert!(page.get(&download).await.bytes() == &expected, "{download}");
        let amd = Image::oci_for("linux/amd64", &[random_layer(1, 300_000), random_layer(2, 0)]);
        source.put("team/app", "1", &Image::index(&[amd, arm.clone()]));
    }
    assert_eq!(page.told.warnings(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_the_middle_breaks_the_download() {
    let source = TestRegistry::start();
    let image = Image::oci(&[random_layer(1, 400_000), random_layer(2, 3_000)]);
    source.put("app", "1", &image);
    let last = image.layers()[1].digest().hex().to_owned();
    let first = image.layers()[0].digest().hex().to_owned();
    let page = Page::over(&[&source]);
    let address = page.listen(LIMIT).await;
    for (part, effect) in [
        (&first, Effect::Corrupt(399_999)),
        (&last, Effect::Corrupt(2_999)),
        (&last, Effect::Status(404, Vec::new())),
    ] {
        source.heal();
        source.fail(Fault::on("GET", part, effect.clone()).always());
        let path = "/api/v1/tar?image=app:1";
        assert!(page.get(path).await.body.is_none(), "{effect:?} ended well");
        let fetched = tokio::task::spawn_blocking(move || fetch(address, path)).await;
        let (head, body) = fetched.expect("it ran");
        assert!(head.starts_with("HTTP/1.1 200"), "{effect:?}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        assert!(body.len() < length, "{effect:?}: {} of {length}", body.len());
        let warnings = page.told.warnings();
        assert!(
            warnings.last().is_some_and(|it| it.contains("`app:1`") || it.contains("app:1")),
            "{warnings:?}"
        );
    }
    source.heal();
    let tar = page.get("/api/v1/tar?image=app:1").await;
    assert_eq!(tar.header("content-length"), tar.bytes().len().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_downloads_run_at_once_and_more_are_told_to_wait() {
    let source = TestRegistry::start();
    source.put("app", "1", &Image::oci(&[random_layer(1, 30_000_000)]));
    source.put("small", "1", &Image::oci(&[random_layer(2, 3_000)]));
    let one = std::num::NonZeroUsize::MIN;
    let page = Page::with(Settings { downloads_max: one, ..settings(&[&source]) });
    // Who takes nothing for a second is let go.
    let address = page.listen(Duration::from_secs(1)).await;
    let taking = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address, "/api/v1/tar?image=app:1");
        let mut some = [0; 1000];
        stream.read_exact(&mut some).expect("a beginning");
        stream
    });
    let stream = taking.await.expect("it ran");
    let refused = page.get("/api/v1/tar?image=small:1").await;
    refused.assert_refused(503, "busy", &["all 1 downloads"]);
    assert_eq!(refused.header("retry-after"), "30");
    let about = page.get("/api/v1/settings").await.json();
    assert_eq!(about["downloads"]["running"], 1);
    // To ask how long it would be costs no turn.
    assert_eq!(page.head("/api/v1/tar?image=small:1").await.status, 200);
    let freed = async {
        while page.get("/api/v1/tar?image=small:1").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, freed).await.expect("the idle client is let go");
    drop(stream);
}

#[tokio::test]
async fn a_payload_is_what_make_payload_writes_against_images_or_a_receipt() {
    let source = TestRegistry::start();
    let common = random_layer(1, 90_000);
    let old = Image::oci(&[common.clone(), random_layer(2, 20_000)]);
    let new = Image::oci(&[common, random_layer(3, 30_000)]);
    source.put("app", "1", &old);
    source.put("app", "2", &new);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.zip");
    let name = |image: &str| parse_images(&[image], &host(&source)).expect("images");
    let mut request = MakeRequest::new(name("app:2"));
    request.connections = connections(&[&source]);
    request.already_transferred = name("app:1");
    request.delta.deltas = Deltas::Off;
    let file = Destination::File(path.clone());
    make::make_payload(request, file, Arc::new(Silent)).await.expect("made");
    let expected = std::fs::read(&path).expect("a payload");

    let page = Page::over(&[&source]);
    let query = "image=app:2&has=app:1";
    let head = page.head(&format!("/api/v1/payload?{query}")).await;
    assert_eq!(head.header("content-length"), expected.len().to_string());
    let found = page.get(&format!("/api/v1/payload?{query}")).await;
    assert!(found.bytes() == &expected, "another payload");
    assert_eq!(found.header("content-disposition"), "attachment; filename=\"app_2.zip\"");
    let plan = page.get(&format!("/api/v1/plan?{query}")).await.json();
    assert_eq!(plan["payloadBytes"], expected.len());
    assert_eq!(plan["expectedBlobs"], 1);
    let download = plan["download"].as_str().expect("an address");
    assert!(page.get(download).await.bytes() == &expected, "{download}");

    let app = "app".parse().expect("a name");
    let mut repository = Repository::new("app".parse().expect("a name"), &app);
    repository.blobs = old.all_blobs().iter().map(|blob| blob.descriptor.clone()).collect();
    let far = "far.example".parse().expect("a host");
    let time = std::time::SystemTime::UNIX_EPOCH;
    let receipt = Receipt::new(Kind::Receipt, far, time, vec![repository]);
    let kept = page.upload(receipt.to_json().expect("JSON")).await;
    assert_eq!(kept.status, 201);
    let id = kept.json()["id"].as_str().expect("an id").to_owned();
    let found = page.get(&format!("/api/v1/payload?image=app:2&baseline={id}")).await;
    std::fs::write(&path, found.bytes()).expect("written");
    let payload = Payload::open(&path).expect("a payload");
    let brought = |payload: &Payload| -> BTreeSet<String> {
        let carried =
            payload.index().blobs.iter().filter(|blob| payload.blob(&blob.digest).is_some());
        carried.map(|blob| blob.digest.to_string()).collect()
    };
    assert!(!brought(&payload).contains(&old.layers()[0].digest().to_string()));
    assert!(brought(&payload).contains(&new.layers()[1].digest().to_string()));
}

#[tokio::test]
async fn an_image_of_schema_1_is_read_once_to_convert_it() {
    let source = TestRegistry::start();
    let image = OldImage::usual();
    put(&source, "app:1", &image);
    let page = Page::over(&[&source]);
    let about = page.get("/api/v1/image?image=app:1").await.json();
    let manifest = about["images"][0]["manifest"]["mediaType"].as_str().expect("a text");
    assert_eq!(manifest, MediaType::DOCKER_MANIFEST);
    let read = || source.count("GET", image.steps[0].0.digest().hex());
    assert_eq!(read(), 1);
    let tar = page.get("/api/v1/tar?image=app:1").await;
    assert_eq!((tar.status.as_u16(), read()), (200, 2));
    assert_eq!(tar.bytes().len(), about["tarBytes"]);
    let mut next = image.clone();
    next.step(&random_layer(1, 1000), serde_json::json!({}));
    put(&source, "app:2", &next);
    let payload = page.get("/api/v1/payload?image=app:2&has=app:1").await;
    assert_eq!((payload.status.as_u16(), read()), (200, 2));
}
