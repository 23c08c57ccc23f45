//! What the far side is known to hold, and what becomes of it when that is wrong.

use kharon::failure::ExitCode;
use kharon::make::MakeRequest;
use kharon::payload::index::Travels;
use kharon::platform::Platform;
use kharon::push::{OnMissing, PushRequest};
use kharon::reference::RepositoryName;

use crate::kit::{Job, Packed, assert_told, names};
use crate::support::images::{Blob, Image, random_layer};
use crate::support::registry::Options;

/// `app:1` and `app:2`, which share a base layer; `app:1` is at the far side.
fn upgrade() -> (Job, Blob, Image, Image) {
    let job = Job::new();
    let base = random_layer(1, 100_000);
    let old = Image::oci(&[base.clone(), random_layer(2, 1000)]);
    let new = Image::oci(&[base.clone(), random_layer(3, 1000)]);
    job.source.put("app", "1", &old);
    job.source.put("app", "2", &new);
    job.far.put("app", "1", &old);
    (job, base, old, new)
}

fn after(job: &Job, wanted: &[&str], transferred: &[&str]) -> MakeRequest {
    let already_transferred = names(&job.source, transferred);
    MakeRequest { already_transferred, ..job.request(wanted) }
}

async fn against(job: &Job, name: &str, wanted: &[&str], payloads: &[&Packed]) -> Packed {
    let against = payloads.iter().map(|payload| payload.path.clone()).collect();
    job.pack_as(name, MakeRequest { against, ..job.request(wanted) }).await
}

#[tokio::test]
async fn a_transferred_tag_that_is_gone_is_a_warning() {
    let (job, base, ..) = upgrade();
    for gone in ["app:0", "never/there:1"] {
        let packed = job.pack_as("payload.zip", after(&job, &["app:2"], &[gone, "app:1"])).await;
        assert_told(&packed.warnings, &[gone, "named as already transferred", "no longer"]);
        assert_eq!(packed.expected(), [base.digest().clone()]);
    }
}

#[tokio::test]
async fn a_transferred_tag_that_moved_shows_at_the_far_side_before_anything_is_sent() {
    let (job, base, _, new) = upgrade();
    let other = random_layer(9, 5000);
    job.source.put("moved", "1", &Image::oci(std::slice::from_ref(&other)));
    job.source.put("late", "2", &Image::oci(&[other.clone(), base]));
    let packed = job.pack_as("payload.zip", after(&job, &["late:2", "app:2"], &["moved:1"])).await;
    assert_eq!(packed.expected(), [other.digest().clone()]);
    let strict = PushRequest { on_missing: OnMissing::Fail, ..job.push_request() };
    let failed = job.fail_to_push(&packed.path, strict).await;
    let digest = other.digest().to_string();
    failed.assert(ExitCode::BaselineMissing, &["`late:2` lacks", &digest, "`moved`", "hint: "]);
    assert_eq!(job.far.count("POST", ""), 0);
    // Without --strict the other image gets there.
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:2"]);
    assert_eq!(pushed.report.exit_code(), ExitCode::BaselineMissing);
    assert_told(&pushed.warnings, &["`late:2` lacks", &digest]);
    assert_eq!(job.far.tagged("app", "2").as_ref(), Some(new.digest()));
    assert_eq!(job.far.count("", "/v2/late/blobs/uploads/"), 0);
    assert_eq!(job.far.tags("late"), Vec::<String>::new());
}

#[tokio::test]
async fn a_former_payload_counts_though_its_tag_moved_since() {
    let (job, base, _, new) = upgrade();
    let former = job.pack("1.zip", &["app:1"]).await;
    job.source.put("app", "1", &Image::oci(&[random_layer(50, 10)]));
    job.source.clear_journal();
    let packed = against(&job, "2.zip", &["app:2"], &[&former]).await;
    assert_eq!(packed.expected(), [base.digest().clone()]);
    assert_eq!(job.source.count("", "/manifests/1"), 0);
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", "2").as_ref(), Some(new.digest()));
}

#[tokio::test]
async fn what_a_former_payload_expected_counts_too() {
    let (job, base, _, new) = upgrade();
    let second = job.pack_as("2.zip", after(&job, &["app:2"], &["app:1"])).await;
    job.push(&second.path).await;
    let newest = Image::oci(&[base.clone(), new.layers()[1].clone(), random_layer(4, 1000)]);
    job.source.put("app", "3", &newest);
    let third = against(&job, "3.zip", &["app:3"], &[&second]).await;
    assert_eq!(third.expected(), [base.digest().clone(), new.layers()[1].digest().clone()]);
    assert_eq!(third.carried().len(), 2);
    job.push(&third.path).await;
    job.assert_arrived("app", &["1", "2", "3"]);
}

#[tokio::test]
async fn a_blob_that_a_former_payload_expected_elsewhere_may_be_in_both_places() {
    let job = Job::new();
    let base = random_layer(1, 5000);
    job.source.put("base", "1", &Image::oci(std::slice::from_ref(&base)));
    for tag in ["1", "2"] {
        let own = random_layer(tag.len() as u64, 10 + tag.len());
        let layers = [base.clone(), own, Blob::new("x/tag", tag.to_owned())];
        job.source.put("app", tag, &Image::oci(&layers));
    }
    let first = job.pack_as("1.zip", after(&job, &["app:1"], &["base:1"])).await;
    let second = against(&job, "2.zip", &["app:2"], &[&first]).await;
    let payload = second.open();
    let blob = payload.index().blobs.iter().find(|blob| blob.digest == *base.digest());
    let Some(Travels::Expected { repositories }) = blob.map(|blob| &blob.travels) else {
        panic!("{blob:?}")
    };
    let names: Vec<&str> = repositories.iter().map(RepositoryName::as_str).collect();
    assert_eq!(names, ["app", "base"]);
    // The first payload was lost on its way: what is in `base` is not named as missing.
    job.far.put("base", "1", &Image::oci(std::slice::from_ref(&base)));
    let pushed = job.push(&second.path).await;
    let [incomplete] = pushed.report.incomplete.as_slice() else { panic!("{pushed:?}") };
    assert!(incomplete.missing.iter().all(|missing| missing.digest != *base.digest()));
}

