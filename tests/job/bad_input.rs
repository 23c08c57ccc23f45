//! Payloads that are none, names that mean two things, registries that lie. In each case: which code,
//! what is said, and that nothing was sent.

use std::fs;

use kharon::failure::ExitCode;
use kharon::make::{Format, MakeRequest};
use kharon::manifest::Manifest;
use kharon::names::{FarNames, KeepRegistry};

use crate::kit::{Job, host};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

fn image(seed: u64) -> Image {
    Image::oci(&[random_layer(seed, 3000)])
}

#[tokio::test]
async fn files_that_are_no_payload_are_refused_before_anything_is_sent() {
    let job = Job::new();
    job.source.put("app", "1", &image(1));
    let good = job.pack("good.zip", &["app:1"]).await.bytes();
    let newer = replaced(&good, b"\"version\": 1,", b"\"version\": 2,");
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("empty", Vec::new(), "found an empty file"),
        ("text", b"this is no zip at all, only text".to_vec(), "expected a zip"),
        ("half", good[..good.len() / 2].to_vec(), "found only"),
        ("no end", good[..good.len() - 10].to_vec(), "expected"),
        ("newer", newer, "expected version 1"),
        ("shorter", [&good[..100], &good[101..]].concat(), "expected"),
    ];
    for (name, bytes, message) in cases {
        let path = job.path(name);
        fs::write(&path, bytes).expect("written");
        let failed = job.fail_to_push(&path, job.push_request()).await;
        failed.assert(ExitCode::PayloadDamaged, &[name, message, "hint: "]);
    }
    assert!(job.far.journal().is_empty());
}

/// The payload with a text of its index replaced; the checksums are those of the text that was there.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(old.len()).position(|found| found == old).expect("it is there");
    let start = bytes[..at].windows(4).rposition(|found| found == b"PK\x03\x04").expect("a header");
    let end = bytes.windows(4).position(|found| found == b"PK\x01\x02").expect("a directory");
    bytes[at..at + new.len()].copy_from_slice(new);
    let data = start + 30 + "kharon.json".len();
    let crc32 = crc32fast::hash(&bytes[data..end]).to_le_bytes();
    bytes[start + 14..start + 18].copy_from_slice(&crc32);
    let listed = bytes.windows(4).rposition(|found| found == b"PK\x01\x02").expect("a directory");
    bytes[listed + 16..listed + 20].copy_from_slice(&crc32);
    bytes
}

#[tokio::test]
async fn two_sources_with_one_far_name_are_a_usage_error_with_two_ways_out() {
    let job = Job::new();
    let other = TestRegistry::start();
    job.source.put("app", "1", &image(1));
    other.put("app", "2", &image(2));
    let images = ["app:1".to_owned(), other.reference("app:2")];
    let request = || {
        let mut request = job.request(&[&images[0], &images[1]]);
        request.connections.plain_http.insert(host(&other));
        request
    };
    let failed = job.fail_to_pack("payload.zip", request()).await;
    let said = format!(
        "`{}` and `{}` would both be `app`",
        job.source.reference("app"),
        other.reference("app")
    );
    failed.assert(ExitCode::Usage, &[&said, "`--keep-registry`", "`--rename SOURCE=NAME`"]);
    assert!(job.source.journal().is_empty() && other.journal().is_empty());

    let names = FarNames { keep_registry: KeepRegistry::Keep, renames: Vec::new() };
    let packed = job.pack_as("kept.zip", MakeRequest { names, ..request() }).await;
    job.push(&packed.path).await;
    for (registry, tag) in [(&job.source, "1"), (&other, "2")] {
        let repository = format!("{}/app", registry.host().replace(':', "-"));
        assert_eq!(job.far.tagged(&repository, tag), registry.tagged("app", tag));
    }

    let rename = format!("{}=theirs", other.reference("app"));
    let renames = vec![rename.parse().expect("a rename")];
    let names = FarNames { keep_registry: KeepRegistry::Drop, renames };
    let packed = job.pack_as("renamed.zip", MakeRequest { names, ..request() }).await;
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("theirs", "2"), other.tagged("app", "2"));
    assert_eq!(job.far.tagged("app", "1"), job.source.tagged("app", "1"));
}

