//! Payloads served in place: what push-payload would bring can be pulled, and nothing damaged as if whole.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use kharon::digest::Digest;
use kharon::layout::{Durability, Layout};
use kharon::listen::Listener;
use kharon::payload::{Payload, Travels};
use kharon::progress::Recorder;
use kharon::serve::Server;
use kharon::shelf::{Shelf, ShelfRequest};
use reqwest::{Client, Response};
use tokio::sync::oneshot;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::cli::Desk;
use crate::deltas::app;
use crate::kit::{Job, Packed, assert_told, names};
use crate::support::images::{Blob, Image, random_layer};
use crate::support::tls::{self, logins, tls};

/// A server over payloads, and a client of it.
pub struct Site {
    pub url: String,
    pub client: Client,
    pub told: Arc<Recorder>,
    pub shelf: Arc<Shelf>,
    _stop: oneshot::Sender<()>,
}

impl Site {
    /// A folder takes what is pushed.
    pub async fn open(request: ShelfRequest, dir: Option<&Path>) -> Self {
        let open = |dir| Layout::open(dir, Durability::Synced).expect("a layout");
        Self::over(request, dir.map(open)).await
    }

    pub async fn over(request: ShelfRequest, layout: Option<Layout>) -> Self {
        let told = Arc::new(Recorder::default());
        let shelf = Arc::new(Shelf::open(request, told.clone()).expect("opens"));
        let server = Server::over(Some(Arc::clone(&shelf)), layout);
        Self::of(server, shelf, told).await
    }

    async fn of(server: Server, shelf: Arc<Shelf>, told: Arc<Recorder>) -> Self {
        let bound = server.bind(([127, 0, 0, 1], 0).into()).await.expect("listens");
        let url = format!("http://{}", bound.local_address());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(bound.run(stopped));
        let client = Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
        Self { url, client, told, shelf, _stop: stop }
    }

    pub async fn ask(&self, method: &str, path: &str) -> Response {
        let method = method.parse().expect("a method");
        let request = self.client.request(method, self.url.clone() + path);
        request.send().await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> (u16, Bytes) {
        let answer = self.ask("GET", path).await;
        (answer.status().as_u16(), answer.bytes().await.expect("a body"))
    }

    pub async fn part(&self, digest: &Digest, range: &str) -> (u16, Bytes) {
        let path = format!("{}/v2/app/blobs/{digest}", self.url);
        let answer = self.client.get(path).header("range", range).send().await.expect("an answer");
        (answer.status().as_u16(), answer.bytes().await.expect("a body"))
    }

    pub async fn assert_blob(&self, blob: &Blob) {
        let path = format!("/v2/app/blobs/{}", blob.digest());
        let head = self.ask("HEAD", &path).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["content-length"], blob.bytes.len().to_string().as_str());
        assert_eq!(head.headers()["docker-content-digest"], blob.digest().to_string().as_str());
        assert!(self.get(&path).await == (200, blob.bytes.clone()));
        let (status, part) = self.part(blob.digest(), "bytes=5-104").await;
        assert!(status == 206 && part == blob.bytes[5..105]);
    }
}

/// `app:1` whole in one payload, `app:2` as a delta in another, `app:3` as a delta of that.
pub async fn upgrades(job: &Job) -> (Vec<Packed>, [Blob; 3]) {
    let blobs = [app(None), app(Some(7)), app(Some(8))];
    for (tag, blob) in ["1", "2", "3"].iter().zip(&blobs) {
        job.source.put("app", tag, &Image::oci(std::slice::from_ref(blob)));
    }
    let mut packed = vec![job.pack("1.zip", &["app:1"]).await];
    for (wanted, old) in [("2", "1"), ("3", "2")] {
        let already_transferred = names(&job.source, &[&format!("app:{old}")]);
        let request = job.request(&[&format!("app:{wanted}")]);
        let request = kharon::make::MakeRequest { already_transferred, ..request };
        packed.push(job.pack_as(&format!("{wanted}.zip"), request).await);
    }
    (packed, blobs)
}

