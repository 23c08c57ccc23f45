//! Payloads served in place: engines and skopeo pull every image of them, those that travelled as deltas among them.

use std::path::PathBuf;
use std::process::Command;

use kharon::digest::Digest;
use kharon::manifest::{Content, Descriptor, MediaType};
use kharon::payload::{Payload, Travels};
use serde_json::json;
use tempfile::TempDir;

use crate::content::{As, Debian, put_quickstart};
use crate::images::{Blob, Image};
use crate::kit::{self, assert_same, make, run, skopeo};
use crate::real::{Kind, RealRegistry};
use crate::served::Served;

const IMAGES: [(&str, &str); 6] = [
    ("clock", "v1"),
    ("clock", "v2"),
    ("team/app", "1"),
    ("team/app", "2"),
    // No engine can unpack these: they are parts of layers.
    ("debian", "1"),
    ("debian", "2"),
];
/// Those of them that engines can unpack.
const WHOLE: [(&str, &str); 4] = [IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3]];

/// An image that engines unpack, with a layer of text.
fn app(from: usize) -> Image {
    let layer = kit::text_layer(9, from);
    let mut plain = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&layer.bytes[..]);
    std::io::copy(&mut gzip, &mut plain).expect("a gzip stream");
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&plain)] },
    });
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string());
    Image::of_blobs(MediaType::OCI_MANIFEST, config, vec![layer], &json!({}))
}

/// A registry with images, and a server over the two payloads that carry them, the second with deltas.
fn served(folder: &TempDir) -> (RealRegistry, Served) {
    let near = RealRegistry::start(Kind::DockerRegistry);
    put_quickstart(&near.host(), "v1", "clock:v1", As::Oci);
    put_quickstart(&near.host(), "v2", "clock:v2", As::Oci);
    Debian::read().put(&near.host(), "debian", As::DockerSchema2);
    kit::put(&app(0), &near.host(), "team/app", "1");
    kit::put(&app(1000), &near.host(), "team/app", "2");
    let [first, next]: [PathBuf; 2] =
        ["first.zip", "next.zip"].map(|name| kit::path_in(folder, name));
    make(&near.host(), &first, &["clock:v1", "team/app:1", "debian:1"]);
    let against = ["--against", kit::text_of(&first), "clock:v2", "team/app:2", "debian:2"];
    make(&near.host(), &next, &against);
    let payload = Payload::open(&next).expect("a payload");
    let blobs = &payload.index().blobs;
    let deltas = blobs.iter().filter(|blob| matches!(blob.travels, Travels::Delta { .. }));
    assert!(deltas.count() >= 3, "{blobs:?}");
    let payloads = ["--strict", "--payload", kit::text_of(&first), kit::text_of(&next)];
    (near, Served::start_with(&payloads))
}

/// The digest of an image's config, which is its ID; of an index that of linux/amd64.
fn id(host: &str, repository: &str, which: &str) -> String {
    let manifest = kit::manifest(host, repository, which);
    if let Content::Image { config: Some(config), .. } = &manifest.content {
        return config.digest.to_string();
    }
    let is_ours = |child: &&Descriptor| {
        let platform = child.platform.as_ref().map(ToString::to_string);
        platform.as_deref() == Some("linux/amd64")
    };
    let child = manifest.children().iter().find(is_ours).expect("an image for linux/amd64");
    id(host, repository, &child.digest.to_string())
}

/// Pulls everything into an engine with a store of its own, which must have the IDs of the source then.
#[track_caller]
fn assert_pulls(engine: &dyn Fn(&[&str]) -> Command, pull: &[&str], near: &str, served: &str) {
    let mut expected = Vec::new();
    for (repository, tag) in WHOLE {
        let name = format!("{served}/{repository}:{tag}");
        run(&mut engine(&[pull, &[&name]].concat())).well();
        expected.push(format!("{} {name}", id(near, repository, tag)));
    }
    expected.sort();
    let format = "{{.ID}} {{.Repository}}:{{.Tag}}";
    let mut listed = run(&mut engine(&["images", "--no-trunc", "--format", format])).well().lines();
    listed.sort();
    assert_eq!(listed, expected);
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn skopeo_copies_every_image_of_payloads() {
    let folder = tempfile::tempdir().expect("a folder");
    let (near, served) = served(&folder);
    for (place, (repository, tag)) in IMAGES.iter().enumerate() {
        let from = format!("docker://{}/{repository}:{tag}", served.host);
        let to = format!("dir:{}", folder.path().join(format!("copy{place}")).display());
        skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &from, &to]).well();
        assert_same(&near.host(), &served.host, &format!("{repository}:{tag}"));
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn a_hundred_pulls_at_once_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (near, served) = served(&folder);
    let pull = |place: usize| {
        let (repository, tag) = IMAGES[place % IMAGES.len()];
        kit::assert_whole(&served.host, repository, tag)
    };
    let pull = &pull;
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..100).map(|place| scope.spawn(move || pull(place))).collect();
        for (place, pulled) in pulls.into_iter().enumerate() {
            let (repository, tag) = IMAGES[place % IMAGES.len()];
            let there = kit::manifest(&near.host(), repository, tag);
            assert_eq!(pulled.join().expect("whole"), *there.digest());
        }
    });
}

mod podman {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and podman, as root"]
    fn podman_pulls_every_image_of_payloads() {
        let folder = tempfile::tempdir().expect("a folder");
        let (near, served) = served(&folder);
        let podman = crate::saved::podman::podman(folder.path());
        let pull = ["pull", "--quiet", "--tls-verify=false"];
        assert_pulls(&podman, &pull, &near.host(), &served.host);
    }
}

mod dockerd {
    use super::*;
    use crate::engine::{Engine, Release, Store};

    #[test]
    #[ignore = "needs docker-registry, skopeo and dockerd, as root"]
    fn docker_pulls_every_image_of_payloads() {
        let folder = tempfile::tempdir().expect("a folder");
        let (near, served) = served(&folder);
        let engine = Engine::start(Release::Installed, Store::Classic, folder.path());
        let docker = |arguments: &[&str]| engine.docker(arguments);
        assert_pulls(&docker, &["pull", "--quiet"], &near.host(), &served.host);
    }
}
