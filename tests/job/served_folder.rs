//! The folder beneath payloads, or alone: what is pushed into it, and that one which is only read stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use kharon::layout::{Durability, Layout};
use kharon::manifest::Manifest;
use kharon::reference::{RepositoryName, TagOrDigest};
use kharon::serve::Server;
use kharon::shelf::ShelfRequest;
use reqwest::Response;

use crate::cli::Desk;
use crate::deltas::app;
use crate::kit::Job;
use crate::served::{Site, request, upgrades};
use crate::support::images::{Image, random_layer};

/// Everything in a folder: what it is, how long, and when it was changed.
fn state_of(folder: &Path) -> BTreeMap<PathBuf, (bool, u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let changed = metadata.modified().expect("a time");
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, (metadata.is_dir(), metadata.len(), changed));
    }
    found
}

async fn put(site: &Site, what: &str, image: &Image) -> Response {
    let media_type = image.manifest.descriptor.media_type.as_str().to_owned();
    let request = site.client.put(format!("{}/v2/app/manifests/{what}", site.url));
    let request = request.header("content-type", media_type).body(image.manifest.raw.clone());
    request.send().await.expect("an answer")
}

/// Checks that a folder has a tag and everything below it.
fn assert_whole(folder: &Path, repository: &str, tag: &str) {
    let layout = Layout::open_read_only(folder).expect("a layout");
    let repository: RepositoryName = repository.parse().expect("a name");
    let found = layout.find(&repository, &TagOrDigest::Tag(tag.parse().expect("a tag")));
    let mut waiting = vec![found.expect("the tag").digest];
    while let Some(digest) = waiting.pop() {
        assert!(layout.find(&repository, &TagOrDigest::Digest(digest.clone())).is_some());
        let raw = layout.read_manifest(&digest).expect("right").expect("there");
        let manifest = Manifest::parse(raw, None).expect("a manifest");
        assert_eq!(layout.missing(&repository, &manifest), []);
        for blob in manifest.blobs() {
            let bytes = fs::read(folder.join(blob.digest.blob_path())).expect("a blob");
            assert_eq!(kharon::digest::Digest::of(&bytes), blob.digest);
        }
        waiting.extend(manifest.children().iter().map(|child| child.digest.clone()));
    }
}

#[tokio::test]
async fn an_index_over_images_of_payloads_brings_them_into_the_folder() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let tagged = |blob| Image::oci(std::slice::from_ref(blob));
    // `app:2` and `app:3` travelled as deltas.
    let children = [&blobs[0], &blobs[1], &blobs[2]].map(tagged);
    let inner = Image::index(&children[1..]);
    let dir = job.path("dir");
    let packed: Vec<_> = packed.iter().collect();
    let over = ShelfRequest { folders: vec![dir.clone()], ..request(&job, &packed) };
    let site = Site::open(over, Some(&dir)).await;
    assert_eq!(put(&site, &inner.digest().to_string(), &inner).await.status(), 201);
    let outer = Image::index(&[children[0].clone(), inner]);
    assert_eq!(put(&site, "all", &outer).await.status(), 201);
    assert_whole(&dir, "app", "all");
    // Of an index whose child is nowhere, the child is named, and nothing is left.
    let lost = Image::oci(&[random_layer(9, 1000)]);
    let refused = put(&site, "lost", &Image::index(&[children[0].clone(), lost.clone()])).await;
    assert_eq!(refused.status(), 404);
    let text = refused.text().await.expect("text");
    assert!(text.contains("MANIFEST_BLOB_UNKNOWN"), "{text}");
    assert!(text.contains(&lost.digest().to_string()), "{text}");
    assert_eq!(site.get("/v2/app/manifests/lost").await.0, 404);
}

#[tokio::test]
async fn an_index_over_images_of_payloads_needs_a_folder_to_go_to() {
    let job = Job::new();
    let image = Image::oci(&[app(None)]);
    job.source.put("app", "1", &image);
    let packed = job.pack("1.zip", &["app:1"]).await;
    let dir = job.path("dir");
    drop(Layout::open(&dir, Durability::Relaxed).expect("made"));
    let read_only = Some(Layout::open_read_only(&dir).expect("a layout"));
    for layout in [None, read_only] {
        let site = Site::over(request(&job, &[&packed]), layout).await;
        let refused = put(&site, "all", &Image::index(std::slice::from_ref(&image))).await;
        assert_eq!(refused.status(), 405);
        assert!(refused.text().await.expect("text").contains("UNSUPPORTED"));
    }
}

