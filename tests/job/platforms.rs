//! Some platforms of an index, and what the far side makes of that.

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::inspect::inspect;
use kharon::make::MakeRequest;
use kharon::manifest::Manifest;
use kharon::push::{PushRequest, SparseIndexes};
use serde_json::Value;

use crate::kit::{Job, assert_told, dangling, dangling_but, names};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::Options;

/// `app:1`: three platforms, two of them with attestations, and one more manifest without any.
struct Several {
    amd64: Image,
    arm64: Image,
    arm: Image,
    index: Image,
}

fn several() -> Several {
    let image = |platform, seed| Image::oci_for(platform, &[random_layer(seed, 1000)]);
    let (amd64, arm64) = (image("linux/amd64", 1), image("linux/arm64/v8", 2));
    let arm = image("linux/arm/v7", 3);
    let attestations = [Image::attestation(&amd64), Image::attestation(&arm64)];
    let [one, two] = attestations;
    let index = Image::index(&[amd64.clone(), arm64.clone(), arm.clone(), one, two]);
    Several { amd64, arm64, arm, index }
}

fn of(job: &Job, platforms: &[&str], images: &[&str]) -> MakeRequest {
    let platforms = platforms.iter().map(|text| text.parse().expect("a platform")).collect();
    MakeRequest { platforms, ..job.request(images) }
}

fn rebuilding(job: &Job) -> PushRequest {
    PushRequest { sparse_indexes: SparseIndexes::Rebuild, ..job.push_request() }
}

fn job() -> (Job, Several) {
    let (job, several) = (Job::new(), several());
    job.source.put("app", "1", &several.index);
    (job, several)
}

#[tokio::test]
async fn one_platform_arrives_under_the_tag_with_its_attestation() {
    let (job, several) = job();
    job.source.clear_journal();
    let packed = job.pack_as("payload.zip", of(&job, &["linux/arm64"], &["app:1"])).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(several.arm64.digest()));
    assert_eq!(job.far.tags("app"), ["1"]);
    let attestation = Image::attestation(&several.arm64);
    assert!(job.far.manifest("app", &attestation.digest().to_string()).is_some());
    for other in [&several.amd64, &several.index, &several.arm] {
        assert!(job.far.manifest("app", &other.digest().to_string()).is_none());
    }
    assert_eq!(job.source.count("GET", &several.amd64.digest().to_string()), 0);
    assert_eq!(pushed.report.pushed[0].digest.as_ref(), Some(several.arm64.digest()));
    assert_eq!(dangling(&job.far), Vec::<String>::new());
}

#[tokio::test]
async fn a_platform_of_an_index_named_by_digest_arrives_without_a_tag() {
    let (job, several) = job();
    let name = format!("app@{}", several.index.digest());
    let packed = job.pack_as("payload.zip", of(&job, &["linux/amd64"], &[&name])).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(job.far.tags("app"), Vec::<String>::new());
    assert!(job.far.manifest("app", &several.amd64.digest().to_string()).is_some());
    assert_eq!(pushed.names(), [&name]);
    // What is reported as pushed is there.
    let digest = pushed.report.pushed[0].digest.as_ref().expect("a digest").to_string();
    assert!(job.far.manifest("app", &digest).is_some(), "{digest}");
}

#[tokio::test]
async fn a_platform_that_is_named_twice_counts_once() {
    let (job, several) = job();
    let twice = of(&job, &["linux/amd64", "linux/amd64"], &["app:1"]);
    let packed = job.pack_as("payload.zip", twice).await;
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(several.amd64.digest()));
    assert_eq!(job.far.tags("app"), ["1"]);
}

