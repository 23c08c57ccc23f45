//! What fails leaves the former payload, and at the far side no tag that leads to nothing.

use std::fs;
use std::io::Write;

use kharon::failure::ExitCode;
use kharon::make::{self, Destination};
use kharon::manifest::{Manifest, MediaType};
use serde_json::json;

use crate::kit::{Failed, Job, pack};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_bytes, random_layer};
use crate::support::registry::{Options, TestRegistry};

const FORMER: &[u8] = b"a former payload";

/// A job with a former payload in the way.
fn job(image: &Image) -> Job {
    let job = Job::new();
    job.source.put("app", "1", image);
    fs::write(job.path("payload.zip"), FORMER).expect("written");
    job
}

fn image() -> Image {
    Image::oci(&[random_layer(1, 3 * 1024 * 1024), random_layer(2, 50_000)])
}

/// The former payload is there, and nothing else but the torn one.
fn assert_kept(job: &Job) {
    assert_eq!(fs::read(job.path("payload.zip")).expect("a file"), FORMER);
    let mut names: Vec<_> = fs::read_dir(job.folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names.retain(|name| !name.starts_with("payload.zip.partial"));
    assert_eq!(names, ["payload.zip"]);
}

async fn fails(job: &Job, parts: &[&str]) {
    let failed = job.fail_to_pack("payload.zip", job.request(&["app:1"])).await;
    failed.assert(ExitCode::Registry, parts);
    assert_kept(job);
}

#[tokio::test]
async fn a_registry_that_goes_down_in_the_middle() {
    for effect in [
        Effect::Status(500, Vec::new()),
        Effect::CloseBeforeHeaders,
        Effect::CutBodyAfter(0),
        Effect::CutBodyAfter(1000),
    ] {
        let image = image();
        let job = job(&image);
        let digest = image.layers()[1].digest().to_string();
        let fault = match effect {
            // One that always gives some bytes gets there.
            Effect::CutBodyAfter(1000) => Fault::on("GET", &digest, effect).times(200),
            effect => Fault::on("GET", &digest, effect).always(),
        };
        job.source.fail(fault);
        let result = pack(job.request(&["app:1"]), &job.path("payload.zip")).await;
        if result.is_ok() {
            assert!(job.source.faults_struck() >= 50, "a few bytes at a time");
            continue;
        }
        Failed::of(result).assert(ExitCode::Registry, &["cannot fetch blob", &digest, "app:1"]);
        assert_kept(&job);
        job.source.heal();
        let packed = job.pack("payload.zip", &["app:1"]).await;
        assert_ne!(packed.bytes(), FORMER);
        assert!(!job.path("payload.zip.partial").exists());
    }
}

#[tokio::test]
async fn a_manifest_with_a_lying_digest() {
    let image = image();
    let job = job(&image);
    job.source.fail(Fault::on("GET", "/manifests/", Effect::Corrupt(5)).always());
    fails(&job, &["cannot read image", "app:1", "damaged content"]).await;
}

#[tokio::test]
async fn a_blob_with_wrong_bytes() {
    let image = image();
    let job = job(&image);
    let digest = image.layers()[0].digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::Corrupt(1000)).always());
    fails(&job, &["not what its manifest says", &digest, "app:1"]).await;
}

/// An image whose manifest gives its layer this size.
fn lying(size: u64) -> Image {
    let layer = Blob::new("x/layer", random_bytes(3, 20_000));
    let honest = Image::of_blobs(MediaType::OCI_MANIFEST, layer.clone(), vec![layer], &json!({}));
    let text = String::from_utf8(honest.manifest.raw.to_vec()).expect("text");
    let text = text.replace("\"size\":20000", &format!("\"size\":{size}"));
    let manifest = Manifest::parse(text.into(), None).expect("a manifest");
    Image { manifest, ..honest }
}

#[tokio::test]
async fn a_blob_that_is_too_short_or_too_long() {
    for (size, no_ranges) in [(20_001, false), (19_999, false), (20_001, true), (19_999, true)] {
        let image = lying(size);
        let options = Options { no_ranges, sparse_allowed: true, ..Options::default() };
        let job = Job { source: TestRegistry::start_with(options), ..job(&image) };
        job.source.put("app", "1", &image);
        let digest = image.blobs[0].digest().to_string();
        fails(&job, &[&digest, "app:1"]).await;
    }
}

#[tokio::test]
async fn two_manifests_that_give_one_blob_two_sizes() {
    let job = job(&lying(20_000));
    job.source.put("other", "1", &lying(19_999));
    let request = job.request(&["app:1", "other:1"]);
    let failed = job.fail_to_pack("payload.zip", request).await;
    failed.assert(ExitCode::Registry, &["to have 20000 bytes as", "found 19999 in", "other:1"]);
    assert_kept(&job);
}

#[tokio::test]
async fn an_output_that_cannot_be_written() {
    let job = job(&image());
    let missing = job.path("no/such/folder/payload.zip");
    let failed = Failed::of(pack(job.request(&["app:1"]), &missing).await);
    failed.assert(ExitCode::Failed, &["no/such/folder", "is not there", "hint: create it"]);
    let failed = Failed::of(pack(job.request(&["app:1"]), job.folder.path()).await);
    failed.assert(ExitCode::Usage, &["found the folder"]);
    assert_eq!(job.source.count("GET", "/blobs/"), 0);
    assert_kept(&job);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_full_disk() {
    let job = job(&image());
    let failed = Failed::of(pack(job.request(&["app:1"]), "/dev/full".as_ref()).await);
    failed.assert(ExitCode::Failed, &["cannot write the payload", "No space left on device"]);
    let stream = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let silent = std::sync::Arc::new(kharon::progress::Silent);
    let destination = Destination::Stream(Box::new(stream));
    let made = make::make_payload(job.request(&["app:1"]), destination, silent).await;
    Failed::of(made).assert(ExitCode::Failed, &["No space left on device"]);
    assert_kept(&job);
}

#[tokio::test]
async fn a_stream_whose_reader_goes_away() {
    struct Leaving(usize);
    impl Write for Leaving {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let job = job(&image());
    let silent = std::sync::Arc::new(kharon::progress::Silent);
    let destination = Destination::Stream(Box::new(Leaving(1_000_000)));
    let made = make::make_payload(job.request(&["app:1"]), destination, silent).await;
    Failed::of(made).assert(ExitCode::Failed, &["cannot write the payload"]);
}
