//! A make-payload that was interrupted goes on where it was, and ends with the same bytes.

use std::fs;
use std::path::PathBuf;

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::make::{DeltaRequest, MakeRequest, Resume};

use crate::deltas::app;
use crate::kit::{Failed, Job, assert_told, names, pack};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};

const LAYER_BYTES: usize = 3_000_000;

/// An image of three layers at the source, and the bytes of a payload of it that was never interrupted.
async fn job() -> (Job, Image, Vec<u8>) {
    let job = Job::new();
    let image = Image::oci(&[1, 2, 3].map(|seed| random_layer(seed, LAYER_BYTES)));
    job.source.put("app", "1", &image);
    let whole = job.pack("whole.zip", &["app:1"]).await.bytes();
    (job, image, whole)
}

/// Has the payload torn in the middle of the image's second layer.
async fn tear(job: &Job, image: &Image) {
    // Its first part comes, and everything in front of it.
    let second = image.layers()[1].digest().to_string();
    let refused = Effect::Status(403, Vec::new());
    job.source.fail(Fault::on("GET", &second, refused).skip(1).always());
    let torn = pack(job.request(&["app:1"]), &job.path("payload.zip")).await;
    Failed::of(torn).assert(ExitCode::Registry, &["cannot fetch blob"]);
    job.source.heal();
    assert!(partial(job).exists() && plan(job).exists());
}

fn partial(job: &Job) -> PathBuf {
    job.path("payload.zip.partial")
}

fn plan(job: &Job) -> PathBuf {
    job.path("payload.zip.partial.plan")
}

fn assert_clean(job: &Job) {
    assert!(!partial(job).exists() && !plan(job).exists());
}

/// How many bytes of a blob the source has sent since its journal was cleared.
fn fetched(job: &Job, digest: &Digest) -> u64 {
    let gets = job.source.exchanges("GET", &digest.to_string());
    gets.iter().map(|get| get.response_body_bytes).sum()
}

#[tokio::test]
async fn a_torn_payload_is_gone_on_with_and_gets_the_same_bytes() {
    let (job, image, whole) = job().await;
    tear(&job, &image).await;
    // What tags name by now does not matter, and nobody is asked.
    job.source.put("app", "1", &Image::oci(&[random_layer(9, 1000)]));
    job.source.clear_journal();
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_told(&packed.notes, &["going on with", "payload.zip.partial", "--fresh"]);
    assert!(packed.bytes() == whole, "other bytes");
    assert_eq!(job.source.count("GET", "/manifests/"), 0);
    assert_eq!(fetched(&job, image.layers()[0].digest()), 0, "the first layer was there");
    assert!(fetched(&job, image.layers()[1].digest()) < LAYER_BYTES as u64, "a part was there");
    assert_clean(&job);
    // The next run begins anew, as ever.
    let next = job.pack("payload.zip", &["app:1"]).await;
    assert!(next.bytes() != whole);
}

#[tokio::test]
async fn a_payload_torn_at_any_byte_is_gone_on_with() {
    let (job, image, whole) = job().await;
    tear(&job, &image).await;
    let (torn, saved) =
        (fs::read(partial(&job)).expect("torn"), fs::read(plan(&job)).expect("plan"));
    let lengths = (0..20).map(|n| torn.len() * n / 19).chain([1, 29, 30, 500, 5000]);
    for length in lengths {
        fs::write(partial(&job), &torn[..length]).expect("written");
        fs::write(plan(&job), &saved).expect("written");
        let packed = job.pack("payload.zip", &["app:1"]).await;
        assert!(packed.bytes() == whole, "other bytes after {length}");
        assert_clean(&job);
    }
}

#[tokio::test]
async fn what_was_damaged_meanwhile_is_fetched_again() {
    let (job, image, whole) = job().await;
    tear(&job, &image).await;
    let (torn, saved) =
        (fs::read(partial(&job)).expect("torn"), fs::read(plan(&job)).expect("plan"));
    for (at, is_noticed) in [(torn.len() - 1, true), (LAYER_BYTES / 2, true), (40, false)] {
        let mut damaged = torn.clone();
        damaged[at] ^= 1;
        fs::write(partial(&job), &damaged).expect("written");
        fs::write(plan(&job), &saved).expect("written");
        let packed = job.pack("payload.zip", &["app:1"]).await;
        assert!(packed.bytes() == whole, "other bytes after damage at {at}");
        let told = packed.warnings.iter().any(|warning| warning.contains("does not fit"));
        assert_eq!(told, is_noticed, "{:?}", packed.warnings);
    }
}

