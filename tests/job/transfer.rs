//! Whole images, upgrades, and where the bytes go.

use bytes::Bytes;
use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::manifest::{Descriptor, Manifest, MediaType};
use serde_json::json;

use crate::kit::{Job, assert_told, contents_sent, dangling_but, host, names};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, layer, random_layer};
use crate::support::registry::{Options, TestRegistry};

#[tokio::test]
async fn an_image_arrives_as_it_left() {
    let job = Job::new();
    let image = Image::oci(&[layer(&[("etc/motd", b"hello")]), random_layer(1, 300_000)]);
    job.source.put("team/app", "1.0", &image);
    let packed = job.pack("payload.zip", &["team/app:1.0"]).await;
    assert_eq!(packed.summary.total.carried_blobs, 3);
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["team/app:1.0"]);
    assert_eq!(pushed.report.sent.uploaded_blobs, 3);
    assert_eq!((pushed.warnings, packed.warnings), (vec![], vec![]));
    job.assert_arrived("team/app", &["1.0"]);
    job.source.assert_no_violations();
    job.far.assert_no_violations();
}

#[tokio::test]
async fn an_upgrade_carries_only_what_is_new() {
    let job = Job::new();
    let base = random_layer(1, 100_000);
    let (old, new) = (random_layer(2, 1000), random_layer(3, 1000));
    job.source.put("app", "1", &Image::oci(&[base.clone(), old]));
    job.source.put("app", "2", &Image::oci(&[base.clone(), new.clone()]));
    let full = job.pack("1.zip", &["app:1"]).await;
    job.push(&full.path).await;
    let mut request = job.request(&["app:2"]);
    request.already_transferred = names(&job.source, &["app:1"]);
    job.source.clear_journal();
    let upgrade = job.pack_as("2.zip", request).await;
    assert_eq!(upgrade.expected(), [base.digest().clone()]);
    assert_eq!(upgrade.carried().len(), 2);
    assert_eq!(job.source.count("GET", &base.digest().to_string()), 0);
    job.far.clear_journal();
    let pushed = job.push(&upgrade.path).await;
    assert_eq!((pushed.report.sent.uploaded_blobs, pushed.report.sent.present_blobs), (2, 1));
    let base_bytes = base.bytes.len() as u64;
    assert!(job.far.blob_bytes_sent_to("app") < base_bytes);
    job.assert_arrived("app", &["1", "2"]);
}

#[tokio::test]
async fn a_second_push_sends_no_content() {
    for far in [Options::default(), Options { no_referrers: true, ..Options::default() }] {
        let job = Job::with(Options::default(), far);
        let shared = random_layer(1, 5000);
        let children = ["linux/amd64", "linux/arm64"]
            .map(|p| Image::oci_for(p, std::slice::from_ref(&shared)));
        let index = Image::index(&children);
        job.source.put("a", "1", &Image::oci(&[shared.clone(), random_layer(2, 10)]));
        job.source.put("b", "1", &index);
        job.source.put("b", "", &Image::referrer(&index, "application/x-note", b"note"));
        job.source.put("b", &index.signature_tag(), &Image::cosign_signature(&index));
        let packed = job.pack("payload.zip", &["a:1", "b:1"]).await;
        let first = job.push(&packed.path).await;
        assert!(contents_sent(&job.far).0 > 0);
        job.far.clear_journal();
        let second = job.push(&packed.path).await;
        assert_eq!(contents_sent(&job.far), (0, 0));
        assert_eq!(second.names(), first.names());
        assert_eq!(second.report.sent.uploaded_blobs + second.report.sent.mounted_blobs, 0);
        assert!(second.report.sent.present_blobs > 0);
    }
}