#[tokio::test]
async fn a_copy_of_a_payload_that_is_damaged_is_not_brought_into_the_folder() {
    let job = Job::new();
    let blob = random_layer(1, 30_000);
    let image = Image::oci(std::slice::from_ref(&blob));
    job.source.put("app", "1", &image);
    let packed = job.pack("1.zip", &["app:1"]).await;
    let mut bytes = packed.bytes();
    let at = bytes.windows(64).position(|found| found == &blob.bytes[1000..1064]).expect("there");
    bytes[at] ^= 1;
    fs::write(&packed.path, &bytes).expect("written");
    let dir = job.path("dir");
    let site = Site::open(request(&job, &[&packed]), Some(&dir)).await;
    let refused = put(&site, "mine", &image).await;
    assert_eq!(refused.status(), 500);
    assert!(refused.text().await.expect("text").contains(&blob.digest().to_string()));
    assert!(!dir.join(blob.digest().blob_path()).exists());
    assert_eq!(fs::read_dir(dir.join(".kharon/uploads")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_folder_that_is_only_read_stays_as_it_is() {
    let job = Job::new();
    let (old, new) = (Image::oci(&[app(None)]), Image::oci(&[random_layer(1, 2_000_000)]));
    let dir = job.path("dir");
    let server = Server::open(&dir).expect("opens");
    let bound = server.bind(([127, 0, 0, 1], 0).into()).await.expect("listens");
    let url = format!("http://{}", bound.local_address());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(stopped));
    old.push_to(&url, "app", "1").await;
    drop(stop);
    running.await.expect("it ends");
    // A server that was killed: its lock, a name that `index.json` lacks, half an upload.
    let layout = Layout::open(&dir, Durability::Synced).expect("opens");
    for blob in new.all_blobs() {
        layout.write_blob(blob.digest(), &blob.bytes).expect("written");
    }
    let name = "app".parse().expect("a name");
    layout.put_manifest(&name, &["2".parse().expect("a tag")], &new.manifest).expect("put");
    fs::write(dir.join(".kharon/uploads/half"), "half").expect("written");
    let before = state_of(&dir);
    assert!(dir.join(".kharon/lock").exists());
    {
        let opened = Layout::open_read_only(&dir).expect("opens beside another");
        let server = Server::over(None, Some(opened));
        let bound = server.bind(([127, 0, 0, 1], 0).into()).await.expect("listens");
        let url = format!("http://{}", bound.local_address());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(bound.run(stopped));
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let client = client.expect("a client");
        let get = async |path: &str| {
            let answer = client.get(url.clone() + path).send().await.expect("an answer");
            (answer.status().as_u16(), answer.bytes().await.expect("a body"))
        };
        assert_eq!(get("/v2/app/tags/list").await.1, r#"{"name":"app","tags":["1","2"]}"#);
        for image in [&old, &new] {
            let path = format!("/v2/app/manifests/{}", image.digest());
            assert!(get(&path).await == (200, image.manifest.raw.clone()));
            for blob in image.all_blobs() {
                let found = get(&format!("/v2/app/blobs/{}", blob.digest())).await;
                assert!(found == (200, blob.bytes));
            }
        }
        let push = client.post(format!("{url}/v2/app/blobs/uploads/")).send().await;
        assert_eq!(push.expect("an answer").status(), 405);
        // Longer than it takes a server that writes to bring `index.json` up to date.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        drop((stop, client));
        running.await.expect("it ends");
    }
    assert_eq!(state_of(&dir), before);
    let refused = Layout::open_read_only(&dir).expect("opens");
    let refused = refused.put_manifest(&name, &[], &old.manifest).expect_err("only read");
    assert!(refused.to_string().contains("opened only to be read"), "{refused}");
}

/// A way into a folder by which nothing can be written, also not by root, where the system has one.
struct Locked {
    folder: PathBuf,
    is_mount: bool,
}

impl Locked {
    fn of(folder: &Path, mount_point: &Path) -> Self {
        fs::create_dir(mount_point).expect("a folder");
        let mount = |arguments: &[&std::ffi::OsStr]| {
            let mut command = Command::new("mount");
            let ran = command.args(arguments).stderr(Stdio::null()).status();
            ran.is_ok_and(|status| status.success())
        };
        let at = mount_point.as_os_str();
        let is_mount = mount(&["--bind".as_ref(), folder.as_os_str(), at]);
        let locked = Self {
            folder: if is_mount { mount_point.to_owned() } else { folder.to_owned() },
            is_mount,
        };
        if is_mount {
            assert!(mount(&["-o".as_ref(), "remount,ro,bind".as_ref(), at]), "read-only");
        } else {
            locked.set_writable(false);
        }
        locked
    }

    fn set_writable(&self, is_writable: bool) {
        for path in state_of(&self.folder).into_keys() {
            let mut permissions = fs::metadata(&path).expect("metadata").permissions();
            permissions.set_readonly(!is_writable);
            fs::set_permissions(&path, permissions).expect("set");
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.is_mount {
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        } else {
            self.set_writable(true);
        }
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_served_alone_and_beneath_payloads() {
    let job = Job::new();
    let (packed, blobs) = upgrades(&job).await;
    let desk = Desk::new();
    let host = job.source.host();
    let ran = desk.run(&["save", "-i", "-r", &host, "--to", "disc", "app:1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let before = state_of(&desk.path("disc"));
    let locked = Locked::of(&desk.path("disc"), &desk.path("mounted"));
    let folder = locked.folder.to_str().expect("text");
    if locked.is_mount {
        let ran = desk.run(&["serve", "--listen", "127.0.0.1:0", "--dir", folder]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("--read-only"), "{}", ran.stderr);
    }
    let delta = packed[1].path.to_str().expect("text");
    for (arguments, blob) in [(&[][..], &blobs[0]), (&["--payload", delta], &blobs[1])] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--read-only", "--dir", folder];
        let mut command = desk.kharon(&[&serve[..], arguments].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut lines = stderr.lines().map_while(Result::ok);
        let url = lines.find_map(|line| {
            let rest = line.split("http://").nth(1)?;
            Some(format!("http://{}", rest.split(',').next()?))
        });
        let url = url.expect("it says where it listens");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let path = format!("{url}/v2/app/blobs/{}", blob.digest());
        let answer = client.expect("a client").get(path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.expect("a body") == blob.bytes);
        child.kill().expect("killed");
        child.wait().expect("an end");
    }
    drop(locked);
    let after = state_of(&desk.path("disc"));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(after, before);
}