#[tokio::test]
async fn another_request_or_fresh_begins_anew() {
    let (job, image, whole) = job().await;
    tear(&job, &image).await;
    let changed = Image::oci(&[random_layer(9, 1000)]);
    job.source.put("app", "2", &changed);
    let other = job.pack("payload.zip", &["app:2"]).await;
    assert_told(&other.notes, &["payload.zip.partial.plan", "of another request"]);
    assert!(other.open().manifest(changed.digest()).is_some());
    assert_clean(&job);
    tear(&job, &image).await;
    job.source.put("app", "1", &changed);
    let fresh = MakeRequest { resume: Resume::Fresh, ..job.request(&["app:1"]) };
    let fresh = job.pack_as("payload.zip", fresh).await;
    assert!(fresh.bytes() != whole);
    assert!(fresh.open().manifest(changed.digest()).is_some());
}

#[tokio::test]
async fn a_plan_that_is_no_plan_is_no_obstacle() {
    let (job, image, whole) = job().await;
    for text in ["", "{", "[]", r#"{"version":9}"#] {
        tear(&job, &image).await;
        fs::write(plan(&job), text).expect("written");
        let packed = job.pack("payload.zip", &["app:1"]).await;
        assert_told(&packed.warnings, &["payload.zip.partial.plan", "made anew"]);
        assert!(packed.bytes() == whole);
        assert_clean(&job);
    }
    // A plan with other manifests than it lists is found out too.
    tear(&job, &image).await;
    let text = fs::read_to_string(plan(&job)).expect("a plan");
    fs::write(plan(&job), text.replace(r#"\"schemaVersion\":2"#, r#"\"schemaVersion\": 2"#))
        .expect("written");
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_told(&packed.warnings, &["is another one", "made anew"]);
    assert!(packed.bytes() == whole);
}

#[tokio::test]
async fn deltas_that_were_made_are_not_made_again() {
    let job = Job::new();
    let (old, new) = (app(None), app(Some(7)));
    let raw = random_layer(5, LAYER_BYTES);
    let upgraded = Image::oci(&[new.clone(), raw.clone()]);
    for registry in [&job.source, &job.far] {
        registry.put("app", "1", &Image::oci(std::slice::from_ref(&old)));
    }
    job.source.put("app", "2", &upgraded);
    let workdir = job.path("work");
    fs::create_dir(&workdir).expect("a folder");
    let request = || {
        let delta = DeltaRequest { workdir: Some(workdir.clone()), ..DeltaRequest::default() };
        let already_transferred = names(&job.source, &["app:1"]);
        MakeRequest { already_transferred, delta, ..job.request(&["app:2"]) }
    };
    let whole = job.pack_as("whole.zip", request()).await.bytes();
    assert_eq!(fs::read_dir(&workdir).expect("a folder").count(), 0, "nothing is left");
    // The config is what is written last and fetched from the source.
    let small = upgraded.all_blobs().into_iter().find(|blob| blob.bytes.len() < 10_000);
    let config = small.expect("a config").digest().to_string();
    job.source.fail(Fault::on("GET", &config, Effect::CloseBeforeHeaders).always());
    let torn = pack(request(), &job.path("payload.zip")).await;
    Failed::of(torn).assert(ExitCode::Registry, &["cannot fetch blob"]);
    assert_eq!(fs::read_dir(&workdir).expect("a folder").count(), 1);
    job.source.heal();
    job.source.clear_journal();
    let packed = job.pack_as("payload.zip", request()).await;
    assert!(packed.bytes() == whole, "other bytes");
    for blob in [&old, &new, &raw] {
        assert_eq!(fetched(&job, blob.digest()), 0, "`{}` was here", blob.digest());
    }
    assert_eq!(fs::read_dir(&workdir).expect("a folder").count(), 0, "nothing is left");
    job.push(&packed.path).await;
    job.assert_arrived("app", &["2"]);
}

#[tokio::test]
async fn wherever_a_run_is_interrupted_the_next_one_ends_with_the_same_bytes() {
    let job = Job::new();
    let small = [random_layer(1, 200_000), random_layer(2, 40)];
    job.source.put("app", "1", &Image::oci(&small));
    job.source.put("app", "2", &Image::docker(&[small[0].clone(), random_layer(3, 70_000)]));
    let images = ["app:1", "app:2"];
    let whole = job.pack("whole.zip", &images).await.bytes();
    let mut nth = 0;
    loop {
        let struck = job.source.faults_struck();
        job.source.fail(Fault::nth_request(nth, Effect::Status(403, Vec::new())));
        let first = pack(job.request(&images), &job.path("payload.zip")).await;
        let was_reached = job.source.faults_struck() > struck;
        job.source.heal();
        if first.is_err() {
            let again = job.pack("payload.zip", &images).await;
            assert!(again.bytes() == whole, "other bytes after request {nth}");
        }
        if !was_reached {
            break;
        }
        nth += 1;
    }
    assert!(nth > 8, "only {nth} requests");
}
