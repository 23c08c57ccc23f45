//! docker-charon's format: read from payloads that docker-charon 0.4.3 wrote, and written so that it
//! reads them.

#[expect(dead_code, reason = "other tests use the rest")]
mod payload_kit;

use std::path::{Path, PathBuf};

use kharon::manifest::{Manifest, MediaType};
use kharon::payload::charon::{self, NotCarriable};
use kharon::payload::{Format, ImageState, Payload, Travels};
use kharon::progress::Silent;
use kharon::verify::verify;
use payload_kit::Content;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/payloads/charon-0.4.3").join(name)
}

fn open(name: &str) -> Payload {
    let payload = Payload::open(&fixture(name)).expect(name);
    assert_eq!(payload.format(), Format::Charon, "{name}");
    let report = verify(&payload, &Silent);
    assert!(report.is_sound(), "{name}: {:?}", report.problems);
    payload
}

#[test]
fn what_docker_charon_writes_is_read_and_verified() {
    for (name, images, carried, expected) in [
        ("seekable.zip", vec!["team/app:1", "old:1"], 2, 1),
        ("piped.zip", vec!["base:1", "team/app:1"], 4, 0),
        ("doubles.zip", vec!["team/app:1", "base:1", "team_app:1"], 6, 0),
    ] {
        let payload = open(name);
        let index = payload.index();
        let names: Vec<&str> = index.images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, images, "{name}");
        let is_carried = |travels: &Travels| *travels == Travels::Carried;
        let found = index.blobs.iter().filter(|blob| is_carried(&blob.travels)).count();
        assert_eq!((found, index.blobs.len() - found), (carried, expected), "{name}");
        for blob in index.blobs.iter().filter(|blob| is_carried(&blob.travels)) {
            let reader = payload.blob(&blob.digest).expect("a carried blob is there");
            assert_eq!(reader.size_bytes(), blob.size, "{name}");
        }
    }
}

#[test]
fn a_skipped_image_has_its_name_and_nothing_else() {
    let payload = open("seekable.zip");
    let [team, old] = payload.index().images.as_slice() else { panic!("two images") };
    assert_eq!((team.state, team.repository.as_str()), (ImageState::Carried, "team/app"));
    assert_eq!((old.state, old.repository.as_str()), (ImageState::Skipped, "old"));
    assert_eq!(old.tags[0].tag.as_str(), "1");
    assert_eq!((&old.tags[0].digest, old.manifests.len()), (&None, 0));
    let [_, base, _] = payload.index().blobs.as_slice() else { panic!("three blobs") };
    let repositories = vec!["base".parse().expect("valid")];
    assert_eq!(base.travels, Travels::Expected { repositories });
    assert!(payload.blob(&base.digest).is_none());
}

#[test]
fn of_two_manifests_with_one_entry_name_each_image_gets_its_own() {
    let payload = open("doubles.zip");
    let [slash, _, underscore] = payload.index().images.as_slice() else { panic!("three images") };
    let config_of = |image: &kharon::payload::Image| {
        let manifest = payload.manifest(&image.manifests[0]).expect("the manifest is there");
        let config = manifest.blobs().next().expect("a manifest names a config");
        let reader = payload.blob(&config.digest).expect("the config is carried");
        let mut bytes = vec![0; usize::try_from(reader.size_bytes()).expect("small")];
        assert_eq!(reader.read_at(0, &mut bytes).expect("readable"), bytes.len());
        String::from_utf8(bytes).expect("a config is text")
    };
    assert!(config_of(slash).contains("team/app"), "{}", config_of(slash));
    assert!(config_of(underscore).contains("team_app"), "{}", config_of(underscore));
}

