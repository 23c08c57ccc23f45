//! The registry over a folder: pull, push and discovery as the distribution-spec says, and a folder
//! that stays an OCI layout whatever happens.

mod support;

use std::error::Error as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kharon::digest::Digest;
use kharon::layout::{self, Durability};
use kharon::reference::TagOrDigest;
use kharon::serve::{Error, Server};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Body, Client};
use serde_json::{Value, json};
use support::images::{Image, layer, random_bytes};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on a folder, and a client of it.
struct Site {
    address: SocketAddr,
    client: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The codes of all errors.
    fn codes(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["code"].as_str().expect("a code").to_owned()).collect()
    }
}

impl Site {
    async fn open(folder: &Path) -> Self {
        let server = Server::open(folder).expect("opens");
        let bound = server.bind(([127, 0, 0, 1], 0).into()).await.expect("listens");
        let address = bound.local_address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(bound.run(stopped));
        let client = Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
        Self { address, client, stop, running }
    }

    async fn close(self) {
        drop(self.client);
        drop(self.stop);
        self.running.await.expect("it ends");
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], Bytes::new()).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, self.base() + path).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.expect("a body") }
    }

    async fn session(&self, repository: &str) -> String {
        let answer = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/")).await;
        assert_eq!(answer.status, 202);
        answer.header("location").to_owned()
    }

    async fn put_manifest(&self, repository: &str, what: &str, image: &Image) -> Answer {
        let media_type = image.manifest.descriptor.media_type.as_str();
        let path = format!("/v2/{repository}/manifests/{what}");
        let headers = [("content-type", media_type)];
        self.send("PUT", &path, &headers, image.manifest.raw.clone()).await
    }

    async fn digest_of(&self, repository: &str, what: &str) -> Option<String> {
        let answer = self.ask("HEAD", &format!("/v2/{repository}/manifests/{what}")).await;
        (answer.status == 200).then(|| answer.header("docker-content-digest").to_owned())
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn image(text: &str) -> Image {
    Image::oci(&[layer(&[("file", text.as_bytes())])])
}

fn index_json(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("index.json")).expect("a file")).expect("JSON")
}

/// `name=ref.name` of each entry.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = index_json(folder)["manifests"].as_array().cloned().expect("a list");
    let text = |entry: &Value, key: &str| entry["annotations"][key].as_str().map(str::to_owned);
    let line = |entry: &Value| {
        let full = text(entry, "io.containerd.image.name").unwrap_or_default();
        let short = text(entry, "org.opencontainers.image.ref.name").unwrap_or_default();
        format!("{full}={short}")
    };
    entries.iter().map(line).collect()
}

/// Writes a layout by hand, as other tools would: these contents, these entries.
fn write_layout(folder: &Path, images: &[&Image], entries: &[Value]) {
    fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder");
    let write = |digest: &Digest, bytes: &Bytes| {
        fs::write(folder.join(digest.blob_path()), bytes).expect("written");
    };
    for image in images {
        image.all_blobs().iter().for_each(|blob| write(blob.digest(), &blob.bytes));
        for each in image.children.iter().chain([*image]) {
            write(each.digest(), &each.manifest.raw);
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "annotations": { "org.example.kept": "as it is" },
        "manifests": entries,
    });
    fs::write(folder.join("index.json"), index.to_string()).expect("written");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
}

fn entry(image: &Image, annotations: &Value) -> Value {
    let descriptor = &image.manifest.descriptor;
    json!({
        "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
        "annotations": annotations,
    })
}

