//! Layers that travel as deltas of old ones, and arrive as they left.

use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use kharon::baselines::Baselines;
use kharon::delta::Effort;
use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::make::{DeltaRequest, Deltas, MakeRequest, Recompress};
use kharon::payload::Writer;
use kharon::payload::index::Travels;
use kharon::push::{OnMissing, PushRequest};
use kharon::savings::How;

use crate::kit::{Job, Packed, assert_told, contents_sent, names};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, layer, random_bytes, random_layer};

/// Text that packs to about a third, and differs from place to place.
fn text(seed: u64, size_bytes: usize) -> Vec<u8> {
    random_bytes(seed, size_bytes).iter().map(|byte| b'a' + byte % 7).collect()
}

/// A layer of three files; `change` makes one of them new in part.
pub fn app(change: Option<u64>) -> Blob {
    let mut changed = text(2, 120_000);
    if let Some(seed) = change {
        changed.splice(50_000..50_010, text(seed, 2000));
    }
    let new = change.map(|seed| text(seed + 100, 3000)).unwrap_or_default();
    layer(&[("usr/same", &text(1, 200_000)), ("usr/changed", &changed), ("usr/new", &new)])
}

/// `app:1` at both sides, `app:2` at the source.
fn upgrade() -> (Job, Blob, Blob) {
    let job = Job::new();
    let (old, new) = (app(None), app(Some(7)));
    put_both(&job, &old);
    job.source.put("app", "2", &Image::oci(std::slice::from_ref(&new)));
    (job, old, new)
}

fn put_both(job: &Job, old: &Blob) {
    for registry in [&job.source, &job.far] {
        registry.put("app", "1", &Image::oci(std::slice::from_ref(old)));
    }
}

fn after(job: &Job, wanted: &[&str], transferred: &[&str]) -> MakeRequest {
    let already_transferred = names(&job.source, transferred);
    MakeRequest { already_transferred, ..job.request(wanted) }
}

fn how(packed: &Packed, blob: &Blob) -> Option<How> {
    let mut blobs = packed.summary.savings.blobs.iter();
    blobs.find(|packed| packed.digest == *blob.digest()).map(|packed| packed.how)
}

async fn upgraded(job: &Job) -> Packed {
    job.pack_as("payload.zip", after(job, &["app:2"], &["app:1"])).await
}

#[tokio::test]
async fn a_changed_layer_travels_as_what_is_new_and_arrives_as_it_left() {
    let (job, old, new) = upgrade();
    let packed = upgraded(&job).await;
    let payload = packed.open();
    let index = payload.index();
    assert_eq!(how(&packed, &new), Some(How::Delta));
    let travels = index.blobs.iter().find(|blob| blob.digest == *new.digest()).expect("listed");
    assert_eq!(travels.travels, Travels::Delta { baselines: vec![old.digest().clone()] });
    assert_eq!(index.baselines.len(), 1);
    assert_eq!(index.baselines[0].repositories[0].as_str(), "app");
    let delta_bytes = payload.delta(new.digest()).expect("a delta").size_bytes();
    assert!(delta_bytes < new.bytes.len() as u64 / 10, "{delta_bytes} bytes");
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:2"]);
    assert_eq!(pushed.report.sent.rebuilt_blobs, 1);
    job.assert_arrived("app", &["1", "2"]);
    job.far.assert_no_violations();
}

#[tokio::test]
async fn a_second_push_reads_no_baseline_and_sends_nothing() {
    let (job, old, _) = upgrade();
    let packed = upgraded(&job).await;
    job.push(&packed.path).await;
    // Even a far side that has lost the old blob since has what it needs.
    job.far.forget_blob("app", old.digest());
    job.far.clear_journal();
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:2"]);
    assert_eq!(contents_sent(&job.far), (0, 0));
    assert_eq!(job.far.count("GET", &old.digest().to_string()), 0);
}

#[tokio::test]
async fn the_same_payload_whatever_the_jobs_and_where_old_blobs_are_read() {
    let (job, ..) = upgrade();
    let first = job.pack("first.zip", &["app:1"]).await;
    let plain = upgraded(&job).await.bytes();
    let cache = job.path("cache");
    let delta = || DeltaRequest { cache: Some(cache.clone()), ..DeltaRequest::default() };
    for jobs in [1, 3] {
        job.source.clear_journal();
        let jobs = std::num::NonZeroUsize::new(jobs).expect("not zero");
        let request = after(&job, &["app:2"], &["app:1"]);
        let packed = job.pack_as("jobs.zip", MakeRequest { jobs, delta: delta(), ..request }).await;
        assert!(packed.bytes() == plain, "another payload with {jobs} jobs");
    }
    // The second run found every large blob in the cache.
    assert_eq!(job.source.exchanges("GET", "/blobs/").len(), 1, "only the config");
    // A former payload has the old blob, though its image is gone from the source.
    let old_image = job.source.tagged("app", "1").expect("a tag");
    let against = vec![first.path];
    job.source
        .fail(Fault::on("GET", &old_image.to_string(), Effect::Status(404, Vec::new())).always());
    let packed =
        job.pack_as("against.zip", MakeRequest { against, ..job.request(&["app:2"]) }).await;
    assert_eq!(packed.open().index().baselines.len(), 1);
    job.push(&packed.path).await;
    job.assert_arrived("app", &["2"]);
}