#[test]
fn the_descriptor_has_the_bytes_that_docker_charon_writes() {
    for name in ["seekable.zip", "piped.zip", "doubles.zip"] {
        let payload = open(name);
        let index = payload.index();
        let images = index.images.iter().map(|image| (image.name.as_str(), image.state));
        let blobs = index.blobs.iter().map(|blob| {
            (&blob.digest, charon::place("x", blob).expect("docker-charon leaves nothing out"))
        });
        let written = charon::descriptor_json(images, blobs);
        let entry = payload.entries().find(|entry| entry.name == charon::ENTRY_NAME);
        let content = entry.expect("the descriptor is there").content;
        let mut bytes = vec![0; usize::try_from(content.size_bytes()).expect("small")];
        assert_eq!(content.read_at(0, &mut bytes).expect("readable"), bytes.len());
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&bytes), "{name}");
    }
}

#[test]
fn an_empty_or_odd_descriptor_is_still_json() {
    assert_eq!(
        String::from_utf8(charon::descriptor_json([], [])).expect("ASCII"),
        "{\n    \"manifests_paths\": {},\n    \"blobs_paths\": {}\n}"
    );
    let odd = "é\"\\\n\u{1}\u{7f}😀";
    let json = charon::descriptor_json([(odd, ImageState::Skipped)], []);
    let json = String::from_utf8(json).expect("ASCII");
    assert!(json.contains(r#""\u00e9\"\\\n\u0001"#), "{json}");
    assert!(json.contains("\u{7f}\\ud83d\\ude00\": null"), "{json}");
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(value["manifests_paths"].get(odd).is_some(), "{json}");
}

#[test]
fn images_that_share_an_entry_name_are_refused() {
    assert_eq!(charon::check_entry_names(["a/b:1", "a:1", "a/b:1"]), Ok(()));
    let error = charon::check_entry_names(["a/b:1", "a:1", "a_b:1"]).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "expected images that differ in more than `/` and `_` for docker-charon, found `a/b:1` and `a_b:1`"
    );
    assert!(matches!(error, NotCarriable::SameEntry { .. }));
    assert!(error.hint().is_some_and(|hint| hint.contains("a payload for each")));
}

#[test]
fn only_tagged_docker_images_are_carriable() {
    let s = payload_kit::sample();
    let tag = "1".parse().expect("valid");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let with_sha512 = String::from_utf8(s.docker_manifest.bytes.clone())
        .expect("JSON")
        .replace(&s.foreign.digest.to_string(), &sha512);
    let with_sha512 = Content::new(MediaType::DOCKER_MANIFEST, with_sha512);
    let wrong =
        |what| format!("expected a Docker schema 2 image for docker-charon, found `x` as `{what}`");
    for (content, tag, expected) in [
        (&s.docker_manifest, Some(&tag), None),
        (
            &s.docker_manifest,
            None,
            Some("expected a tag on the image `x` for docker-charon, found none".to_owned()),
        ),
        (&s.manifest, Some(&tag), Some(wrong(MediaType::OCI_MANIFEST))),
        (&s.index, Some(&tag), Some(wrong(MediaType::OCI_INDEX))),
        (&s.signature, Some(&tag), Some(wrong(MediaType::OCI_MANIFEST))),
        (
            &with_sha512,
            Some(&tag),
            Some(format!(
                "expected only sha256 digests in `x` for docker-charon, found `{sha512}`"
            )),
        ),
    ] {
        let raw = content.bytes.clone().into();
        let manifest = Manifest::parse(raw, Some(&content.media_type)).expect("a manifest");
        let found = charon::check_carriable("x", tag, &manifest);
        assert_eq!(found.as_ref().err().map(ToString::to_string), expected);
        assert!(found.err().is_none_or(|error| error.hint().is_some()));
    }
    let left_out = s.foreign.blob(Travels::LeftOut { urls: Vec::new() });
    let error = charon::place("x", &left_out);
    let expected = format!(
        "expected all layers of `x` for docker-charon, found `{}` left out",
        s.foreign.digest
    );
    assert_eq!(error.map_err(|error| error.to_string()), Err(expected));
}
