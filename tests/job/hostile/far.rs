//! What a far registry can do to push-payload and inventory.

use std::sync::Arc;

use kharon::failure::ExitCode;
use kharon::inventory::{InventoryRequest, inventory};
use kharon::make::MakeRequest;
use kharon::progress::Recorder;
use kharon::push::PushRequest;

use super::scene::{
    NOWHERE, ONE, Said, answer, header, impatient, layer, new_image, new_index, old_image, on,
    other_digest, page, status,
};
use crate::kit::{Job, dangling, host, names, push};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

/// What is pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    /// All of the new image.
    Whole,
    /// What the old image lacks, with a delta; and an image in another repository with the old one's layer.
    Upgrade,
    /// An index in place of the image.
    Index,
}

/// One way in which a far registry misbehaves.
struct Row {
    name: &'static str,
    payload: Payload,
    options: Options,
    faults: Vec<Fault>,
}

fn row(name: &'static str, fault: Fault) -> Row {
    Row { name, payload: Payload::Whole, options: Options::default(), faults: vec![fault] }
}

fn upgrade(name: &'static str, fault: Fault) -> Row {
    Row { payload: Payload::Upgrade, ..row(name, fault) }
}

fn index(name: &'static str, fault: Fault) -> Row {
    Row { payload: Payload::Index, ..row(name, fault) }
}

fn uploads() -> Vec<Row> {
    let post = |effect| on("POST", "/blobs/uploads/", effect);
    let put = |effect| on("PUT", "/blobs/uploads/", effect);
    // Chunks have at least a mebibyte.
    let small = || Options { body_max_bytes: Some(1_200_000), ..Options::default() };
    let chunked = |name, fault| Row { options: small(), ..row(name, fault) };
    let nothing = Options { body_max_bytes: Some(10), ..Options::default() };
    vec![
        row("an upload without an address", post(status(202, &[]))),
        row(
            "an upload at an address where nobody listens",
            post(status(202, &[("location", NOWHERE)])),
        ),
        row("an upload at an address that is none", post(status(202, &[("location", "http://[")]))),
        row("an upload into a file", post(status(202, &[("location", "file:///etc/passwd")]))),
        row("an upload that is a login page", post(page(200))),
        row("an upload that is done before it begins", post(status(201, &[]))),
        row(
            "a redirect of uploads to where nobody listens",
            put(status(307, &[("location", NOWHERE)])),
        ),
        row("blobs that are taken and not kept", put(status(201, &[]))),
        row("an upload whose answer is a login page", put(page(200))),
        row("an upload whose answer has no end", put(Effect::Endless)),
        row("an upload that is forgotten again and again", put(status(404, &[]))),
        row("an upload that nobody answers", put(Effect::Hang)),
        row("an upload that nobody reads", put(Effect::StallRequestAfter(100))),
        row("an upload that breaks off again and again", put(Effect::CutRequestAfter(100))),
        row("a digest that the registry does not find", put(status(400, &[]))),
        row("too many requests for ever", post(status(429, &[("retry-after", "0")]))),
        row("an upload that fails for ever", put(status(500, &[]))),
        Row {
            options: nothing,
            ..row("too large however small", on("PATCH", "", status(413, &[])))
        },
        chunked(
            "a chunk that holds more than was sent",
            on("PATCH", "", header("range", "0-99999999")),
        ),
        chunked("a chunk that holds less than nothing", on("PATCH", "", header("range", "0-0"))),
        chunked(
            "a chunk whose next address is elsewhere",
            on("PATCH", "", header("location", NOWHERE)),
        ),
        chunked("a chunk that is taken and not kept", on("PATCH", "", status(202, &[]))),
        row("a session that cannot be cancelled", on("DELETE", "", status(500, &[]))),
    ]
}

