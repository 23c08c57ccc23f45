//! What a push proves, and what becomes of it when the next payload is made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::make::MakeRequest;
use kharon::names::TargetNames;
use kharon::payload::index::Travels;
use kharon::push::{PushRequest, SparseIndexes};
use kharon::receipt::{Kind, Receipt, Repository};
use serde_json::Value;

use crate::deltas::app;
use crate::kit::{Job, Packed, assert_told, names};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_layer};
use crate::support::registry::Options;

/// `app:1` and `app:2` at the source: they share a base, and `app:2` changes a layer of `app:1`.
pub fn upgrade() -> (Job, [Image; 2]) {
    let job = Job::new();
    let base = random_layer(1, 60_000);
    let images = [app(None), app(Some(7))].map(|layer| Image::oci(&[base.clone(), layer]));
    for (tag, image) in ["1", "2"].iter().zip(&images) {
        job.source.put("app", tag, image);
    }
    (job, images)
}

fn with_receipt(job: &Job, name: &str) -> PushRequest {
    PushRequest { receipt: Some(job.path(name)), ..job.push_request() }
}

/// Pushes an image, and gives the receipt.
async fn pushed(job: &Job, image: &str, receipt: &str) -> Receipt {
    let packed = job.pack(&format!("{receipt}.zip"), &[image]).await;
    job.push_as(&packed.path, with_receipt(job, receipt)).await;
    read(job, receipt)
}

fn read(job: &Job, name: &str) -> Receipt {
    let json = std::fs::read(job.path(name)).expect("a receipt");
    Receipt::parse(&json).expect("a receipt")
}

pub fn against(job: &Job, wanted: &[&str], files: &[&str]) -> MakeRequest {
    let against = files.iter().map(|name| job.path(name)).collect();
    MakeRequest { against, ..job.request(wanted) }
}

