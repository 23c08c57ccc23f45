//! Signatures and whatever else refers to an image: along by default, never dropped silently.

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::make::{Format, MakeRequest, Referrers};
use kharon::manifest::{Manifest, MediaType};
use kharon::push::{PushRequest, TagPolicy};
use serde_json::json;

use crate::kit::{Job, assert_told};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

fn without_api() -> Options {
    Options { no_referrers: true, ..Options::default() }
}

fn image(seed: u64) -> Image {
    Image::oci(&[random_layer(seed, 1000)])
}

fn note(of: &Image, text: &str) -> Image {
    Image::referrer(of, "application/x-note", text.as_bytes())
}

/// The fallback index of the specification, over the descriptors that a registry would list.
fn fallback(referrers: &[&Image]) -> Image {
    let manifests: Vec<_> = referrers
        .iter()
        .map(|image| {
            let descriptor = &image.manifest.descriptor;
            json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest,
                    "size": descriptor.size, "artifactType": "application/x-note" })
        })
        .collect();
    let document =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests });
    let manifest = Manifest::parse(document.to_string().into(), None).expect("an index");
    let children = referrers.iter().map(|image| (*image).clone()).collect();
    Image { manifest, blobs: Vec::new(), children, platform: None }
}

/// An index of `children` that refers to `subject`, without its children.
fn referring_index(subject: &Image, children: &[&Image]) -> Image {
    let index = fallback(children);
    let mut document: serde_json::Value =
        serde_json::from_slice(&index.manifest.raw).expect("an index");
    let descriptor = &subject.manifest.descriptor;
    document["subject"] = json!({ "mediaType": descriptor.media_type,
                                  "digest": descriptor.digest, "size": descriptor.size });
    let manifest = Manifest::parse(document.to_string().into(), None).expect("an index");
    Image { manifest, children: Vec::new(), ..index }
}

/// What a registry lists, by its API or by the fallback tag.
fn listed(registry: &TestRegistry, subject: &Image) -> Vec<Digest> {
    let repository = "app".parse().expect("a repository");
    let by_api =
        registry.server().layout().expect("a folder").referrers(&repository, subject.digest());
    let mut digests: Vec<Digest> = by_api.into_iter().map(|referrer| referrer.digest).collect();
    if let Some(raw) = registry.manifest("app", &subject.digest().tag_form()) {
        let index = Manifest::parse(raw, None).expect("an index");
        digests = index.children().iter().map(|child| child.digest.clone()).collect();
    }
    digests.sort();
    digests
}

fn sorted<'a>(images: impl IntoIterator<Item = &'a Image>) -> Vec<Digest> {
    let mut digests: Vec<Digest> = images.into_iter().map(|image| image.digest().clone()).collect();
    digests.sort();
    digests
}

/// `app:1` with two notes, one of which has a note of its own.
fn put_noted(registry: &TestRegistry, by_tag: bool) -> (Image, [Image; 3]) {
    let app = image(1);
    let (one, two) = (note(&app, "one"), note(&app, "two"));
    let deep = note(&one, "deep");
    registry.put("app", "1", &app);
    for referrer in [&one, &two, &deep] {
        registry.put("app", "", referrer);
    }
    if by_tag {
        registry.put("app", &app.digest().tag_form(), &fallback(&[&one, &two]));
        registry.put("app", &one.digest().tag_form(), &fallback(&[&deep]));
    }
    (app, [one, two, deep])
}

#[tokio::test]
async fn referrers_arrive_with_and_without_the_api_at_either_side() {
    for (source, far) in [
        (Options::default(), Options::default()),
        (Options::default(), without_api()),
        (without_api(), Options::default()),
        (without_api(), without_api()),
    ] {
        let by_tag = source.no_referrers;
        let job = Job::with(source, far);
        let (app, [one, two, deep]) = put_noted(&job.source, by_tag);
        let packed = job.pack("payload.zip", &["app:1"]).await;
        assert_eq!(packed.warnings, Vec::<String>::new());
        assert_eq!(packed.summary.images[0].referrers, 3);
        job.push(&packed.path).await;
        assert_eq!(listed(&job.far, &app), sorted([&one, &two]));
        assert_eq!(listed(&job.far, &one), sorted([&deep]));
        job.assert_arrived("app", &["1"]);
    }
}

#[tokio::test]
async fn the_fallback_index_is_merged_with_the_one_that_is_there() {
    let job = Job::with(Options::default(), without_api());
    let (app, [one, two, _]) = put_noted(&job.source, false);
    let own = note(&app, "of the far side");
    job.far.put("app", "1", &app);
    job.far.put("app", "", &own);
    job.far.put("app", &app.digest().tag_form(), &fallback(&[&own]));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    assert_eq!(listed(&job.far, &app), sorted([&one, &two, &own]));
    let raw = job.far.manifest("app", &app.digest().tag_form()).expect("an index");
    let text = String::from_utf8(raw.to_vec()).expect("text");
    assert!(text.contains("of a test"), "annotations are kept for those who choose by them");
}

