//! What a walk through a registry finds, and what it does about what it does not find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kharon::failure::ExitCode;
use kharon::inventory::{InventoryRequest, inventory};
use kharon::progress::Recorder;
use kharon::receipt::{Kind, Receipt};
use kharon::registry::{CredentialStore, Credentials, Secret};

use crate::cli::Desk;
use crate::kit::{Failed, assert_told, connections, host};
use crate::receipts::{against, blobs, digests, in_repository, tags, upgrade};
use crate::support::access::{Access, Bearer};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

fn request(far: &TestRegistry, repositories: &[&str]) -> InventoryRequest {
    InventoryRequest {
        repositories: repositories.iter().map(|name| name.parse().expect("valid")).collect(),
        connections: connections(&[far]),
        ..InventoryRequest::new(host(far))
    }
}

/// The inventory, and the warnings.
async fn walk(request: InventoryRequest) -> anyhow::Result<(Receipt, Vec<String>)> {
    let recorder = Arc::new(Recorder::default());
    let found = inventory(request, recorder.clone()).await?;
    Ok((found, recorder.warnings()))
}

async fn all(far: &TestRegistry) -> (Receipt, Vec<String>) {
    walk(request(far, &[])).await.expect("an inventory")
}

fn listed(inventory: &Receipt) -> Vec<&str> {
    inventory.repositories.iter().map(|repository| repository.name.as_str()).collect()
}

#[tokio::test]
async fn the_next_payload_carries_what_the_inventory_does_not_list() {
    let (job, [old, new]) = upgrade();
    let first = job.pack("1.zip", &["app:1"]).await;
    job.push(&first.path).await;
    let (found, warnings) = all(&job.far).await;
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((found.kind, found.registry.to_string()), (Kind::Inventory, job.far.host()));
    let app = in_repository(&found, "app");
    assert_eq!(tags(app), BTreeMap::from([("1", old.digest())]));
    assert_eq!(
        (&app.manifests[..], blobs(app)),
        (&[old.manifest.descriptor.clone()][..], digests(&old.blobs))
    );
    std::fs::write(job.path("far.json"), found.to_json().expect("JSON")).expect("written");
    let packed = job.pack_as("2.zip", against(&job, &["app:2"], &["far.json"])).await;
    assert_eq!(packed.expected(), [old.layers()[0].digest().clone()]);
    assert_eq!(packed.open().index().baselines[0].digest, *old.layers()[1].digest());
    // A former payload proves the same, so that the new one has the same bytes.
    let by_payload = job.pack_as("3.zip", against(&job, &["app:2"], &["1.zip"])).await;
    assert_eq!(packed.expected(), by_payload.expected());
    job.push(&packed.path).await;
    job.assert_arrived("app", &["1", "2"]);
    let (found, _) = all(&job.far).await;
    let expected: BTreeSet<_> = digests(&[old.blobs, new.blobs].concat());
    assert_eq!(blobs(in_repository(&found, "app")), expected);
}

#[tokio::test]
async fn indexes_are_followed_and_each_manifest_and_blob_is_asked_for_once() {
    let far = TestRegistry::start();
    let base = random_layer(1, 100);
    let child = |platform, seed| Image::oci_for(platform, &[base.clone(), random_layer(seed, 10)]);
    let index = Image::index(&[child("linux/amd64", 2), child("linux/arm64", 3)]);
    for tag in ["1", "latest"] {
        far.put("app", tag, &index);
    }
    far.put("single", "1", &index.children[0]);
    let (found, warnings) = all(&far).await;
    assert_eq!(warnings, Vec::<String>::new());
    let app = in_repository(&found, "app");
    assert_eq!(tags(app), BTreeMap::from([("1", index.digest()), ("latest", index.digest())]));
    assert_eq!((app.manifests.len(), blobs(app)), (3, digests(&index.all_blobs())));
    // By tag twice, each child once; the base is in two repositories.
    assert_eq!(far.count("GET", "/v2/app/manifests/"), 4);
    assert_eq!(far.count("HEAD", "/blobs/"), index.all_blobs().len() + 3);
    assert_eq!(far.count("HEAD", &base.digest().to_string()), 2);
    assert_eq!(far.count("GET", "/blobs/"), 0);
}