#[tokio::test]
async fn a_former_payload_says_what_its_tags_name_at_the_far_side() {
    let (job, ..) = upgrade();
    let former = job.pack("1.zip", &["app:1"]).await;
    let newer = Image::oci(&[random_layer(60, 10)]);
    job.source.put("app", "1", &newer);
    let packed = against(&job, "2.zip", &["app:1"], &[&former]).await;
    let (packed, former) = (packed.open(), former.open());
    let tag = &packed.index().images[0].tags[0];
    let before = &former.index().images[0].tags[0];
    let known: Vec<_> = before.digest.iter().cloned().collect();
    assert_eq!((&tag.former, &tag.digest), (&known, &Some(newer.digest().clone())));
}

#[tokio::test]
async fn expected_blobs_are_looked_for_under_their_far_names() {
    let (job, base, ..) = upgrade();
    let mut request = after(&job, &["app:2"], &["app:1"]);
    request.names.renames = vec!["app=mirror/app".parse().expect("a rename")];
    let packed = job.pack_as("payload.zip", request).await;
    assert_eq!(packed.expected(), [base.digest().clone()]);
    let failed = job
        .fail_to_push(
            &packed.path,
            PushRequest { on_missing: OnMissing::Fail, ..job.push_request() },
        )
        .await;
    failed.assert(ExitCode::BaselineMissing, &["`mirror/app`"]);
    job.far.put("mirror/app", "1", &Image::oci(&[base]));
    assert_eq!(job.push(&packed.path).await.names(), ["app:2"]);
    assert!(job.far.tagged("mirror/app", "2").is_some());
}

#[tokio::test]
async fn an_image_that_is_wanted_and_transferred_is_skipped() {
    let (job, ..) = upgrade();
    let packed = job.pack_as("payload.zip", after(&job, &["app:1", "app:2"], &["app:1"])).await;
    let there = job.push(&packed.path).await;
    assert_eq!(there.names(), ["app:1", "app:2"]);
    assert_eq!(there.report.exit_code(), ExitCode::Done);
}

#[tokio::test]
async fn a_skipped_image_that_is_missing_is_a_warning_or_with_strict_the_end() {
    let (job, ..) = upgrade();
    job.source.put("other", "1", &Image::oci(&[random_layer(70, 10)]));
    let packed =
        job.pack_as("payload.zip", after(&job, &["other:1", "app:2"], &["other:1", "app:1"])).await;
    let strict = PushRequest { on_missing: OnMissing::Fail, ..job.push_request() };
    let failed = job.fail_to_push(&packed.path, strict).await;
    failed.assert(ExitCode::BaselineMissing, &["`other:1` was skipped", "is not there"]);
    assert_eq!(job.far.count("POST", ""), 0);
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:2"]);
    assert_eq!(pushed.report.exit_code(), ExitCode::Done);
    assert_told(&pushed.warnings, &["`other:1` was skipped", "does not have it"]);
}

#[tokio::test]
async fn a_transferred_image_counts_whatever_platforms_are_wanted_now() {
    let job = Job::new();
    let base = random_layer(1, 5000);
    let single = Image::oci_for("linux/s390x", std::slice::from_ref(&base));
    let new = Image::index(&[Image::oci(&[base.clone(), random_layer(2, 10)])]);
    job.source.put("app", "1", &single);
    job.source.put("app", "2", &new);
    let platforms: Vec<Platform> = vec!["linux/amd64".parse().expect("a platform")];
    let request = MakeRequest { platforms, ..after(&job, &["app:2"], &["app:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    assert_eq!(packed.expected(), [base.digest().clone()]);
}

#[tokio::test]
async fn a_damaged_former_payload_ends_the_run_before_a_registry_is_asked() {
    let (job, ..) = upgrade();
    std::fs::write(job.path("former.zip"), b"PK\x03\x04 and then nothing").expect("written");
    let request = MakeRequest { against: vec![job.path("former.zip")], ..job.request(&["app:2"]) };
    job.source.clear_journal();
    let failed = job.fail_to_pack("payload.zip", request).await;
    failed.assert(ExitCode::PayloadDamaged, &["cannot take", "former.zip", "as baseline"]);
    assert!(job.source.journal().is_empty());
    assert!(!job.path("payload.zip").exists());
}

#[tokio::test]
async fn a_transferred_index_that_lost_a_child_does_not_travel_in_the_warning() {
    let sparse = Options { sparse_allowed: true, ..Options::default() };
    let job = Job::with(sparse, Options::default());
    let kept = Image::oci(&[random_layer(1, 100)]);
    let lost = Image::oci_for("linux/arm64", &[random_layer(2, 100)]);
    let index = Image::index(&[kept.clone(), lost.clone()]);
    job.source.put("app", "1", &Image { children: vec![kept.clone()], ..index });
    job.source.put("app", "2", &kept);
    let packed = job.pack_as("payload.zip", after(&job, &["app:2"], &["app:1"])).await;
    let lost = lost.digest().to_string();
    assert_told(&packed.warnings, &[&lost, "does not have: its blobs are not taken as present"]);
    assert!(!packed.warnings.iter().any(|warning| warning.contains("travels")));
}
