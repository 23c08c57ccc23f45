//! `verify` reads everything and lists everything that is wrong.

#[expect(dead_code, reason = "other tests use the rest")]
mod payload_kit;

use std::path::Path;

use kharon::digest::Digest;
use kharon::payload::{Kind, Payload, Travels};
use kharon::progress::{Event, Recorder, Silent};
use kharon::verify::{Problem, verify, verify_file};
use payload_kit::{Content, OCI_LAYER, open, parts, sample};

/// Where the content of an entry starts.
fn content_at(bytes: &[u8], name: &str) -> usize {
    let at = bytes.windows(name.len()).position(|window| window == name.as_bytes());
    at.expect("the entry is there") + name.len()
}

#[test]
fn all_damage_is_listed_in_the_order_of_the_entries() {
    let s = sample();
    let mut bytes = parts().write();
    let (layer, config) = (s.layer.digest.blob_path(), s.config.digest.blob_path());
    for (name, offset) in [(layer.as_str(), 3), (config.as_str(), 0), ("index.json", 5)] {
        let at = content_at(&bytes, name) + offset;
        bytes[at] ^= 4;
    }
    // The data descriptor of the second config, behind its signature and CRC-32.
    let config = &s.docker_config;
    let at = content_at(&bytes, &config.digest.blob_path()) + config.bytes.len() + 8;
    bytes[at] ^= 1;
    let report = verify(&open(&bytes).expect("the structure is right"), &Silent);
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let [index, config, layer, descriptor] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(index.starts_with("entry `index.json`: expected content with digest `sha256:"));
    assert!(config.contains(&s.config.digest.to_string()), "{config}");
    assert!(layer.contains(&s.layer.digest.to_string()), "{layer}");
    assert!(
        descriptor.contains("expected a data descriptor as the directory has it, found another")
    );
    assert!(report.problems.iter().all(|problem| problem.hint().is_some()));
    assert_eq!(serde_json::to_value(&report).expect("JSON")["problems"][0], *index);
}

#[test]
fn an_index_whose_hash_is_not_the_blobs_digest_is_a_problem() {
    let bytes = parts().write_changed(|json| json["entries"][7]["sha256"] = "0".repeat(64).into());
    let report = verify(&open(&bytes).expect("the structure is right"), &Silent);
    assert!(matches!(report.problems.as_slice(), [Problem::Content { .. }]), "{report:?}");
}

#[test]
fn what_cannot_be_opened_is_one_problem() {
    let report = verify_file(Path::new("/no/such/payload.zip"), &Silent);
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert_eq!(problem.to_string(), "payload `/no/such/payload.zip`: cannot be read");
    assert!(!report.is_sound());
}

#[test]
fn a_large_payload_is_read_once_by_several_threads() {
    let mut parts = parts();
    for number in 0..6_u8 {
        let large = Content::new(OCI_LAYER, vec![number; 4 << 20]);
        parts.index.blobs.push(large.blob(Travels::Carried));
        parts.entries.push((large.digest.blob_path(), Kind::Streamed, large.bytes));
    }
    let mut bytes = parts.write();
    let recorder = Recorder::default();
    let report = verify(&open(&bytes).expect("opens"), &recorder);
    assert!(report.is_sound(), "{report:?}");
    let (mut total_bytes, mut read_bytes, mut finished) = (0, 0, 0);
    for event in recorder.events() {
        match event {
            Event::Total { bytes, .. } => total_bytes = bytes,
            Event::BlobAdvanced { bytes, .. } => read_bytes += bytes,
            Event::BlobFinished { .. } => finished += 1,
            _ => {}
        }
    }
    assert_eq!(read_bytes, total_bytes);
    assert_eq!(finished, 4 + 4 + 6);

    let last = Digest::of(&vec![5; 4 << 20]).blob_path();
    let at = content_at(&bytes, &last) + (4 << 20) - 1;
    bytes[at] ^= 1;
    let report = verify(&open(&bytes).expect("opens"), &Silent);
    assert!(
        matches!(report.problems.as_slice(), [Problem::Content { entry, .. }] if *entry == last)
    );
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_a_problem() {
    let file = payload_kit::file(&parts().write());
    let payload = Payload::from_file(file.try_clone().expect("a file"), "x".into()).expect("opens");
    file.set_len(3000).expect("cut");
    let report = verify(&payload, &Silent);
    assert!(report.problems.iter().any(|problem| matches!(problem, Problem::Unreadable { .. })));
}
