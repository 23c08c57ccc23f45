//! Payloads in volumes: cut, checked, lost and made again, pushed in any order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::make::{self, DeltaRequest, MakeRequest, Recompress, VolumeRequest};
use kharon::payload::Payload;
use kharon::progress::{Recorder, Silent};
use kharon::push::{self, PushRequest};
use kharon::verify::verify_files;

use crate::deltas::app;
use crate::kit::{Failed, Job, Pushed, connections, names, pack};
use crate::support::images::{Image, random_layer};

const VOLUME_BYTES: u64 = 1 << 20;

/// Two images, one of which has a layer that is larger than a volume.
pub fn job() -> Job {
    let job = Job::new();
    let shared = random_layer(1, 300_000);
    let large = random_layer(2, 2_600_000);
    job.source.put("app", "1", &Image::oci(&[shared.clone(), large, random_layer(3, 500_000)]));
    job.source.put("lib/other", "2", &Image::docker(&[shared, random_layer(4, 700_000)]));
    job
}

fn request(job: &Job) -> MakeRequest {
    let request = job.request(&["app:1", "lib/other:2"]);
    MakeRequest { volume_bytes: Some(VOLUME_BYTES), ..request }
}

/// The files of a payload of [`request`].
pub async fn volumes(job: &Job) -> Vec<PathBuf> {
    let packed = job.pack_as("payload.zip", request(job)).await;
    assert!(!packed.path.exists(), "only volumes");
    packed.summary.files
}

async fn push_files(job: &Job, files: &[PathBuf]) -> anyhow::Result<Pushed> {
    push_as(files, job.push_request()).await
}

async fn push_as(files: &[PathBuf], request: PushRequest) -> anyhow::Result<Pushed> {
    let payload = Arc::new(Payload::open_all(files)?);
    let recorder = Arc::new(Recorder::default());
    let report = push::push_payload(payload, request, recorder.clone()).await?;
    Ok(Pushed { report, warnings: recorder.warnings(), notes: Vec::new() })
}

async fn push_one(job: &Job, file: &Path) -> Pushed {
    push_files(job, &[file.to_owned()]).await.unwrap_or_else(|error| panic!("{error:#}"))
}

#[tokio::test]
async fn no_volume_is_larger_than_asked_and_together_they_are_the_payload() {
    let job = job();
    let whole = job.pack("whole.zip", &["app:1", "lib/other:2"]).await.open();
    let files = volumes(&job).await;
    assert_eq!(files.len(), 5, "{files:?}");
    for (number, file) in (1..).zip(&files) {
        assert_eq!(*file, job.path(&format!("payload.{number:03}.zip")));
        assert!(fs::metadata(file).expect("a file").len() <= VOLUME_BYTES);
        let volume = Payload::open(file).expect("a volume");
        assert_eq!(volume.volumes().collect::<Vec<_>>(), [number]);
        assert_eq!(volume.index().images, whole.index().images);
        assert_eq!(volume.index().volumes.len(), files.len());
        let (report, _) = verify_files(std::slice::from_ref(file), &Silent);
        assert!(report.is_sound(), "{:?}", report.problems);
    }
    let (report, _) = verify_files(&files[..2], &Silent);
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), files.len() - 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("is not there")), "{problems:?}");
    let all = Payload::open_all(&files).expect("a payload");
    for blob in &whole.index().blobs {
        let [mut one, mut other] =
            [&whole, &all].map(|payload| payload.blob(&blob.digest).expect("a blob").bytes_from(0));
        let (mut left, mut right) = (Vec::new(), Vec::new());
        std::io::copy(&mut one, &mut left).expect("read");
        std::io::copy(&mut other, &mut right).expect("read");
        assert!(left == right, "`{}` differs", blob.digest);
    }
    let list = fs::read_to_string(job.path("payload.sha256")).expect("a list");
    let lines: Vec<String> = files
        .iter()
        .map(|file| {
            let digest = Digest::of(&fs::read(file).expect("a file"));
            let name = file.file_name().expect("a name").to_string_lossy();
            format!("{}  {name}\n", digest.hex())
        })
        .collect();
    assert_eq!(list, lines.concat());
}

