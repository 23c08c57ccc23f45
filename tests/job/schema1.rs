//! Images that the source only has as Docker's schema 1: converted, and told so.

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::inventory::{InventoryRequest, inventory};
use kharon::make::{self, DeltaRequest, MakeRequest, Repositories, VolumeRequest};
use kharon::manifest::{Manifest, MediaType};
use kharon::progress::Recorder;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::cli::Desk;
use crate::kit::{Failed, Job, assert_told, connections, host, names};
use crate::save::{files, json};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, layer, random_layer};
use crate::support::old_registry::{put, serve};
use crate::support::registry::TestRegistry;
use crate::support::schema1::{OldImage, sign};

/// The manifest and config that `repository:tag` names at a registry, which must be whole.
fn arrived(far: &TestRegistry, repository: &str, tag: &str) -> (Manifest, Value) {
    let raw = far.manifest(repository, tag).expect("a manifest");
    let manifest = Manifest::parse(raw, None).expect("a manifest");
    let blobs: Vec<_> = manifest.blobs().collect();
    assert!(blobs.iter().all(|blob| far.has_blob(repository, &blob.digest)));
    let layout = far.server().layout().expect("a folder");
    let config = layout.read_manifest(&blobs[0].digest).expect("readable").expect("a config");
    assert_eq!(Digest::of(&config), blobs[0].digest);
    (manifest, serde_json::from_slice(&config).expect("JSON"))
}

fn layers(image: &OldImage) -> Vec<Digest> {
    let real = image.steps.iter().filter(|(_, entry)| entry.get("throwaway").is_none());
    real.map(|(layer, _)| layer.digest().clone()).collect()
}

fn assert_is(manifest: &Manifest, config: &Value, image: &OldImage) {
    assert_eq!(manifest.descriptor.media_type.as_str(), MediaType::DOCKER_MANIFEST);
    let found: Vec<_> = manifest.blobs().skip(1).map(|blob| blob.digest.clone()).collect();
    assert_eq!(found, layers(image));
    let diff_ids: Vec<String> = image
        .steps
        .iter()
        .filter(|(_, entry)| entry.get("throwaway").is_none())
        .map(|(layer, _)| {
            let mut plain = Vec::new();
            let mut gzip = flate2::read::GzDecoder::new(&layer.bytes[..]);
            std::io::copy(&mut gzip, &mut plain).expect("a gzip stream");
            Digest::of(&plain).to_string()
        })
        .collect();
    assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": diff_ids }));
    assert_eq!(config["history"].as_array().map(Vec::len), Some(image.steps.len()));
    assert!(config.get("id").is_none() && config.get("throwaway").is_none());
}

#[tokio::test]
async fn an_image_arrives_in_schema_2_and_both_digests_are_told() {
    let job = Job::new();
    let image = OldImage::usual();
    let former = put(&job.source, "app:1", &image);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let listed = &packed.open().index().images[0].clone();
    let now = listed.resolved.clone().expect("a manifest").digest;
    assert_eq!(listed.converted_from, Some(former.clone()));
    assert_eq!(packed.summary.images[0].converted_from, Some(former.clone()));
    let told = [&job.source.reference("app:1"), "schema 1", &former.to_string(), &now.to_string()];
    assert_told(&packed.notes, &told);
    job.push(&packed.path).await;
    let (manifest, config) = arrived(&job.far, "app", "1");
    assert_eq!(*manifest.digest(), now);
    assert_is(&manifest, &config, &image);
    // The same image gives the same bytes, by its digest too.
    let name = format!("app:1@{former}");
    let again = job.pack("again.zip", &[&name]).await;
    assert_eq!(again.open().index().images[0].resolved.clone().expect("a manifest").digest, now);
}

#[tokio::test]
async fn registries_may_call_it_json_and_leave_the_signature() {
    let job = Job::new();
    let image = OldImage::usual();
    put(&job.source, "app:1", &image);
    let payload = image.payload("app", "1");
    job.source.heal();
    let headers = vec![("content-type", "application/json".to_owned())];
    let answer = Effect::Answer(200, headers, payload.into());
    job.source.fail(Fault::on("GET", "/manifests/1", answer).always());
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    let (manifest, config) = arrived(&job.far, "app", "1");
    assert_is(&manifest, &config, &image);
}

