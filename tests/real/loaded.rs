//! Saved images of every form as Docker's engines of today load them, with both of their image stores.
//!
//! What is loaded must have the names, IDs and digests that the registry has, and a container made of it the files.

use std::path::PathBuf;

use kharon::digest::Digest;
use kharon::manifest::{Content, Manifest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::awkward::{LayerTar, Packing, image, long_name};
use crate::content::{As, put_quickstart};
use crate::engine::{Engine, Release, Store};
use crate::fixtures;
use crate::images::Image;
use crate::kit::{self, clean, copy_by_skopeo, kharon, put, run};
use crate::real::{Kind, RealRegistry};

/// An image that an engine must have after a tar was loaded.
struct Expected {
    /// The name that it has there; none where it was saved by a digest.
    name: Option<String>,
    /// The ID in the classic store.
    config: Digest,
    /// The ID in containerd's store.
    root: Digest,
    /// Where the registry has it, with its digest; `None` where the manifest is another one than the registry's.
    digest: Option<String>,
    platform: &'static str,
    /// A file in it.
    file: &'static str,
}

/// A registry and an engine, and a folder for what goes from one to the other.
struct Crossing {
    near: RealRegistry,
    engine: Engine,
    store: Store,
    folder: TempDir,
}

impl Crossing {
    fn start(release: Release, store: Store) -> Self {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put_quickstart(&host, "v1", "team/sub/clock:v1", As::Oci);
        put_quickstart(&host, "v2", "clock:v2", As::Oci);
        put_quickstart(&host, "v2", "one:v2", As::DockerSchema2);
        put_quickstart(&host, "v1", "hub/library/python:3.9", As::Oci);
        let from = format!("oci:{}:v2", fixtures::quickstart().display());
        copy_by_skopeo(&from, &host, "list:v2", &["--all", "--format", "v2s2"]);
        put(&odd(Packing::Gzip), &host, "odd", "1");
        put(&odd(Packing::Zstd), &host, "odd", "zstd");
        put(&attested(), &host, "attested", "1");
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::start(release, store, folder.path());
        Self { near, engine, store, folder }
    }

    /// What is expected of an image that was saved with this name and platform.
    fn expected(&self, repository: &str, tag: &str, saved: Saved) -> Expected {
        let host = self.near.host();
        let root = kit::manifest(&host, repository, tag);
        let image = match root.children() {
            [] => root.clone(),
            children => {
                let wanted = saved.platform();
                let is_it = |it: &&kharon::manifest::Descriptor| {
                    it.platform.as_ref().is_some_and(|it| it.to_string().starts_with(wanted))
                };
                let child = children.iter().find(is_it).expect("the platform");
                kit::manifest(&host, repository, &child.digest.to_string())
            }
        };
        let root = if saved == Saved::Whole { root } else { image.clone() };
        Expected {
            name: Some(format!("{host}/{repository}:{tag}")),
            config: config(&image),
            root: root.digest().clone(),
            digest: Some(format!("{host}/{repository}@{}", root.digest())),
            platform: saved.platform(),
            file: if ["odd", "attested"].contains(&repository) {
                "twice"
            } else {
                "etc/os-release"
            },
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Saves into a new tar.
    #[track_caller]
    fn save(&self, arguments: &[&str]) -> PathBuf {
        let (file, host) = (self.path("saved.tar"), self.near.host());
        let to = ["-o", kit::text_of(&file), "--force"];
        kharon(&[&["save", "-r", &host], arguments, &to].concat()).well();
        file
    }

    /// The engine must load a tar, have just what is expected, and make containers of it; then it forgets everything.
    #[track_caller]
    fn assert_loads(&self, what: &str, file: &PathBuf, expected: &[Expected]) {
        let tar = std::fs::read(file).expect("a tar");
        let said = self.engine.ask("POST", "/images/load", &tar);
        let said = String::from_utf8_lossy(&said).to_lowercase();
        assert!(!said.contains("error"), "{what}: {said}");
        let listed = self.engine.json("GET", "/images/json", b"");
        let listed = listed.as_array().expect("a list");
        let found = |key: &str| {
            let values = listed.iter().flat_map(|image| match &image[key] {
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            });
            let texts = values.filter_map(|it| it.as_str().map(str::to_owned));
            // An image without a tag has none, or in containerd's store its digest in its place.
            let is_name = |it: &String| !it.starts_with("<none>") && !it.contains('@');
            sorted(texts.filter(is_name).collect())
        };
        let mut ids = sorted(expected.iter().map(|it| self.id(it)).collect());
        // The same image under several names.
        ids.dedup();
        assert_eq!(found("Id"), ids, "{what}");
        let names = expected.iter().filter_map(|it| it.name.clone()).collect();
        assert_eq!(found("RepoTags"), sorted(names), "{what}");
        for image in expected {
            self.assert_runs(what, image);
        }
        for image in expected {
            let id = self.id(image);
            let listed = self.engine.json("GET", "/images/json", b"").to_string();
            if listed.contains(&id) {
                self.engine.ask("DELETE", &format!("/images/{id}?force=1"), b"");
            }
        }
    }

    fn id(&self, image: &Expected) -> String {
        match self.store {
            Store::Classic => image.config.to_string(),
            Store::Containerd => image.root.to_string(),
        }
    }

    /// The image must have its ID and digest, and a container of it its file.
    #[track_caller]
    fn assert_runs(&self, what: &str, image: &Expected) {
        let by = image.name.clone().unwrap_or_else(|| self.id(image));
        let inspected = self.engine.json("GET", &format!("/images/{by}/json"), b"");
        assert_eq!(inspected["Id"], self.id(image), "{what}: {by}");
        if let (Store::Containerd, Some(digest)) = (self.store, &image.digest) {
            let digests = inspected["RepoDigests"].as_array().expect("a list");
            assert!(digests.iter().any(|it| it == digest), "{what}: no {digest} in {digests:?}");
        }
        let container = json!({ "Image": by, "Cmd": ["/none"], "NetworkDisabled": true });
        let path = format!("/containers/create?platform={}", image.platform);
        let made = self.engine.json("POST", &path, container.to_string().as_bytes());
        let id = made["Id"].as_str().expect("an ID");
        let tree = self.engine.ask("GET", &format!("/containers/{id}/export"), b"");
        let mut tree = tar::Archive::new(&tree[..]);
        let mut entries = tree.entries().expect("a tar").map(|entry| entry.expect("an entry"));
        let found = entries.any(|entry| entry.path_bytes() == image.file.as_bytes());
        assert!(found, "{what}: no `{}` in {by}", image.file);
        self.engine.ask("DELETE", &format!("/containers/{id}?force=1"), b"");
    }
}

/// What of an index was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saved {
    Whole,
    Amd64,
    Arm64,
}

impl Saved {
    fn platform(self) -> &'static str {
        if self == Self::Arm64 { "linux/arm64" } else { "linux/amd64" }
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

fn config(image: &Manifest) -> Digest {
    let Content::Image { config: Some(config), .. } = &image.content else {
        panic!("{} is no image", image.digest())
    };
    config.digest.clone()
}

/// An image with a layer twice, whiteouts, and long names; the last layer is a plain tar.
fn odd(second: Packing) -> Image {
    let (mut twice, mut low, mut top) =
        (LayerTar::default(), LayerTar::default(), LayerTar::default());
    twice.file("twice", "there");
    low.file("n\u{e4}me", "UTF-8").file("gone", "low").file(&long_name(), "long");
    low.folder("over", 0o755).file("over/low", "low");
    top.file(".wh.gone", "").file("over/.wh..wh..opq", "").file("over/new", "new");
    image(&[
        (&twice, Packing::Gzip),
        (&low, second),
        (&twice, Packing::Gzip),
        (&top, Packing::Plain),
    ])
}

/// An index as `BuildKit` makes them: two platforms and an attestation of each.
fn attested() -> Image {
    let of = |platform: &str| {
        let image = odd(if platform == "linux/amd64" { Packing::Gzip } else { Packing::Plain });
        Image { platform: Some(platform.to_owned()), ..image }
    };
    let (one, other) = (of("linux/amd64"), of("linux/s390x"));
    let attestations = [Image::attestation(&one), Image::attestation(&other)];
    Image::index(&[&[one, other], &attestations[..]].concat())
}

/// Every form that `save` writes.
fn assert_loads_every_form(release: Release, store: Store) {
    let crossing = Crossing::start(release, store);
    let expected = |name: &str, saved| {
        let (repository, tag) = name.split_once(':').expect("a tag");
        crossing.expected(repository, tag, saved)
    };
    let (amd64, whole) = (Saved::Amd64, Saved::Whole);
    let loads = |what: &str, arguments: &[&str], images: &[Expected]| {
        crossing.assert_loads(what, &crossing.save(arguments), images);
    };
    let several = ["team/sub/clock:v1", "clock:v2", "one:v2", "odd:1", "list:v2"];
    loads("several images", &several, &several.map(|name| expected(name, amd64)));
    let all = ["clock:v2", "list:v2", "attested:1", "odd:1"];
    let arguments = [&all[..], &["--platform", "all"]].concat();
    loads("all platforms", &arguments, &all.map(|name| expected(name, whole)));
    let foreign = expected("clock:v2", Saved::Arm64);
    loads("another platform", &["clock:v2", "--platform", "linux/arm64"], &[foreign]);
    // Debian's may be too old for it.
    if release != Release::Installed {
        loads("a layer of zstd", &["odd:zstd"], &[expected("odd:zstd", amd64)]);
    }

    let clock = expected("team/sub/clock:v1", amd64);
    let by_digest = format!("team/sub/clock@{}", clock.root);
    loads("a digest", &[&by_digest], &[Expected { name: None, ..clock }]);
    let mirror = format!("docker.io={}/hub", crossing.near.host());
    let hub = expected("hub/library/python:3.9", amd64);
    let digest = Some(format!("python@{}", hub.root));
    let hub = Expected { name: Some("python:3.9".to_owned()), digest, ..hub };
    loads("Docker Hub", &["--mirror", &mirror, "docker.io/library/python:3.9"], &[hub]);

    for rewrite in [
        &["--uncompressed"][..],
        &["--rewrite-zstd", "gzip"],
        &["--rewrite-zstd", "plain"],
        &["--uncompressed", "--platform", "all"],
    ] {
        let name = if rewrite.contains(&"all") { "attested:1" } else { "odd:zstd" };
        let file = crossing.save(&[&[name][..], rewrite].concat());
        let expected = Expected { digest: None, root: root_of(&file), ..expected(name, whole) };
        crossing.assert_loads(&rewrite.join(" "), &file, &[expected]);
    }

    let (host, folder, merged) = (crossing.near.host(), crossing.path("f"), crossing.path("m"));
    let to = ["save", "-r", &host, "odd:1", "clock:v2", "--platform", "all", "--to"];
    kharon(&[&to[..], &[kit::text_of(&folder), "--layout", "docker"]].concat()).well();
    let file = crossing.path("folder.tar");
    run(clean("tar").arg("-cf").arg(&file).arg("-C").arg(&folder).arg(".")).well();
    let both = ["odd:1", "clock:v2"].map(|name| expected(name, whole));
    crossing.assert_loads("a folder that became a tar", &file, &both);
    kharon(&[&to[..], &[kit::text_of(&merged), "--layout", "merged"]].concat()).well();
    let file = crossing.path("recreated.tar");
    let recreate = ["recreate", kit::text_of(&merged), "clock:v2", "-o", kit::text_of(&file)];
    kharon(&recreate).well();
    crossing.assert_loads("recreated", &file, &[expected("clock:v2", whole)]);
}

/// The digest that the only name of a tar stands for.
fn root_of(file: &PathBuf) -> Digest {
    let index = run(clean("tar").arg("-xOf").arg(file).arg("index.json")).well().json();
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    digest.parse().expect("a digest")
}

mod dockerd {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and dockerd, as root"]
    fn the_classic_store_loads_every_form() {
        assert_loads_every_form(Release::Installed, Store::Classic);
    }
}

mod docker_28 {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and Docker 28, as root"]
    fn the_classic_store_loads_every_form() {
        assert_loads_every_form(Release::Docker28, Store::Classic);
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and Docker 28, as root"]
    fn the_store_of_containerd_loads_every_form() {
        assert_loads_every_form(Release::Docker28, Store::Containerd);
    }
}

mod docker_29 {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and Docker 29, as root"]
    fn the_classic_store_loads_every_form() {
        assert_loads_every_form(Release::Docker29, Store::Classic);
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and Docker 29, as root"]
    fn the_store_of_containerd_loads_every_form() {
        assert_loads_every_form(Release::Docker29, Store::Containerd);
    }
}