#[tokio::test]
async fn what_nothing_is_gained_for_travels_raw() {
    let job = Job::new();
    put_both(&job, &random_layer(1, 50_000));
    let new = random_layer(2, 60_000);
    job.source.put("app", "2", &Image::oci(std::slice::from_ref(&new)));
    let packed = upgraded(&job).await;
    assert_eq!(how(&packed, &new), Some(How::Raw));
    assert!(packed.carried().contains(new.digest()));
    job.push(&packed.path).await;
    job.assert_arrived("app", &["2"]);
    let (job, _, new) = upgrade();
    let off = DeltaRequest { deltas: Deltas::Off, ..DeltaRequest::default() };
    let request = MakeRequest { delta: off, ..after(&job, &["app:2"], &["app:1"]) };
    let packed = job.pack_as("off.zip", request).await;
    assert_eq!(how(&packed, &new), Some(How::Raw));
}

#[tokio::test]
async fn an_old_blob_that_cannot_be_had_is_a_message() {
    let (job, old, new) = upgrade();
    let digest = old.digest().to_string();
    job.source.fail(
        Fault::on("GET", &format!("/blobs/{digest}"), Effect::Status(404, Vec::new())).always(),
    );
    let packed = upgraded(&job).await;
    assert_told(&packed.warnings, &[&digest, "cannot be had"]);
    assert_eq!(packed.open().index().baselines, []);
    assert_ne!(how(&packed, &new), Some(How::Delta));
    job.push(&packed.path).await;
    job.assert_arrived("app", &["2"]);
}

#[tokio::test]
async fn every_kind_of_blob_arrives_as_it_left() {
    let job = Job::new();
    put_both(&job, &app(None));
    let files = text(1, 200_000);
    let zstd = Blob::new(
        "application/vnd.oci.image.layer.v1.tar+zstd",
        zstd::bulk::compress(&files, 3).expect("packed"),
    );
    let plain_tar = Blob::new("application/vnd.oci.image.layer.v1.tar", files.clone());
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(&files).expect("packed");
    let no_tar = writer.finish().expect("packed");
    let cut = Blob::new("application/octet-stream", no_tar[..no_tar.len() / 2].to_vec());
    let no_tar = Blob::new("application/octet-stream", no_tar);
    let blobs = [zstd.clone(), plain_tar.clone(), no_tar.clone(), cut.clone(), app(Some(3))];
    job.source.put("app", "2", &Image::oci(&blobs));
    let packed = upgraded(&job).await;
    for (blob, expected) in [
        (&zstd, How::Raw),
        (&plain_tar, How::Delta),
        (&no_tar, How::Delta),
        (&cut, How::Raw),
        (&blobs[4], How::Delta),
    ] {
        assert_eq!(how(&packed, blob), Some(expected), "{}", blob.descriptor.media_type.as_str());
    }
    job.push(&packed.path).await;
    job.assert_arrived("app", &["2"]);
}

#[tokio::test]
async fn a_raw_layer_in_the_same_payload_serves_as_baseline() {
    let job = Job::new();
    put_both(&job, &layer(&[("unlike", &random_bytes(99, 50_000))]));
    let (first, second) = (random_layer(1, 80_000), random_layer(1, 80_001));
    job.source.put("app", "2", &Image::oci(&[first.clone(), second.clone()]));
    let packed = upgraded(&job).await;
    assert_eq!(how(&packed, &first), Some(How::Raw));
    assert_eq!(how(&packed, &second), Some(How::Delta));
    assert_eq!(packed.open().index().baselines, [], "what it carries is not expected");
    job.push(&packed.path).await;
    job.assert_arrived("app", &["2"]);
}

#[tokio::test]
async fn a_first_payload_shrinks_when_layers_are_packed_better() {
    let job = Job::new();
    let new = app(None);
    job.source.put("app", "1", &Image::oci(std::slice::from_ref(&new)));
    let plain = job.pack("plain.zip", &["app:1"]).await;
    let delta = DeltaRequest {
        recompress: Recompress::Yes,
        effort: Effort::Max,
        ..DeltaRequest::default()
    };
    let packed = job.pack_as("small.zip", MakeRequest { delta, ..job.request(&["app:1"]) }).await;
    assert_eq!(how(&packed, &new), Some(How::Recompressed));
    assert!(packed.summary.payload_bytes < plain.summary.payload_bytes);
    job.push(&packed.path).await;
    job.assert_arrived("app", &["1"]);
}

