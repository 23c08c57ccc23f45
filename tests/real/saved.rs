//! Saved images as skopeo and the engines load them, each into an empty store.

use std::path::Path;
use std::process::Command;

use kharon::manifest::{Content, Manifest, MediaType};
use serde_json::json;

use crate::content::{As, put_quickstart};
use crate::images::{Blob, Image, layer, random_bytes};
use crate::kit::{self, clean, digest_by_skopeo, kharon, put, run, skopeo};
use crate::real::{self, Kind, RealRegistry};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A registry with a plain image, one of Docker's schema 2, and one whose layers are odd.
fn registry() -> RealRegistry {
    let near = RealRegistry::start(Kind::DockerRegistry);
    put_quickstart(&near.host(), "v1", "team/clock:v1", As::Oci);
    put_quickstart(&near.host(), "v2", "other:v2", As::DockerSchema2);
    put(&odd(Compressed::No), &near.host(), "odd", "1");
    near
}

/// Whether the odd image has a layer that old engines do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compressed {
    No,
    Zstd,
}

/// An image with one layer twice, and another that is a plain tar or one of zstd.
fn odd(compressed: Compressed) -> Image {
    let twice = layer(&[("twice", b"there")]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4096);
    header.set_mode(0o644);
    let content = random_bytes(7, 4096);
    archive.append_data(&mut header, "n\u{e4}me", &content[..]).expect("a tar");
    let tar = archive.into_inner().expect("a tar");
    let plain = Blob::new("application/vnd.oci.image.layer.v1.tar", tar);
    let last = match compressed {
        Compressed::No => plain.clone(),
        Compressed::Zstd => {
            let stream = zstd::encode_all(&plain.bytes[..], 3).expect("a zstd stream");
            Blob::new("application/vnd.oci.image.layer.v1.tar+zstd", stream)
        }
    };
    let mut inner = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&twice.bytes[..]);
    std::io::copy(&mut gzip, &mut inner).expect("a gzip stream");
    let twice_id = kharon::digest::Digest::of(&inner);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [twice_id, twice_id, plain.digest()] },
    });
    let config = Blob::new(OCI_CONFIG, config.to_string());
    let layers = vec![twice.clone(), twice, last];
    Image::of_blobs(MediaType::OCI_MANIFEST, config, layers, &json!({}))
}

/// Saves images of a registry into a tar.
#[track_caller]
fn save(host: &str, file: &Path, names: &[&str]) {
    kharon(&[&["save", "-r", host, "-o", kit::text_of(file)], names].concat()).well();
}

/// The digest of an image's config, which is its ID.
fn id(host: &str, repository: &str, tag: &str) -> String {
    let manifest: Manifest = kit::manifest(host, repository, tag);
    let Content::Image { config: Some(config), .. } = &manifest.content else {
        panic!("{repository}:{tag} is no image")
    };
    config.digest.to_string()
}

const IMAGES: [(&str, &str); 3] = [("team/clock", "v1"), ("other", "v2"), ("odd", "1")];

/// What an engine must list, once it has loaded [`IMAGES`].
fn expected(host: &str) -> Vec<String> {
    let line = |(repository, tag): &(&str, &str)| {
        format!("{} {host}/{repository}:{tag}", id(host, repository, tag))
    };
    let mut lines: Vec<String> = IMAGES.iter().map(line).collect();
    lines.sort();
    lines
}

fn names() -> Vec<String> {
    IMAGES.iter().map(|(repository, tag)| format!("{repository}:{tag}")).collect()
}