#[tokio::test]
async fn repositories_may_be_named_or_lie_below_a_prefix() {
    let far = TestRegistry::start();
    for name in ["a", "hub", "hub/a", "hub/b", "hubs/a"] {
        far.put(name, "1", &Image::oci(&[random_layer(1, 10)]));
    }
    assert_eq!(listed(&all(&far).await.0), ["a", "hub", "hub/a", "hub/b", "hubs/a"]);
    far.clear_journal();
    let (found, warnings) = walk(request(&far, &["hub/a", "nowhere"])).await.expect("found");
    assert_eq!(listed(&found), ["hub/a"]);
    assert_told(&warnings, &["`nowhere` is not there"]);
    assert_eq!(far.count("", "_catalog"), 0);
    for names in [&[][..], &["a", "b"]] {
        let prefix = Some("hub".parse().expect("valid"));
        let (found, _) =
            walk(InventoryRequest { prefix, ..request(&far, names) }).await.expect("found");
        assert_eq!(listed(&found), ["hub/a", "hub/b"]);
        let in_payloads = found.repositories.iter().map(|x| x.name_in_payloads().as_str());
        assert_eq!(in_payloads.collect::<Vec<_>>(), ["a", "b"]);
    }
}

#[tokio::test]
async fn a_closed_catalog_is_an_error_that_says_what_to_do() {
    let far = TestRegistry::start();
    far.put("app", "1", &Image::oci(&[random_layer(1, 10)]));
    for status in [400, 401, 403, 404, 405, 501] {
        far.heal();
        far.fail(Fault::on("GET", "/_catalog", Effect::Status(status, Vec::new())).always());
        let failed = Failed::of(walk(request(&far, &[])).await);
        let hint = format!("hint: name them: `kharon inventory -r {} REPOSITORY…`", far.host());
        failed.assert(ExitCode::Registry, &["does not list its repositories", &hint]);
        let (found, _) = walk(request(&far, &["app"])).await.expect("found");
        assert_eq!(listed(&found), ["app"]);
    }
    let (empty, warnings) = all(&TestRegistry::start()).await;
    assert_eq!(listed(&empty), Vec::<&str>::new());
    assert_told(&warnings, &["lists no repositories", "name them"]);
}