#[tokio::test]
async fn a_blob_can_be_pushed_in_every_way() {
    const SIZE: usize = 3_000_000;
    const CUT: usize = 1_400_000;
    let folder = folder();
    let site = Site::open(folder.path()).await;
    // The requests after the one that opens the session: method, from, to, with `Content-Range`.
    let ways: [&[(&str, usize, usize, bool)]; 6] = [
        &[("PUT", 0, SIZE, false)],
        &[("PUT", 0, SIZE, true)],
        &[("PATCH", 0, SIZE, false), ("PUT", SIZE, SIZE, false)],
        &[("PATCH", 0, CUT, false), ("PATCH", CUT, SIZE, false), ("PUT", SIZE, SIZE, false)],
        &[("PATCH", 0, CUT, true), ("PATCH", CUT, SIZE, true), ("PUT", SIZE, SIZE, false)],
        &[("PATCH", 0, CUT, true), ("PUT", CUT, SIZE, true)],
    ];
    for (seed, way) in (0..).zip(ways) {
        let content = random_bytes(seed, SIZE);
        let digest = Digest::of(&content).to_string();
        let session = site.session("a/b").await;
        for (method, from, to, ranged) in way {
            let part = content[*from..*to].to_vec();
            let range = format!("{from}-{}", to - 1);
            let headers = [("content-range", range.as_str())];
            let headers = if *ranged { &headers[..] } else { &[] };
            if *method == "PATCH" {
                let patched = site.send(method, &session, headers, part).await;
                assert_eq!(patched.header("range"), format!("0-{}", to - 1), "{way:?}");
                assert_eq!((patched.status, patched.header("location")), (202, &*session));
                continue;
            }
            let ended =
                site.send(method, &format!("{session}?digest={digest}"), headers, part).await;
            assert_eq!(ended.status, 201, "{way:?}");
            assert_eq!(ended.header("docker-content-digest"), digest, "{way:?}");
            let got = site.ask("GET", ended.header("location")).await;
            assert_eq!((got.status, got.body == content), (200, true), "{way:?}");
        }
    }
    let left = fs::read_dir(folder.path().join(".kharon/uploads")).expect("a folder").count();
    assert_eq!(left, 0, "an upload was left behind");
}

#[tokio::test]
async fn a_blob_can_be_fetched_in_parts() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let bytes = random_bytes(4, 2_500_000);
    let digest = Digest::of(&bytes);
    site.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], bytes.clone()).await;
    let path = format!("/v2/a/blobs/{digest}");
    let end = bytes.len();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-2200000", 1_000_000, 2_200_001),
        ("bytes=2499999-", end - 1, end),
        ("bytes=-10", end - 10, end),
    ] {
        let part = site.send("GET", &path, &[(RANGE.as_str(), range)], "").await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{end}", to - 1));
        assert_eq!(part.body, bytes[from..to], "{range}");
    }
    for range in ["bytes=2500000-", "bytes=500-0"] {
        let refused = site.send("GET", &path, &[("range", range)], "").await;
        assert_eq!((refused.status, refused.header("content-range")), (416, "bytes */2500000"));
    }
    let stale = [("range", "bytes=0-0"), ("if-range", "\"another\"")];
    assert_eq!(site.send("GET", &path, &stale, "").await.status, 200);
    let head = site.ask("HEAD", &path).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "2500000", 0));
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_said() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let digest = Digest::of(b"abc");
    let session = site.session("a").await;
    let send = |method: &'static str, path: String, range: &'static str, body: &'static str| {
        let headers = [("content-range", range)];
        let (site, session) = (&site, &session);
        async move {
            let headers = if range.is_empty() { &headers[..0] } else { &headers[..] };
            site.send(method, &path.replace('$', session), headers, body).await
        }
    };
    for (method, path, range, body, status, code) in [
        ("PATCH", "$", "3-5", "abc", 416, "BLOB_UPLOAD_INVALID"),
        ("PATCH", "$", "0-3", "abc", 400, "SIZE_INVALID"),
        ("PATCH", "$", "zero", "abc", 400, "BLOB_UPLOAD_INVALID"),
        ("PUT", "$", "", "abc", 400, "DIGEST_INVALID"),
        ("PUT", "$?digest=md5:1", "", "abc", 400, "DIGEST_INVALID"),
        ("PATCH", "$0", "", "abc", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("POST", "/v2/a/blobs/uploads/?mount=x", "", "", 400, "DIGEST_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", "", "", 400, "DIGEST_INVALID"),
        ("POST", "/v2/Upper/blobs/uploads/", "", "", 400, "NAME_INVALID"),
        ("DELETE", "/v2/a/blobs/uploads/", "", "", 405, "UNSUPPORTED"),
    ] {
        let answer = send(method, path.to_owned(), range, body).await;
        assert_eq!((answer.status, answer.codes()), (status, vec![code.to_owned()]), "{path}");
    }
    let elsewhere = session.replace("/v2/a/", "/v2/b/");
    assert_eq!(site.ask("GET", &elsewhere).await.status, 404);
    let untouched = site.ask("GET", &session).await;
    assert_eq!((untouched.status, untouched.header("range")), (204, "0-0"));

    let wrong = site.send("PUT", &format!("{session}?digest={digest}"), &[], "abd").await;
    assert_eq!((wrong.status, wrong.codes()), (400, vec!["DIGEST_INVALID".to_owned()]));
    assert_eq!(site.ask("HEAD", &format!("/v2/a/blobs/{digest}")).await.status, 404);
    assert_eq!(site.ask("GET", &session).await.status, 404);

    let session = site.session("a").await;
    assert_eq!(site.ask("DELETE", &session).await.status, 204);
    assert_eq!(site.ask("DELETE", &session).await.status, 404);
}

