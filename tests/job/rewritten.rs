//! Saved images whose layers are packed in another way: what changes, and what must not.
#![cfg(unix)]

use std::io::Read as _;

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use serde_json::Value;

use crate::cli::{Desk, Ran};
use crate::save::{files, json};
use crate::support::awkward::{LayerTar, Packing, image};
use crate::support::images::{Blob, Image};
use crate::support::registry::TestRegistry;

fn layer(content: &str) -> LayerTar {
    let mut layer = LayerTar::default();
    layer.file("file", content);
    layer
}

/// An image with one layer of each packing, of which the first is used twice.
fn mixed() -> (Image, [LayerTar; 3]) {
    let layers = [layer("gzip"), layer("zstd"), layer("plain")];
    let packed = [
        (&layers[0], Packing::Gzip),
        (&layers[1], Packing::Zstd),
        (&layers[2], Packing::Plain),
        (&layers[0], Packing::Gzip),
    ];
    (image(&packed), layers)
}

fn scene(image: &Image) -> (TestRegistry, Desk) {
    let source = TestRegistry::start();
    source.put("app", "1", image);
    let desk = Desk::new();
    std::fs::create_dir(desk.path("work")).expect("a folder");
    (source, desk)
}

fn save(desk: &Desk, source: &TestRegistry, arguments: &[&str]) -> Ran {
    let ran =
        desk.run(&[&["save", "-r", &source.host(), "-i", "--workdir", "work"], arguments].concat());
    assert_eq!(std::fs::read_dir(desk.path("work")).expect("a folder").count(), 0);
    ran
}

/// The digests of the layers of the manifest that `index.json` names first, and their media types.
fn layers_of(
    found: &std::collections::BTreeMap<String, Vec<u8>>,
) -> (Value, Vec<(Digest, String)>) {
    let root = json(found, "index.json")["manifests"][0]["digest"].clone();
    let digest: Digest = root.as_str().expect("text").parse().expect("a digest");
    let manifest = json(found, &digest.blob_path());
    let layers = manifest["layers"].as_array().expect("layers").iter().map(|layer| {
        let digest: Digest = layer["digest"].as_str().expect("text").parse().expect("a digest");
        let content = &found[&digest.blob_path()];
        assert_eq!(layer["size"], content.len());
        assert_eq!(Digest::of(content), digest);
        (digest, layer["mediaType"].as_str().expect("text").to_owned())
    });
    let layers = layers.collect();
    (manifest, layers)
}

#[test]
fn plain_layers_are_those_that_the_config_names() {
    let (image, layers) = mixed();
    let (source, desk) = scene(&image);
    let ran = save(&desk, &source, &["app:1", "--uncompressed", "-o", "x.tar"]);
    ran.assert(ExitCode::Done);
    assert!(ran.stderr.contains("has another manifest than it had"), "{}", ran.stderr);
    let found = files(&std::fs::read(desk.path("x.tar")).expect("a file"));
    let config = &image.blobs[0];
    assert_eq!(found[&config.digest().blob_path()], config.bytes);
    let ids: Vec<Digest> = [0, 1, 2, 0].map(|at: usize| Digest::of(&layers[at].bytes())).into();
    let (manifest, named) = layers_of(&found);
    assert_eq!(manifest["config"]["digest"], config.digest().to_string());
    let plain = "application/vnd.oci.image.layer.v1.tar";
    assert_eq!(named, ids.iter().map(|id| (id.clone(), plain.to_owned())).collect::<Vec<_>>());
    let docker = json(&found, "manifest.json");
    let paths: Vec<String> = ids.iter().map(Digest::blob_path).collect();
    assert_eq!(docker[0]["Layers"], serde_json::json!(paths));
    assert_eq!(docker[0]["Config"], config.digest().blob_path());
    // Nothing of the former form is there, and a pipe gets the same bytes.
    assert!(!found.contains_key(&image.layers()[1].digest().blob_path()));
    let host = source.host();
    let piped = ["save", "-i", "-r", &host, "-j", "1", "app:1", "--uncompressed", "-o", "-"];
    let stdout = desk.kharon(&piped).output().expect("it runs").stdout;
    assert_eq!(stdout, std::fs::read(desk.path("x.tar")).expect("a file"));
}