pub fn request(job: &Job, packed: &[&Packed]) -> ShelfRequest {
    let payloads = packed.iter().map(|packed| packed.open()).collect();
    ShelfRequest { workdir: job.folder.path().to_owned(), ..ShelfRequest::new(payloads) }
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_of_deltas_are_rebuilt_once_for_everybody() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let cache = job.path("cache");
    let all = ShelfRequest {
        cache: Some(cache.clone()),
        ..request(&job, &packed.iter().collect::<Vec<_>>())
    };
    let site = Site::open(all, None).await;
    assert_eq!(site.shelf.lacking(), Vec::<String>::new());
    let tags = site.get("/v2/app/tags/list").await.1;
    assert_eq!(tags, r#"{"name":"app","tags":["1","2","3"]}"#);
    let path = format!("/v2/app/blobs/{}", blobs[2].digest());
    let pulls = (0..100).map(|_| site.get(&path));
    for (status, body) in futures_util::future::join_all(pulls).await {
        assert!(status == 200 && body == blobs[2].bytes);
    }
    let kept = fs::read_dir(&cache).expect("a folder").count();
    assert_eq!(kept, 3, "two layers and the lock");
    for blob in &blobs {
        site.assert_blob(blob).await;
    }
    for tag in ["1", "2", "3"] {
        let (status, raw) = site.get(&format!("/v2/app/manifests/{tag}")).await;
        assert_eq!((status, Some(raw)), (200, job.source.manifest("app", tag)));
    }
    assert_eq!(site.told.warnings(), Vec::<String>::new());
    assert_eq!(site.ask("POST", "/v2/app/blobs/uploads/").await.status(), 405);
}

#[tokio::test]
async fn a_missing_baseline_is_named_and_served_once_it_is_there() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let dir = job.path("dir");
    let over = ShelfRequest { folders: vec![dir.clone()], ..request(&job, &[&packed[1]]) };
    let site = Site::open(over, Some(&dir)).await;
    let lacking = site.shelf.lacking();
    let old = blobs[0].digest().to_string();
    assert!(
        lacking.iter().any(|line| line.contains("app:2") && line.contains(&old)),
        "{lacking:?}"
    );
    let path = format!("/v2/app/blobs/{}", blobs[1].digest());
    assert_eq!(site.ask("HEAD", &path).await.status(), 404);
    let (status, body) = site.get(&path).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(status == 404 && text.contains("BLOB_UNKNOWN") && text.contains(&old), "{text}");
    let push = format!("{}/v2/app/blobs/uploads/?digest={old}", site.url);
    let pushed = site.client.post(push).body(blobs[0].bytes.clone()).send().await.expect("sent");
    assert_eq!(pushed.status(), 201);
    site.assert_blob(&blobs[1]).await;
}

#[tokio::test]
async fn the_later_payload_has_the_tag_and_no_push_moves_it() {
    let job = Job::new();
    let (old, new) = (app(None), app(Some(7)));
    let (first, second) = (Image::oci(std::slice::from_ref(&old)), Image::oci(&[new]));
    job.source.put("app", "latest", &first);
    let one = job.pack("1.zip", &["app:latest"]).await;
    job.source.put("app", "latest", &second);
    let two = job.pack("2.zip", &["app:latest"]).await;
    let dir = job.path("dir");
    let site = Site::open(request(&job, &[&one, &two]), Some(&dir)).await;
    let answer = site.ask("HEAD", "/v2/app/manifests/latest").await;
    let named = second.manifest.digest().to_string();
    assert_eq!(answer.headers()["docker-content-digest"], named.as_str());
    let put = |tag: &str| {
        let media_type = first.manifest.descriptor.media_type.as_str().to_owned();
        let request = site.client.put(format!("{}/v2/app/manifests/{tag}", site.url));
        request.header("content-type", media_type).body(first.manifest.raw.clone()).send()
    };
    assert_eq!(put("latest").await.expect("sent").status(), 403);
    assert_eq!(put("mine").await.expect("sent").status(), 201);
    // The folder has all that it names, also without the payload.
    assert!(dir.join(old.digest().blob_path()).is_file());
    assert_eq!(site.get("/v2/app/tags/list").await.1, r#"{"name":"app","tags":["latest","mine"]}"#);
}

#[tokio::test]
async fn a_damaged_blob_is_never_delivered_as_if_whole() {
    let job = Job::new();
    let blob = random_layer(1, 3_000_000);
    job.source.put("app", "1", &Image::oci(std::slice::from_ref(&blob)));
    let packed = job.pack("1.zip", &["app:1"]).await;
    let mut bytes = packed.bytes();
    let at = bytes.windows(64).position(|found| found == &blob.bytes[1000..1064]).expect("there");
    bytes[at] ^= 1;
    fs::write(&packed.path, &bytes).expect("written");
    for ranged in [true, false] {
        let site = Site::open(request(&job, &[&packed]), None).await;
        if ranged {
            assert_eq!(site.part(blob.digest(), "bytes=0-9").await.0, 500);
        } else {
            let answer = site.ask("GET", &format!("/v2/app/blobs/{}", blob.digest())).await;
            assert_eq!(answer.status(), 200);
            answer.bytes().await.expect_err("broken off");
        }
        assert_told(&site.told.warnings(), &["1.zip", &blob.digest().to_string()]);
        // Another copy would be used now; there is none.
        assert_eq!(site.part(blob.digest(), "bytes=0-9").await.0, 500);
    }
}

#[tokio::test]
async fn tls_and_logins_are_asked_for() {
    let job = Job::new();
    job.source.put("app", "1", &Image::oci(&[app(None)]));
    let packed = job.pack("1.zip", &["app:1"]).await;
    let shelf = Shelf::open(request(&job, &[&packed]), Arc::new(Recorder::default()));
    let server = Server::over(Some(Arc::new(shelf.expect("opens"))), None);
    let server = server.with_logins(logins());
    let address = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(address, Some(tls())).await.expect("listens");
    let url = format!("{}/v2/app/tags/list", listener.url());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.on(listener).run(stopped));
    let client = tls::client();
    let refused = client.get(&url).send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
    assert!(refused.headers()["www-authenticate"].to_str().expect("text").starts_with("Basic "));
    assert!(refused.text().await.expect("text").contains("UNAUTHORIZED"));
    for (password, status) in [("secret", 200), ("wrong", 401), ("secret", 200)] {
        let answer = client.get(&url).basic_auth("me", Some(password)).send().await;
        assert_eq!(answer.expect("an answer").status(), status, "{password}");
    }
    let plain = client.get(url.replace("https:", "http:")).send().await.expect("an answer");
    assert_eq!(plain.status(), 400);
    drop((stop, client));
    running.await.expect("it ends");
}

