//! What a push looks at, what it refuses, and in which order things become visible.

use kharon::failure::ExitCode;
use kharon::make::MakeRequest;
use kharon::names::TargetNames;
use kharon::push::{OnMissing, PushRequest, TagPolicy, VerifyFirst};

use crate::kit::{Job, Packed, assert_told, contents_sent, dangling, names};
use crate::support::access::{Access, Bearer};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

fn image(seed: u64) -> Image {
    Image::oci(&[random_layer(seed, 3000)])
}

fn strict(job: &Job) -> PushRequest {
    PushRequest { on_missing: OnMissing::Fail, ..job.push_request() }
}

/// Two upgrades over two base layers that the far side should have, and an image that needs nothing.
async fn upgrades(far: Options) -> (Job, Packed, [Blob; 2]) {
    let job = Job::with(Options::default(), far);
    let bases = [random_layer(1, 5000), random_layer(2, 5000)];
    for (name, base) in ["a", "b"].iter().zip(&bases) {
        job.source.put(name, "1", &Image::oci(std::slice::from_ref(base)));
        job.source.put(name, "2", &Image::oci(&[base.clone(), random_layer(9, 100)]));
    }
    job.source.put("c", "1", &image(3));
    let already_transferred = names(&job.source, &["a:1", "b:1"]);
    let request = MakeRequest { already_transferred, ..job.request(&["a:2", "b:2", "c:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    (job, packed, bases)
}

#[tokio::test]
async fn pre_flight_names_every_missing_blob_with_its_image() {
    let (job, packed, bases) = upgrades(Options::default()).await;
    let failed = job.fail_to_push(&packed.path, strict(&job)).await;
    for (name, base) in ["`a:2` lacks", "`b:2` lacks"].iter().zip(&bases) {
        failed.assert(ExitCode::BaselineMissing, &[name, &base.digest().to_string()]);
    }
    assert!(!failed.text.contains("c:1"));
    assert_eq!(contents_sent(&job.far), (0, 0));
    assert_eq!(job.far.count("POST", ""), 0);
}

#[tokio::test]
async fn without_strict_the_images_that_can_be_completed_are_pushed() {
    let (job, packed, bases) = upgrades(Options::default()).await;
    job.far.put("a", "1", &Image::oci(&[bases[0].clone()]));
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["a:2", "c:1"]);
    assert_eq!(pushed.report.exit_code(), ExitCode::BaselineMissing);
    assert_told(&pushed.warnings, &["`b:2` lacks", &bases[1].digest().to_string(), "`b`"]);
    assert_eq!(pushed.warnings.len(), 1);
    assert_eq!(job.far.count("", "/v2/b/blobs/uploads/"), 0);
    assert_eq!(job.far.tags("b"), Vec::<String>::new());
    job.assert_arrived("a", &["2"]);
}

#[tokio::test]
async fn prefix_and_rename_hold_for_expected_repositories_too() {
    let (job, packed, bases) = upgrades(Options::default()).await;
    for (name, base) in ["mirror/x", "mirror/b"].iter().zip(&bases) {
        job.far.put(name, "1", &Image::oci(std::slice::from_ref(base)));
    }
    let names = TargetNames {
        prefix: Some("mirror".parse().expect("a prefix")),
        renames: vec!["a=x".parse().expect("a rename")],
    };
    let pushed = job.push_as(&packed.path, PushRequest { names, ..strict(&job) }).await;
    assert_eq!(pushed.names(), ["a:2", "b:2", "c:1"]);
    for (far, source) in [("mirror/x", "a"), ("mirror/b", "b")] {
        assert_eq!(job.far.tagged(far, "2"), job.source.tagged(source, "2"));
    }
    assert!(job.far.tagged("mirror/c", "1").is_some());
    assert_eq!(dangling(&job.far), Vec::<String>::new());
}

#[tokio::test]
async fn a_repository_that_only_holds_expected_blobs_is_renamed_too() {
    let job = Job::new();
    let base = Image::oci(&[random_layer(1, 5000)]);
    job.source.put("base", "1", &base);
    let layers = [base.layers()[0].clone(), random_layer(2, 10)];
    job.source.put("app", "2", &Image::oci(&layers));
    let already_transferred = names(&job.source, &["base:1"]);
    let request = MakeRequest { already_transferred, ..job.request(&["app:2"]) };
    let packed = job.pack_as("payload.zip", request).await;
    job.far.put("mirror/ground", "1", &base);
    let names = TargetNames {
        prefix: Some("mirror".parse().expect("a prefix")),
        renames: vec!["base=ground".parse().expect("a rename")],
    };
    let pushed = job.push_as(&packed.path, PushRequest { names, ..strict(&job) }).await;
    assert_eq!(pushed.names(), ["app:2"]);
    assert_eq!(pushed.report.sent.mounted_blobs, 1);
}

#[tokio::test]
async fn repositories_that_would_meet_are_a_usage_error() {
    let (job, packed, _) = upgrades(Options::default()).await;
    let renames = vec!["a=c".parse().expect("a rename")];
    let names = TargetNames { prefix: None, renames };
    let failed = job.fail_to_push(&packed.path, PushRequest { names, ..job.push_request() }).await;
    failed.assert(ExitCode::Usage, &["`a` and `c` would both be `c`", "hint: change `--rename`"]);
    assert!(job.far.journal().is_empty());
}

#[tokio::test]
async fn a_repository_that_cannot_be_written_shows_before_any_blob() {
    let job = Job::new();
    for (n, name) in (1..).zip(["a", "b", "c"]) {
        job.source.put(name, "1", &image(n));
    }
    let packed = job.pack("payload.zip", &["a:1", "b:1", "c:1"]).await;
    for code in [403, 404, 405] {
        job.far.heal();
        job.far.clear_journal();
        let refused = || Effect::Status(code, Vec::new());
        for name in ["b", "c"] {
            let path = format!("/v2/{name}/blobs/uploads/");
            job.far.fail(Fault::on("POST", &path, refused()).always());
        }
        let failed = job.fail_to_push(&packed.path, job.push_request()).await;
        failed.assert(
            ExitCode::Registry,
            &["cannot write to repository `b`, nor to `c`", "nothing was sent", "hint: "],
        );
        assert_eq!(contents_sent(&job.far), (0, 0));
        // The session that could be opened is cancelled again.
        assert_eq!(job.far.count("DELETE", "/v2/a/blobs/uploads/"), 1);
    }
}

#[tokio::test]
async fn a_robot_that_may_only_read_shows_before_any_blob() {
    let bearer = Bearer { read_only: ["b".to_owned()].into(), ..Bearer::default() };
    let far = Options { access: Access::Bearer(bearer), ..Options::default() };
    let job = Job::with(Options::default(), far);
    job.source.put("a", "1", &image(1));
    job.source.put("b", "1", &image(2));
    let packed = job.pack("payload.zip", &["a:1", "b:1"]).await;
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::Registry, &["cannot write to repository `b`;", "nothing was sent"]);
    assert_eq!(contents_sent(&job.far), (0, 0));
}

#[tokio::test]
async fn an_expected_blob_is_copied_from_a_project_that_may_be_read_and_not_from_a_hidden_one() {
    let hidden = Bearer { hidden: ["base".to_owned()].into(), ..Bearer::default() };
    let far = Options { access: Access::Bearer(hidden), ..Options::default() };
    let job = Job::with(Options::default(), far);
    let base = random_layer(1, 5000);
    job.source.put("base", "1", &Image::oci(std::slice::from_ref(&base)));
    job.source.put("app", "2", &Image::oci(&[base.clone(), random_layer(2, 10)]));
    let already_transferred = names(&job.source, &["base:1"]);
    let request = MakeRequest { already_transferred, ..job.request(&["app:2"]) };
    let packed = job.pack_as("payload.zip", request).await;
    let pushed = job.push(&packed.path).await;
    assert_told(&pushed.warnings, &["cannot look into `base`"]);
    assert_told(&pushed.warnings, &["`app:2` lacks"]);
    job.far.put_blob("app", &base.bytes);
    assert_eq!(job.push_as(&packed.path, strict(&job)).await.names(), ["app:2"]);
}

#[tokio::test]
async fn a_refused_tag_does_not_stop_the_others() {
    let job = Job::with(Options::default(), Options { immutable_tags: true, ..Options::default() });
    let (old, images) = (image(10), [image(1), image(2), image(3)]);
    for (n, image) in (1..).zip(&images) {
        job.source.put("app", &n.to_string(), image);
    }
    job.far.put("app", "2", &old);
    let packed = job.pack("payload.zip", &["app:1", "app:2", "app:3"]).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.names(), ["app:1", "app:3"]);
    assert_eq!(pushed.report.exit_code(), ExitCode::Registry);
    let [refused] = pushed.report.refused_tags.as_slice() else { panic!("one refused tag") };
    assert_eq!((refused.name.as_str(), refused.tag.as_str()), ("app:2", "2"));
    assert!(refused.reason.contains("412"), "{}", refused.reason);
    assert_eq!(job.far.tagged("app", "2").as_ref(), Some(old.digest()));
    job.assert_arrived("app", &["1", "3"]);
}