/// Sends a PATCH that promises 1,000 bytes and brings some of them, when the server is reading.
async fn torn_patch(site: &Site, session: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(site.address).await.expect("connects");
    let head = format!(
        "PATCH {session} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         expect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(bytes).await.expect("sent");
    stream
}

#[tokio::test]
async fn an_upload_goes_on_where_a_torn_request_ended() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let bytes = random_bytes(5, 1000);
    let session = site.session("a").await;
    drop(torn_patch(&site, &session, &bytes[..400]).await);
    let status = async || site.ask("GET", &session).await.header("range").to_owned();
    let mut waited_ms = 0;
    while status().await != "0-399" && waited_ms < 5000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waited_ms += 10;
    }
    assert_eq!(status().await, "0-399");
    let rest = bytes[400..].to_vec();
    let patched = site.send("PATCH", &session, &[("content-range", "400-999")], rest).await;
    assert_eq!(patched.status, 202);
    let digest = Digest::of(&bytes);
    assert_eq!(site.ask("PUT", &format!("{session}?digest={digest}")).await.status, 201);
}

#[tokio::test]
async fn a_hanging_request_gives_its_upload_to_a_newer_one() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let bytes = random_bytes(6, 1000);
    let session = site.session("a").await;
    let mut hanging = torn_patch(&site, &session, &bytes[..400]).await;
    let range = [("content-range", "0-999")];
    let patched = site.send("PATCH", &session, &range, bytes.clone()).await;
    assert_eq!((patched.status, patched.header("range")), (202, "0-999"));
    let digest = Digest::of(&bytes);
    assert_eq!(site.ask("PUT", &format!("{session}?digest={digest}")).await.status, 201);
    drop(hanging.write_all(&bytes[400..]).await);
    let mut answer = Vec::new();
    hanging.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 409"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn manifests_come_back_as_they_were_pushed() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let docker = Image::docker(&[layer(&[("a", b"1")])]);
    let index = Image::index(&[image("x"), Image::oci_for("linux/arm64", &[])]);
    let chart = Image::helm_chart("chart", "1.0");
    for (tag, image) in [("docker", &docker), ("index", &index), ("", &chart)] {
        image.push_to(&site.base(), "some/name", tag).await;
        let digest = image.digest().to_string();
        for what in [tag, &digest].into_iter().filter(|what| !what.is_empty()) {
            let path = format!("/v2/some/name/manifests/{what}");
            let got = site.ask("GET", &path).await;
            assert_eq!((got.status, &got.body), (200, &image.manifest.raw));
            let media_type = image.manifest.descriptor.media_type.as_str();
            assert_eq!(got.header(CONTENT_TYPE.as_str()), media_type);
            let head = site.ask("HEAD", &path).await;
            assert_eq!(head.header("content-length"), image.manifest.raw.len().to_string());
            assert_eq!(head.header("docker-content-digest"), digest);
        }
        let elsewhere = site.ask("GET", &format!("/v2/other/manifests/{digest}")).await;
        assert_eq!(elsewhere.codes(), ["MANIFEST_UNKNOWN"]);
    }
    let digest = docker.digest().to_string();
    let what = format!("{digest}?tag=one&tag=two");
    let tagged = site.put_manifest("some/name", &what, &docker).await;
    let tags: Vec<_> = tagged.headers.get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["one", "two"]);
    assert_eq!(site.digest_of("some/name", "two").await, Some(digest));
}