#[tokio::test]
async fn a_missing_baseline_shows_before_anything_is_sent() {
    let (job, old, _) = upgrade();
    let packed = upgraded(&job).await;
    job.far.forget_blob("app", old.digest());
    job.far.clear_journal();
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.report.exit_code(), ExitCode::BaselineMissing);
    assert_told(&pushed.warnings, &["`app:2` lacks", &old.digest().to_string(), "`app`"]);
    let strict = PushRequest { on_missing: OnMissing::Fail, ..job.push_request() };
    let failed = job.fail_to_push(&packed.path, strict).await;
    failed.assert(ExitCode::BaselineMissing, &["`app:2` lacks", "hint: "]);
    assert_eq!(contents_sent(&job.far), (0, 0));
    // It may be elsewhere: in another repository, or in a folder.
    job.far.put_blob("archive/old", &old.bytes);
    let folder = job.path("layout");
    let blob = folder.join(old.digest().blob_path());
    std::fs::create_dir_all(blob.parent().expect("a folder")).expect("made");
    std::fs::write(&blob, &old.bytes).expect("written");
    for baselines in [
        Baselines { folders: vec![folder], ..Baselines::default() },
        Baselines {
            repositories: vec!["archive/old".parse().expect("valid")],
            ..Baselines::default()
        },
    ] {
        let fresh = Job::new();
        fresh.far.put_blob("archive/old", &old.bytes);
        let request = PushRequest { baselines, ..fresh.push_request() };
        let pushed = fresh.push_as(&packed.path, request).await;
        assert_eq!(pushed.names(), ["app:2"]);
        assert_eq!(fresh.far.tagged("app", "2"), job.source.tagged("app", "2"));
    }
}

#[tokio::test]
async fn a_baseline_that_is_another_blob_than_named_is_found_before_anything_moves() {
    let (job, old, _) = upgrade();
    let packed = upgraded(&job).await;
    let folder = job.path("layout");
    let blob = folder.join(old.digest().blob_path());
    std::fs::create_dir_all(blob.parent().expect("a folder")).expect("made");
    let mut wrong = old.bytes.to_vec();
    wrong[10_000] ^= 1;
    std::fs::write(&blob, &wrong).expect("written");
    let baselines = Baselines { folders: vec![folder], ..Baselines::default() };
    let failed =
        job.fail_to_push(&packed.path, PushRequest { baselines, ..job.push_request() }).await;
    failed.assert(ExitCode::Failed, &["does not serve as baseline", "--baseline-dir"]);
    assert_eq!(job.far.tagged("app", "2"), None);
    job.far.fail(Fault::on("GET", &old.digest().to_string(), Effect::Corrupt(10_000)).always());
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::Registry, &["`app` at the far side is damaged"]);
    assert_eq!(job.far.tagged("app", "2"), None);
}

/// The payload with the delta of `blob` changed, and its index made to agree.
pub fn with_delta(packed: &Packed, blob: &Digest, change: impl Fn(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let payload = packed.open();
    let mut writer = Writer::new(Vec::new());
    let entry = format!("deltas/sha256/{}", blob.hex());
    for old in payload.entries().filter(|entry| entry.name != "kharon.json") {
        let mut bytes = vec![0; usize::try_from(old.content.size_bytes()).expect("small")];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += old.content.read_at(filled as u64, &mut bytes[filled..]).expect("read");
        }
        if old.name == entry {
            bytes = change(bytes);
        }
        writer.add(old.name, &bytes).expect("written");
    }
    let mut index = payload.index().clone();
    index.entries = writer.entries().to_vec();
    writer.add("kharon.json", &index.to_json().expect("json")).expect("written");
    let path = packed.path.with_extension("changed.zip");
    std::fs::write(&path, writer.finish().expect("a zip")).expect("written");
    path
}

#[tokio::test]
async fn a_delta_that_gives_anything_else_is_never_uploaded() {
    let (job, _, new) = upgrade();
    let packed = upgraded(&job).await;
    let flip = |at: usize| {
        move |mut bytes: Vec<u8>| -> Vec<u8> {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 0x10;
            bytes
        }
    };
    let whole = packed.open().delta(new.digest()).expect("a delta").size_bytes();
    let last = usize::try_from(whole).expect("small") - 1;
    for at in [0, 7, 8, 9, 12, 17, 20, 40, 60, 70, 80, 120, 200, last / 2, last] {
        let path = with_delta(&packed, new.digest(), flip(at));
        job.far.clear_journal();
        let failed = job.fail_to_push(&path, job.push_request()).await;
        failed.assert(ExitCode::PayloadDamaged, &["deltas/sha256/", "hint: "]);
        assert!(!job.far.has_blob("app", new.digest()), "byte {at}");
        assert_eq!(job.far.tagged("app", "2"), None);
    }
    for length in [0, 5, 17, 60, last] {
        let path = with_delta(&packed, new.digest(), |bytes| bytes[..length].to_vec());
        let failed = job.fail_to_push(&path, job.push_request()).await;
        failed.assert(ExitCode::PayloadDamaged, &["deltas/sha256/"]);
    }
    let path = with_delta(&packed, new.digest(), |bytes| [bytes.as_slice(), b"more"].concat());
    job.fail_to_push(&path, job.push_request())
        .await
        .assert(ExitCode::PayloadDamaged, &["deltas/"]);
}