fn presence() -> Vec<Row> {
    let (old, new) = (old_image(), new_image());
    let expected = layer(&old, 0);
    let changed = layer(&old, 1);
    let carried = layer(&new, 2);
    let carried_bytes = new.layers()[2].bytes.len().to_string();
    let refusing = Options { mounts_refused: true, ..Options::default() };
    vec![
        row("a registry that answers everything with a login page", on("", "", page(200))),
        row(
            "a registry that redirects everything to a login page",
            on("", "", answer(302, &[("location", "/login")], "")),
        ),
        row(
            "a blob that is said to be there",
            on("HEAD", &carried, answer(200, &[("content-length", &carried_bytes)], "")),
        ),
        row(
            "a blob of another size that is said to be there",
            on("HEAD", &carried, answer(200, &[("content-length", "5")], "")),
        ),
        upgrade("an old layer that only HEAD has", on("GET", &changed, status(404, &[]))),
        upgrade("an old layer with a wrong byte", on("GET", &changed, Effect::Corrupt(1000))),
        upgrade("an old layer that is a login page", on("GET", &changed, page(200))),
        upgrade("an old layer without end", on("GET", &changed, Effect::Endless)),
        upgrade("a mount that is none", on("POST", "mount=", status(201, &[]))),
        upgrade("a mount that fails for ever", on("POST", "mount=", status(500, &[]))),
        upgrade("a mount that is a login page", on("POST", "mount=", page(200))),
        Row {
            options: refusing.clone(),
            ..upgrade(
                "a layer to be copied with a wrong byte",
                on("GET", &expected, Effect::Corrupt(1000)),
            )
        },
        Row {
            options: refusing,
            ..upgrade(
                "a layer to be copied that ends early",
                on("GET", &expected, answer(200, &[], "short")),
            )
        },
    ]
}

fn manifests() -> Vec<Row> {
    let by_digest = |effect| on("PUT", "/manifests/sha256:", effect);
    let by_tag = |effect| on("PUT", "/manifests/1", effect);
    let digest = new_image().digest().to_string();
    let child = new_index().children[0].digest().to_string();
    let there = |digest: &str| status(200, &[("docker-content-digest", digest)]);
    let immutable = Options { immutable_tags: true, ..Options::default() };
    vec![
        row("manifests that are taken and not kept", by_digest(status(201, &[]))),
        index("manifests of an index that are taken and not kept", by_digest(status(201, &[]))),
        row("a manifest that is said to be there", on("HEAD", &digest, there(&digest))),
        index("a child of an index that is said to be there", on("HEAD", &child, there(&child))),
        row("a manifest that is said to be another", on("HEAD", &digest, there(&other_digest()))),
        row(
            "a manifest that is stored under another digest",
            by_digest(header("docker-content-digest", &other_digest())),
        ),
        row("manifests that fail for ever", by_digest(status(500, &[]))),
        row("manifests that are refused", by_digest(status(400, &[]))),
        row("manifests that are answered with a login page", by_digest(page(200))),
        row("a tag that is taken and not kept", by_tag(status(201, &[]))),
        row("a tag that is answered with a login page", by_tag(page(200))),
        row(
            "a tag that is set to something else",
            by_tag(header("docker-content-digest", &other_digest())),
        ),
        row("a tag that fails for ever", by_tag(status(503, &[]))),
        row(
            "a tag that needs a login",
            by_tag(status(401, &[("www-authenticate", "Basic realm=\"x\"")])),
        ),
        row(
            "a tag that is said to name another image",
            on("HEAD", "/manifests/1", there(&other_digest())),
        ),
        Row { options: immutable, ..row("a tag that may not move", on("", "/nothing", page(200))) },
    ]
}

/// What a user sees of each row.
pub async fn all() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for row in [uploads(), presence(), manifests()].into_iter().flatten() {
        all.push((row.name, said_of(row).await));
    }
    all
}

/// The payload, and the image that `app:1` is to name.
async fn packed(job: &Job, payload: Payload) -> (std::path::PathBuf, Image) {
    job.source.put("app", "0", &old_image());
    let image = if payload == Payload::Index { new_index() } else { new_image() };
    job.source.put("app", "1", &image);
    job.source.put("tool", "1", &Image::docker(&[random_layer(1, 20_000)]));
    let request = match payload {
        Payload::Whole | Payload::Index => job.request(&["app:1"]),
        Payload::Upgrade => MakeRequest {
            already_transferred: names(&job.source, &["app:0"]),
            ..job.request(&["app:1", "tool:1"])
        },
    };
    (job.pack_as("payload.zip", request).await.path, image)
}

