//! What a source can do to make-payload.

use bytes::Bytes;
use kharon::make::MakeRequest;

use super::scene::{
    LOGIN_PAGE, NOWHERE, ONE, Said, answer, config, header, impatient, index_type, layer,
    new_image, new_index, on, other_digest, packed, page, status,
};
use crate::kit::{Job, pack};
use crate::support::access::{Access, Bearer};
use crate::support::fault::{Effect, Fault};
use crate::support::images::Image;
use crate::support::registry::{Options, TestRegistry};

const FORMER: &[u8] = b"a former payload";
/// More than any list of headers that a client takes.
const FILLER_BYTES: usize = 1_000_000;

/// One way in which a source misbehaves.
struct Row {
    name: &'static str,
    image: Image,
    options: Options,
    faults: Vec<Fault>,
}

fn row(name: &'static str, fault: Fault) -> Row {
    let (options, faults) = (Options::default(), vec![fault]);
    Row { name, image: new_image(), options, faults }
}

fn guarded(name: &'static str, bearer: Bearer, faults: Vec<Fault>) -> Row {
    let options = Options { access: Access::Bearer(bearer), ..Options::default() };
    Row { name, image: new_image(), options, faults }
}

fn manifests() -> Vec<Row> {
    let image = new_image();
    let raw = &image.manifest.raw;
    let media_type = image.manifest.descriptor.media_type.as_str();
    let of_manifests = |effect| on("GET", "/manifests/1", effect);
    let index = |name, fault| Row { image: new_index(), ..row(name, fault) };
    let child = new_index().children[0].digest().to_string();
    vec![
        row("a manifest with a wrong byte", of_manifests(Effect::Corrupt(5))),
        row(
            "a manifest with the digest of another",
            of_manifests(header("docker-content-digest", &other_digest())),
        ),
        row("a manifest without end", of_manifests(Effect::Endless)),
        row("a manifest that ends early", of_manifests(Effect::CutBodyAfter(100))),
        row(
            "a manifest that ends early and says so",
            of_manifests(answer(200, &[("content-type", media_type)], raw.slice(..100))),
        ),
        row("a login page instead of a manifest", of_manifests(page(200))),
        row("an empty answer instead of a manifest", of_manifests(answer(204, &[], ""))),
        row(
            "a manifest under the media type of an index",
            of_manifests(header("content-type", index_type())),
        ),
        row("a manifest nested too deep", of_manifests(answer(200, &[], "[".repeat(100_000)))),
        row("a manifest that comes packed", of_manifests(packed(media_type, raw))),
        index(
            "a child of an index that is another",
            on("GET", &child, answer(200, &[("content-type", media_type)], raw.clone())),
        ),
        index("a child of an index that is a login page", on("GET", &child, page(200))),
        row("referrers that are a page", on("GET", "/referrers/", page(200))),
        row("referrers without end", on("GET", "/referrers/", Effect::Endless)),
        row(
            "referrers whose next page is the first",
            on(
                "GET",
                "/referrers/",
                answer(
                    200,
                    &[
                        ("content-type", index_type()),
                        ("link", "</v2/app/referrers/sha256:0?again>; rel=\"next\""),
                    ],
                    r#"{"schemaVersion":2,"manifests":[]}"#,
                ),
            ),
        ),
    ]
}

fn blobs() -> Vec<Row> {
    let image = new_image();
    let blob = &image.layers()[2];
    let (digest, bytes) = (layer(&image, 2), blob.bytes.clone());
    let of_blob = |effect| on("GET", &digest, effect);
    let length = bytes.len().to_string();
    let shifted = format!("bytes 5-{}/{length}", bytes.len() + 4);
    vec![
        row("a blob with a wrong byte", of_blob(Effect::Corrupt(1000))),
        row("a blob that ends early and says so", of_blob(answer(200, &[], bytes.slice(..1000)))),
        row(
            "a blob shorter than its Content-Length",
            of_blob(answer(200, &[("content-length", &length)], bytes.slice(..1000))),
        ),
        row(
            "a blob longer than its manifest says",
            of_blob(answer(200, &[], [&bytes[..], b"more"].concat())),
        ),
        row("a blob without end", of_blob(Effect::Endless)),
        row("a blob of other bytes", of_blob(answer(200, &[], vec![7; bytes.len()]))),
        row("another range than asked for", of_blob(header("content-range", &shifted))),
        row("a range of nothing", of_blob(answer(206, &[("content-range", "bytes */*")], ""))),
        row("an empty answer instead of a blob", of_blob(answer(204, &[], ""))),
        row("a login page instead of a blob", of_blob(page(200))),
        row("a blob that comes packed", of_blob(packed("application/octet-stream", &bytes))),
        row("a blob that is not there", of_blob(status(404, &[]))),
        row("a config that is not there", on("GET", &config(&image), status(404, &[]))),
        row("a blob that never comes", of_blob(Effect::Hang)),
        row("a blob that stands still", of_blob(Effect::StallBodyAfter(0))),
        row("connections that close", of_blob(Effect::CloseBeforeHeaders)),
        row("too many requests for ever", of_blob(status(429, &[("retry-after", "0")]))),
        row("out of service for ever", of_blob(status(503, &[]))),
        row(
            "headers without end",
            of_blob(answer(200, &[("x-filler", &"x".repeat(FILLER_BYTES))], Bytes::new())),
        ),
    ]
}