#[tokio::test]
async fn layers_that_images_share_are_read_once_to_convert_them() {
    let job = Job::new();
    let image = OldImage::usual();
    let mut next = image.clone();
    next.step(&random_layer(5, 1000), json!({})).step(&random_layer(5, 1000), json!({}));
    put(&job.source, "app:1", &image);
    put(&job.source, "app:2", &next);
    let mut request = job.request(&["app:1", "app:2"]);
    let cache = job.path("cache");
    std::fs::create_dir(&cache).expect("a folder");
    request.delta.cache = Some(cache.clone());
    let planned = make::plan_payload(request, Arc::new(Recorder::default())).await;
    drop(planned.expect("a plan"));
    for layer in layers(&next) {
        assert_eq!(job.source.count("GET", layer.hex()), 1);
        assert!(cache.join(layer.blob_path()).is_file());
    }
    let throwaway = image.steps[1].0.digest();
    assert_eq!(job.source.count("", throwaway.hex()), 0, "nobody needs it");
    // What is in the cache is read there.
    let mut request = job.request(&["app:2"]);
    request.delta.cache = Some(cache);
    let planned = make::plan_payload(request, Arc::new(Recorder::default())).await;
    drop(planned.expect("a plan"));
    assert_eq!(job.source.count("GET", layers(&next)[0].hex()), 1);
}

#[tokio::test]
async fn as_baseline_its_layers_count() {
    let job = Job::new();
    let image = OldImage::usual();
    let mut next = image.clone();
    next.step(&random_layer(5, 1000), json!({}));
    put(&job.source, "app:1", &image);
    put(&job.source, "app:2", &next);
    let first = job.pack("first.zip", &["app:1"]).await;
    job.push(&first.path).await;
    let against = MakeRequest {
        already_transferred: names(&job.source, &["app:1"]),
        ..job.request(&["app:2"])
    };
    let packed = job.pack_as("next.zip", against).await;
    let mut expected = packed.expected();
    expected.sort();
    let mut shared = layers(&image);
    shared.sort();
    assert_eq!(expected, shared);
    assert_eq!(packed.carried().len(), 2, "the config and the new layer");
    job.push(&packed.path).await;
    let (manifest, config) = arrived(&job.far, "app", "2");
    assert_is(&manifest, &config, &next);
    // Where the source has lost a layer of it, the rest of the run does not suffer.
    job.source.forget_blob("app", &shared[0]);
    put(&job.source, "other:1", &next);
    let against = MakeRequest {
        already_transferred: names(&job.source, &["app:1"]),
        ..job.request(&["other:1"])
    };
    let packed = job.pack_as("other.zip", against).await;
    assert_told(&packed.warnings, &["already transferred", "app:1", &shared[0].to_string()]);
}

#[tokio::test]
async fn a_volume_is_made_again_and_a_torn_run_goes_on() {
    let job = Job::new();
    let mut image = OldImage::usual();
    image.step(&random_layer(7, 1_500_000), json!({}));
    put(&job.source, "app:1", &image);
    let split = MakeRequest { volume_bytes: Some(1 << 20), ..job.request(&["app:1"]) };
    let packed = job.pack_as("payload.zip", split).await;
    for (number, file) in (1..).zip(&packed.summary.files) {
        let before = std::fs::read(file).expect("a volume");
        std::fs::remove_file(file).expect("removed");
        let other = packed.summary.files.iter().find(|other| *other != file).expect("another");
        let request = VolumeRequest {
            plan: other.clone(),
            number: NonZeroU32::new(number).expect("one"),
            file: Some(file.clone()),
            sign: None,
            against: Vec::new(),
            delta: DeltaRequest::default(),
            jobs: make::DEFAULT_JOBS,
            connections: connections(&[&job.source]),
            credentials: kharon::registry::CredentialStore::anonymous(),
        };
        make::make_volume(request, Arc::new(Recorder::default())).await.expect("a volume");
        assert!(std::fs::read(file).expect("a volume") == before, "volume {number} is another");
    }
    // A run that broke off takes the config from its plan.
    let layer = image.steps[3].0.digest().hex().to_owned();
    job.source.fail(Fault::on("GET", &layer, Effect::Status(404, Vec::new())).skip(1).always());
    job.fail_to_pack("torn.zip", job.request(&["app:1"])).await;
    job.source.heal();
    let packed = job.pack("torn.zip", &["app:1"]).await;
    assert_told(&packed.notes, &["going on with"]);
    job.push(&packed.path).await;
    let (manifest, config) = arrived(&job.far, "app", "1");
    assert_is(&manifest, &config, &image);
}

