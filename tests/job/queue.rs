//! The way from the network into the zip: the same bytes whatever the network does, and no byte asked
//! for without need.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use kharon::make::MakeRequest;
use kharon::registry::{CredentialStore, Credentials, Secret};

use crate::kit::{Job, Packed, assert_told, host};
use crate::support::access::{Access, Bearer};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_bytes};
use crate::support::registry::{Options, Redirect, TestRegistry};

/// The shortest segment with up to eight jobs, in bytes.
const SEGMENT: usize = 3 * 512 * 1024;
/// The longest, in bytes.
const SEGMENT_MAX: usize = 32 * 1024 * 1024;
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn blob(seed: u64, size_bytes: usize) -> Blob {
    Blob::new(LAYER, random_bytes(seed, size_bytes))
}

/// An image of blobs of these sizes.
fn image(sizes: &[usize]) -> Image {
    let layers: Vec<Blob> = (1..).zip(sizes).map(|(seed, size)| blob(seed, *size)).collect();
    Image::oci(&layers)
}

fn with_jobs(job: &Job, jobs: usize) -> MakeRequest {
    MakeRequest { jobs: NonZeroUsize::new(jobs).expect("some"), ..job.request(&["app:1"]) }
}

fn job(options: Options, image: &Image) -> Job {
    let job = Job::with(options, Options::default());
    job.source.put("app", "1", image);
    job
}

/// The payload has each blob with its bytes.
fn assert_whole(packed: &Packed, image: &Image) {
    let payload = packed.open();
    for blob in image.all_blobs() {
        let reader = payload.blob(blob.digest()).expect("carried");
        let mut found = vec![0; blob.bytes.len() + 1];
        let (mut at, size) = (0, reader.size_bytes());
        while (at as u64) < size {
            at += reader.read_at(at as u64, &mut found[at..]).expect("readable");
        }
        assert!(found[..at] == blob.bytes[..], "{} is another", blob.digest());
    }
}

/// How often each range of a blob was asked for.
fn ranges(registry: &TestRegistry, blob: &Blob) -> BTreeMap<String, usize> {
    let mut ranges = BTreeMap::new();
    for exchange in registry.exchanges("GET", &blob.digest().to_string()) {
        *ranges.entry(exchange.range.unwrap_or_default()).or_default() += 1;
    }
    ranges
}

#[tokio::test]
async fn blobs_of_every_size_arrive_whatever_the_server_makes_of_ranges() {
    let image = image(&[0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 1000]);
    let job = job(Options::default(), &image);
    let mut payloads = Vec::new();
    for no_ranges in [false, true] {
        if no_ranges {
            job.source.clear_journal();
            job.source.fail(Fault::on("GET", "/blobs/", Effect::IgnoreRange).always());
        }
        let packed = job.pack("payload.zip", &["app:1"]).await;
        assert_whole(&packed, &image);
        for blob in image.all_blobs() {
            let count: usize = ranges(&job.source, &blob).values().sum();
            // Nobody needs to be asked for nothing.
            let length = blob.bytes.len();
            let (fewest, most) = (length.div_ceil(SEGMENT_MAX), length.div_ceil(SEGMENT));
            let most = if no_ranges { fewest } else { most };
            assert!((fewest..=most).contains(&count), "{count} requests for {length} bytes");
        }
        assert_eq!(
            job.source.blob_bytes_fetched(),
            image.all_blobs().iter().map(|blob| blob.bytes.len() as u64).sum::<u64>()
        );
        let length = std::fs::metadata(&packed.path).expect("a file").len();
        assert_eq!(packed.summary.payload_bytes, length);
        payloads.push(packed.bytes());
    }
    assert!(payloads[0] == payloads[1]);
}

#[tokio::test]
async fn a_blob_of_forty_mebibytes_comes_in_segments() {
    let image = image(&[40 * 1024 * 1024]);
    let job = job(Options::default(), &image);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_whole(&packed, &image);
    let ranges = ranges(&job.source, &image.layers()[0]);
    assert!((2..=27).contains(&ranges.len()), "{ranges:?}");
    assert!(ranges.values().all(|times| *times == 1), "{ranges:?}");
    job.push(&packed.path).await;
    job.assert_arrived("app", &["1"]);
}