fn redirects() -> Vec<Row> {
    let digest = layer(&new_image(), 2);
    let to = |location: &str| on("GET", &digest, status(307, &[("location", location)]));
    vec![
        row("a redirect in a circle", to(&format!("/v2/app/blobs/{digest}"))),
        row("a redirect to where nobody listens", to(NOWHERE)),
        row("a redirect without an address", on("GET", &digest, status(307, &[]))),
        row("a redirect to an address that is none", to("http://[")),
        row("a redirect to a file", to("file:///etc/passwd")),
    ]
}

fn logins() -> Vec<Row> {
    let bearer = Bearer::default;
    let hidden = Bearer { hidden: ["app".to_owned()].into(), ..bearer() };
    let challenge =
        |text: &str| on("GET", "/manifests/", status(401, &[("www-authenticate", text)]));
    let token = |effect| vec![on("", "/token", effect)];
    vec![
        guarded("a token endpoint that is a page", bearer(), token(page(200))),
        guarded("a token endpoint without a token", bearer(), token(answer(200, &[], "{}"))),
        guarded(
            "a token that no header can hold",
            bearer(),
            token(answer(200, &[], r#"{"token":"a\nx-forged: 1"}"#)),
        ),
        guarded("a token endpoint without end", bearer(), token(Effect::Endless)),
        guarded("a token endpoint that is gone", bearer(), token(status(404, &[]))),
        guarded("no token is enough", hidden, Vec::new()),
        row(
            "a challenge that leads to where nobody listens",
            challenge(&format!("Bearer realm=\"{NOWHERE}\",service=\"x\"")),
        ),
        row("a challenge that leads to a file", challenge("Bearer realm=\"file:///etc/passwd\"")),
        row("a challenge that cannot be read", challenge("Bearer realm=\"")),
        row("a challenge of an unknown kind", challenge("Negotiate")),
        row("a login page with 401", on("GET", "/manifests/", page(401))),
        row(
            "a redirect to a login page",
            on("GET", "/manifests/", answer(302, &[("location", "/login")], LOGIN_PAGE)),
        ),
    ]
}

/// What a user sees of each row.
pub async fn all() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for row in [manifests(), blobs(), redirects(), logins()].into_iter().flatten() {
        all.push((row.name, said_of(row).await));
    }
    all
}

async fn said_of(row: Row) -> String {
    let Row { name, image, options, faults } = row;
    let job = Job { source: TestRegistry::start_with(options), ..Job::new() };
    job.source.put("app", "1", &image);
    std::fs::write(job.path("x.zip"), FORMER).expect("written");
    for fault in faults {
        job.source.fail(fault);
    }
    let request = || {
        let connections = impatient(&job.source);
        MakeRequest { connections, jobs: ONE, ..job.request(&["app:1"]) }
    };
    let mut said = Said::new(&job);
    match pack(request(), &job.path("x.zip")).await {
        Ok(packed) => {
            said.code(kharon::failure::ExitCode::Done).warnings(&packed.warnings);
            job.push(&packed.path).await;
            job.assert_arrived("app", &["1"]);
        }
        Err(error) => {
            said.error(&error);
            let found = std::fs::read(job.path("x.zip")).expect("a payload");
            assert!(found == FORMER, "{name}: the former payload is gone");
        }
    }
    job.source.assert_no_violations();
    if !matches!(name, "no token is enough") {
        job.source.heal();
        job.pack_as("again.zip", request()).await;
    }
    said.told()
}