#[tokio::test]
async fn a_tag_that_moves_says_from_what_to_what() {
    let job = Job::new();
    let (old, new) = (image(1), image(2));
    job.source.put("app", "1", &new);
    job.far.put("app", "1", &old);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let pushed = job.push(&packed.path).await;
    let said = format!("tag `app:1` moved from `{}` to `{}`", old.digest(), new.digest());
    assert_told(&pushed.notes, &[&said]);
    assert_eq!(pushed.report.exit_code(), ExitCode::Done);
}

#[tokio::test]
async fn a_tag_that_somebody_else_moved_is_kept_unless_forced() {
    let job = Job::new();
    let (old, new, other) = (image(1), image(2), image(3));
    job.source.put("app", "1", &old);
    let former = job.pack("1.zip", &["app:1"]).await;
    job.push(&former.path).await;
    job.source.put("app", "1", &new);
    let against = vec![former.path.clone()];
    let request = MakeRequest { against, ..job.request(&["app:1"]) };
    let packed = job.pack_as("2.zip", request).await;

    job.far.put("app", "1", &other);
    let pushed = job.push(&packed.path).await;
    assert_eq!((pushed.names(), pushed.report.exit_code()), (vec![], ExitCode::Registry));
    assert_eq!(&pushed.report.kept_tags[0].found, other.digest());
    assert_told(&pushed.warnings, &["tag `app:1` names", "left alone", "`--force-tags`"]);
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(other.digest()));

    let force = PushRequest { tag_policy: TagPolicy::Force, ..job.push_request() };
    let pushed = job.push_as(&packed.path, force).await;
    assert_eq!(pushed.names(), ["app:1"]);
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(new.digest()));

    // Where it names what it named before, it moves.
    job.far.put("app", "1", &old);
    assert_eq!(job.push(&packed.path).await.report.exit_code(), ExitCode::Done);
}