#[tokio::test]
async fn a_shared_blob_is_uploaded_once_and_mounted_elsewhere() {
    let job = Job::new();
    let shared = random_layer(1, 50_000);
    let repositories = ["one", "two", "deep/three"];
    for (n, repository) in (10..).zip(repositories) {
        job.source.put(repository, "1", &Image::oci(&[shared.clone(), random_layer(n, 100)]));
    }
    let packed = job.pack("payload.zip", &["one:1", "two:1", "deep/three:1"]).await;
    let fetched = job.source.count("GET", &format!("/blobs/{}", shared.digest()));
    assert_eq!(fetched, 1);
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.report.sent.mounted_blobs, 2);
    let large = |repository: &str| {
        let exchanges = job.far.exchanges("", &format!("/v2/{repository}/blobs/"));
        exchanges.iter().filter(|x| x.request_body_bytes >= 50_000).count()
    };
    assert_eq!(repositories.map(large), [1, 0, 0]);
    assert_eq!(job.far.count("POST", "/v2/one/blobs/uploads/"), 1 + 3);
    for repository in repositories {
        job.assert_arrived(repository, &["1"]);
    }
}

#[tokio::test]
async fn a_refused_mount_becomes_an_upload_in_the_session_that_it_opened() {
    let job = Job::with(Options::default(), Options { mounts_refused: true, ..Options::default() });
    let shared = random_layer(1, 50_000);
    job.source.put("one", "1", &Image::oci(std::slice::from_ref(&shared)));
    job.source.put("two", "1", &Image::oci(&[shared.clone(), random_layer(2, 10)]));
    let packed = job.pack("payload.zip", &["one:1", "two:1"]).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!((pushed.report.sent.mounted_blobs, pushed.report.sent.copied_blobs), (0, 0));
    assert_eq!(job.far.blob_bodies_sent_to("two"), 3);
    // One session to try whether the repository can be written, then one for each blob: the one that
    // the refused mount opened is used.
    assert_eq!(job.far.count("POST", "/v2/two/blobs/uploads/"), 1 + 3);
    job.assert_arrived("two", &["1"]);
}

#[tokio::test]
async fn an_expected_blob_that_cannot_be_mounted_is_copied_inside_the_far_registry() {
    let job = Job::with(Options::default(), Options { mounts_refused: true, ..Options::default() });
    let shared = random_layer(1, 200_000);
    let base = Image::oci(std::slice::from_ref(&shared));
    job.source.put("base", "1", &base);
    job.source.put("app", "1", &Image::oci(&[shared.clone(), random_layer(2, 10)]));
    job.far.put("base", "1", &base);
    let mut request = job.request(&["app:1"]);
    request.already_transferred = names(&job.source, &["base:1"]);
    let packed = job.pack_as("payload.zip", request).await;
    assert_eq!(packed.expected(), [shared.digest().clone()]);
    let pushed = job.push(&packed.path).await;
    let sent = pushed.report.sent;
    assert_eq!((sent.copied_blobs, sent.copied_bytes), (1, shared.bytes.len() as u64));
    let read = job.far.exchanges("GET", &format!("/v2/base/blobs/{}", shared.digest()));
    assert_eq!(read.len(), 1);
    job.assert_arrived("app", &["1"]);
}

#[tokio::test]
async fn one_payload_takes_images_from_several_registries() {
    let job = Job::new();
    let other = TestRegistry::start();
    let (a, b) = (Image::oci(&[random_layer(1, 1000)]), Image::docker(&[random_layer(2, 1000)]));
    job.source.put("a", "1", &a);
    other.put("b", "1", &b);
    let mut request = job.request(&["a:1", &other.reference("b:1")]);
    request.connections.plain_http.insert(host(&other));
    let packed = job.pack_as("payload.zip", request).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["a:1", &other.reference("b:1")]);
    assert_eq!(job.far.tagged("a", "1").as_ref(), Some(a.digest()));
    assert_eq!(job.far.tagged("b", "1").as_ref(), Some(b.digest()));
    assert_eq!(other.count("", "/v2/a/"), 0);
}

#[tokio::test]
async fn an_image_named_by_digest_alone_gets_no_tag() {
    let job = Job::new();
    let image = Image::oci(&[random_layer(1, 1000)]);
    job.source.put("app", "1", &image);
    let name = format!("app@{}", image.digest());
    let packed = job.pack("payload.zip", &[&name]).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), [&name]);
    assert_eq!(pushed.report.pushed[0].digest.as_ref(), Some(image.digest()));
    assert_eq!(job.far.tags("app"), Vec::<String>::new());
    assert!(job.far.manifest("app", &image.digest().to_string()).is_some());
    job.far.clear_journal();
    job.push(&packed.path).await;
    assert_eq!(contents_sent(&job.far), (0, 0));
}