#[tokio::test]
async fn all_volumes_at_once_are_pushed_as_one_payload_from_a_folder_too() {
    let job = job();
    let files = volumes(&job).await;
    let folder = job.path("disc");
    fs::create_dir(&folder).expect("a folder");
    for file in &files {
        fs::copy(file, folder.join(file.file_name().expect("a name"))).expect("copied");
    }
    let (report, _) = verify_files(std::slice::from_ref(&folder), &Silent);
    assert!(report.is_sound(), "{:?}", report.problems);
    let pushed = push_files(&job, &[folder]).await.expect("pushed");
    assert_eq!(pushed.names(), ["app:1", "lib/other:2"]);
    job.assert_arrived("app", &["1"]);
    job.assert_arrived("lib/other", &["2"]);
    assert_eq!(job.far.tags("app"), ["1"], "no markers are needed");
}

#[tokio::test]
async fn volumes_pushed_one_by_one_in_any_order_publish_with_the_last() {
    let orders: [&[usize]; 3] = [&[0, 1, 2, 3, 4], &[4, 2, 0, 3, 1], &[1, 1, 4, 0, 2, 3]];
    for order in orders {
        let job = job();
        let files = volumes(&job).await;
        let (last, others) = order.split_last().expect("some");
        for volume in others {
            let pushed = push_one(&job, &files[*volume]).await;
            assert_eq!(pushed.names(), Vec::<&str>::new());
            assert!(
                !pushed.report.volumes_needed.contains(&(u32::try_from(*volume).expect("few") + 1))
            );
            assert_eq!(job.far.tagged("app", "1"), None, "published too early");
        }
        let pushed = push_one(&job, &files[*last]).await;
        assert_eq!(pushed.names(), ["app:1", "lib/other:2"], "{order:?}");
        assert_eq!(pushed.report.volumes_needed, Vec::<u32>::new());
        job.assert_arrived("app", &["1"]);
        job.assert_arrived("lib/other", &["2"]);
        job.far.assert_no_violations();
        // Once more changes nothing and sends nothing.
        job.far.clear_journal();
        let again = push_one(&job, &files[0]).await;
        assert_eq!(again.names(), ["app:1", "lib/other:2"]);
        assert_eq!(crate::kit::contents_sent(&job.far), (0, 0));
    }
}

#[tokio::test]
async fn several_volumes_by_several_processes_at_once() {
    let job = job();
    let files = volumes(&job).await;
    let (some, others) = files.split_at(2);
    let (one, other) = tokio::join!(push_files(&job, some), push_files(&job, others));
    let reports = [one.expect("pushed").report, other.expect("pushed").report];
    assert!(reports.iter().any(|report| report.volumes_needed.is_empty()));
    job.assert_arrived("app", &["1"]);
    job.assert_arrived("lib/other", &["2"]);
}

#[tokio::test]
async fn a_lost_volume_is_named_and_made_again_byte_for_byte() {
    let job = job();
    let files = volumes(&job).await;
    for number in 1..=files.len() {
        let file = &files[number - 1];
        let bytes = fs::read(file).expect("a volume");
        fs::remove_file(file).expect("removed");
        let plan = files[number % files.len()].clone();
        let left: Vec<PathBuf> = files.iter().filter(|other| *other != file).cloned().collect();
        let (report, _) = verify_files(&left, &Silent);
        let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [format!("volume {number} of 5 is not there")]);
        job.source.clear_journal();
        let summary = make::make_volume(again(&job, plan, number), Arc::new(Silent)).await;
        assert_eq!(summary.expect("made").files, std::slice::from_ref(file));
        assert!(fs::read(file).expect("a volume") == bytes, "volume {number} differs");
    }
}