/// The payload with every entry deflated, as a user's zip tool packs it again.
fn packed_again(from: &Path, to: &Path) {
    let mut archive = ZipArchive::new(File::open(from).expect("a file")).expect("a zip");
    let mut writer = ZipWriter::new(File::create(to).expect("a file"));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for position in 0..archive.len() {
        let mut entry = archive.by_index(position).expect("an entry");
        let name = entry.name().expect("a name").into_owned();
        writer.start_file(name, options).expect("begun");
        std::io::copy(&mut entry, &mut writer).expect("written");
    }
    writer.finish().expect("a zip");
}

#[tokio::test]
async fn compressed_entries_are_read_at_any_offset() {
    let job = Job::new();
    let blob = app(None);
    job.source.put("app", "1", &Image::oci(std::slice::from_ref(&blob)));
    let packed = job.pack("1.zip", &["app:1"]).await;
    packed_again(&packed.path, &job.path("again.zip"));
    let payloads = vec![Payload::open(&job.path("again.zip")).expect("a payload")];
    let site = Site::open(ShelfRequest::new(payloads), None).await;
    site.assert_blob(&blob).await;
    let (status, end) = site.part(blob.digest(), "bytes=-7").await;
    assert!(status == 206 && end == blob.bytes[blob.bytes.len() - 7..]);
}