#[test]
fn of_layers_only_those_of_zstd_are_rewritten_on_request() {
    let (image, layers) = mixed();
    let (source, desk) = scene(&image);
    for how in ["gzip", "plain"] {
        let file = format!("{how}.tar");
        save(&desk, &source, &["app:1", "--rewrite-zstd", how, "-o", &file]).assert(ExitCode::Done);
        let found = files(&std::fs::read(desk.path(&file)).expect("a file"));
        let (_, named) = layers_of(&found);
        for at in [0, 2, 3] {
            assert_eq!(&named[at].0, image.layers()[at].digest(), "{how} {at}");
        }
        let content = &found[&named[1].0.blob_path()];
        let mut plain = Vec::new();
        if how == "gzip" {
            assert_eq!(named[1].1, "application/vnd.oci.image.layer.v1.tar+gzip");
            flate2::read::GzDecoder::new(&content[..]).read_to_end(&mut plain).expect("gzip");
        } else {
            assert_eq!(named[1].1, "application/vnd.oci.image.layer.v1.tar");
            plain.clone_from(content);
        }
        assert_eq!(plain, layers[1].bytes());
    }
    // Where there is none, nothing changes.
    let untouched = self::image(&[(&layers[0], Packing::Gzip), (&layers[2], Packing::Plain)]);
    source.put("app", "2", &untouched);
    let ran = save(&desk, &source, &["app:2", "--rewrite-zstd", "gzip", "-o", "same.tar"]);
    ran.assert(ExitCode::Done);
    assert!(!ran.stderr.contains("another manifest"), "{}", ran.stderr);
    let found = files(&std::fs::read(desk.path("same.tar")).expect("a file"));
    assert_eq!(found[&untouched.digest().blob_path()], untouched.manifest.raw);
}

#[test]
fn a_layer_counts_as_zstd_by_what_it_is_whatever_it_is_called() {
    let (named_right, layers) = mixed();
    let called = |more: &str, at: usize, packing: Packing| {
        let media_type = format!("application/vnd.{more}");
        Blob::new(&media_type, layers[at].packed(packing).0.bytes)
    };
    let of = [
        called("oci.image.layer.v1.tar+gzip", 0, Packing::Zstd),
        called("docker.image.rootfs.diff.tar.gzip", 1, Packing::Zstd),
        called("oci.image.layer.v1.tar", 2, Packing::Zstd),
        called("oci.image.layer.v1.tar+zstd", 1, Packing::Gzip),
        called("oci.image.layer.v1.tar+zstd", 0, Packing::Plain),
        called("oci.image.layer.v1.tar+gzip", 2, Packing::Gzip),
    ];
    let config = named_right.blobs[0].clone();
    let media_type = kharon::manifest::MediaType::OCI_MANIFEST;
    let lying = Image::of_blobs(media_type, config, of.to_vec(), &serde_json::json!({}));
    let (source, desk) = scene(&lying);
    let host = source.host();
    desk.run(&["make-payload", "-i", "-r", &host, "-f", "app.zip", "app:1"]).assert(ExitCode::Done);
    desk.run(&["save", "-i", "-r", &host, "app:1", "--to", "layout"]).assert(ExitCode::Done);
    for how in ["gzip", "plain"] {
        let [oci, docker] = match how {
            "gzip" => ["oci.image.layer.v1.tar+gzip", "docker.image.rootfs.diff.tar.gzip"],
            _ => ["oci.image.layer.v1.tar", "docker.image.rootfs.diff.tar"],
        };
        for from in [&["-r", &host, "-i"][..], &["--from", "app.zip"], &["--from", "layout"]] {
            let file = format!("{how}-{}.tar", from[1].replace(':', "-"));
            let rewrite = ["app:1", "--rewrite-zstd", how, "--workdir", "work", "-o", &file];
            desk.run(&[&["save"], from, &rewrite].concat()).assert(ExitCode::Done);
            let found = files(&std::fs::read(desk.path(&file)).expect("a file"));
            let (_, named) = layers_of(&found);
            let kinds = [oci, docker, oci, oci, oci].map(|kind| format!("application/vnd.{kind}"));
            for (at, (kind, of_layer)) in kinds.iter().zip([0, 1, 2, 1, 0]).enumerate() {
                assert_eq!(&named[at].1, kind, "{how} {from:?} {at}");
                let content = &found[&named[at].0.blob_path()];
                let mut plain = content.clone();
                if how == "gzip" {
                    plain.clear();
                    flate2::read::GzDecoder::new(&content[..])
                        .read_to_end(&mut plain)
                        .expect("gzip");
                }
                assert_eq!(plain, layers[of_layer].bytes(), "{how} {from:?} {at}");
            }
            // What engines of any age take stays.
            assert_eq!(&named[5].0, of[5].digest());
        }
    }
}