fn again(job: &Job, plan: PathBuf, number: usize) -> VolumeRequest {
    VolumeRequest {
        plan,
        number: u32::try_from(number).ok().and_then(std::num::NonZeroU32::new).expect("a number"),
        file: None,
        sign: None,
        against: Vec::new(),
        delta: DeltaRequest::default(),
        jobs: make::DEFAULT_JOBS,
        connections: connections(&[&job.source]),
        credentials: kharon::registry::CredentialStore::anonymous(),
    }
}

#[tokio::test]
async fn a_damaged_volume_is_named() {
    let job = job();
    let files = volumes(&job).await;
    let mut bytes = fs::read(&files[2]).expect("a volume");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[2], &bytes).expect("written");
    let (report, _) = verify_files(&files, &Silent);
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("payload.003.zip"), "{problems:?}");
    // It never becomes visible, and no tag moves.
    for file in [&files[0], &files[1], &files[3], &files[4]] {
        push_one(&job, file).await;
    }
    let failed = Failed::of(push_files(&job, &files[2..3]).await);
    failed.assert(ExitCode::PayloadDamaged, &["expected"]);
    assert_eq!(job.far.tagged("app", "1"), None);
}

#[tokio::test]
async fn deltas_travel_in_volumes_and_wait_for_what_they_are_made_against() {
    let job = Job::new();
    // Nothing is at the far side: the second image is made against the first one of the same payload.
    let (old, new) = (app(None), app(Some(7)));
    job.source.put("app", "1", &Image::oci(&[random_layer(8, 900_000), old]));
    job.source.put("app", "2", &Image::oci(std::slice::from_ref(&new)));
    let make = || {
        let recompress = Recompress::Yes;
        let delta = DeltaRequest { recompress, ..DeltaRequest::default() };
        let request = job.request(&["app:1", "app:2"]);
        MakeRequest { volume_bytes: Some(VOLUME_BYTES), delta, ..request }
    };
    let files = job.pack_as("payload.zip", make()).await.summary.files;
    assert!(files.len() > 1, "{files:?}");
    for file in files.iter().rev() {
        push_one(&job, file).await;
    }
    job.assert_arrived("app", &["1", "2"]);
    // Each volume comes out the same again, deltas included.
    for number in 1..=files.len() {
        let file = files[number - 1].clone();
        let bytes = fs::read(&file).expect("a volume");
        let plan = files[number % files.len()].clone();
        make::make_volume(again(&job, plan, number), Arc::new(Silent)).await.expect("made");
        assert!(fs::read(&file).expect("a volume") == bytes, "volume {number} differs");
    }
}

#[tokio::test]
async fn a_delta_that_is_cut_up_is_rebuilt_when_all_of_it_has_arrived() {
    let job = Job::new();
    let (old, new) = (app(None), app(Some(7)));
    for registry in [&job.source, &job.far] {
        registry.put("app", "1", &Image::oci(std::slice::from_ref(&old)));
    }
    // A layer of which half is old, and the rest larger than a volume.
    let noise = crate::support::images::random_bytes(4, 1_500_000);
    let mixed = crate::support::images::layer(&[("usr/new", &noise), ("usr/x", &new.bytes)]);
    job.source.put("app", "2", &Image::oci(&[new, mixed]));
    let already_transferred = names(&job.source, &["app:1"]);
    let delta = DeltaRequest { recompress: Recompress::Yes, ..DeltaRequest::default() };
    let volume_bytes = Some(VOLUME_BYTES);
    let request =
        MakeRequest { already_transferred, delta, volume_bytes, ..job.request(&["app:2"]) };
    let files = job.pack_as("payload.zip", request).await.summary.files;
    for file in &files {
        push_one(&job, file).await;
    }
    job.assert_arrived("app", &["1", "2"]);
}

