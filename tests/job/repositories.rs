//! Whole repositories and registries: every tag of them, from one registry to another.

use kharon::failure::ExitCode;
use kharon::make::{Format, MakeRequest, Referrers, Repositories, SourceRepository};
use kharon::registry::{CredentialStore, Credentials, Secret};

use crate::cli::Desk;
use crate::kit::{Job, Packed, assert_told, host};
use crate::support::access::{Access, Bearer};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

fn image(seed: u64) -> Image {
    Image::oci(&[random_layer(seed, 400)])
}

/// A request for all tags of these repositories; of the whole registry if none is named.
fn all_tags(job: &Job, repositories: &[&str]) -> MakeRequest {
    let registry = host(&job.source);
    let source = |name: &&str| SourceRepository {
        name: (*name).to_owned(),
        registry: registry.clone(),
        repository: name.parse().expect("a repository"),
    };
    let named: Vec<_> = repositories.iter().map(source).collect();
    let registries = if named.is_empty() { vec![registry.clone()] } else { Vec::new() };
    MakeRequest { repositories: Repositories { named, registries, tags: None }, ..job.request(&[]) }
}

/// The images of a payload.
fn names(packed: &Packed) -> Vec<String> {
    packed.open().index().images.iter().map(|image| image.name.clone()).collect()
}

fn matching(mut request: MakeRequest, regex: &str) -> MakeRequest {
    request.repositories.tags = Some(regex.parse().expect("a regular expression"));
    request
}

#[tokio::test]
async fn all_tags_of_a_repository_travel_and_the_tags_that_are_found() {
    let job = Job::new();
    for (seed, tag) in ["1.0", "1.1", "1.1-slim", "latest"].iter().enumerate() {
        job.source.put("team/app", tag, &image(seed as u64));
    }
    job.source.put("other", "1", &image(9));
    let packed = job.pack_as("all.zip", all_tags(&job, &["team/app"])).await;
    let expected = ["team/app:1.0", "team/app:1.1", "team/app:1.1-slim", "team/app:latest"];
    assert_eq!(names(&packed), expected);
    assert_eq!(packed.warnings, Vec::<String>::new());
    job.push(&packed.path).await;
    job.assert_arrived("team/app", &["1.0", "1.1", "1.1-slim", "latest"]);
    let request = matching(all_tags(&job, &["team/app"]), r"^\d+\.\d+$");
    assert_eq!(names(&job.pack_as("some.zip", request).await), expected[..2]);
    let request = matching(all_tags(&job, &["team/app"]), "slim");
    assert_eq!(names(&job.pack_as("found.zip", request).await), expected[2..3]);
}

#[tokio::test]
async fn a_whole_registry_that_wants_a_login_with_each_request_and_cuts_its_lists_arrives() {
    let nexus = Options {
        access: Access::Basic { username: "carol", password: "keep out" },
        lists_cut_at: Some(150),
        ..Options::default()
    };
    let job = Job::with(nexus, Options::default());
    let shared = image(1);
    let repositories: Vec<String> =
        (0..320).map(|number| format!("group-{}/nested/app-{number:03}", number % 7)).collect();
    for repository in &repositories {
        job.source.put(repository, "1", &shared);
    }
    let tags: Vec<String> = (0..310).map(|number| format!("v{number:03}")).collect();
    for tag in &tags {
        job.source.put("many", tag, &shared);
    }
    let login = Credentials::Basic {
        username: "carol".to_owned(),
        password: Secret::new("keep out".to_owned()),
    };
    let request = MakeRequest {
        credentials: CredentialStore::anonymous().with_explicit(host(&job.source), login),
        ..all_tags(&job, &[])
    };
    let packed = job.pack_as("all.zip", request).await;
    assert_eq!(names(&packed).len(), repositories.len() + tags.len());
    // 321 names and 310 by 150 are two cut pages, and one that is too short to be cut. The first request of
    // all learns that a login is wanted.
    assert_eq!(job.source.count("GET", "/_catalog"), 1 + 3);
    assert_eq!(job.source.count("GET", "/many/tags/list"), 3);
    job.push(&packed.path).await;
    for repository in &repositories {
        job.assert_arrived(repository, &["1"]);
    }
    assert_eq!(job.far.tags("many"), tags);
}

#[tokio::test]
async fn signatures_come_along_with_what_they_sign_and_alone_where_that_is_not_listed() {
    let job = Job::with(Options { no_referrers: true, ..Options::default() }, Options::default());
    let (signed, gone) = (image(1), image(2));
    job.source.put("app", "1", &signed);
    let signature = Image::cosign_signature(&signed);
    job.source.put("app", &signed.signature_tag(), &signature);
    job.source.put("app", &gone.signature_tag(), &Image::cosign_signature(&gone));
    let packed = job.pack_as("all.zip", all_tags(&job, &["app"])).await;
    assert_eq!(names(&packed), ["app:1", &format!("app:{}", gone.signature_tag())]);
    job.push(&packed.path).await;
    job.assert_arrived("app", &["1", &signed.signature_tag(), &gone.signature_tag()]);

    let request = MakeRequest { referrers: Referrers::Leave, ..all_tags(&job, &["app"]) };
    let packed = job.pack_as("without.zip", request).await;
    assert_eq!(names(&packed), ["app:1"]);
    assert_told(&packed.notes, &["2 tags of signatures", "are left"]);
}