#[tokio::test]
async fn a_later_payload_takes_what_came_as_a_delta_for_transferred() {
    let (job, _, new) = upgrade();
    let packed = upgraded(&job).await;
    job.push(&packed.path).await;
    let newer = app(Some(9));
    job.source.put("app", "3", &Image::oci(&[new.clone(), newer.clone()]));
    let request = MakeRequest { against: vec![packed.path], ..job.request(&["app:3"]) };
    let third = job.pack_as("third.zip", request).await;
    assert_eq!(third.expected(), [new.digest().clone()]);
    assert_eq!(how(&third, &newer), Some(How::Delta));
    job.push(&third.path).await;
    job.assert_arrived("app", &["3"]);
}

#[tokio::test]
async fn verify_proves_a_delta_where_its_baseline_is_to_be_had() {
    let (job, old, new) = upgrade();
    let packed = upgraded(&job).await;
    let verified = |path: PathBuf, registry: bool| {
        let far = job.far.host();
        async move {
            let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("kharon"));
            command.arg("verify").arg(path).arg("--json");
            if registry {
                command.args(["-r", &far]);
            }
            let output = tokio::task::spawn_blocking(move || command.output().expect("runs"));
            crate::cli::Ran::of(&output.await.expect("an end"))
        }
    };
    let proved = verified(packed.path.clone(), true).await;
    assert_eq!(proved.assert(ExitCode::Done).json()["deltasProved"], 1);
    let unproved = verified(packed.path.clone(), false).await;
    assert_eq!(unproved.assert(ExitCode::Done).json()["deltasUnproved"], 1);
    let flip = |mut bytes: Vec<u8>| -> Vec<u8> {
        *bytes.last_mut().expect("bytes") ^= 1;
        bytes
    };
    let wrong = verified(with_delta(&packed, new.digest(), flip), true).await;
    let problems = wrong.assert(ExitCode::PayloadDamaged).json()["problems"].to_string();
    assert!(problems.contains("deltas/sha256/"), "{problems}");
    job.far.forget_blob("app", old.digest());
    let gone = verified(packed.path.clone(), true).await;
    assert_eq!(gone.assert(ExitCode::Done).json()["deltasUnproved"], 1);
}

#[tokio::test]
async fn a_work_folder_that_is_missing_is_named_before_anything_is_fetched() {
    let (job, ..) = upgrade();
    let delta = DeltaRequest { workdir: Some(job.path("missing")), ..DeltaRequest::default() };
    let request = MakeRequest { delta, ..after(&job, &["app:2"], &["app:1"]) };
    let failed = job.fail_to_pack("payload.zip", request).await;
    failed.assert(ExitCode::Failed, &["cannot make deltas in", "missing", "--workdir"]);
    assert_eq!(job.source.count("GET", "/blobs/"), 0);
    let packed = upgraded(&job).await;
    let baselines = Baselines { workdir: job.path("missing"), ..Baselines::default() };
    let request = PushRequest { baselines, ..job.push_request() };
    let failed = job.fail_to_push(&packed.path, request).await;
    failed.assert(ExitCode::Failed, &["--workdir"]);
    assert_eq!(contents_sent(&job.far), (0, 0));
}

#[tokio::test]
async fn a_new_layer_that_cannot_be_read_for_a_delta_is_the_registrys_fault() {
    let (job, _, new) = upgrade();
    let digest = new.digest().to_string();
    for (effect, said) in [
        (Effect::Status(404, Vec::new()), "does not have blob"),
        (Effect::Status(401, Vec::new()), "hint: no credentials were used"),
        (Effect::Status(429, Vec::new()), "429"),
        (Effect::Corrupt(1000), "expected"),
        (Effect::CutBodyAfter(0), "the connection broke"),
    ] {
        job.source.fail(Fault::on("GET", &digest, effect).always());
        let request = after(&job, &["app:2"], &["app:1"]);
        let failed = job.fail_to_pack("payload.zip", request).await;
        failed.assert(ExitCode::Registry, &["cannot fetch blob", &digest, said]);
        job.source.heal();
    }
}
