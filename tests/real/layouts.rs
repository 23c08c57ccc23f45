//! An unzipped payload as the tools of others see it.
//!
//! skopeo finds OCI images in a layout and passes over those in Docker's schema 2, which
//! `kharon serve` finds too.

use std::path::{Path, PathBuf};

use kharon::digest::Digest;

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, clean, digest_by_skopeo, make, run, skopeo};
use crate::real::{self, Kind, RealRegistry};

fn unzipped(file: &Path, folder: &tempfile::TempDir) -> PathBuf {
    let layout = folder.path().join("layout");
    let mut unzip = clean(real::tool("unzip"));
    run(unzip.arg("-q").arg(file).arg("-d").arg(&layout)).well();
    layout
}

/// The files of a folder that skopeo copied an image into must be what the manifest names.
#[track_caller]
fn assert_copied(layout: &Path, tag: &str, registry: &str, repository: &str) {
    let copy = layout.with_file_name(format!("copy-{repository}"));
    let (from, to) = (format!("oci:{}:{tag}", layout.display()), format!("dir:{}", copy.display()));
    skopeo(&["copy", "--quiet", "--all", &from, &to]).well();
    let read = |name: &str| std::fs::read(copy.join(name)).expect(name);
    let original = kit::manifest(registry, repository, tag.rsplit(':').next().expect("a tag"));
    assert_eq!(&Digest::of(&read("manifest.json")), original.digest());
    for blob in original.blobs() {
        assert_eq!(Digest::of(&read(blob.digest.hex())), blob.digest);
    }
    for child in original.children() {
        assert_eq!(
            Digest::of(&read(&format!("{}.manifest.json", child.digest.hex()))),
            child.digest
        );
    }
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, skopeo and unzip"]
    fn an_unzipped_payload_is_a_layout_that_skopeo_reads_and_copies() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put_quickstart(&host, "v1", "clock:v1", As::Oci);
        put_quickstart(&host, "v2", "worldclock:v2", As::Oci);
        Debian::read().put(&host, "debian", As::Oci);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        make(&host, &file, &["clock:v1", "worldclock:v2", "debian:1"]);
        let layout = unzipped(&file, &folder);
        for (repository, tag) in [("clock", "v1"), ("worldclock", "v2"), ("debian", "1")] {
            let here = digest_by_skopeo(&format!("oci:{}:{tag}", layout.display()));
            assert_eq!(here, digest_by_skopeo(&format!("docker://{host}/{repository}:{tag}")));
            assert_copied(&layout, tag, &host, repository);
        }
        let inspected = skopeo(&["inspect", &format!("oci:{}:v1", layout.display())]).well().json();
        assert_eq!(inspected["Architecture"], "amd64");
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and unzip"]
    fn two_images_with_one_tag_are_found_by_their_full_names() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put_quickstart(&host, "v1", "one:stable", As::Oci);
        put_quickstart(&host, "v2", "other:stable", As::Oci);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        make(&host, &file, &["one:stable", "other:stable"]);
        let layout = unzipped(&file, &folder);
        for repository in ["one", "other"] {
            let full = format!("{host}/{repository}:stable");
            let here = digest_by_skopeo(&format!("oci:{}:{full}", layout.display()));
            assert_eq!(here, digest_by_skopeo(&format!("docker://{full}")));
        }
    }
}