pub fn in_repository<'a>(receipt: &'a Receipt, name: &str) -> &'a Repository {
    let found = receipt.repositories.iter().find(|repository| repository.name.as_str() == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {receipt:#?}"))
}

pub fn blobs(repository: &Repository) -> BTreeSet<Digest> {
    repository.blobs.iter().map(|blob| blob.digest.clone()).collect()
}

pub fn digests(blobs: &[Blob]) -> BTreeSet<Digest> {
    blobs.iter().map(|blob| blob.digest().clone()).collect()
}

pub fn tags(repository: &Repository) -> BTreeMap<&str, &Digest> {
    repository.tags.iter().map(|(tag, digest)| (tag.as_str(), digest)).collect()
}

/// The blobs that the payload expects, and those that its deltas need besides.
fn all_expected(packed: &Packed) -> BTreeSet<Digest> {
    let baselines =
        packed.open().index().baselines.iter().map(|blob| blob.digest.clone()).collect();
    [packed.expected(), baselines].concat().into_iter().collect()
}

#[tokio::test]
async fn the_next_payload_carries_what_the_receipt_does_not_prove() {
    let (job, [old, new]) = upgrade();
    let first = pushed(&job, "app:1", "1.json").await;
    assert_eq!((first.kind, first.registry.to_string()), (Kind::Receipt, job.far.host()));
    let proved = in_repository(&first, "app");
    assert_eq!(tags(proved), BTreeMap::from([("1", old.digest())]));
    assert_eq!(proved.manifests, std::slice::from_ref(&old.manifest.descriptor));
    assert_eq!(blobs(proved), digests(&old.blobs));
    assert_eq!(proved.blobs[1], old.blobs[1].descriptor);

    let packed = job.pack_as("2.zip", against(&job, &["app:2"], &["1.json"])).await;
    assert_eq!(packed.expected(), [old.layers()[0].digest().clone()]);
    let changed = old.layers()[1].digest().clone();
    let payload = packed.open();
    let delta = payload.index().blobs.iter().find(|blob| blob.digest == *new.layers()[1].digest());
    let by = Travels::Delta { baselines: vec![changed.clone()] };
    assert_eq!(delta.map(|blob| &blob.travels), Some(&by));

    job.push_as(&packed.path, with_receipt(&job, "2.json")).await;
    job.assert_arrived("app", &["1", "2"]);
    // What was expected and what the delta was made against is proved again.
    let second = read(&job, "2.json");
    let proved = in_repository(&second, "app");
    assert_eq!(tags(proved), BTreeMap::from([("2", new.digest())]));
    let mut all = digests(&new.blobs);
    all.insert(changed);
    assert_eq!(blobs(proved), all);
    // Pushed again, nothing is sent, and the same is proved but for what only the delta needed.
    job.push_as(&packed.path, with_receipt(&job, "3.json")).await;
    assert_eq!(blobs(in_repository(&read(&job, "3.json"), "app")), digests(&new.blobs));
}

#[tokio::test]
async fn payloads_and_receipts_count_together() {
    let (job, [old, _]) = upgrade();
    let extra = random_layer(5, 2000);
    job.source.put("other", "1", &Image::oci(std::slice::from_ref(&extra)));
    let both = Image::oci(&[old.layers()[0].clone(), extra.clone(), random_layer(6, 100)]);
    job.source.put("both", "1", &both);
    pushed(&job, "app:1", "app.json").await;
    pushed(&job, "other:1", "other.json").await;
    for files in [["app.json", "other.json"], ["app.json.zip", "other.json"]] {
        let packed = job.pack_as("both.zip", against(&job, &["both:1"], &files)).await;
        let expected: BTreeSet<Digest> = packed.expected().into_iter().collect();
        assert_eq!(expected, digests(&[old.layers()[0].clone(), extra.clone()]), "{files:?}");
        assert_eq!(packed.warnings, Vec::<String>::new());
        assert_eq!(job.push(&packed.path).await.names(), ["both:1"]);
    }
    job.assert_arrived("both", &["1"]);
}

#[tokio::test]
async fn receipts_of_two_registries_are_a_warning() {
    let (job, _) = upgrade();
    let mut receipt = pushed(&job, "app:1", "1.json").await;
    receipt.registry = "other.example".parse().expect("valid");
    std::fs::write(job.path("2.json"), receipt.to_json().expect("JSON")).expect("written");
    let packed = job.pack_as("2.zip", against(&job, &["app:2"], &["1.json", "2.json"])).await;
    assert_told(&packed.warnings, &["`other.example`", &job.far.host(), "count as one far side"]);
}

#[tokio::test]
async fn a_receipt_that_is_older_than_the_far_side_does_no_harm() {
    let (job, [_, new]) = upgrade();
    pushed(&job, "app:1", "1.json").await;
    job.far.put("app", "2", &new);
    let packed = job.pack_as("2.zip", against(&job, &["app:2"], &["1.json"])).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:2"]);
    let sent = pushed.report.sent;
    assert_eq!((sent.uploaded_blobs, sent.rebuilt_blobs, sent.present_blobs), (0, 0, 3));
}

#[tokio::test]
async fn a_receipt_that_claims_too_much_is_found_before_anything_is_sent() {
    let (job, [old, _]) = upgrade();
    pushed(&job, "app:1", "1.json").await;
    let packed = job.pack_as("2.zip", against(&job, &["app:2"], &["1.json"])).await;
    for lost in old.layers() {
        job.far.forget_blob("app", lost.digest());
        job.far.clear_journal();
        let pushed = job.push_as(&packed.path, with_receipt(&job, "2.json")).await;
        assert_eq!(pushed.report.exit_code(), ExitCode::BaselineMissing);
        assert_told(&pushed.warnings, &["`app:2` lacks", &lost.digest().to_string()]);
        assert_eq!((job.far.count("POST", ""), job.far.count("PUT", "")), (0, 0));
        let listed = read(&job, "2.json").repositories;
        let mut listed = listed.iter().flat_map(|repository| &repository.blobs);
        assert!(listed.all(|blob| blob.digest != *lost.digest()));
        job.far.put("app", "1", &old);
    }
}

#[tokio::test]
async fn tags_are_protected_by_what_the_receipt_knew() {
    let (job, [old, new]) = upgrade();
    pushed(&job, "app:1", "1.json").await;
    job.source.put("app", "1", &new);
    let packed = job.pack_as("2.zip", against(&job, &["app:1"], &["1.json"])).await;
    let other = Image::oci(&[random_layer(70, 10)]);
    job.far.put("app", "1", &other);
    let kept = job.push_as(&packed.path, with_receipt(&job, "2.json")).await;
    assert_eq!(kept.report.exit_code(), ExitCode::Registry);
    // The receipt says what the tag really names, and what came all the same.
    let second = read(&job, "2.json");
    let proved = in_repository(&second, "app");
    assert_eq!(tags(proved), BTreeMap::from([("1", other.digest())]));
    assert_eq!(proved.manifests, std::slice::from_ref(&new.manifest.descriptor));
    job.far.put("app", "1", &old);
    assert_eq!(job.push(&packed.path).await.names(), ["app:1"]);
}

#[tokio::test]
async fn names_that_a_push_changes_are_found_again() {
    let (job, [old, new]) = upgrade();
    for (prefix, rename, far) in
        [(Some("hub"), None, "hub/app"), (None, Some("app=team/it"), "team/it")]
    {
        let request = |receipt: &str| PushRequest {
            names: TargetNames {
                prefix: prefix.map(|prefix| prefix.parse().expect("valid")),
                renames: rename
                    .iter()
                    .map(|rename: &&str| rename.parse().expect("valid"))
                    .collect(),
            },
            ..with_receipt(&job, receipt)
        };
        let first = job.pack("1.zip", &["app:1"]).await;
        job.push_as(&first.path, request("1.json")).await;
        let first = read(&job, "1.json");
        assert_eq!(in_repository(&first, far).name_in_payloads().as_str(), "app");
        let packed = job.pack_as("2.zip", against(&job, &["app:2"], &["1.json"])).await;
        assert_eq!(all_expected(&packed), digests(old.layers()), "{far}");
        let pushed = job.push_as(&packed.path, request("2.json")).await;
        assert_eq!(pushed.report.sent.rebuilt_blobs, 1, "{far}");
        let second = read(&job, "2.json");
        assert_eq!(tags(in_repository(&second, far)), BTreeMap::from([("2", new.digest())]));
    }
}

#[tokio::test]
async fn of_each_image_only_what_is_proved_is_listed() {
    let job = Job::with(Options::default(), Options { immutable_tags: true, ..Options::default() });
    let image = |seed| Image::oci(&[random_layer(seed, 500)]);
    let (fine, stuck, there) = (image(1), image(2), image(3));
    let gone = random_layer(4, 500);
    job.source.put("fine", "1", &fine);
    let signature = Image::cosign_signature(&fine);
    job.source.put("fine", &fine.signature_tag(), &signature);
    job.source.put("stuck", "1", &stuck);
    job.source.put("there", "1", &there);
    job.source.put("gone", "1", &Image::oci(std::slice::from_ref(&gone)));
    job.source.put("lacking", "1", &Image::oci(&[gone.clone(), random_layer(5, 500)]));
    job.far.put("stuck", "1", &image(6));
    job.far.put("there", "1", &there);
    let wanted = ["fine:1", "stuck:1", "there:1", "lacking:1"];
    let already_transferred = names(&job.source, &["there:1", "gone:1"]);
    let request = MakeRequest { already_transferred, ..job.request(&wanted) };
    let packed = job.pack_as("payload.zip", request).await;
    let pushed = job.push_as(&packed.path, with_receipt(&job, "receipt.json")).await;
    assert_eq!(pushed.names(), ["fine:1", "there:1"]);
    let receipt = read(&job, "receipt.json");
    let listed: Vec<&str> =
        receipt.repositories.iter().map(|repository| repository.name.as_str()).collect();
    assert_eq!(listed, ["fine", "stuck", "there"]);
    let proved = in_repository(&receipt, "fine");
    let signature_tag = fine.signature_tag();
    let expected = [("1", fine.digest()), (signature_tag.as_str(), signature.digest())];
    assert_eq!(tags(proved), BTreeMap::from(expected));
    assert_eq!(blobs(proved), digests(&[fine.blobs.clone(), signature.blobs.clone()].concat()));
    // A refused tag names what it did before, and nobody looked what that is.
    let proved = in_repository(&receipt, "stuck");
    assert_eq!((tags(proved), blobs(proved)), (BTreeMap::new(), digests(&stuck.blobs)));
    // Of a skipped image only the tag was looked at.
    let proved = in_repository(&receipt, "there");
    assert_eq!(tags(proved), BTreeMap::from([("1", there.digest())]));
    assert_eq!((proved.manifests.len(), proved.blobs.len()), (0, 0));
}

#[tokio::test]
async fn an_index_that_was_rebuilt_is_listed_as_what_it_is_now() {
    let job = Job::new();
    let index = Image::index(&[
        Image::oci(&[random_layer(1, 100)]),
        Image::oci_for("linux/arm64", &[random_layer(2, 100)]),
        Image::oci_for("linux/s390x", &[random_layer(3, 100)]),
    ]);
    job.source.put("app", "1", &index);
    let platforms = ["linux/amd64", "linux/arm64"].map(|text| text.parse().expect("a platform"));
    let request = MakeRequest { platforms: platforms.to_vec(), ..job.request(&["app:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    let sparse_indexes = SparseIndexes::Rebuild;
    let request = PushRequest { sparse_indexes, ..with_receipt(&job, "receipt.json") };
    job.push_as(&packed.path, request).await;
    let receipt = read(&job, "receipt.json");
    let proved = in_repository(&receipt, "app");
    let named = job.far.tagged("app", "1").expect("a tag");
    assert_ne!(named, *index.digest());
    assert_eq!(tags(proved)["1"], &named);
    let manifests: Vec<_> = proved.manifests.iter().map(|manifest| &manifest.digest).collect();
    assert!(manifests.contains(&&named) && !manifests.contains(&index.digest()));
}

#[tokio::test]
async fn a_push_that_fails_leaves_a_former_receipt() {
    let (job, _) = upgrade();
    let former = pushed(&job, "app:1", "1.json").await;
    let packed = job.pack("2.zip", &["app:2"]).await;
    let entries = || std::fs::read_dir(job.folder.path()).expect("a folder").count();
    let before = entries();
    job.far.fail(Fault::on("PUT", "/manifests/2", Effect::Status(500, Vec::new())).always());
    let failed = job.fail_to_push(&packed.path, with_receipt(&job, "1.json")).await;
    failed.assert(ExitCode::Registry, &["cannot set tag `app:2`"]);
    assert_eq!((read(&job, "1.json"), entries()), (former, before));
}

#[tokio::test]
async fn a_receipt_that_cannot_be_written_ends_the_push_before_it_begins() {
    let (job, _) = upgrade();
    let packed = job.pack("1.zip", &["app:1"]).await;
    let folder: PathBuf = job.folder.path().to_owned();
    for (receipt, code, part) in [
        (folder.join("no").join("where"), ExitCode::Failed, "is not there"),
        (folder, ExitCode::Usage, "found the folder"),
    ] {
        let request = PushRequest { receipt: Some(receipt), ..job.push_request() };
        job.fail_to_push(&packed.path, request).await.assert(code, &[part, "hint: "]);
    }
    assert!(job.far.journal().is_empty());
}

#[tokio::test]
async fn what_cannot_serve_as_receipt_is_told_before_a_registry_is_asked() {
    let (job, _) = upgrade();
    let receipt = pushed(&job, "app:1", "1.json").await.to_json().expect("JSON");
    let text = String::from_utf8(receipt).expect("text");
    let mut newer: Value = serde_json::from_str(&text).expect("JSON");
    newer["version"] = 2.into();
    let large = " ".repeat(64 << 20);
    for (content, parts) in [
        (text[..text.len() / 2].to_owned(), ["found a damaged one", "copy it again"]),
        (newer.to_string(), ["expected version 1", "by a newer kharon"]),
        ("{\"version\":1,\"images\":[]}".to_owned(), ["found something else", "or a payload"]),
        (format!("{text}{large}"), ["expected at most 67108864 bytes", "several inventories"]),
        ("not JSON at all".to_owned(), ["expected a zip, found something else", "make-payload"]),
        (String::new(), ["expected a zip, found an empty file", "copy it again"]),
    ] {
        std::fs::write(job.path("2.json"), content).expect("written");
        job.source.clear_journal();
        let failed = job.fail_to_pack("2.zip", against(&job, &["app:2"], &["2.json"])).await;
        failed.assert(ExitCode::PayloadDamaged, &["2.json` as baseline"]);
        failed.assert(ExitCode::PayloadDamaged, &parts);
        assert!(job.source.journal().is_empty());
    }
}