#[tokio::test]
async fn a_manifest_is_refused_with_what_is_wrong_with_it() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    let index = Image::index(std::slice::from_ref(&image));
    let missing = site.put_manifest("a", "1", &image).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.codes(), ["MANIFEST_BLOB_UNKNOWN"; 2]);
    let details: Vec<Value> = missing.json()["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["detail"]["digest"].clone())
        .collect();
    let mut blobs: Vec<_> = image.blobs.iter().map(|blob| json!(blob.digest())).collect();
    blobs.sort_by_key(ToString::to_string);
    assert_eq!(details, blobs);
    assert_eq!(site.put_manifest("a", "1", &index).await.codes(), ["MANIFEST_BLOB_UNKNOWN"]);

    image.push_to(&site.base(), "a", "1").await;
    let other = Digest::of(b"other").to_string();
    assert_eq!(site.put_manifest("a", &other, &image).await.codes(), ["DIGEST_INVALID"]);
    assert_eq!(site.put_manifest("a", "-bad", &image).await.codes(), ["TAG_INVALID"]);
    assert_eq!(site.put_manifest("b", "1", &index).await.codes(), ["MANIFEST_BLOB_UNKNOWN"]);
    let garbage = site.send("PUT", "/v2/a/manifests/1", &[], "{}").await;
    assert_eq!((garbage.status, garbage.codes()), (400, vec!["MANIFEST_INVALID".to_owned()]));
    let long = vec![b' '; 5 * 1024 * 1024];
    let long = site.send("PUT", "/v2/a/manifests/1", &[], long).await;
    assert_eq!((long.status, long.codes()), (413, vec!["SIZE_INVALID".to_owned()]));
    assert_eq!(site.ask("GET", "/v2/b/tags/list").await.codes(), ["NAME_UNKNOWN"]);
}

#[tokio::test]
async fn foreign_layers_are_not_missed() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    let mut document: Value = serde_json::from_slice(&image.manifest.raw).expect("JSON");
    let digest = Digest::of(b"elsewhere");
    let urls = ["https://registry.example/layer"];
    let layer = json!({ "mediaType": "x/y", "digest": digest, "size": 9, "urls": urls });
    document["layers"].as_array_mut().expect("a list").push(layer);
    image.push_to(&site.base(), "a", "1").await;
    let pushed = site.send("PUT", "/v2/a/manifests/2", &[], document.to_string()).await;
    assert_eq!(pushed.status, 201);
}

#[tokio::test]
async fn lists_come_sorted_and_in_pages() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    for (repository, tag) in [("b/c", "2"), ("b/c", "10"), ("b/c", "A"), ("b/c", "a"), ("a", "1")] {
        image.push_to(&site.base(), repository, tag).await;
    }
    for (path, key, items, link) in [
        ("/v2/b/c/tags/list", "tags", "10 2 A a", ""),
        ("/v2/b/c/tags/list?n=2", "tags", "10 2", "</v2/b/c/tags/list?n=2&last=2>; rel=\"next\""),
        ("/v2/b/c/tags/list?n=2&last=2", "tags", "A a", ""),
        ("/v2/b/c/tags/list?last=9", "tags", "A a", ""),
        ("/v2/b/c/tags/list?n=0", "tags", "", ""),
        ("/v2/_catalog", "repositories", "a b/c", ""),
        ("/v2/_catalog?n=1", "repositories", "a", "</v2/_catalog?n=1&last=a>; rel=\"next\""),
        ("/v2/_catalog?n=1&last=a", "repositories", "b/c", ""),
    ] {
        let answer = site.ask("GET", path).await;
        let found: Vec<String> = serde_json::from_value(answer.json()[key].clone()).expect("text");
        assert_eq!((found.join(" "), answer.header("link")), (items.to_owned(), link), "{path}");
    }
    assert_eq!(site.ask("GET", "/v2/_catalog?n=x").await.codes(), ["PAGINATION_NUMBER_INVALID"]);
}

#[tokio::test]
async fn referrers_are_listed_with_type_and_notes() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    image.push_to(&site.base(), "a", "1").await;
    for (artifact_type, content) in [("application/a+json", "1"), ("application/b", "2")] {
        let referrer = Image::referrer(&image, artifact_type, content.as_bytes());
        referrer.push_to(&site.base(), "a", "").await;
        let pushed = site.put_manifest("a", &referrer.digest().to_string(), &referrer).await;
        assert_eq!(pushed.header("oci-subject"), image.digest().to_string());
    }
    let path = format!("/v2/a/referrers/{}", image.digest());
    let site = restarted(site, folder.path()).await;
    for (query, count, filters) in [
        ("", 2, ""),
        ("?artifactType=application/a%2Bjson", 1, "artifactType"),
        ("?artifactType=application/a+json", 1, "artifactType"),
        ("?artifactType=application/c", 0, "artifactType"),
    ] {
        let answer = site.ask("GET", &format!("{path}{query}")).await;
        assert_eq!(answer.header("content-type"), "application/vnd.oci.image.index.v1+json");
        assert_eq!(answer.header("oci-filters-applied"), filters, "{query}");
        let index = answer.json();
        let manifests = index["manifests"].as_array().expect("a list");
        assert_eq!(manifests.len(), count, "{query}");
        for manifest in manifests {
            assert_eq!(manifest["annotations"]["org.example.note"], "of a test");
            assert!(manifest["artifactType"].as_str().is_some_and(|text| text.starts_with("app")));
        }
    }
    let nobody = format!("/v2/nobody/referrers/{}", image.digest());
    assert_eq!(site.ask("GET", &nobody).await.json()["manifests"], json!([]));
}