#[tokio::test]
async fn a_payload_of_docker_charon_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/payloads/charon-0.4.3");
    let payload = Payload::open(&path.join("seekable.zip")).expect("a payload");
    let blobs = payload.index().blobs.clone();
    let site = Site::open(ShelfRequest::new(vec![payload]), None).await;
    assert_eq!(site.get("/v2/team/app/tags/list").await.1, r#"{"name":"team/app","tags":["1"]}"#);
    assert_eq!(site.ask("GET", "/v2/old/tags/list").await.status(), 404);
    for blob in blobs {
        let (status, body) = site.get(&format!("/v2/team/app/blobs/{}", blob.digest)).await;
        if blob.travels == Travels::Carried {
            assert_eq!((status, Digest::of(&body)), (200, blob.digest));
        } else {
            assert_eq!(status, 404);
            let lacking = site.shelf.lacking();
            assert!(lacking.iter().any(|line| line.contains("expects it at the far side")));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_served_ends_the_start_and_is_named() {
    let job = Job::new();
    let (packed, _) = upgrades(&job).await;
    let [whole, delta] = [&packed[0], &packed[1]].map(|it| it.path.to_str().expect("text"));
    let torn = job.path("torn.zip");
    fs::write(&torn, &packed[0].bytes()[..5000]).expect("written");
    let users = job.path("users");
    fs::write(&users, "\nme:$apr1$salt$hash\n").expect("written");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
    let (torn, users) = (torn.to_str().expect("text"), users.to_str().expect("text"));
    let [certificate, key] = ["server.cert", "client.key"].map(|name| fixtures.join(name));
    let (certificate, key) = (certificate.to_str().expect("text"), key.to_str().expect("text"));
    let desk = Desk::new();
    for (arguments, code, part) in [
        (&[][..], 2, "--dir"),
        (&["--payload", torn], 4, "torn.zip"),
        (&["--payload", "missing.zip"], 1, "missing.zip"),
        (&["--payload", delta, "--strict"], 5, "has to be rebuilt from old blobs"),
        (&["--payload", whole, "--tls-cert", certificate], 2, "--tls-key"),
        (&["--payload", whole, "--tls-cert", certificate, "--tls-key", key], 1, "client.key"),
        (&["--payload", whole, "--htpasswd", users], 1, "line 2"),
        (&["--dir", "x", "--strict"], 2, "--payload"),
        (&["--dir", "missing", "--read-only"], 1, "missing"),
        (&["--dir", ".", "--read-only"], 1, "an OCI image layout"),
    ] {
        let ran = desk.run(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
#[cfg(unix)]
fn sigterm_ends_a_server_well_and_leaves_nothing() {
    let desk = Desk::new();
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/payloads/v1/three-images.zip");
    let payload = fixture.to_str().expect("text");
    fs::create_dir(desk.path("work")).expect("a folder");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--workdir", "work", "--payload", payload];
    let mut command = desk.kharon(&arguments);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
    let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = stderr.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("serving ")), "it says where it listens");
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert_eq!(fs::read_dir(desk.path("work")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn the_rules_of_pulling_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let payload = Payload::open(&path.join("fixtures/payloads/v1/three-images.zip"));
    let payload = payload.expect("a payload");
    let image = &payload.index().images[0];
    let subject = image.resolved.as_ref().expect("resolved").digest.to_string();
    let referrer = image.referrers[0].digest.to_string();
    let site = Site::open(ShelfRequest::new(vec![payload]), None).await;
    let none = Digest::of(b"none").to_string();
    for (path, status, code) in [
        ("/v2/".to_owned(), 200, ""),
        (format!("/v2/python/manifests/{subject}"), 200, ""),
        (format!("/v2/python/manifests/{referrer}"), 200, ""),
        (format!("/v2/team/tool/manifests/{subject}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/python/manifests/4".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/nobody/manifests/3.9".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/nobody/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/UPPER/tags/list".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/python/blobs/{none}"), 404, "BLOB_UNKNOWN"),
        ("/v2/python/blobs/sha256:x".to_owned(), 400, "DIGEST_INVALID"),
    ] {
        let (found, body) = site.get(&path).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(found == status && text.contains(code), "{path}: {found} {text}");
        if path.contains("/manifests/") && found == 200 {
            let head = site.ask("HEAD", &path).await;
            let digest = path.rsplit('/').next().expect("a digest");
            assert_eq!(head.headers()["docker-content-digest"], digest);
            assert_eq!(head.headers()["content-length"], body.len().to_string().as_str());
        }
    }
    for method in ["PUT", "DELETE"] {
        let answer = site.ask(method, "/v2/python/manifests/3.9").await;
        assert_eq!(answer.status(), 405, "{method}");
        assert!(answer.text().await.expect("text").contains("UNSUPPORTED"), "{method}");
    }
    let catalog = site.ask("GET", "/v2/_catalog?n=1").await;
    assert!(catalog.headers()["link"].to_str().expect("text").contains("last=python"));
    assert_eq!(catalog.text().await.expect("text"), r#"{"repositories":["python"]}"#);
    let (_, rest) = site.get("/v2/_catalog?n=5&last=python").await;
    assert_eq!(rest, r#"{"repositories":["team/tool"]}"#);
    let (status, listed) = site.get(&format!("/v2/python/referrers/{subject}")).await;
    assert!(status == 200 && String::from_utf8_lossy(&listed).contains(&referrer));
    let (status, listed) = site.get(&format!("/v2/python/referrers/{none}")).await;
    assert!(status == 200 && String::from_utf8_lossy(&listed).contains(r#""manifests":[]"#));
}