#[tokio::test]
async fn several_platforms_have_tags_of_their_own_and_the_original_index_where_it_is_accepted() {
    let job = Job::with(Options::default(), Options { sparse_allowed: true, ..Options::default() });
    let several = several();
    job.source.put("app", "1", &several.index);
    let two = of(&job, &["linux/amd64", "linux/arm"], &["app:1"]);
    let packed = job.pack_as("payload.zip", two).await;
    assert_eq!(packed.summary.total.carried_blobs, 2 + 2 + 2);
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.report.exit_code(), ExitCode::Done);
    for (tag, image) in
        [("1", &several.index), ("1-linux-amd64", &several.amd64), ("1-linux-arm", &several.arm)]
    {
        assert_eq!(job.far.tagged("app", tag).as_ref(), Some(image.digest()), "{tag}");
    }
    let attestation = Image::attestation(&several.arm64);
    let left = [several.arm64.digest(), attestation.digest()];
    assert_eq!(dangling_but(&job.far, &left), Vec::<String>::new());
}

#[tokio::test]
async fn a_sparse_index_that_is_refused_ends_the_push_without_a_tag() {
    let (job, several) = job();
    job.source.put("plain", "1", &several.amd64);
    let two = of(&job, &["linux/amd64", "linux/arm/v7"], &["plain:1", "app:1"]);
    let packed = job.pack_as("payload.zip", two).await;
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    let index = several.index.digest().to_string();
    failed.assert(
        ExitCode::Registry,
        &["refuses index", &index, "no tag was moved", "`--rebuild-index`"],
    );
    assert_eq!((job.far.tags("app"), job.far.tags("plain")), (vec![], vec![]));
}