async fn restarted(site: Site, folder: &Path) -> Site {
    site.close().await;
    Site::open(folder).await
}

#[tokio::test]
async fn a_long_list_of_referrers_comes_in_pages() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    image.push_to(&site.base(), "a", "1").await;
    let note = "x".repeat(900_000);
    let mut pushed: Vec<String> = Vec::new();
    for which in 0..5 {
        let config = image.blobs[0].clone();
        let descriptor = json!(image.manifest.descriptor);
        let more = json!({ "subject": descriptor, "annotations": { "note": note, "which": which.to_string() } });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let referrer = Image::of_blobs(media_type, config, Vec::new(), &more);
        referrer.push_to(&site.base(), "a", "").await;
        pushed.push(referrer.digest().to_string());
    }
    let mut path = format!("/v2/a/referrers/{}", image.digest());
    let (mut found, mut pages): (Vec<String>, u32) = (Vec::new(), 0);
    while !path.is_empty() {
        let answer = site.ask("GET", &path).await;
        assert!(answer.body.len() < 4 * 1024 * 1024);
        let index = answer.json();
        let digests = index["manifests"].as_array().expect("a list").iter();
        found.extend(digests.map(|found| found["digest"].as_str().expect("text").to_owned()));
        let link = answer.header("link");
        path = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        pages += 1;
    }
    pushed.sort();
    assert_eq!((found, pages), (pushed, 3));
}

#[tokio::test]
async fn pages_in_browsers_cannot_push() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let digest = Digest::of(b"content");
    let whole = format!("/v2/app/blobs/uploads/?digest={digest}");
    for (header, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        // As after a foreign name was given this server's address.
        ("sec-fetch-site", "same-origin"),
    ] {
        for (method, path) in [
            ("POST", whole.as_str()),
            ("POST", "/v2/app/blobs/uploads/"),
            ("PUT", "/v2/app/manifests/1"),
            ("OPTIONS", "/v2/app/manifests/1"),
        ] {
            let refused = site.send(method, path, &[(header, value)], Bytes::from("content")).await;
            assert_eq!(refused.status, 403, "{header} {method} {path}");
            assert_eq!(refused.codes(), ["DENIED"]);
            assert_eq!(refused.header("access-control-allow-origin"), "");
        }
        let listed = site.send("GET", "/v2/_catalog", &[(header, value)], Bytes::new()).await;
        assert_eq!(listed.status, 200);
    }
    assert_eq!(site.ask("HEAD", &format!("/v2/app/blobs/{digest}")).await.status, 404);
    site.close().await;
}