#[tokio::test]
async fn cosign_tags_come_along() {
    let job = Job::new();
    let app = image(1);
    let signature = Image::cosign_signature(&app);
    let tags = ["sig", "att", "sbom"].map(|end| format!("{}.{end}", app.digest().tag_form()));
    job.source.put("app", "1", &app);
    for tag in &tags {
        job.source.put("app", tag, &signature);
    }
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    job.assert_arrived("app", &["1"]);
    for tag in &tags {
        assert_eq!(job.far.tagged("app", tag).as_ref(), Some(signature.digest()), "{tag}");
    }
}

#[tokio::test]
async fn a_cosign_tag_that_differs_is_kept_unless_forced() {
    let job = Job::new();
    let app = image(1);
    let tag = app.signature_tag();
    job.source.put("app", "1", &app);
    job.source.put("app", &tag, &Image::cosign_signature(&app));
    let own = image(2);
    job.far.put("app", &tag, &own);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let pushed = job.push(&packed.path).await;
    assert_told(&pushed.warnings, &[&tag, "left alone", "--force-tags"]);
    assert_eq!(pushed.report.exit_code(), ExitCode::Done);
    assert_eq!(job.far.tagged("app", &tag).as_ref(), Some(own.digest()));
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(app.digest()));
    let force = PushRequest { tag_policy: TagPolicy::Force, ..job.push_request() };
    job.push_as(&packed.path, force).await;
    assert_eq!(job.far.tagged("app", &tag), job.source.tagged("app", &tag));
}

#[tokio::test]
async fn a_signature_tag_that_is_refused_does_not_stop_the_other_tags() {
    let job = Job::new();
    let images: Vec<Image> = (1..=3).map(image).collect();
    for (n, image) in (1..).zip(&images) {
        job.source.put("app", &n.to_string(), image);
        job.source.put("app", &image.signature_tag(), &Image::cosign_signature(image));
    }
    let packed = job.pack("payload.zip", &["app:1", "app:2", "app:3"]).await;
    let refused = images[0].signature_tag();
    let forbidden = Effect::Status(403, Vec::new());
    job.far.fail(Fault::on("PUT", &format!("/manifests/{refused}"), forbidden).always());
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.report.exit_code(), ExitCode::Registry);
    assert_eq!(pushed.report.refused_tags.len(), 1);
    assert_eq!(pushed.report.refused_tags[0].tag.as_str(), refused);
    assert_eq!(job.far.tags("app").len(), 3 + 2);
    job.assert_arrived("app", &["1", "2", "3"]);
}

#[tokio::test]
async fn a_fallback_tag_that_is_refused_does_not_stop_the_tags() {
    let job = Job::with(Options::default(), Options { immutable_tags: true, ..without_api() });
    let (app, _) = put_noted(&job.source, false);
    let own = note(&app, "of the far side");
    job.far.put("app", "", &own);
    job.far.put("app", &app.digest().tag_form(), &fallback(&[&own]));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let pushed = job.push(&packed.path).await;
    assert_eq!(pushed.report.exit_code(), ExitCode::Registry);
    assert_eq!(pushed.report.refused_tags[0].tag.as_str(), app.digest().tag_form());
    assert_eq!(job.far.tagged("app", "1").as_ref(), Some(app.digest()));
    assert_eq!(listed(&job.far, &app), sorted([&own]));
}