#[tokio::test]
async fn a_tag_with_a_digest_names_that_digest_wherever_the_tag_went() {
    let job = Job::new();
    let (old, new) = (Image::oci(&[random_layer(1, 1000)]), Image::oci(&[random_layer(2, 1000)]));
    job.source.put("app", "1", &old);
    job.source.put("app", "1", &new);
    let name = format!("app:1@{}", old.digest());
    let packed = job.pack("payload.zip", &[&name]).await;
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(old.digest()));
    assert_eq!(job.source.count("", "/manifests/1"), 0);
}

/// An artifact as the release candidates of OCI 1.1 had them.
fn old_artifact() -> Image {
    let blob = Blob::new("text/plain", &b"notes"[..]);
    let document = json!({
        "mediaType": MediaType::OCI_ARTIFACT, "artifactType": "application/x-notes",
        "blobs": [{"mediaType": "text/plain", "digest": blob.digest(), "size": blob.bytes.len()}],
    });
    let manifest = Manifest::parse(document.to_string().into(), None).expect("a manifest");
    Image { manifest, blobs: vec![blob], children: Vec::new(), platform: None }
}

/// An index with a child that is no manifest: registries keep it as a blob.
fn index_with_a_blob(image: &Image) -> Image {
    let notes = Blob::new("text/plain", &b"read me"[..]);
    let child = |descriptor: &Descriptor| json!({"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size});
    let manifests = [child(&image.manifest.descriptor), child(&notes.descriptor)];
    let document =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    let manifest = Manifest::parse(document.to_string().into(), None).expect("an index");
    Image { manifest, blobs: vec![notes], children: vec![image.clone()], platform: None }
}

/// A layer that is named by its SHA-512.
fn sha512_layer() -> Blob {
    let mut layer = random_layer(77, 5000);
    let any: Digest = format!("sha512:{}", "0".repeat(128)).parse().expect("a digest");
    layer.descriptor.digest = any.same_algorithm_of(&layer.bytes);
    layer
}

#[tokio::test]
async fn everything_that_a_registry_holds_arrives() {
    let job = Job::new();
    let amd64 = Image::oci(&[layer(&[("a", b"1")])]);
    let arm = Image::docker_for("linux/arm/v7", &[layer(&[("b", b"2")])]);
    let index = Image::index(&[amd64.clone(), Image::attestation(&amd64)]);
    let odd = Blob::new("application/x-odd", &b"{}"[..]);
    let images = [
        ("oci", amd64.clone()),
        ("docker", arm.clone()),
        ("index", index.clone()),
        ("list", Image::docker_list(std::slice::from_ref(&arm))),
        ("nested", Image::index(&[index, arm])),
        ("chart", Image::helm_chart("chart", "1.2.3")),
        ("artifact", old_artifact()),
        ("blobs", index_with_a_blob(&amd64)),
        ("twice", Image::oci(&[layer(&[("c", b"3")]), layer(&[("c", b"3")])])),
        (
            "sha512",
            Image::of_blobs(
                MediaType::OCI_MANIFEST,
                Blob::new("x/y", &b"1"[..]),
                vec![sha512_layer()],
                &json!({}),
            ),
        ),
        ("odd", Image::of_blobs(MediaType::OCI_MANIFEST, odd.clone(), vec![odd], &json!({}))),
        (
            "empty",
            Image::of_blobs(
                MediaType::OCI_MANIFEST,
                Blob::new("x/y", Bytes::new()),
                vec![],
                &json!({}),
            ),
        ),
    ];
    let tags: Vec<&str> = images.iter().map(|(tag, _)| *tag).collect();
    for (tag, image) in &images {
        job.source.put("all", tag, image);
    }
    let names: Vec<String> = tags.iter().map(|tag| format!("all:{tag}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let packed = job.pack("payload.zip", &names).await;
    assert_eq!(packed.warnings, Vec::<String>::new());
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), names);
    job.assert_arrived("all", &tags);
    for (tag, image) in &images {
        let sent = job.far.manifest("all", tag).expect("there");
        assert_eq!(sent, image.manifest.raw, "{tag}");
    }
}

#[tokio::test]
async fn an_index_with_a_child_that_its_registry_lost_travels_without_it() {
    let sparse = Options { sparse_allowed: true, ..Options::default() };
    let job = Job::with(sparse.clone(), sparse);
    let (kept, lost) = (
        Image::oci(&[random_layer(1, 1000)]),
        Image::oci_for("linux/arm64", &[random_layer(2, 1000)]),
    );
    let index = Image::index(&[kept.clone(), lost.clone()]);
    let only = Image { children: vec![kept.clone()], ..index.clone() };
    job.source.put("app", "1", &only);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_told(
        &packed.warnings,
        &[&lost.digest().to_string(), "linux/arm64", "travels without it"],
    );
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:1"]);
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(index.digest()));
    assert_eq!(dangling_but(&job.far, &[lost.digest()]), Vec::<String>::new());
}

#[tokio::test]
async fn a_foreign_layer_is_left_out_with_a_word_or_fetched_where_it_lies() {
    let job = Job::new();
    let elsewhere = TestRegistry::start();
    let foreign = random_layer(7, 30_000);
    elsewhere.put_blob("windows", &foreign.bytes);
    let url = elsewhere.url(&format!("/v2/windows/blobs/{}", foreign.digest()));
    let plain = Image::oci(&[random_layer(1, 1000)]);
    let descriptor = |blob: &Descriptor| json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size});
    let mut with_url = descriptor(&foreign.descriptor);
    with_url["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    with_url["urls"] = json!([url]);
    let document = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": descriptor(&plain.blobs[0].descriptor),
        "layers": [with_url, descriptor(&plain.blobs[1].descriptor)],
    });
    let manifest = Manifest::parse(document.to_string().into(), None).expect("a manifest");
    let image = Image { manifest, ..plain };
    job.source.put("win", "1", &image);

    let packed = job.pack("without.zip", &["win:1"]).await;
    assert_told(&packed.warnings, &[&foreign.digest().to_string(), "left out", "--foreign-layers"]);
    assert_eq!(packed.summary.total.left_out_blobs, 1);
    assert_eq!(packed.summary.total.left_out_bytes, foreign.bytes.len() as u64);
    assert!(elsewhere.journal().is_empty());
    // As distribution does unless it is told otherwise.
    job.far.fail(Fault::on("PUT", "/manifests/", Effect::Status(500, vec![])).always());
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    let advice = "validation: {manifests: {urls: {allow: ";
    failed.assert(ExitCode::Registry, &["which has foreign layers", advice]);
    job.far.heal();
    job.push(&packed.path).await;
    job.assert_arrived("win", &["1"]);
    assert!(!job.far.has_blob("win", foreign.digest()));

    let mut request = job.request(&["win:1"]);
    request.foreign_layers = kharon::plan::ForeignLayers::Fetch;
    request.connections.plain_http.insert(host(&elsewhere));
    let packed = job.pack_as("with.zip", request).await;
    assert!(packed.carried().contains(foreign.digest()));
    assert_eq!(packed.warnings, Vec::<String>::new());
    job.push(&packed.path).await;
    assert!(job.far.has_blob("win", foreign.digest()));
}

#[tokio::test]
async fn a_blob_that_the_far_side_got_by_itself_is_not_sent_again() {
    let job = Job::new();
    let shared = random_layer(1, 20_000);
    job.source.put("app", "1", &Image::oci(std::slice::from_ref(&shared)));
    job.far.put_blob("app", &shared.bytes);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!((pushed.report.sent.present_blobs, pushed.report.sent.uploaded_blobs), (1, 1));
    assert!(job.far.blob_bytes_sent_to("app") < 20_000);
}

#[tokio::test]
async fn an_upload_whose_answer_got_lost_is_not_sent_twice() {
    let job = Job::new();
    let large = random_layer(1, 100_000);
    job.source.put("app", "1", &Image::oci(&[large]));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.far.fail(Fault::on("PUT", "/blobs/uploads/", Effect::LoseAnswer).times(2));
    job.push(&packed.path).await;
    assert_eq!(job.far.faults_struck(), 2);
    assert!(job.far.blob_bytes_sent_to("app") < 2 * 100_000);
    job.assert_arrived("app", &["1"]);
}