/// An engine with a store of its own must load the tars of one image and of several, and name them as the registry does.
#[track_caller]
fn assert_loads(engine: &dyn Fn(&[&str]) -> Command, host: &str, folder: &tempfile::TempDir) {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = kit::path_in(folder, "all.tar");
    save(host, &all, &names);
    let loaded = run(&mut engine(&["load", "-i", kit::text_of(&all)])).well();
    let said = format!("{}{}", loaded.text(), loaded.stderr);
    assert!(!said.to_lowercase().contains("error"), "{said}");
    let format = "{{.ID}} {{.Repository}}:{{.Tag}}";
    let mut listed = run(&mut engine(&["images", "--no-trunc", "--format", format])).well().lines();
    listed.sort();
    assert_eq!(listed, expected(host));
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn one_tar_is_both_kinds_of_archive_for_skopeo() {
    let near = registry();
    let host = near.host();
    let folder = tempfile::tempdir().expect("a folder");
    for (place, (repository, tag)) in IMAGES.iter().enumerate() {
        let file = kit::path_in(&folder, &format!("{place}.tar"));
        save(&host, &file, &[&format!("{repository}:{tag}")]);
        let there = kit::manifest(&host, repository, tag);
        // skopeo's `oci-archive` takes no manifest of Docker's media types.
        if there.descriptor.media_type.as_str() == MediaType::OCI_MANIFEST {
            let here = digest_by_skopeo(&format!("oci-archive:{}:{tag}", file.display()));
            assert_eq!(&here, there.digest());
        }
        let copy = folder.path().join(format!("copy{place}"));
        let (from, to) = (format!("docker-archive:{}", file.display()), copy.display());
        skopeo(&["copy", "--quiet", &from, &format!("dir:{to}")]).well();
        let id = id(&host, repository, tag).replace("sha256:", "");
        assert!(copy.join(&id).is_file(), "no config `{id}` in {to}");
    }
}

/// Ways to have the layers of [`odd`] packed otherwise.
const REWRITES: [&[&str]; 3] =
    [&["--uncompressed"], &["--rewrite-zstd", "gzip"], &["--rewrite-zstd", "plain"]];

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn rewritten_layers_are_read_by_skopeo_under_the_id_of_the_registry() {
    let near = RealRegistry::start(Kind::DockerRegistry);
    let host = near.host();
    put(&odd(Compressed::Zstd), &host, "odd", "1");
    put_quickstart(&host, "v2", "docker:v2", As::DockerSchema2);
    let folder = tempfile::tempdir().expect("a folder");
    for (place, rewrite) in REWRITES.iter().enumerate() {
        for (repository, tag) in [("odd", "1"), ("docker", "v2")] {
            let file = kit::path_in(&folder, &format!("{repository}{place}.tar"));
            let name = format!("{repository}:{tag}");
            save(&host, &file, &[&[&name[..]], *rewrite].concat());
            let id = id(&host, repository, tag).replace("sha256:", "");
            let kinds: &[&str] = if repository == "odd" {
                &["docker-archive", "oci-archive"]
            } else {
                &["docker-archive"]
            };
            for kind in kinds {
                let copy = folder.path().join(format!("{repository}-{kind}-{place}"));
                let (from, to) = (format!("{kind}:{}", file.display()), copy.display());
                skopeo(&["copy", "--quiet", &from, &format!("dir:{to}")]).well();
                assert!(copy.join(&id).is_file(), "no config `{id}` in {to}");
            }
        }
    }
}

pub mod podman {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and podman, as root"]
    fn podman_loads_rewritten_layers_under_the_id_of_the_registry() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put(&odd(Compressed::Zstd), &host, "odd", "1");
        for rewrite in REWRITES {
            let folder = tempfile::tempdir().expect("a folder");
            let file = kit::path_in(&folder, "odd.tar");
            save(&host, &file, &[&["odd:1"], rewrite].concat());
            let podman = podman(folder.path());
            run(&mut podman(&["load", "-i", kit::text_of(&file)])).well();
            let listed = run(&mut podman(&["images", "--no-trunc", "-q"])).well().lines();
            assert_eq!(listed, [id(&host, "odd", "1")], "{rewrite:?}");
        }
    }

    pub fn podman(folder: &Path) -> impl Fn(&[&str]) -> Command {
        let folder = folder.to_owned();
        move |arguments| {
            let mut command = clean(real::tool("podman"));
            command.env("HOME", &folder).args(["--storage-driver", "vfs"]);
            command.arg("--root").arg(folder.join("root")).arg("--runroot");
            command.arg(folder.join("run")).args(["--events-backend", "none"]).args(arguments);
            command
        }
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and podman, as root"]
    fn podman_loads_several_images_with_the_ids_of_the_registry() {
        let near = registry();
        let folder = tempfile::tempdir().expect("a folder");
        assert_loads(&podman(folder.path()), &near.host(), &folder);
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and podman, as root"]
    fn podman_loads_a_layer_of_zstd_and_a_folder_that_became_a_tar() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put(&odd(Compressed::Zstd), &host, "odd", "1");
        let folder = tempfile::tempdir().expect("a folder");
        let (saved, file) = (folder.path().join("saved"), kit::path_in(&folder, "folder.tar"));
        let to = ["odd:1", "--layout", "docker", "--to", kit::text_of(&saved)];
        kharon(&[&["save", "-r", &host][..], &to].concat()).well();
        run(clean("tar").arg("-cf").arg(&file).arg("-C").arg(&saved).arg(".")).well();
        let podman = podman(folder.path());
        run(&mut podman(&["load", "-i", kit::text_of(&file)])).well();
        let listed = run(&mut podman(&["images", "--no-trunc", "-q"])).well().lines();
        assert_eq!(listed, [id(&host, "odd", "1")]);
    }
}

mod dockerd {
    use super::*;
    use crate::engine::{Engine, Release, Store};

    fn start(folder: &Path) -> Engine {
        Engine::start(Release::Installed, Store::Classic, folder)
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and dockerd, as root"]
    fn docker_loads_what_was_a_layer_of_zstd_under_the_id_of_the_registry() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put(&odd(Compressed::Zstd), &host, "odd", "1");
        let folder = tempfile::tempdir().expect("a folder");
        let engine = start(folder.path());
        for rewrite in REWRITES {
            let file = kit::path_in(&folder, &format!("{}.tar", rewrite.join("")));
            save(&host, &file, &[&["odd:1"], rewrite].concat());
            let loaded = run(&mut engine.docker(&["load", "-i", kit::text_of(&file)])).well();
            let said = format!("{}{}", loaded.text(), loaded.stderr);
            assert!(!said.to_lowercase().contains("error"), "{said}");
            let listed = run(&mut engine.docker(&["images", "--no-trunc", "-q"])).well().lines();
            assert_eq!(listed, [id(&host, "odd", "1")], "{rewrite:?}");
            run(&mut engine.docker(&["rmi", "--force", &listed[0]])).well();
        }
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and dockerd, as root"]
    fn docker_loads_several_images_with_the_ids_of_the_registry() {
        let near = registry();
        let folder = tempfile::tempdir().expect("a folder");
        let engine = start(folder.path());
        assert_loads(&|arguments| engine.docker(arguments), &near.host(), &folder);
    }
}
