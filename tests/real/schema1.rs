//! Images of Docker's schema 1, at a registry that has nothing else: what arrives is compared with what skopeo makes.

use std::fs;
use std::path::Path;

use kharon::digest::Digest;
use kharon::manifest::{Content, Manifest};
use serde_json::{Value, json};

use crate::content::{As, put_quickstart};
use crate::images::layer;
use crate::kit::{self, assert_whole, copy_by_skopeo, kharon, make, push, run, skopeo};
use crate::old_images::OldImage;
use crate::real::{Kind, RealRegistry, fixture};

/// Puts images of schema 1 into a registry; gives their names.
fn put_all(host: &str) -> Vec<String> {
    // What skopeo itself makes schema 1.
    let from = format!("oci:{}:v1", fixture("quickstart").display());
    copy_by_skopeo(&from, host, "team/clock:v1", &["--format", "v2s1"]);
    let mut names = vec!["team/clock:v1".to_owned()];
    for (tag, image) in [("usual", OldImage::usual()), ("old", old())] {
        put(host, "app", tag, &image);
        names.push(format!("app:{tag}"));
    }
    names
}

/// An image of before Docker 1.8.3, with one layer twice.
fn old() -> OldImage {
    let twice = layer(&[("twice", b"there")]);
    let mut image = OldImage::default();
    image.step(&twice, json!({ "container_config": { "Cmd": ["a", "<b>", "\u{2028}&"] } }));
    image.step(&twice, json!({ "comment": "quoted \"text\" \\ \u{1}" }));
    image.nothing(json!({ "author": "\u{e4} <a@example.org>" }));
    let config = json!({
        "ExposedPorts": { "80/tcp": {}, "443/tcp": {} }, "Volumes": { "/b": {}, "/a": {} },
        "Env": ["A=<&>"], "Cmd": ["sh"], "Memory": 0, "Labels": { "b": "<2>", "a": "1" },
    });
    image.step(
        &layer(&[("last", b"one")]),
        json!({
            "docker_version": "1.6.2", "architecture": "amd64", "os": "linux", "Size": 12,
            "config": config, "unknown": "left out",
        }),
    );
    image
}

/// Puts an image by skopeo, which signs it with a key of its own.
fn put(host: &str, repository: &str, tag: &str, image: &OldImage) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &[u8]| {
        fs::write(folder.path().join(name), content).expect("written");
    };
    write("version", b"Directory Transport Version: 1.1\n");
    write("manifest.json", image.payload("another/name", tag).as_bytes());
    for blob in image.blobs() {
        write(blob.digest().hex(), &blob.bytes);
    }
    let from = format!("dir:{}", folder.path().display());
    copy_by_skopeo(&from, host, &format!("{repository}:{tag}"), &[]);
}

/// The manifest and config that skopeo converts an image into.
fn by_skopeo(host: &str, name: &str, folder: &Path) -> (Vec<u8>, Value) {
    let to = folder.join(name.replace(['/', ':'], "_"));
    let (from, to) = (format!("docker://{host}/{name}"), format!("dir:{}", to.display()));
    let copy = ["copy", "--quiet", "--src-tls-verify=false", "--format", "v2s2"];
    skopeo(&[&copy[..], &[&from, &to]].concat()).well();
    let folder = Path::new(to.trim_start_matches("dir:"));
    let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
    let document: Value = serde_json::from_slice(&manifest).expect("JSON");
    (manifest, document)
}

fn config_of(manifest: &Manifest) -> String {
    match &manifest.content {
        Content::Image { config: Some(config), .. } => config.digest.to_string(),
        _ => panic!("no image"),
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn images_arrive_with_the_config_that_skopeo_makes() {
    let near = RealRegistry::start(Kind::DockerRegistrySchema1);
    let far = RealRegistry::start(Kind::DockerRegistry);
    let names = put_all(&near.host());
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "payload.zip");
    let arguments: Vec<&str> = names.iter().map(String::as_str).collect();
    let made = make(&near.host(), &file, &arguments);
    push(&far.host(), &file, &[]);
    for (place, name) in names.iter().enumerate() {
        let (repository, tag) = name.split_once(':').expect("a tag");
        let answer = near.get(&format!("/v2/{repository}/manifests/{tag}"));
        let former = answer.header("docker-content-digest").expect("a digest").to_owned();
        assert_eq!(made["plan"]["images"][place]["convertedFrom"], former, "{name}");
        let there = kit::manifest(&far.host(), repository, tag);
        assert_whole(&far.host(), repository, tag);
        let (raw, expected) = by_skopeo(&near.host(), name, folder.path());
        assert_eq!(config_of(&there), expected["config"]["digest"], "{name}");
        assert_eq!(*there.digest(), Digest::of(&raw), "{name}");
        // By its old digest it is the same image.
        let file = kit::path_in(&folder, "by-digest.tar");
        let by_digest = format!("{repository}@{former}");
        kharon(&["save", "-r", &near.host(), "--force", "-o", kit::text_of(&file), &by_digest])
            .well();
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn as_baseline_an_image_of_schema_1_saves_its_layers() {
    let near = RealRegistry::start(Kind::DockerRegistrySchema1);
    let host = near.host();
    put_all(&host);
    put_quickstart(&host, "v2", "team/clock:v2", As::DockerSchema2);
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "payload.zip");
    let made = make(&host, &file, &["-a", "team/clock:v1", "team/clock:v2", "--delta", "off"]);
    assert_eq!(made["plan"]["total"]["expectedBlobs"], 2, "{made}");
    let listed = kit::path_in(&folder, "inventory.json");
    kharon(&["inventory", "-r", &host, "-f", kit::text_of(&listed)]).well();
    let file = kit::path_in(&folder, "by-inventory.zip");
    make(&host, &file, &["--against", kit::text_of(&listed), "team/clock:v2", "--all-tags", "app"]);
}

pub mod podman {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and podman, as root"]
    fn podman_loads_saved_images_under_the_id_that_skopeo_makes() {
        let near = RealRegistry::start(Kind::DockerRegistrySchema1);
        let host = near.host();
        for name in put_all(&host) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = kit::path_in(&folder, "image.tar");
            kharon(&["save", "-r", &host, "-o", kit::text_of(&file), &name]).well();
            let podman = crate::saved::podman::podman(folder.path());
            run(&mut podman(&["load", "-i", kit::text_of(&file)])).well();
            let listed = run(&mut podman(&["images", "--no-trunc", "-q"])).well().lines();
            let (_, expected) = by_skopeo(&host, &name, folder.path());
            assert_eq!(listed, [expected["config"]["digest"].as_str().expect("a text")], "{name}");
        }
    }
}