#[tokio::test]
async fn a_blob_that_vanishes_before_tags_move_keeps_every_tag_where_it_was() {
    let job = Job::new();
    let (one, two) = (image(1), image(2));
    job.source.put("app", "1", &one);
    job.source.put("app", "2", &two);
    let packed = job.pack("payload.zip", &["app:1", "app:2"]).await;
    let gone = two.layers()[0].digest().to_string();
    // The first look finds nothing there, the second is the last look before tags move.
    let missing = Effect::Status(404, Vec::new());
    job.far.fail(Fault::on("HEAD", &gone, missing).always());
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::Registry, &[&gone, "has vanished from `app`", "no tag was moved"]);
    assert_eq!(job.far.tags("app"), Vec::<String>::new());
}

#[tokio::test]
async fn a_manifest_that_is_refused_keeps_every_tag_where_it_was() {
    let job = Job::new();
    job.source.put("app", "1", &image(1));
    let two = image(2);
    job.source.put("app", "2", &two);
    let packed = job.pack("payload.zip", &["app:1", "app:2"]).await;
    let path = format!("/manifests/{}", two.digest());
    job.far.fail(Fault::on("PUT", &path, Effect::Status(400, Vec::new())).always());
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::Registry, &[&two.digest().to_string(), "refused"]);
    assert_eq!(job.far.tags("app"), Vec::<String>::new());
}

/// Changes one byte of a blob inside of the payload.
fn damage(packed: &Packed, blob: &Blob) {
    let mut bytes = packed.bytes();
    let at = bytes.windows(64).position(|found| *found == blob.bytes[..64]).expect("it is there");
    bytes[at + 1000] ^= 1;
    std::fs::write(&packed.path, bytes).expect("written");
}

#[tokio::test]
async fn damaged_content_never_becomes_visible() {
    let job = Job::new();
    let (good, bad) = (image(1), Image::oci(&[random_layer(2, 500_000)]));
    job.source.put("app", "1", &good);
    job.source.put("app", "2", &bad);
    let packed = job.pack("payload.zip", &["app:1", "app:2"]).await;
    let layer = &bad.layers()[0];
    damage(&packed, layer);
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::PayloadDamaged, &[&layer.digest().to_string(), "source is damaged"]);
    assert!(!job.far.has_blob("app", layer.digest()));
    assert_eq!(job.far.tags("app"), Vec::<String>::new());
    assert_eq!(contents_sent(&job.far).1, 0);
}

