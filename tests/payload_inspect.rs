//! What `inspect` says of a payload, as people and as scripts see it.

#[expect(dead_code, reason = "other tests use the rest")]
mod payload_kit;

use std::fs;
use std::path::Path;

use kharon::digest::Digest;
use kharon::inspect::inspect;
use kharon::payload::{Kind, Travels};
use payload_kit::{open, parts};

/// Compares with a file in `golden/`; with `KHARON_BLESS=1` writes it.
fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("KHARON_BLESS").is_some() {
        fs::write(&path, found).expect("written");
    }
    assert_eq!(found, fs::read_to_string(&path).expect("the golden file is there"));
}

#[test]
fn the_table_fits_in_a_hundred_columns_and_says_what_is_there() {
    let payload = open(&parts().write()).expect("opens");
    let table = inspect(&payload).to_string();
    assert_golden("payload_inspect.txt", &table);
    assert!(table.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn a_long_name_gets_a_line_of_its_own() {
    let mut parts = parts();
    parts.index.images[1].name = format!("registry.example/{}:1", "team/".repeat(20));
    let payload = open(&parts.write()).expect("opens");
    let table = inspect(&payload).to_string();
    let long = table.lines().find(|line| line.starts_with("registry.example")).expect("a line");
    assert!(long.ends_with(":1"), "{long}");
}

#[test]
fn the_json_has_documented_keys() {
    let payload = open(&parts().write()).expect("opens");
    let json = serde_json::to_string_pretty(&inspect(&payload)).expect("JSON");
    assert_golden("payload_inspect.json", &json);
}

#[test]
fn only_a_payload_with_everything_is_a_complete_layout() {
    let mut parts = parts();
    let complete =
        |parts: &payload_kit::Parts| inspect(&open(&parts.write()).expect("opens")).complete_layout;
    assert!(!complete(&parts), "a blob is expected, one is left out, an index is sparse");
    let mut sparse = parts.clone();
    for (content, name) in
        [(payload_kit::sample().base, "expected"), (payload_kit::sample().foreign, "left out")]
    {
        let blob = sparse.index.blobs.iter_mut().find(|blob| blob.digest == content.digest);
        blob.expect(name).travels = Travels::Carried;
        sparse.entries.push((content.digest.blob_path(), Kind::Streamed, content.bytes));
    }
    assert!(!complete(&sparse), "an index is sparse");
    // Of the second image alone, with its foreign layer carried.
    let sample = payload_kit::sample();
    let keep = [sample.docker_config.digest.clone(), sample.layer.digest.clone()];
    parts.index.images.remove(0);
    parts.index.manifests.retain(|manifest| manifest.digest == sample.docker_manifest.digest);
    parts
        .index
        .blobs
        .retain(|blob| keep.contains(&blob.digest) || blob.digest == sample.foreign.digest);
    let mut used: Vec<String> = keep.iter().map(Digest::blob_path).collect();
    used.push(sample.docker_manifest.digest.blob_path());
    parts.entries.retain(|(name, ..)| !name.starts_with("blobs/") || used.contains(name));
    assert!(!complete(&parts), "a layer is left out");
    let foreign = parts.index.blobs.iter_mut().find(|blob| blob.digest == sample.foreign.digest);
    foreign.expect("listed").travels = Travels::Carried;
    let name = sample.foreign.digest.blob_path();
    parts.entries.push((name, Kind::Streamed, sample.foreign.bytes));
    assert!(complete(&parts), "everything is carried");
}