#[tokio::test]
async fn nothing_can_be_deleted() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    image.push_to(&site.base(), "a", "1").await;
    for path in [
        "/v2/a/manifests/1".to_owned(),
        format!("/v2/a/manifests/{}", image.digest()),
        format!("/v2/a/blobs/{}", image.blobs[0].digest()),
    ] {
        let answer = site.ask("DELETE", &path).await;
        assert_eq!((answer.status, answer.codes()), (405, vec!["UNSUPPORTED".to_owned()]));
        assert_eq!(site.ask("GET", &path).await.status, 200);
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_wherever_it_is() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let image = image("x");
    image.push_to(&site.base(), "a", "1").await;
    let digest = image.blobs[0].digest();
    for (query, status) in [
        (format!("mount={digest}&from=a"), 201),
        (format!("mount={digest}"), 201),
        (format!("mount={}&from=a", Digest::of(b"nowhere")), 202),
    ] {
        let answer = site.ask("POST", &format!("/v2/b/blobs/uploads/?{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        let place = format!("/v2/b/blobs/{digest}");
        assert_eq!(answer.header("location") == place, status == 201);
    }
}

#[tokio::test]
async fn clients_may_push_the_same_at_the_same_time() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let images: Vec<Image> = (0..4).map(|number| image(&number.to_string())).collect();
    let base = site.base();
    let pushes = (0..16).map(|number: usize| {
        let (base, image) = (base.clone(), images[number % 4].clone());
        tokio::spawn(async move {
            image.push_to(&base, "a", "same").await;
            image.push_to(&base, "a", &format!("tag-{number}")).await;
        })
    });
    let pushes: Vec<_> = pushes.collect();
    for push in pushes {
        push.await.expect("no push fails");
    }
    let site = restarted(site, folder.path()).await;
    for number in 0..16 {
        let digest = site.digest_of("a", &format!("tag-{number}")).await;
        assert_eq!(digest, Some(images[number % 4].digest().to_string()));
    }
    assert!(site.digest_of("a", "same").await.is_some());
}

#[tokio::test]
async fn an_unzipped_payload_is_served_as_it_is() {
    let folder = folder();
    let python = Image::index(&[image("amd64"), Image::oci_for("linux/arm64", &[])]);
    let other = image("other");
    let referrer = Image::referrer(&python, "application/x", b"1");
    let full = format!("docker.io/library/python@{}", referrer.digest());
    let entries = [
        entry(
            &python,
            &json!({
                "io.containerd.image.name": "docker.io/library/python:3.9",
                "org.opencontainers.image.ref.name": "3.9",
                "org.example.kept": "too",
            }),
        ),
        entry(
            &other,
            &json!({
                "io.containerd.image.name": "registry.example:5000/team/other:3.8",
                "org.opencontainers.image.ref.name": "registry.example:5000/team/other:3.8",
            }),
        ),
        entry(&referrer, &json!({ "io.containerd.image.name": full })),
        json!({ "mediaType": "application/xml", "digest": "blake3:abc", "size": 5 }),
        entry(&image("its manifest is not here"), &json!({ "io.containerd.image.name": "gone:1" })),
    ];
    write_layout(folder.path(), &[&python, &other, &referrer], &entries);
    fs::write(folder.path().join("kharon.json"), "{}").expect("written");
    let site = Site::open(folder.path()).await;
    let catalog = site.ask("GET", "/v2/_catalog").await.json();
    assert_eq!(catalog["repositories"], json!(["library/python", "python", "team/other"]));
    for repository in ["python", "library/python"] {
        let digest = Some(python.digest().to_string());
        assert_eq!(site.digest_of(repository, "3.9").await, digest);
        for child in &python.children {
            assert!(site.digest_of(repository, &child.digest().to_string()).await.is_some());
        }
        let path = format!("/v2/{repository}/referrers/{}", python.digest());
        let referrers = site.ask("GET", &path).await.json();
        assert_eq!(referrers["manifests"][0]["digest"], json!(referrer.digest()));
    }
    assert_eq!(site.digest_of("team/other", "3.8").await, Some(other.digest().to_string()));

    image("new").push_to(&site.base(), "new", "1").await;
    site.close().await;
    let index = index_json(folder.path());
    assert_eq!(index["annotations"]["org.example.kept"], "as it is");
    assert_eq!(index["manifests"].as_array().expect("a list")[..5], entries);
}

#[tokio::test]
async fn other_layouts_are_served_under_the_name_of_their_folder() {
    let parent = folder();
    let folder = parent.path().join("My-Images");
    let (tagged, named, bare) = (image("tagged"), image("named"), image("bare"));
    let ref_name = |name: &str| json!({ "org.opencontainers.image.ref.name": name });
    let entries = [
        entry(&tagged, &ref_name("1.0")),
        entry(&named, &ref_name("registry.example/team/named:2")),
        entry(&bare, &json!({})),
    ];
    write_layout(&folder, &[&tagged, &named, &bare], &entries);
    let site = Site::open(&folder).await;
    assert_eq!(site.digest_of("my-images", "1.0").await, Some(tagged.digest().to_string()));
    assert_eq!(site.digest_of("team/named", "2").await, Some(named.digest().to_string()));
    assert!(site.digest_of("my-images", &bare.digest().to_string()).await.is_some());
}

#[tokio::test]
async fn a_tag_moves_and_what_it_named_stays() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let (old, new) = (image("old"), image("new"));
    for image in [&old, &new, &old, &new, &old, &new] {
        image.push_to(&site.base(), "a", "").await;
        image.push_to(&site.base(), "a", "1").await;
    }
    old.push_to(&site.base(), "b", "1").await;
    let check = async |site: &Site| {
        assert_eq!(site.digest_of("a", "1").await, Some(new.digest().to_string()));
        assert_eq!(site.digest_of("b", "1").await, Some(old.digest().to_string()));
        assert!(site.digest_of("a", &old.digest().to_string()).await.is_some());
    };
    check(&site).await;
    let site = restarted(site, folder.path()).await;
    check(&site).await;
    let expected = [
        format!("localhost/a@{}=", old.digest()),
        "localhost/a:1=1".to_owned(),
        "localhost/b:1=localhost/b:1".to_owned(),
    ];
    assert_eq!(names_in(folder.path()), expected);
}