#[tokio::test]
async fn a_blob_that_vanished_meanwhile_is_asked_for_before_anything_is_published() {
    let job = job();
    let files = volumes(&job).await;
    for file in &files[..4] {
        push_one(&job, file).await;
    }
    let payload = Payload::open(&files[0]).expect("a volume");
    let whole = payload.contents().into_iter().find(|held| held.name.starts_with("blobs/"));
    let vanished = whole.expect("a whole blob").blob;
    for repository in ["app", "lib/other"] {
        job.far.forget_blob(repository, &vanished);
    }
    let failed = Failed::of(push_files(&job, &files[4..]).await);
    failed.assert(ExitCode::Registry, &[&vanished.to_string(), "push volume 1 again"]);
    assert_eq!(job.far.tagged("app", "1"), None);
    push_one(&job, &files[0]).await;
    job.assert_arrived("app", &["1"]);
    job.assert_arrived("lib/other", &["2"]);
}

#[tokio::test]
async fn what_was_added_to_an_image_that_is_there_arrives_by_volumes_too() {
    let job = Job::new();
    let image = Image::oci(&[random_layer(1, 100_000)]);
    for registry in [&job.source, &job.far] {
        registry.put("app", "1", &image);
    }
    // Tag and digest stay what they were.
    let content = crate::support::images::random_bytes(2, 1_800_000);
    let statement = Image::referrer(&image, "application/vnd.example.sbom", &content);
    job.source.put("app", "sbom", &statement);
    job.source.put("app", &image.signature_tag(), &Image::cosign_signature(&image));
    let wanted = job.request(&["app:1", "app:sbom"]);
    let request = MakeRequest { volume_bytes: Some(VOLUME_BYTES), ..wanted };
    let files = job.pack_as("payload.zip", request).await.summary.files;
    assert!(files.len() > 1, "{files:?}");
    let (last, others) = files.split_last().expect("some");
    for file in others {
        assert_eq!(push_one(&job, file).await.names(), Vec::<&str>::new());
    }
    assert_eq!(push_one(&job, last).await.names(), ["app:1", "app:sbom"]);
    job.assert_arrived("app", &["1", "sbom", &image.signature_tag()]);
}

#[tokio::test]
async fn an_interrupted_run_goes_on_in_the_middle_of_a_volume() {
    use crate::support::fault::{Effect, Fault};
    let job = job();
    let expected: Vec<Vec<u8>> =
        volumes(&job).await.iter().map(|file| fs::read(file).expect("a volume")).collect();
    let large = random_layer(2, 2_600_000);
    let refused = Effect::Status(403, Vec::new());
    job.source.fail(Fault::on("GET", &large.digest().to_string(), refused).skip(1).always());
    let torn = pack(request(&job), &job.path("torn.zip")).await;
    Failed::of(torn).assert(ExitCode::Registry, &["cannot fetch blob"]);
    assert!(job.path("torn.001.zip.partial").exists() && !job.path("torn.001.zip").exists());
    job.source.heal();
    let files = job.pack_as("torn.zip", request(&job)).await.summary.files;
    let found: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a volume")).collect();
    assert!(found == expected, "other bytes");
    let left = fs::read_dir(job.folder.path()).expect("a folder");
    let left = left.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().contains("partial")
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn volumes_that_make_no_sense_are_refused() {
    let job = job();
    let small = MakeRequest { volume_bytes: Some(4096), ..request(&job) };
    job.fail_to_pack("payload.zip", small)
        .await
        .assert(ExitCode::Usage, &["volumes of 4.1 kB are too small", "--volume-size"]);
    let files = volumes(&job).await;
    let whole = job.pack("whole.zip", &["app:1"]).await.path;
    let other = vec![files[0].clone(), whole.clone()];
    let failed = Failed::of(push_files(&job, &other).await);
    failed
        .assert(ExitCode::PayloadDamaged, &["whole.zip", "expected a volume of the same payload"]);
    for (plan, number, parts) in [
        (whole, 1, &["expected a volume as plan", "whole.zip"][..]),
        (files[0].clone(), 9, &["expected a volume from 1 to 5", "found 9"]),
    ] {
        let made = make::make_volume(again(&job, plan, number), Arc::new(Silent)).await;
        Failed::of(made).assert(ExitCode::Usage, parts);
    }
}