#[test]
fn indexes_above_name_the_new_manifests() {
    let (zstd, _) = mixed();
    let zstd = Image { platform: Some("linux/amd64".to_owned()), ..zstd };
    let plain = image(&[(&layer("other"), Packing::Plain)]);
    let plain = Image { platform: Some("linux/s390x".to_owned()), ..plain };
    let attestation = Image::attestation(&zstd);
    let index = Image::index(&[zstd.clone(), plain.clone(), attestation.clone()]);
    let (source, desk) = scene(&index);
    let all = ["app:1", "--platform", "all", "--uncompressed", "--to", "layout"];
    save(&desk, &source, &all).assert(ExitCode::Done);
    let read = |path: String| -> Value {
        let bytes = std::fs::read(desk.path("layout").join(path)).expect("a file");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let path = |digest: &Value| -> String {
        let digest: Digest = digest.as_str().expect("text").parse().expect("a digest");
        digest.blob_path()
    };
    let root = read("index.json".to_owned())["manifests"][0]["digest"].clone();
    assert_ne!(root, index.digest().to_string());
    let children = read(path(&root))["manifests"].clone();
    let rewritten = &children[0]["digest"];
    assert_ne!(*rewritten, zstd.digest().to_string());
    assert_eq!(read(path(rewritten))["layers"].as_array().map(Vec::len), Some(4));
    assert_eq!(children[0]["platform"]["architecture"], "amd64");
    assert_eq!(children[1]["digest"], plain.digest().to_string());
    assert_eq!(children[2]["annotations"]["vnd.docker.reference.digest"], *rewritten);
    assert_eq!(children[2]["digest"], attestation.digest().to_string());
}

#[test]
fn a_layer_that_cannot_be_unpacked_leaves_nothing() {
    let (image, _) = mixed();
    let broken = crate::support::images::Blob::new(
        "application/vnd.oci.image.layer.v1.tar+gzip",
        image.layers()[0].bytes.slice(..20),
    );
    let config = image.blobs[0].clone();
    let media_type = kharon::manifest::MediaType::OCI_MANIFEST;
    let broken = Image::of_blobs(media_type, config, vec![broken], &serde_json::json!({}));
    let (source, desk) = scene(&broken);
    let ran = save(&desk, &source, &["app:1", "--uncompressed", "-o", "x.tar"]);
    ran.assert(ExitCode::Failed);
    assert!(ran.stderr.contains("cannot unpack layer"), "{}", ran.stderr);
    assert!(!desk.path("x.tar").exists());
    let missing = ["app:1", "--uncompressed", "-o", "x.tar", "--workdir", "missing"];
    let host = source.host();
    let ran = desk.run(&[&["save", "-i", "-r", &host], &missing[..]].concat());
    ran.assert(ExitCode::Failed);
    assert!(ran.stderr.contains("cannot write into `missing`"), "{}", ran.stderr);
}