#[tokio::test]
async fn the_payload_is_the_same_at_every_number_of_jobs_and_over_a_bad_line() {
    let image = image(&[5 * SEGMENT + 17, 0, 300, SEGMENT + 1, 70_000, 2 * SEGMENT]);
    let job = job(Options::default(), &image);
    let mut first: Option<Vec<u8>> = None;
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for jobs in [1, 3, 8, 32, 200] {
        for bad in [false, true] {
            job.source.heal();
            if bad {
                for skip in 0..20 {
                    let effect = match random(4) {
                        0 => Effect::IgnoreRange,
                        1 => Effect::CutBodyAfter(random(SEGMENT as u64)),
                        2 => Effect::Status(503, vec![("retry-after", "0".to_owned())]),
                        _ => Effect::Wait(Duration::from_millis(random(60))),
                    };
                    job.source.fail(Fault::on("GET", "/blobs/", effect).skip(skip));
                }
            }
            let mut request = with_jobs(&job, jobs);
            request.connections.retry.attempts = 25;
            let packed = job.pack_as("payload.zip", request).await;
            let bytes = packed.bytes();
            assert_eq!(packed.summary.payload_bytes, bytes.len() as u64);
            let first = first.get_or_insert_with(|| bytes.clone());
            assert!(*first == bytes, "another payload with {jobs} jobs");
        }
    }
}

#[tokio::test]
async fn a_torn_body_goes_on_at_the_byte_where_it_tore() {
    let image = image(&[SEGMENT + 1000]);
    let job = job(Options::default(), &image);
    let layer = &image.layers()[0];
    let digest = layer.digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::CutBodyAfter(100_000)));
    let packed = job.pack_as("payload.zip", with_jobs(&job, 1)).await;
    assert_eq!(job.source.faults_struck(), 1);
    assert_whole(&packed, &image);
    let asked: Vec<String> =
        job.source.exchanges("GET", &digest).into_iter().filter_map(|x| x.range).collect();
    let (end, last) = (SEGMENT - 1, SEGMENT + 999);
    let expected = [
        format!("bytes=0-{end}"),
        format!("bytes=100000-{end}"),
        format!("bytes={SEGMENT}-{last}"),
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_stream_without_ranges_that_tears_is_read_again_and_nothing_is_doubled() {
    let image = image(&[SEGMENT + 1000]);
    let job = job(Options { no_ranges: true, ..Options::default() }, &image);
    let digest = image.layers()[0].digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::CutBodyAfter(100_000)).times(2));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_whole(&packed, &image);
    assert_eq!(job.source.count("GET", &digest), 3);
}

#[tokio::test]
async fn a_head_segment_that_stands_still_is_fetched_over_a_second_connection() {
    let image = image(&[6 * SEGMENT]);
    let job = job(Options::default(), &image);
    let digest = image.layers()[0].digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::StallBodyAfter(200_000)));
    let started = Instant::now();
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let took = started.elapsed();
    // The stall timeout of these tests is twenty seconds.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_whole(&packed, &image);
    let again = job.source.exchanges("GET", &digest).into_iter().filter_map(|x| x.range);
    let last = format!("-{}", SEGMENT - 1);
    let again: Vec<String> = again.filter(|range| range.ends_with(&last)).collect();
    assert_eq!(again, [format!("bytes=0{last}"), format!("bytes=200000{last}")]);
}

#[tokio::test]
async fn a_head_segment_that_is_never_answered_is_asked_for_over_a_second_connection() {
    let image = image(&[6 * SEGMENT]);
    let job = job(Options::default(), &image);
    let digest = image.layers()[0].digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::Hang).skip(1));
    let started = Instant::now();
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let took = started.elapsed();
    // The tests wait twenty seconds for an answer.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_whole(&packed, &image);
    assert_eq!(job.source.count("GET", &digest), 7);
}

#[tokio::test]
async fn a_second_connection_that_gets_everything_delivers_its_part_alone() {
    let image = image(&[6 * SEGMENT]);
    let job = job(Options::default(), &image);
    let digest = image.layers()[0].digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::StallBodyAfter(0)));
    // The seventh request is the second connection's: its range is ignored.
    job.source.fail(Fault::on("GET", &digest, Effect::IgnoreRange).skip(6));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_eq!(job.source.faults_struck(), 2);
    assert_whole(&packed, &image);
}

#[tokio::test]
async fn a_second_connection_that_fails_is_not_opened_again_and_again() {
    let image = image(&[6 * SEGMENT]);
    let job = job(Options::default(), &image);
    let digest = image.layers()[0].digest().to_string();
    job.source.fail(Fault::on("GET", &digest, Effect::StallBodyAfter(200_000)));
    job.source.fail(Fault::on("GET", &digest, Effect::Status(404, vec![])).skip(6).always());
    let mut request = job.request(&["app:1"]);
    request.connections.stall_timeout = Duration::from_secs(4);
    let failed = job.fail_to_pack("payload.zip", request).await;
    failed.assert(kharon::failure::ExitCode::Registry, &["cannot fetch blob", &digest]);
    assert!(job.source.count("GET", &digest) < 12, "{}", job.source.count("GET", &digest));
}