#[tokio::test]
async fn a_payload_that_is_verified_first_sends_nothing_when_it_is_damaged() {
    let job = Job::new();
    let bad = Image::oci(&[random_layer(2, 500_000)]);
    job.source.put("app", "1", &bad);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let verify = || PushRequest { verify_first: VerifyFirst::Everything, ..job.push_request() };
    job.push_as(&packed.path, verify()).await;
    job.far.clear_journal();
    damage(&packed, &bad.layers()[0]);
    let failed = job.fail_to_push(&packed.path, verify()).await;
    failed.assert(ExitCode::PayloadDamaged, &["1 problem", "nothing was sent"]);
    assert!(job.far.journal().is_empty());
}

#[tokio::test]
async fn a_proxy_that_takes_only_small_bodies_gets_small_ones() {
    let far = Options { body_max_bytes: Some(1_500_000), ..Options::default() };
    let job = Job::with(Options::default(), far);
    job.source.put("app", "1", &Image::oci(&[random_layer(1, 5_000_000)]));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    job.assert_arrived("app", &["1"]);
    let patches = job.far.exchanges("PATCH", "/v2/app/");
    let sent: Vec<_> = patches.iter().filter(|patch| patch.status == 202).collect();
    assert!(sent.len() >= 4, "{}", sent.len());
    assert!(sent.iter().all(|patch| patch.request_body_bytes <= 1_500_000));
}

#[tokio::test]
async fn content_is_in_before_manifests_and_manifests_before_tags() {
    let job = Job::new();
    let children = ["linux/amd64", "linux/arm64"]
        .map(|platform| Image::oci_for(platform, &[random_layer(5, 500)]));
    job.source.put("app", "1", &Image::index(&children));
    job.source.put("app", "2", &image(1));
    let packed = job.pack("payload.zip", &["app:1", "app:2"]).await;
    job.push(&packed.path).await;
    let journal = job.far.journal();
    let step = |exchange: &&crate::support::journal::Exchange| {
        let manifest = exchange.method == "PUT" && exchange.path.contains("/manifests/");
        match (manifest, exchange.path.contains("sha256:")) {
            (false, _) if exchange.method == "PUT" => Some(0),
            (true, true)
                if exchange.content_type.as_deref().is_some_and(|t| t.contains("index")) =>
            {
                Some(2)
            }
            (true, true) => Some(1),
            (true, false) => Some(3),
            _ => None,
        }
    };
    let steps: Vec<i32> = journal.iter().filter_map(|exchange| step(&exchange)).collect();
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(steps.iter().filter(|step| **step == 3).count(), 2);
}

#[tokio::test]
async fn a_far_registry_that_is_none_is_said_to_be_none() {
    let job = Job::new();
    job.source.put("app", "1", &image(1));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.far.fail(Fault::on("", "", Effect::Status(404, Vec::new())).always());
    let failed = job.fail_to_push(&packed.path, job.push_request()).await;
    failed.assert(ExitCode::Registry, &["does not have its API at `/v2/`"]);
}

#[tokio::test]
async fn uploads_find_their_sessions_however_they_are_named() {
    use crate::support::registry::Locations;
    for locations in [Locations::Absolute, Locations::WithState] {
        let far = Options { locations, mounts_refused: true, ..Options::default() };
        let job = Job::with(Options::default(), far);
        let shared = random_layer(1, 3000);
        job.source.put("a", "1", &Image::oci(std::slice::from_ref(&shared)));
        job.source.put("b", "1", &Image::oci(&[shared, random_layer(2, 10)]));
        let packed = job.pack("payload.zip", &["a:1", "b:1"]).await;
        job.push(&packed.path).await;
        job.assert_arrived("a", &["1"]);
        job.assert_arrived("b", &["1"]);
        job.far.assert_no_violations();
    }
}

#[tokio::test]
async fn registries_that_tell_no_digest_are_asked_for_the_manifest() {
    let silent = || Options { no_content_digest: true, ..Options::default() };
    let job = Job::with(silent(), silent());
    job.source.put("app", "1", &image(1));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    job.far.clear_journal();
    let again = job.push(&packed.path).await;
    assert_eq!(contents_sent(&job.far), (0, 0));
    assert_eq!(again.names(), ["app:1"]);
}

#[tokio::test]
async fn a_push_to_one_registry_never_asks_another() {
    let job = Job::new();
    let bystander = TestRegistry::start();
    job.source.put("app", "1", &image(1));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.source.clear_journal();
    job.push(&packed.path).await;
    assert!(job.source.journal().is_empty());
    assert!(bystander.journal().is_empty());
}