#[tokio::test]
async fn a_tag_of_a_payload_moves_too() {
    let folder = folder();
    let (old, new) = (image("old"), image("new"));
    let names = json!({
        "io.containerd.image.name": "docker.io/library/python:3.9",
        "org.opencontainers.image.ref.name": "3.9",
        "org.example.kept": "too",
    });
    write_layout(folder.path(), &[&old], &[entry(&old, &names)]);
    let mut site = Site::open(folder.path()).await;
    for (repository, former) in [("python", "library/python"), ("library/python", "")] {
        new.push_to(&site.base(), repository, "3.9").await;
        site = restarted(site, folder.path()).await;
        assert_eq!(site.digest_of(repository, "3.9").await, Some(new.digest().to_string()));
        assert!(site.digest_of(repository, &old.digest().to_string()).await.is_some());
        if !former.is_empty() {
            assert_eq!(site.digest_of(former, "3.9").await, Some(old.digest().to_string()));
        }
    }
    let expected = [
        format!("docker.io/library/python@{}=", old.digest()),
        "localhost/python:3.9=localhost/python:3.9".to_owned(),
        "localhost/library/python:3.9=3.9".to_owned(),
    ];
    assert_eq!(names_in(folder.path()), expected);
    let kept = &index_json(folder.path())["manifests"][0]["annotations"]["org.example.kept"];
    assert_eq!(kept, "too");
}

#[tokio::test]
async fn a_damaged_manifest_is_not_served() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let (good, bad) = (image("good"), image("bad"));
    good.push_to(&site.base(), "a", "good").await;
    bad.push_to(&site.base(), "a", "bad").await;
    fs::write(folder.path().join(bad.digest().blob_path()), &good.manifest.raw).expect("written");
    let answer = site.ask("GET", "/v2/a/manifests/bad").await;
    assert_eq!((answer.status, answer.codes()), (500, vec!["UNKNOWN".to_owned()]));
    let site = restarted(site, folder.path()).await;
    assert_eq!(site.digest_of("a", "bad").await, None);
    assert!(site.digest_of("a", "good").await.is_some());
}

#[tokio::test]
async fn what_a_killed_server_left_is_cleaned_up() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    image("x").push_to(&site.base(), "a", "1").await;
    site.close().await;
    let own = folder.path().join(".kharon");
    fs::write(own.join("uploads/half"), "half a blob").expect("written");
    fs::write(own.join("lock"), "4194305 1 another-boot\n").expect("written");
    let site = Site::open(folder.path()).await;
    assert!(!own.join("uploads/half").exists());
    assert!(site.digest_of("a", "1").await.is_some());
}

/// A server that is killed writes nothing more: what its folder holds now is all there will be.
fn killed(folder: &Path, copy: &Path) {
    for name in ["blobs/sha256", ".kharon"] {
        fs::create_dir_all(copy.join(name)).expect("a folder");
        for entry in fs::read_dir(folder.join(name)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let file_name = path.file_name().expect("a name").to_owned();
            if path.is_file() && file_name != "lock" {
                fs::copy(&path, copy.join(name).join(file_name)).expect("copied");
            }
        }
    }
    for name in ["oci-layout", "index.json"] {
        fs::copy(folder.join(name), copy.join(name)).expect("copied");
    }
}