async fn said_of(row: Row) -> String {
    let Row { name, payload, options, faults } = row;
    let job = Job { far: TestRegistry::start_with(options), ..Job::new() };
    let (path, image) = packed(&job, payload).await;
    let old = old_image();
    job.far.put("app", "1", &old);
    for fault in faults {
        job.far.fail(fault);
    }
    let request =
        || PushRequest { connections: impatient(&job.far), jobs: ONE, ..job.push_request() };
    let mut said = Said::new(&job);
    let code = match push(&path, request()).await {
        Ok(pushed) => {
            let report = &pushed.report;
            said.code(report.exit_code()).warnings(&pushed.warnings);
            for refused in &report.refused_tags {
                said.line(&format!(
                    "refused tag: {}:{}: {}",
                    refused.repository, refused.tag, refused.reason
                ));
            }
            report.exit_code()
        }
        Err(error) => {
            said.error(&error);
            ExitCode::of(&error)
        }
    };
    let now = job.far.tagged("app", "1").expect("a tag");
    let is_new = now == *image.digest();
    assert!(is_new || now == *old.digest(), "{name}: the tag names `{now}`");
    match (code, is_new) {
        (ExitCode::Done, false) => said.line("(the tag names the old image)"),
        (ExitCode::Done, true) | (_, false) => &mut said,
        (_, true) => said.line("(the tag names the new image)"),
    };
    assert_eq!(dangling(&job.far), Vec::<String>::new(), "{name}");
    job.far.heal();
    if !matches!(name, "too large however small" | "a tag that may not move") {
        push(&path, request()).await.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        job.assert_arrived("app", &["1"]);
    }
    said.told()
}

/// What a user sees where a registry is walked.
pub async fn all_inventories() -> Vec<(&'static str, String)> {
    let next = |path: &str| format!("<{path}>; rel=\"next\"");
    let listed = |link: &str, text: &str| answer(200, &[("link", link)], text.to_owned());
    let repositories = r#"{"repositories":["app"]}"#;
    let tags = r#"{"name":"app","tags":["1"]}"#;
    let rows = [
        (
            "a catalog whose next page is itself",
            on("GET", "/v2/_catalog", listed(&next("/v2/_catalog?last=app"), repositories)),
        ),
        (
            "a catalog whose next page is elsewhere",
            on("GET", "/v2/_catalog", listed(&next(NOWHERE), repositories)),
        ),
        ("a catalog that is a login page", on("GET", "/v2/_catalog", page(200))),
        ("a catalog without end", on("GET", "/v2/_catalog", Effect::Endless)),
        (
            "a catalog of names that are none",
            on("GET", "/v2/_catalog", answer(200, &[], r#"{"repositories":["../../etc"]}"#)),
        ),
        (
            "tags whose next page is the same",
            on("GET", "/tags/list", listed(&next("/v2/app/tags/list?last=1"), tags)),
        ),
        (
            "tags that are none",
            on("GET", "/tags/list", answer(200, &[], r#"{"name":"app","tags":["a b"]}"#)),
        ),
        ("tags that are a login page", on("GET", "/tags/list", page(200))),
        ("a manifest that is a login page", on("GET", "/manifests/1", page(200))),
        ("blobs that are a login page", on("HEAD", "/blobs/", page(200))),
    ];
    let mut all = Vec::new();
    for (name, fault) in rows {
        let job = Job::new();
        job.far.put("app", "1", &Image::oci(&[random_layer(1, 200)]));
        job.far.fail(fault);
        let connections = impatient(&job.far);
        let request = InventoryRequest { connections, ..InventoryRequest::new(host(&job.far)) };
        let recorder = Arc::new(Recorder::default());
        let mut said = Said::new(&job);
        match inventory(request, recorder.clone()).await {
            Ok(found) => {
                let blobs: usize = found.repositories.iter().map(|listed| listed.blobs.len()).sum();
                said.code(ExitCode::Done).line(&format!("{blobs} blobs listed"));
            }
            Err(error) => {
                said.error(&error);
            }
        }
        said.warnings(&recorder.warnings());
        all.push((name, said.told()));
    }
    all
}