#[tokio::test]
async fn lists_of_repositories_take_it_and_leave_what_cannot_be_converted() {
    let job = Job::new();
    put(&job.source, "app:1", &OldImage::usual());
    let mut lost = OldImage::usual();
    lost.step(&random_layer(8, 1000), json!({}));
    put(&job.source, "app:2", &lost);
    job.source.forget_blob("app", lost.steps[3].0.digest());
    let repositories = Repositories {
        named: make::parse_repositories(&["app"], &host(&job.source)).expect("names").1,
        ..Repositories::default()
    };
    let request = MakeRequest { repositories, ..job.request(&[]) };
    let packed = job.pack_as("payload.zip", request).await;
    assert_told(&packed.warnings, &["app:2", "is left", "does not have layer"]);
    job.push(&packed.path).await;
    assert_eq!(job.far.tags("app"), ["1"]);
    let request = InventoryRequest {
        connections: connections(&[&job.source]),
        ..InventoryRequest::new(host(&job.source))
    };
    let recorder = Arc::new(Recorder::default());
    let found = inventory(request, recorder.clone()).await.expect("an inventory");
    let app = &found.repositories[0];
    let mut blobs: Vec<_> = app.blobs.iter().map(|blob| blob.digest.clone()).collect();
    let mut expected = layers(&OldImage::usual());
    blobs.sort();
    expected.sort();
    assert_eq!(blobs, expected);
    assert_eq!(app.tags.len(), 2);
    assert_told(&recorder.warnings(), &["is not there: not listed", "app:2"]);
}

/// What is wrong, and what is said of it.
#[tokio::test]
async fn what_cannot_be_converted_is_named_and_nothing_is_written() {
    let image = OldImage::usual();
    let payload = image.payload("app", "1");
    let blobs: Vec<&Blob> = image.blobs().collect();
    let mut history: Value = serde_json::from_str(&payload).expect("JSON");
    history["history"].as_array_mut().expect("a list").pop();
    let cases = [
        (history.to_string(), "expected as many entries of history as layers, found 2 and 3"),
        (payload.replace("\"{", "\"["), "entry 1 of its history cannot be read"),
        (payload.replace("\"schemaVersion\": 1", "\"schemaVersion\": 3"), "found 3"),
        (payload.replace("\"fsLayers\"", "\"none\"").replace("\"history\"", "\"no\""), "one layer"),
    ];
    for (payload, said) in cases {
        let job = Job::new();
        serve(&job.source, "app:1", &blobs, &payload, &payload);
        let failed = job.fail_to_pack("payload.zip", job.request(&["app:1"])).await;
        failed.assert(ExitCode::Registry, &[&job.source.reference("app:1"), said]);
        assert!(!job.path("payload.zip").exists());
    }
    // Another document than its digest says.
    let job = Job::new();
    let other = payload.replace("amd64", "arm64");
    serve(&job.source, "app:1", &blobs, &payload, &sign(&other));
    let digest = Digest::of(payload.as_bytes());
    for name in ["app:1".to_owned(), format!("app@{digest}")] {
        let failed = job.fail_to_pack("payload.zip", job.request(&[&name])).await;
        failed.assert(ExitCode::Registry, &["cannot read image", &digest.to_string()]);
    }
}