#[tokio::test]
async fn what_a_registry_lists_and_does_not_have_is_left_with_a_warning() {
    let job = Job::new();
    job.source.put("app", "1", &image(1));
    job.source.put("app", "lost", &image(2));
    job.source.put("app", "strange", &image(3));
    let gone = Effect::Status(404, Vec::new());
    job.source.fail(Fault::on("GET", "/manifests/lost", gone).always());
    let strange = Effect::Body(r#"{"schemaVersion":7}"#.to_owned());
    job.source.fail(Fault::on("GET", "/manifests/strange", strange).always());
    let packed = job.pack_as("all.zip", all_tags(&job, &[])).await;
    assert_eq!(names(&packed), ["app:1"]);
    assert_told(&packed.warnings, &["`app:lost` is listed, and is left"]);
    assert_told(&packed.warnings, &["`app:strange` is listed, and is left"]);
    // One that was named is wanted.
    let request = MakeRequest { wanted: job.request(&["app:lost"]).wanted, ..all_tags(&job, &[]) };
    job.fail_to_pack("named.zip", request).await.assert(ExitCode::Registry, &["app:lost"]);
}

#[tokio::test]
async fn a_repository_that_may_not_be_read_is_left_or_an_error() {
    let hidden = Bearer { hidden: ["secret".to_owned()].into(), ..Bearer::default() };
    let access = Access::Bearer(hidden);
    let job = Job::with(Options { access, ..Options::default() }, Options::default());
    job.source.put("app", "1", &image(1));
    job.source.put("secret", "1", &image(2));
    let packed = job.pack_as("all.zip", all_tags(&job, &[])).await;
    assert_eq!(names(&packed), ["app:1"]);
    assert_told(&packed.warnings, &["cannot look into `secret`, which is left"]);
    let failed = job.fail_to_pack("named.zip", all_tags(&job, &["secret"])).await;
    failed.assert(ExitCode::Registry, &["secret"]);
    let failed = job.fail_to_pack("none.zip", all_tags(&job, &["nothing"])).await;
    failed.assert(ExitCode::Registry, &["`nothing`"]);
    let request = matching(all_tags(&job, &["app"]), "^2");
    let failed = job.fail_to_pack("unmatched.zip", request).await;
    failed.assert(ExitCode::Registry, &["`app` has 1 tag", "`--tag-regex` finds none"]);
}

#[tokio::test]
async fn a_run_that_was_torn_goes_on_without_listing_again() {
    let job = Job::new();
    job.source.put("app", "1", &image(1));
    job.source.put("app", "2", &image(2));
    job.source.fail(Fault::on("GET", "/blobs/", Effect::Status(403, Vec::new())).always());
    job.fail_to_pack("all.zip", all_tags(&job, &["app"])).await;
    job.source.heal();
    // Neither a new tag nor a moved one gets into a run that goes on.
    job.source.put("app", "3", &image(3));
    job.source.clear_journal();
    let packed = job.pack_as("all.zip", all_tags(&job, &["app"])).await;
    assert_eq!(names(&packed), ["app:1", "app:2"]);
    assert_eq!(job.source.count("GET", "/tags/list"), 0);
    // Another expression is another request.
    let request = matching(all_tags(&job, &["app"]), "^[23]$");
    assert_eq!(names(&job.pack_as("all.zip", request).await), ["app:2", "app:3"]);
}

#[tokio::test]
async fn docker_charons_format_holds_the_images() {
    let job = Job::new();
    let docker = Image::docker(&[random_layer(1, 400)]);
    job.source.put("app", "1", &docker);
    job.source.put("app", &docker.signature_tag(), &Image::cosign_signature(&docker));
    let request = MakeRequest { format: Format::Charon, ..all_tags(&job, &["app"]) };
    let packed = job.pack_as("charon.zip", request).await;
    assert_told(&packed.notes, &["1 tag of signatures"]);
    job.push(&packed.path).await;
    assert_eq!(job.far.tags("app"), ["1"]);
}

#[test]
fn the_command_takes_repositories_and_registries() {
    let (desk, source, far) = (Desk::new(), TestRegistry::start(), TestRegistry::start());
    for (repository, tag) in [("team/app", "1"), ("team/app", "2"), ("base", "9"), ("base", "x")] {
        source.put(repository, tag, &image(tag.len() as u64));
    }
    let make = |arguments: &[&str]| {
        let host = source.host();
        let common = ["make-payload", "-i", "-r", &host, "-f", "payload.zip"];
        desk.run(&[&common[..], arguments].concat())
    };
    make(&["--all-tags", "team/app, base:9"]).assert(ExitCode::Done);
    let ran = desk.run(&["push-payload", "-i", "-r", &far.host(), "-f", "payload.zip"]);
    ran.assert(ExitCode::Done);
    assert_eq!(ran.stdout, "base:9\nteam/app:1\nteam/app:2\n");
    make(&["--whole-registry", "--tag-regex", "^[0-9]$"]).assert(ExitCode::Done);
    let ran = desk.run(&["inspect", "payload.zip"]);
    for (name, is_there) in [("base:9", true), ("base:x", false), ("team/app:2", true)] {
        assert_eq!(ran.stdout.contains(name), is_there, "{}", ran.stdout);
    }
    for (arguments, part) in [
        (&["--tag-regex", "^1$", "team/app"][..], "--all-tags"),
        (&["--all-tags", "--tag-regex", "(", "team/app"], "--tag-regex"),
        (&["--all-tags"], "no image was named"),
    ] {
        let ran = make(arguments);
        ran.assert(ExitCode::Usage);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let ran = desk.run(&["make-payload", "--whole-registry", "-f", "payload.zip"]);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("Docker Hub does not list"), "{}", ran.stderr);
}