#[tokio::test]
async fn referrers_that_are_left_are_counted() {
    let job = Job::new();
    let (app, _) = put_noted(&job.source, false);
    job.source.put("app", &app.signature_tag(), &Image::cosign_signature(&app));
    let request = MakeRequest { referrers: Referrers::Leave, ..job.request(&["app:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    assert_told(&packed.notes, &["3 manifests that refer to", "app:1", "are left, as asked"]);
    job.push(&packed.path).await;
    assert_eq!(listed(&job.far, &app), Vec::new());
    assert_eq!(job.far.tags("app"), ["1"]);
}

#[tokio::test]
async fn the_note_on_what_is_left_agrees_with_its_number_and_its_reason() {
    let job = Job::new();
    let app = Image::docker(&[random_layer(1, 100)]);
    job.source.put("app", "1", &app);
    job.source.put("app", "", &note(&app, "one"));
    let asked = MakeRequest { referrers: Referrers::Leave, ..job.request(&["app:1"]) };
    let packed = job.pack_as("asked.zip", asked).await;
    assert_told(&packed.notes, &["1 manifest that refers to", "app:1", "is left, as asked"]);
    let charon = MakeRequest { format: Format::Charon, ..job.request(&["app:1"]) };
    let packed = job.pack_as("charon.zip", charon).await;
    assert_told(&packed.notes, &["1 manifest that refers to", "docker-charon's format holds none"]);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_matters_only_where_referrers_travel() {
    let job = Job::with(without_api(), Options::default());
    job.source.put("app", "1", &image(1));
    let broken = Effect::Body("<html>".to_owned());
    job.source.fail(Fault::on("GET", "/manifests/sha256-", broken).always());
    let leave = MakeRequest { referrers: Referrers::Leave, ..job.request(&["app:1"]) };
    let packed = job.pack_as("payload.zip", leave).await;
    assert_told(&packed.warnings, &["cannot count what refers to", "app:1", "expected a manifest"]);
    let failed = job.fail_to_pack("failed.zip", job.request(&["app:1"])).await;
    failed.assert(ExitCode::Registry, &["cannot find what refers to", "app:1"]);
}

#[tokio::test]
async fn reading_fallback_tags_counts_against_a_quota() {
    let job = Job::with(without_api(), Options::default());
    put_noted(&job.source, true);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let asked = job.source.count("GET", "/manifests/");
    assert_eq!(packed.summary.manifest_requests, asked as u64);
}

#[tokio::test]
async fn referrers_of_each_platform_and_of_the_index_arrive() {
    let job = Job::new();
    let children = ["linux/amd64", "linux/arm64"]
        .map(|platform| Image::oci_for(platform, &[random_layer(5, 500)]));
    let index = Image::index(&children);
    job.source.put("app", "1", &index);
    let notes = [note(&index, "index"), note(&children[0], "amd64"), note(&children[1], "arm64")];
    for note in &notes {
        job.source.put("app", "", note);
    }
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    for (subject, note) in [&index, &children[0], &children[1]].into_iter().zip(&notes) {
        assert_eq!(listed(&job.far, subject), sorted([note]));
    }
    // One platform: the note on the index stays, and that is said.
    let platforms = vec!["linux/amd64".parse().expect("a platform")];
    let one = job.pack_as("one.zip", MakeRequest { platforms, ..job.request(&["app:1"]) }).await;
    assert_eq!(one.summary.images[0].referrers, 1);
    assert_told(&one.warnings, &["1 manifest refers to the index", "stays behind"]);
}

#[tokio::test]
async fn an_index_that_refers_and_lost_a_child_arrives_whatever_platforms_were_chosen() {
    const ALL: &[&str] = &[];
    for platforms in [ALL, &["linux/amd64"], &["linux/amd64", "linux/arm64"]] {
        let job =
            Job::with(Options::default(), Options { sparse_allowed: true, ..Options::default() });
        let children = ["linux/amd64", "linux/arm64", "linux/arm/v7"]
            .map(|platform| Image::oci_for(platform, &[random_layer(5, 500)]));
        job.source.put("app", "1", &Image::index(&children));
        let (kept, lost) = (image(6), image(7));
        let referrer = referring_index(&children[0], &[&kept, &lost]);
        job.source.put("app", "", &kept);
        job.source.put("app", "", &referrer);
        let platforms = platforms.iter().map(|text| text.parse().expect("a platform")).collect();
        let request = MakeRequest { platforms, ..job.request(&["app:1"]) };
        let packed = job.pack_as("payload.zip", request).await;
        assert_eq!(packed.open().index().images[0].absent, [lost.digest().clone()]);
        job.push(&packed.path).await;
        assert_eq!(listed(&job.far, &children[0]), sorted([&referrer]));
        assert!(job.far.manifest("app", &kept.digest().to_string()).is_some());
    }
}

#[tokio::test]
async fn a_list_that_lies_or_names_what_is_gone_is_not_believed() {
    let job = Job::with(without_api(), Options::default());
    let (app, other) = (image(1), image(2));
    let (honest, of_other, gone) = (note(&app, "yes"), note(&other, "no"), note(&app, "gone"));
    job.source.put("app", "1", &app);
    job.source.put("app", "2", &other);
    job.source.put("app", "", &honest);
    job.source.put("app", "", &of_other);
    let list = fallback(&[&honest, &of_other, &gone]);
    let list = Image { children: Vec::new(), ..list };
    job.source.put("app", &app.digest().tag_form(), &list);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_told(&packed.warnings, &[&of_other.digest().to_string(), "does not", "left"]);
    assert_told(&packed.warnings, &[&gone.digest().to_string(), "is not in `app`"]);
    assert_eq!(packed.summary.images[0].referrers, 1);
    job.push(&packed.path).await;
    assert_eq!(listed(&job.far, &app), sorted([&honest]));
}

#[tokio::test]
async fn manifests_that_refer_to_each_other_end_the_search() {
    let job = Job::new();
    let app = image(1);
    job.source.put("app", "1", &app);
    let mut last = app.clone();
    for n in 0..20 {
        last = note(&last, &n.to_string());
        job.source.put("app", "", &last);
    }
    let packed = job.pack("payload.zip", &["app:1"]).await;
    assert_eq!(packed.summary.images[0].referrers, 20);
    job.push(&packed.path).await;
    assert!(job.far.manifest("app", &last.digest().to_string()).is_some());
}

#[tokio::test]
async fn a_signature_on_a_child_that_is_also_an_attestation_keeps_its_tag() {
    let job = Job::new();
    let app = image(1);
    let attestation = Image::attestation(&app);
    let index = Image::index(&[app.clone(), attestation.clone()]);
    job.source.put("app", "1", &index);
    let tag = format!("{}.att", app.digest().tag_form());
    job.source.put("app", &tag, &attestation);
    let packed = job.pack("payload.zip", &["app:1"]).await;
    job.push(&packed.path).await;
    assert_eq!(job.far.tagged("app", &tag).as_ref(), Some(attestation.digest()));
}