#[tokio::test]
async fn a_layer_that_lies_or_cannot_be_unpacked_is_named() {
    let image = OldImage::usual();
    let layer = image.steps[0].0.digest().to_string();
    let job = Job::new();
    put(&job.source, "app:1", &image);
    job.source.fail(Fault::on("GET", &layer, Effect::Corrupt(20)).always());
    let failed = job.fail_to_pack("payload.zip", job.request(&["app:1"])).await;
    let name = job.source.reference("app:1");
    failed.assert(
        ExitCode::Registry,
        &["cannot convert", &name, "expected content with digest", &layer],
    );
    let mut broken = OldImage::usual();
    let whole = &image.steps[0].0.bytes;
    let cut = Blob::new("x", whole.slice(..whole.len() - 9));
    broken.step(&cut, json!({}));
    job.source.heal();
    put(&job.source, "app:2", &broken);
    let failed = job.fail_to_pack("payload.zip", job.request(&["app:2"])).await;
    let digest = cut.digest().to_string();
    failed.assert(ExitCode::Registry, &["cannot convert", &digest, "it cannot be unpacked"]);
    assert!(!job.path("payload.zip").exists());
}

#[tokio::test]
async fn a_layer_that_is_a_plain_tar_is_called_one() {
    let job = Job::new();
    let mut plain = Vec::new();
    let packed = layer(&[("plain", b"tar")]);
    let mut gzip = flate2::read::GzDecoder::new(&packed.bytes[..]);
    std::io::copy(&mut gzip, &mut plain).expect("a gzip stream");
    let mut image = OldImage::default();
    image.step(&Blob::new("x", plain), json!({})).step(&packed, json!({}));
    put(&job.source, "app:1", &image);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    let (manifest, config) = arrived(&job.far, "app", "1");
    let [_, plain, gzip] = manifest.blobs().collect::<Vec<_>>()[..] else { panic!("three blobs") };
    assert!(plain.media_type.as_str().ends_with(".diff.tar"), "{}", plain.media_type);
    assert!(gzip.media_type.as_str().ends_with(".diff.tar.gzip"), "{}", gzip.media_type);
    assert_eq!(config["rootfs"]["diff_ids"], json!([plain.digest, plain.digest]));
}

#[tokio::test]
async fn platforms_are_chosen_by_the_config_that_is_made() {
    let job = Job::new();
    put(&job.source, "app:1", &OldImage::usual());
    let of = |platform: &str| MakeRequest {
        platforms: vec![platform.parse().expect("a platform")],
        ..job.request(&["app:1"])
    };
    job.pack_as("payload.zip", of("linux/amd64")).await;
    let failed = Failed::of(
        make::plan_payload(of("linux/arm64"), Arc::new(Recorder::default())).await.map(drop),
    );
    failed.assert(ExitCode::Usage, &["is an image for linux/amd64 only"]);
}

#[test]
fn it_is_saved_and_extracted_in_every_form() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let image = OldImage::usual();
    let former = put(&source, "app:1", &image);
    let run = |arguments: &[&str]| desk.run(&[arguments, &["-r", &source.host(), "-i"]].concat());
    let ran = run(&["save", "app:1", "-o", "x.tar"]);
    ran.assert(ExitCode::Done);
    assert!(ran.stderr.contains(&former.to_string()), "{}", ran.stderr);
    let found = files(&std::fs::read(desk.path("x.tar")).expect("a file"));
    let docker = json(&found, "manifest.json");
    let config = json(&found, docker[0]["Config"].as_str().expect("a name"));
    let index = json(&found, "index.json");
    let digest: Digest =
        index["manifests"][0]["digest"].as_str().expect("a text").parse().expect("a digest");
    let raw = found[&digest.blob_path()].clone();
    assert_is(&Manifest::parse(raw.into(), None).expect("a manifest"), &config, &image);
    for layout in ["oci", "docker", "merged"] {
        run(&["save", "app:1", "--to", layout, "--layout", layout]).assert(ExitCode::Done);
        assert!(desk.path(layout).join(digest.blob_path()).is_file());
    }
    let by_digest = format!("app@{former}");
    run(&["save", &by_digest, "-o", "y.tar", "--platform", "linux/amd64"]).assert(ExitCode::Done);
    run(&["extract", "app:1", "--to", "tree"]).assert(ExitCode::Done);
    assert_eq!(std::fs::read(desk.path("tree/etc/first")).expect("a file"), b"1");
    assert_eq!(std::fs::read(desk.path("tree/etc/second")).expect("a file"), b"2");
    let ran = run(&["make-payload", "app:1", "-f", "x.zip", "--dry-run"]);
    ran.assert(ExitCode::Done);
    assert!(ran.stderr.contains(&digest.to_string()), "{}", ran.stderr);
}