#[test]
fn what_was_acknowledged_outlives_a_killed_server() {
    let (folder, copy) = (folder(), folder());
    let layout = layout::Layout::open(folder.path(), Durability::Synced).expect("opens");
    let repository = "a".parse().expect("valid");
    let (first, second) = (image("first"), image("second"));
    let put = |tags: &[&str], image: &Image| {
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().expect("valid")).collect();
        layout.put_manifest(&repository, &tags, &image.manifest).expect("stored");
    };
    put(&["moved"], &first);
    layout.settle().expect("settled");
    put(&["moved", "new"], &second);
    put(&["back"], &second);
    put(&["back"], &first);
    let pending = folder.path().join(".kharon/pending");
    let mut text = fs::read(&pending).expect("readable");
    killed(folder.path(), copy.path());
    // The last line was torn by a power cut, and one came behind it.
    text.extend_from_slice(b"\n{\"repository\":\"a\",\"tag\":\"to");
    fs::write(copy.path().join(".kharon/pending"), &text).expect("written");

    let layout = layout::Layout::open(copy.path(), Durability::Synced).expect("opens");
    let tagged = |tag: &str| {
        let tag = TagOrDigest::Tag(tag.parse().expect("valid"));
        layout.find(&repository, &tag).map(|found| found.digest)
    };
    for (tag, image) in [("moved", &second), ("new", &second), ("back", &first)] {
        assert_eq!(tagged(tag).as_ref(), Some(image.digest()), "{tag}");
    }
    let mut names = names_in(copy.path());
    names.sort();
    let untagged = format!("localhost/a@{}=", second.digest());
    assert_eq!(
        names[..3],
        ["localhost/a:back=back", "localhost/a:moved=moved", "localhost/a:new=new"]
    );
    assert_eq!(names[3..], [untagged]);
    let left = fs::metadata(copy.path().join(".kharon/pending")).expect("a file").len();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_folder_follows_pushes_while_the_server_runs() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    image("x").push_to(&site.base(), "a", "1").await;
    let mut waited_ms = 0;
    while names_in(folder.path()).is_empty() && waited_ms < 5000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited_ms += 20;
    }
    assert_eq!(names_in(folder.path()), ["localhost/a:1=1"]);
}

fn refused(folder: &Path) -> (Error, String) {
    let error = Server::open(folder).expect_err("it is refused");
    let hint = error.hint().unwrap_or_default();
    (error, hint)
}

#[tokio::test]
async fn folders_that_cannot_be_served_are_refused_with_advice() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);

    fs::create_dir(path("photos")).expect("a folder");
    fs::write(path("photos/cat.jpg"), "").expect("written");
    let (error, hint) = refused(&path("photos"));
    assert!(error.to_string().starts_with("expected an empty folder or an OCI image layout"));
    assert!(hint.contains("new or empty folder"), "{hint}");
    assert_eq!(fs::read_dir(path("photos")).expect("a folder").count(), 1);

    drop(Server::open(&path("corrupt")).expect("opens"));
    fs::write(path("corrupt/index.json"), "{").expect("written");
    let (error, hint) = refused(&path("corrupt"));
    assert!(matches!(error, Error::Layout(layout::Error::Index { .. })));
    assert!(error.source().is_some() || hint.contains("copy"), "{hint}");

    let first = Server::open(&path("busy")).expect("opens");
    let (error, hint) = refused(&path("busy"));
    let process = std::process::id().to_string();
    assert!(error.to_string().ends_with(&format!("in use by process {process}")), "{error}");
    assert!(hint.contains("stop the other server"), "{hint}");
    drop(first);
    drop(Server::open(&path("busy")).expect("free again"));

    drop(Server::open(&path("newer")).expect("opens"));
    fs::write(path("newer/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).expect("written");
    let (error, _) = refused(&path("newer"));
    assert!(error.to_string().ends_with("found `2.0.0`"), "{error}");

    fs::write(path("file"), "").expect("written");
    assert!(matches!(refused(&path("file")).0, Error::Layout(layout::Error::Io { .. })));
}

#[tokio::test]
async fn an_address_in_use_is_said_with_another_one() {
    let (one, two) = (folder(), folder());
    let site = Site::open(one.path()).await;
    let server = Server::open(two.path()).expect("opens");
    let error = server.bind(site.address).await.expect_err("it is taken");
    assert_eq!(error.to_string(), format!("cannot listen at `{}`", site.address));
    assert!(error.hint().is_some_and(|hint| hint.contains("--listen 127.0.0.1:")));
}

#[tokio::test]
async fn a_server_that_stops_ends_what_it_began() {
    let folder = folder();
    let site = Site::open(folder.path()).await;
    let session = site.session("a").await;
    let mut hanging = torn_patch(&site, &session, &[1; 400]).await;
    let Site { stop, running, client, .. } = site;
    drop((stop, client));
    hanging.write_all(&[1; 600]).await.expect("still listening");
    let mut answer = Vec::new();
    hanging.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
    running.await.expect("it ends");
    assert!(!folder.path().join(".kharon/lock").exists());
}