#[tokio::test]
async fn two_images_for_one_tag_are_a_usage_error() {
    let job = Job::new();
    let old = image(1);
    job.source.put("app", "1", &old);
    job.source.put("app", "1", &image(2));
    let pinned = format!("app:1@{}", old.digest());
    let failed = job.fail_to_pack("payload.zip", job.request(&["app:1", &pinned])).await;
    failed.assert(ExitCode::Usage, &["`app:1` and", "would both set the tag `app:1`"]);
    assert_eq!(job.source.count("GET", "/blobs/"), 0);
}

#[tokio::test]
async fn what_docker_charon_cannot_deliver_is_refused_with_a_hint() {
    let job = Job::new();
    job.source.put("oci", "1", &image(1));
    let docker = Image::docker(&[random_layer(2, 100)]);
    job.source.put("docker", "1", &docker);
    job.source.put("list", "1", &Image::docker_list(std::slice::from_ref(&docker)));
    let charon = |images: &[&str]| MakeRequest { format: Format::Charon, ..job.request(images) };
    for name in ["oci:1", "list:1", &format!("docker@{}", docker.digest())] {
        let failed = job.fail_to_pack("payload.zip", charon(&[name])).await;
        failed.assert(ExitCode::Usage, &[name.split(['@', ':']).next().expect("a name"), "hint: "]);
    }
    let packed = job.pack_as("charon.zip", charon(&["docker:1"])).await;
    let length = fs::metadata(&packed.path).expect("a file").len();
    assert_eq!(packed.summary.payload_bytes, length);
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["docker:1"]);
    job.assert_arrived("docker", &["1"]);
}

#[tokio::test]
async fn sizes_that_cannot_be_true_are_an_error_and_no_panic() {
    let honest = image(1);
    let text = String::from_utf8(honest.manifest.raw.to_vec()).expect("text");
    for size in [u64::MAX, u64::MAX / 2, 1 << 60] {
        let layer = &honest.layers()[0];
        let lie =
            text.replace(&format!("\"size\":{}", layer.bytes.len()), &format!("\"size\":{size}"));
        let manifest = Manifest::parse(lie.into(), None).expect("a manifest");
        let lying = Image { manifest, ..honest.clone() };
        let options = Options { sparse_allowed: true, ..Options::default() };
        let job = Job::with(options, Options::default());
        job.source.put("app", "1", &lying);
        let failed = job.fail_to_pack("payload.zip", job.request(&["app:1"])).await;
        assert!([ExitCode::Registry, ExitCode::Failed].contains(&failed.code), "{}", failed.text);
        assert_eq!(job.source.count("GET", "/blobs/"), 0);
        assert!(!job.path("payload.zip").exists());
    }
}

#[tokio::test]
async fn manifests_that_no_tool_understands_are_named() {
    let job = Job::new();
    for (n, (raw, message)) in [
        ("<html>no</html>", "expected a manifest"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "at least one layer in a manifest of Docker's schema 1"),
        (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "found both"),
        (r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:1","size":1},"layers":[]}"#, "manifest"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("app:{n}");
        job.source.put("app", &n.to_string(), &image(1));
        job.source.heal();
        job.source.fail(Fault::on("GET", "/manifests/", Effect::Body(raw.to_owned())).always());
        let failed = job.fail_to_pack("payload.zip", job.request(&[&name])).await;
        failed.assert(ExitCode::Registry, &["cannot read image", &name, message]);
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named_with_its_registry() {
    let job = Job::new();
    job.source.put("app", "1", &image(1));
    for name in ["app:2", "nope:1"] {
        let failed = job.fail_to_pack("payload.zip", job.request(&["app:1", name])).await;
        failed.assert(
            ExitCode::Registry,
            &["cannot read image", &job.source.reference(name), "does not have"],
        );
    }
    let failed = job.fail_to_pack("payload.zip", job.request(&[])).await;
    failed.assert(ExitCode::Usage, &["no image was named", "hint: "]);
    assert!(!job.path("payload.zip").exists() && !job.path("payload.zip.partial").exists());
}