#[tokio::test]
async fn a_token_for_the_catalog_is_asked_for_and_what_is_hidden_is_left() {
    let login = Some(("me", "horse"));
    let bearer = Bearer { login, hidden: ["secret".to_owned()].into(), ..Bearer::default() };
    let far =
        TestRegistry::start_with(Options { access: Access::Bearer(bearer), ..Options::default() });
    for name in ["app", "secret"] {
        far.put(name, "1", &Image::oci(&[random_layer(1, 10)]));
    }
    let request = |names: &[&str]| {
        let login =
            Credentials::Basic { username: "me".to_owned(), password: Secret::new("horse") };
        let credentials = CredentialStore::anonymous().with_explicit(host(&far), login);
        InventoryRequest { credentials, ..request(&far, names) }
    };
    let (found, warnings) = walk(request(&[])).await.expect("found");
    assert_eq!(listed(&found), ["app"]);
    assert_told(&warnings, &["cannot look into `secret`"]);
    Failed::of(walk(request(&["secret"])).await).assert(ExitCode::Registry, &["denied"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_listed() {
    let far = TestRegistry::start_with(Options { sparse_allowed: true, ..Options::default() });
    let image = |seed| Image::oci(&[random_layer(seed, 10)]);
    let lost = random_layer(20, 10);
    far.put("app", "whole", &image(1));
    far.put("app", "lacking", &Image::oci(&[lost.clone(), random_layer(2, 10)]));
    far.forget_blob("app", lost.digest());
    for tag in ["gone", "strange", "damaged"] {
        far.put("app", tag, &image(u64::from(tag.as_bytes()[0])));
    }
    let [kept, absent] = [3, 4].map(|seed| Image::oci(&[random_layer(seed, 10)]));
    let sparse = Image::index(&[kept.clone(), absent.clone()]);
    far.put("app", "sparse", &Image { children: vec![kept.clone()], ..sparse.clone() });
    far.put("vanished", "1", &image(5));
    let on = |path: &str, effect| Fault::on("GET", path, effect).always();
    far.fail(on("/manifests/gone", Effect::Status(404, Vec::new())));
    far.fail(on("/manifests/strange", Effect::Body(r#"{"schemaVersion":1}"#.to_owned())));
    far.fail(on("/manifests/damaged", Effect::Corrupt(30)));
    far.fail(on("/v2/vanished/tags/", Effect::Status(404, Vec::new())));
    let (found, warnings) = all(&far).await;
    assert_eq!(listed(&found), ["app"]);
    let app = in_repository(&found, "app");
    let names: Vec<&str> = tags(app).into_keys().collect();
    assert_eq!(names, ["lacking", "sparse", "strange", "whole"]);
    assert_eq!(
        app.manifests.len(),
        4,
        "without what cannot be read, and with the child that is there"
    );
    assert!(!blobs(app).contains(lost.digest()));
    assert_eq!(app.blobs.len(), 3 * 2);
    for parts in [
        ["`app:gone` is not listed", "404"],
        ["no blobs of `app:strange` are listed", "schema 1"],
        ["`app:damaged` is not listed", "damaged"],
        ["1 blob of `app` not there", &lost.digest().to_string()],
        ["`vanished` is not there", "not listed"],
    ] {
        assert_told(&warnings, &parts);
    }
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
}

#[tokio::test]
async fn a_blob_of_another_size_is_not_listed() {
    let far = TestRegistry::start();
    let image = Image::oci(&[random_layer(1, 10)]);
    far.put("app", "1", &image);
    let digest = image.layers()[0].digest().to_string();
    let shorter = Effect::Header("content-length", Some("3".to_owned()));
    far.fail(Fault::on("HEAD", &digest, shorter).always());
    let (found, warnings) = all(&far).await;
    assert_eq!(blobs(in_repository(&found, "app")), digests(&image.blobs[..1]));
    assert_told(&warnings, &["not as large as manifests say", &digest]);
}

#[tokio::test]
async fn a_failure_that_stays_ends_the_walk() {
    let far = TestRegistry::start();
    far.put("app", "1", &Image::oci(&[random_layer(1, 10)]));
    for path in ["/v2/", "_catalog", "/tags/", "/manifests/", "/blobs/"] {
        far.heal();
        far.fail(Fault::on("", path, Effect::Status(503, Vec::new())).times(2));
        assert_eq!(listed(&all(&far).await.0), ["app"], "{path} passes by");
        far.fail(Fault::on("", path, Effect::Status(503, Vec::new())).always());
        Failed::of(walk(request(&far, &[])).await).assert(ExitCode::Registry, &["503"]);
    }
}

#[test]
fn an_inventory_goes_to_a_file_or_to_stdout() {
    let (far, desk) = (TestRegistry::start(), Desk::new());
    far.put("app", "1", &Image::oci(&[random_layer(1, 10)]));
    let to_stdout = desk.run(&["inventory", "-r", &far.host()]);
    let document = to_stdout.assert(ExitCode::Done).json();
    assert_eq!(document["repositories"][0]["name"], "app");
    let last = to_stdout.stderr.lines().last().expect("a line");
    assert!(last.contains("has 1 repository with 1 tag, 1 manifest and 2 blobs ("), "{last}");
    let to_file = desk.run(&["inventory", "-r", &far.host(), "-f", "far.json", "app"]);
    assert_eq!(to_file.assert(ExitCode::Done).stdout, "");
    let written = std::fs::read(desk.path("far.json")).expect("a file");
    // A walk that fails leaves the file.
    far.fail(Fault::on("", "/tags/", Effect::Status(500, Vec::new())).always());
    desk.run(&["inventory", "-r", &far.host(), "-f", "far.json"]).assert(ExitCode::Registry);
    assert_eq!(std::fs::read(desk.path("far.json")).expect("a file"), written);
    let nobody = desk.run(&["inventory", "-f", "far.json"]);
    assert!(nobody.assert(ExitCode::Usage).stderr.contains("no registry was named"));
}