/// As zot answers Docker's manifests. A new index would be no better.
#[tokio::test]
async fn a_media_type_that_is_refused_is_named_whether_or_not_all_platforms_travel() {
    const ALL: &[&str] = &[];
    const SOME: &[&str] = &["linux/amd64", "linux/arm64"];
    for (platforms, refused) in [
        (ALL, "vnd.docker.distribution.manifest.list.v2+json"),
        (SOME, "vnd.docker.distribution.manifest.list.v2+json"),
        (SOME, "vnd.docker.distribution.manifest.v2+json"),
    ] {
        let job = Job::new();
        let images = ["linux/amd64", "linux/arm64", "linux/s390x"]
            .map(|platform| Image::docker_for(platform, &[random_layer(1, 100)]));
        job.source.put("app", "1", &Image::docker_list(&images));
        let packed = job.pack_as("payload.zip", of(&job, platforms, &["app:1"])).await;
        let is_refused = move |head: &hyper::http::request::Parts| {
            head.method == "PUT"
                && head
                    .headers
                    .get("content-type")
                    .is_some_and(|found| found.to_str().is_ok_and(|found| found.ends_with(refused)))
        };
        let fault = Fault::matching(is_refused, Effect::Status(415, vec![]));
        job.far.fail(fault.always());
        let failed = job.fail_to_push(&packed.path, rebuilding(&job)).await;
        failed.assert(ExitCode::Registry, &["media type", refused, "docker2s2"]);
        assert!(!failed.text.contains("--rebuild-index"), "{}", failed.text);
        assert_eq!(job.far.tags("app"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_rebuilt_index_has_the_unchanged_children_and_a_new_digest() {
    let (job, several) = job();
    let two = of(&job, &["linux/amd64", "linux/arm/v7"], &["app:1"]);
    let packed = job.pack_as("payload.zip", two).await;
    let pushed = job.push_as(&packed.path, rebuilding(&job)).await;
    assert_eq!(pushed.report.exit_code(), ExitCode::Done);
    assert_told(&pushed.warnings, &[&several.index.digest().to_string(), "its digest is new"]);
    let found = job.far.tagged("app", "1").expect("a tag");
    assert_ne!(&found, several.index.digest());
    assert_eq!(pushed.report.pushed[0].digest.as_ref(), Some(&found));
    let raw = job.far.manifest("app", "1").expect("an index");
    let new = Manifest::parse(raw, None).expect("an index");
    let children: Vec<&Digest> = new.children().iter().map(|child| &child.digest).collect();
    let attestation = Image::attestation(&several.amd64);
    let expected = [several.amd64.digest(), several.arm.digest(), attestation.digest()];
    assert_eq!(children, expected);
    assert_eq!(new.children()[0].platform, several.index.manifest.children()[0].platform);
    assert_eq!(dangling(&job.far), Vec::<String>::new());
    // Once more: the same index, and the tag stays.
    let again = job.push_as(&packed.path, rebuilding(&job)).await;
    assert_eq!(again.report.exit_code(), ExitCode::Done);
    assert_eq!(job.far.tagged("app", "1"), Some(found));
}

#[tokio::test]
async fn a_rebuilt_index_is_not_needed_where_everything_travels() {
    let (job, several) = job();
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push_as(&packed.path, rebuilding(&job)).await;
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(several.index.digest()));
}

/// A payload of some platforms came first, then one of all of them, then the first one again.
#[tokio::test]
async fn an_original_index_is_not_replaced_by_one_that_was_rebuilt_before() {
    let (job, several) = job();
    let two = of(&job, &["linux/amd64", "linux/arm/v7"], &["app:1"]);
    let some = job.pack_as("some.zip", two).await;
    let all = job.pack("all.zip", &["app:1"]).await;
    let original = Some(several.index.digest().clone());
    for (payload, is_original) in [(&some, false), (&all, true), (&some, true)] {
        job.push_as(&payload.path, rebuilding(&job)).await;
        assert_eq!(job.far.tagged("app", "1") == original, is_original);
    }
}

#[tokio::test]
async fn an_index_is_sparse_where_only_another_image_brings_its_child() {
    let sparse = Options { sparse_allowed: true, ..Options::default() };
    let job = Job::with(sparse, Options::default());
    let [kept, lost] = [("linux/amd64", 1), ("linux/arm64", 2)]
        .map(|(platform, seed)| Image::oci_for(platform, &[random_layer(seed, 100)]));
    let index = Image::index(&[kept.clone(), lost.clone()]);
    job.source.put("app", "1", &Image { children: vec![kept.clone()], ..index });
    job.source.put("other", "1", &lost);
    let packed = job.pack("payload.zip", &["app:1", "other:1"]).await;
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::Registry, &["refuses index", "had lost", "`--rebuild-index`"]);
    job.push_as(&packed.path, rebuilding(&job)).await;
    let raw = job.far.manifest("app", "1").expect("an index");
    let new = Manifest::parse(raw, None).expect("an index");
    let children: Vec<&Digest> = new.children().iter().map(|child| &child.digest).collect();
    assert_eq!(children, [kept.digest()]);
    // The next payload knows which digest the tag has got.
    let request = MakeRequest { against: vec![packed.path], ..job.request(&["app:1"]) };
    let next = job.pack_as("next.zip", request).await.open();
    assert!(next.index().images[0].tags[0].former.contains(new.digest()));
}

#[tokio::test]
async fn a_missing_platform_is_named_with_those_that_are_there() {
    let (job, _) = job();
    let some = of(&job, &["linux/amd64", "linux/s390x"], &["app:1"]);
    let packed = job.pack_as("payload.zip", some).await;
    let offered = "has no linux/s390x; it has linux/amd64, linux/arm64/v8, linux/arm/v7";
    assert_told(&packed.warnings, &[offered]);
    assert!(!packed.warnings.iter().any(|warning| warning.contains("unknown/unknown")));
    let none = of(&job, &["linux/s390x", "windows/amd64"], &["app:1"]);
    let failed = job.fail_to_pack("none.zip", none).await;
    failed
        .assert(ExitCode::Usage, &["app:1` has no linux/s390x, windows/amd64; it has linux/amd64"]);
}

#[tokio::test]
async fn a_single_image_of_another_platform_is_refused() {
    let (job, several) = job();
    job.source.put("single", "1", &several.arm64);
    let wrong = of(&job, &["linux/amd64"], &["single:1"]);
    let failed = job.fail_to_pack("wrong.zip", wrong).await;
    failed.assert(ExitCode::Usage, &["single:1` is an image for linux/arm64/v8 only", "hint: "]);
    let right = of(&job, &["linux/amd64", "linux/arm64"], &["single:1"]);
    let packed = job.pack_as("right.zip", right).await;
    job.push(&packed.path).await;
    job.assert_arrived("single", &["1"]);
}

#[tokio::test]
async fn artifacts_have_no_platform_and_travel_whatever_is_chosen() {
    let job = Job::new();
    job.source.put("chart", "1", &Image::helm_chart("chart", "1"));
    let packed = job.pack_as("payload.zip", of(&job, &["linux/arm64"], &["chart:1"])).await;
    job.push(&packed.path).await;
    job.assert_arrived("chart", &["1"]);
}

#[tokio::test]
async fn a_baseline_without_the_chosen_platforms_is_no_error() {
    let (job, several) = job();
    let old = Image::index(&[Image::oci_for("windows/amd64", &[random_layer(9, 10)])]);
    job.source.put("app", "0", &old);
    let already_transferred = names(&job.source, &["app:0"]);
    let request = MakeRequest { already_transferred, ..of(&job, &["linux/amd64"], &["app:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    assert_eq!(packed.carried().len(), 2 + 2);
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(several.amd64.digest()));
}

#[tokio::test]
async fn an_index_of_indexes_says_that_these_are_not_searched() {
    let (job, several) = job();
    job.source.put("nested", "1", &Image::index(&[several.index]));
    let failed = job.fail_to_pack("payload.zip", of(&job, &["linux/amd64"], &["nested:1"])).await;
    failed.assert(
        ExitCode::Usage,
        &["nested:1` has no linux/amd64; it holds 1 index inside, which", "by digest"],
    );
    let empty = Image::index(&[]);
    job.source.put("empty", "1", &empty);
    let failed = job.fail_to_pack("payload.zip", of(&job, &["linux/amd64"], &["empty:1"])).await;
    failed.assert(ExitCode::Usage, &["empty:1` has no linux/amd64; it names no platform"]);
}

/// An index of one platform for three versions of its operating system.
fn windows() -> Image {
    let image = |seed| Image::oci_for("windows/amd64", &[random_layer(seed, 100)]);
    let index = Image::index(&[image(1), image(2), image(3)]);
    let mut document: Value = serde_json::from_slice(&index.manifest.raw).expect("JSON");
    for (n, version) in ["10.0.17763", "10.0.20348", "10.0.26100"].into_iter().enumerate() {
        document["manifests"][n]["platform"]["os.version"] = version.into();
    }
    let manifest = Manifest::parse(document.to_string().into(), None).expect("an index");
    Image { manifest, ..index }
}

#[tokio::test]
async fn versions_of_windows_are_told_apart_wherever_platforms_are_listed() {
    let job = Job::new();
    job.source.put("app", "1", &windows());
    let expected =
        ["windows(10.0.17763)/amd64", "windows(10.0.20348)/amd64", "windows(10.0.26100)/amd64"];
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let costs = &packed.summary.images[0].platforms;
    assert_eq!(costs.iter().map(|row| &row.platform).collect::<Vec<_>>(), expected);
    let lines = packed.summary.to_string();
    let row = lines.lines().find(|line| line.contains(expected[0])).expect("a row");
    assert_eq!(row.len(), lines.lines().next().expect("the heads").len(), "{lines}");
    assert_eq!(inspect(&packed.open()).images[0].platforms, expected);
    let failed = job.fail_to_pack("none.zip", of(&job, &["linux/amd64"], &["app:1"])).await;
    failed.assert(ExitCode::Usage, &expected);
}

#[tokio::test]
async fn versions_of_windows_that_are_left_are_named() {
    let job = Job::new();
    let windows = windows();
    job.source.put("app", "1", &windows);
    let packed = job.pack_as("payload.zip", of(&job, &["windows/amd64"], &["app:1"])).await;
    assert_told(
        &packed.warnings,
        &["app:1` has windows/amd64 for", "10.0.17763 is taken, left are 10.0.20348, 10.0.26100"],
    );
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(windows.children[0].digest()));
    // Nothing is to be told where there is no choice.
    let (job, _) = self::job();
    let packed = job.pack_as("payload.zip", of(&job, &["linux/amd64"], &["app:1"])).await;
    assert!(!packed.warnings.iter().any(|warning| warning.contains("versions")));
}
