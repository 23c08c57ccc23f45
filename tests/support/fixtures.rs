//! Content under `fixtures/`. Use it from a test file as
//! `#[path = "support/fixtures.rs"] mod fixtures;`, with `#[expect(dead_code, reason = "…")]` on it
//! where not all of it is used.

use std::path::{Path, PathBuf};

use kharon::digest::Digest;
use kharon::manifest::{Descriptor, Manifest, MediaType};

/// The OCI image layout with the tags `v1` and `v2`; `fixtures/README.md` says what is in them.
pub fn quickstart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/quickstart")
}

/// The bytes of a blob, manifest or index of the layout.
///
/// # Panics
/// If it is not there.
pub fn read_blob(digest: &Digest) -> Vec<u8> {
    let file = quickstart().join(digest.blob_path());
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The manifest or index of a descriptor.
///
/// # Panics
/// If it is not there, or not what the descriptor says.
pub fn read_manifest(digest: &Digest, media_type: &MediaType) -> Manifest {
    let manifest = Manifest::parse(read_blob(digest).into(), Some(media_type))
        .unwrap_or_else(|error| panic!("{digest}: {error}"));
    manifest.verified_as(digest).unwrap_or_else(|error| panic!("{digest}: {error}"))
}

/// The manifest (`v1`) or index (`v2`) that has a tag.
///
/// # Panics
/// If there is none.
pub fn tagged(tag: &str) -> Manifest {
    let index = std::fs::read(quickstart().join("index.json")).expect("the layout has an index");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("the index is JSON");
    let entries = index["manifests"].as_array().expect("the index lists manifests");
    let named = |entry: &&serde_json::Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"] == tag
    };
    let entry = entries.iter().find(named).unwrap_or_else(|| panic!("no tag `{tag}`"));
    let text = |key: &str| entry[key].as_str().expect("a text");
    let digest = text("digest").parse().expect("a digest");
    read_manifest(&digest, &MediaType::new(text("mediaType")))
}

/// The image manifests of a tag: itself, or the children of its index.
///
/// # Panics
/// If there is no such tag, or a child is missing.
pub fn images(tag: &str) -> Vec<Manifest> {
    let manifest = tagged(tag);
    let read = |child: &Descriptor| read_manifest(&child.digest, &child.media_type);
    match manifest.children() {
        [] => vec![manifest],
        children => children.iter().map(read).collect(),
    }
}