#[tokio::test]
async fn a_redirected_blob_is_asked_for_once_and_its_address_serves_every_segment() {
    let image = image(&[6 * SEGMENT]);
    let job = job(Options { redirect: Some(Redirect::default()), ..Options::default() }, &image);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_whole(&packed, &image);
    let digest = image.layers()[0].digest().to_string();
    assert_eq!(job.source.count("GET", &format!("/v2/app/blobs/{digest}")), 1);
    let segments = job.source.count("GET", &format!("/storage/{digest}"));
    assert!((2..=6).contains(&segments), "{segments} segments");
    job.source.assert_no_violations();
}

#[tokio::test]
async fn an_address_that_expired_is_asked_for_anew() {
    let image = image(&[6 * SEGMENT]);
    let redirect = Some(Redirect { uses: Some(2) });
    let job = job(Options { redirect, ..Options::default() }, &image);
    let packed = job.pack_as("payload.zip", with_jobs(&job, 1)).await;
    assert_whole(&packed, &image);
    let digest = image.layers()[0].digest().to_string();
    let asked = job.source.count("GET", &format!("/v2/app/blobs/{digest}"));
    assert!((2..=3).contains(&asked), "asked {asked} times");
    job.source.assert_no_violations();
}

#[tokio::test]
async fn a_registry_that_wants_us_to_wait_is_waited_for() {
    let image = image(&[SEGMENT + 1]);
    let job = job(Options::default(), &image);
    let later = vec![("retry-after", "1".to_owned())];
    job.source.fail(Fault::on("GET", "/blobs/", Effect::Status(429, later.clone())));
    job.source.fail(Fault::on("GET", "/manifests/", Effect::Status(503, later)));
    let started = Instant::now();
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_whole(&packed, &image);
}

#[tokio::test]
async fn tokens_that_expire_in_the_middle_are_renewed() {
    let image = image(&[12 * SEGMENT]);
    let bearer = Bearer { login: Some(("me", "secret")), uses: Some(8), ..Bearer::default() };
    let options = Options { access: Access::Bearer(bearer), ..Options::default() };
    let job = Job::with(options.clone(), options);
    job.source.put("app", "1", &image);
    let login = |registry: &TestRegistry| {
        let (username, password) = ("me".to_owned(), Secret::new("secret"));
        let login = Credentials::Basic { username, password };
        CredentialStore::anonymous().with_explicit(host(registry), login)
    };
    let credentials = login(&job.source);
    let request = MakeRequest { credentials, ..with_jobs(&job, 2) };
    let packed = job.pack_as("payload.zip", request).await;
    assert_whole(&packed, &image);
    assert!(job.source.count("", "/token") > 1);
    let credentials = login(&job.far);
    job.push_as(&packed.path, kharon::push::PushRequest { credentials, ..job.push_request() })
        .await;
    job.assert_arrived("app", &["1"]);
    job.source.assert_no_violations();
    job.far.assert_no_violations();
}

#[tokio::test]
async fn a_dry_run_asks_for_no_blob_and_shows_what_the_payload_will_weigh() {
    let image = image(&[SEGMENT, 1000]);
    let options = Options { manifest_pulls: Some(100), ..Options::default() };
    let job = job(options, &image);
    let silent = std::sync::Arc::new(kharon::progress::Silent);
    let planned =
        kharon::make::plan_payload(job.request(&["app:1"]), silent).await.expect("a plan");
    let summary = planned.summary().clone();
    assert_eq!(job.source.count("", "/blobs/"), 0);
    assert_eq!(std::fs::read_dir(job.folder.path()).expect("a folder").count(), 0);
    let asked = job.source.journal();
    let asked =
        asked.iter().filter(|x| x.method == "GET" && x.path.contains("/manifests/")).count();
    assert_eq!(summary.manifest_requests, asked as u64);
    assert_eq!((summary.quotas[0].limit, summary.quotas[0].remaining), (100, 99));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_eq!(summary.payload_bytes, std::fs::metadata(&packed.path).expect("a file").len());
    assert_eq!(summary.total, packed.summary.total);
    assert_told(&[summary.to_string()], &["app:1", "3 in ", "99 of 100"]);
}
