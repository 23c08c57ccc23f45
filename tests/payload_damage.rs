//! Payloads that were damaged or made to lie: each is refused with a message that names what is
//! wrong. All messages stand in `golden/payload_damage.txt`; run with `KHARON_BLESS=1` to write them
//! anew, and read the difference.

mod payload_kit;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kharon::digest::Digest;
use kharon::manifest::{MANIFEST_MAX_BYTES, MediaType};
use kharon::payload::{Error, INDEX_MAX_BYTES, Kind, Travels, Writer, charon, delta_entry_name};
use kharon::progress::Silent;
use kharon::verify::verify;
use payload_kit::{Content, Parts, open, parts, sample};
use serde_json::{Value, json};

/// A zip under the knife.
struct Surgery(Vec<u8>);

impl Surgery {
    fn good() -> Self {
        Self(parts().write())
    }

    fn find(&self, signature: [u8; 4], name_at: usize, name: &str) -> usize {
        let is_it = |&at: &usize| {
            self.0[at..].starts_with(&signature)
                && self.0.get(at + name_at..).is_some_and(|rest| rest.starts_with(name.as_bytes()))
        };
        (0..self.0.len()).find(is_it).expect("the header is there")
    }

    fn local(&self, name: &str) -> usize {
        self.find(*b"PK\x03\x04", 30, name)
    }

    fn record(&self, name: &str) -> usize {
        self.find(*b"PK\x01\x02", 46, name)
    }

    fn end(&self) -> usize {
        self.0.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").expect("an end record")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn rename(mut self, name: &str, other: &str) -> Vec<u8> {
        assert_eq!(name.len(), other.len());
        let (local, record) = (self.local(name), self.record(name));
        self.put(local + 30, other.as_bytes());
        self.put(record + 46, other.as_bytes());
        self.0
    }

    /// Changes a field of two bytes in both headers.
    fn set(mut self, name: &str, in_local: usize, in_record: usize, value: u16) -> Vec<u8> {
        let (local, record) = (self.local(name), self.record(name));
        self.put(local + in_local, &value.to_le_bytes());
        self.put(record + in_record, &value.to_le_bytes());
        self.0
    }

    fn flip(mut self, at: usize) -> Vec<u8> {
        self.0[at] ^= 1;
        self.0
    }
}

/// The good payload with another `kharon.json`.
fn index(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    parts().write_changed(change)
}

/// The good payload with changed entries or index.
fn with(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = parts();
    change(&mut parts);
    parts.write()
}

/// Replaces the content of a manifest everywhere but in the manifests that name it.
fn with_manifest(old: &Content, new: &Content) -> Vec<u8> {
    with(|parts| {
        let (name, _, bytes) = parts.entry(&old.digest.blob_path());
        (*name, *bytes) = (new.digest.blob_path(), new.bytes.clone());
        let json = serde_json::to_string(&parts.index).expect("JSON");
        let json = json.replace(&old.digest.to_string(), &new.digest.to_string());
        parts.index = serde_json::from_str(&json).expect("an index");
        for entry in &mut parts.index.manifests {
            if entry.digest == new.digest {
                entry.size = new.bytes.len() as u64;
            }
        }
    })
}

/// An entry whose data holds a header that the directory takes for another entry's.
fn overlapping() -> Vec<u8> {
    let mut inner = Writer::new(Vec::new());
    inner.add("oci-layout", b"12").expect("written");
    let inner = inner.finish().expect("finished");
    let outer = Content::new(payload_kit::OCI_LAYER, &inner[..42]);
    let mut surgery = Surgery(with(|parts| {
        parts.entry("oci-layout").2 = b"12".to_vec();
        let name = outer.digest.blob_path();
        parts.entries.insert(1, (name, Kind::Small, outer.bytes.clone()));
        parts.index.blobs.push(outer.blob(Travels::Carried));
    }));
    let inside = surgery.local(&outer.digest.blob_path()) + 30 + outer.digest.blob_path().len();
    let record = surgery.record("oci-layout");
    surgery.put(record + 42, &u32::try_from(inside).expect("small").to_le_bytes());
    surgery.0
}

/// The directory without its first record.
fn hidden() -> Vec<u8> {
    let mut surgery = Surgery::good();
    let (first, second) = (surgery.record("oci-layout"), surgery.record("index.json"));
    surgery.0.drain(first..second);
    let end = surgery.end();
    let directory_bytes = u32::try_from(end - first).expect("small");
    surgery.put(end + 8, &[10, 0, 10, 0]);
    surgery.put(end + 12, &directory_bytes.to_le_bytes());
    surgery.0
}

/// A payload that was cut behind a whole zip inside of one of its blobs.
fn cut_behind_an_inner_zip() -> Vec<u8> {
    let inner = parts().write();
    let bytes = with(|parts| {
        let bytes = [inner.as_slice(), &[0; 5000]].concat();
        parts.entries.push(("blobs/sha256/".to_owned() + &"a".repeat(64), Kind::Streamed, bytes));
    });
    let end = bytes.windows(4).position(|window| window == b"PK\x05\x06").expect("the inner one");
    bytes[..end + 22].to_vec()
}

/// An empty blob has the zero sizes of an entry whose size was not known.
fn cut_behind_an_empty_blob() -> Vec<u8> {
    let empty = Digest::of(b"").blob_path();
    let bytes = with(|parts| {
        parts.entries.push((empty.clone(), Kind::Streamed, Vec::new()));
        parts.entries.push((Digest::of(b"next").blob_path(), Kind::Streamed, b"next".to_vec()));
    });
    let next = Surgery(bytes.clone()).local(&empty) + 30 + empty.len() + 16;
    bytes[..next + 50].to_vec()
}

/// A docker-charon payload of one image, changed before it is written.
fn charon_payload(change: impl FnOnce(&mut Value, &mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let s = sample();
    let layer = Content::new(payload_kit::DOCKER_LAYER, "a layer");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::DOCKER_MANIFEST,
        "config": s.docker_config.descriptor(), "layers": [layer.descriptor()],
    });
    let manifest = Content::json(MediaType::DOCKER_MANIFEST, &manifest);
    let blobs = [&s.docker_config, &layer];
    let mut entries: Vec<(String, Vec<u8>)> = blobs
        .iter()
        .map(|blob| (charon::blob_entry_name(&blob.digest), blob.bytes.clone()))
        .collect();
    entries.push((charon::manifest_entry_name("team/tool:1"), manifest.bytes.clone()));
    let mut descriptor = json!({
        "manifests_paths": {"team/tool:1": "manifests/team_tool:1"},
        "blobs_paths": {},
    });
    for (blob, (name, _)) in blobs.iter().zip(&entries) {
        descriptor["blobs_paths"][blob.digest.to_string()] = json!({"zip_path": name});
    }
    change(&mut descriptor, &mut entries);
    let mut writer = Writer::new(Vec::new());
    for (name, bytes) in &entries {
        writer.add(name, bytes).expect("written");
    }
    let json = descriptor.as_str().map_or_else(|| descriptor.to_string(), str::to_owned);
    writer.add(charon::ENTRY_NAME, json.as_bytes()).expect("written");
    writer.finish().expect("finished")
}

fn damaged_files() -> Vec<(&'static str, Vec<u8>)> {
    let good = parts().write();
    let directory = Surgery::good().record("oci-layout");
    let layer = sample().layer.digest.blob_path();
    let in_layer = Surgery::good().local(&layer) + 30 + layer.len() + 3;
    let half_zeros = [&good[..3000], &vec![0; good.len() - 3000]].concat();
    vec![
        ("an empty file", Vec::new()),
        ("a text", b"no such thing\n".to_vec()),
        ("one byte", good[..1].to_vec()),
        ("a cut inside a header", good[..10].to_vec()),
        ("a cut inside a blob", good[..in_layer].to_vec()),
        ("a cut inside the directory", good[..directory + 100].to_vec()),
        ("a cut in front of the directory", good[..directory].to_vec()),
        ("a cut by one byte", good[..good.len() - 1].to_vec()),
        ("a cut behind an empty blob", cut_behind_an_empty_blob()),
        ("a cut with text in front", [b"hello\n", &good[..in_layer]].concat()),
        ("a cut behind an inner zip", cut_behind_an_inner_zip()),
        ("a file that was allocated and half filled", half_zeros),
        ("bytes missing in the middle", [&good[..3000], &good[3100..]].concat()),
    ]
}

fn damaged_zips() -> Vec<(&'static str, Vec<u8>)> {
    let (config, layer) = (sample().config.digest.blob_path(), sample().layer.digest.blob_path());
    let good = Surgery::good;
    let manifest = sample().manifest.digest.blob_path();
    let at = |name: &str| good().local(name) + 30 + name.len();
    vec![
        ("an entry twice", good().rename(&layer, &config)),
        ("a name that leaves the folder", good().rename("oci-layout", "../-layout")),
        ("an absolute name", good().rename("oci-layout", "/ci-layout")),
        ("a drive", good().rename("oci-layout", "C:i-layout")),
        ("a backslash", good().rename("oci-layout", "oci\\layout")),
        ("an unknown name", good().rename("oci-layout", "oci_layout")),
        ("a blob whose name is no digest", good().rename(&layer, &layer.replace("/a", "/A"))),
        ("one entry too many", with(|parts| parts.entries.push(stray()))),
        (
            "a folder with content",
            with(|parts| {
                parts.entries.push(("blobs/sha256/".to_owned(), Kind::Small, vec![1]));
            }),
        ),
        ("an encrypted entry", good().set(&layer, 6, 8, 9)),
        ("a compressed entry", good().set(&layer, 8, 10, 12)),
        ("another name in the local header", good().flip(good().local(&layer) + 40)),
        ("another size in the local header", good().flip(good().local("index.json") + 22)),
        ("another size in the directory", good().flip(good().record("index.json") + 24)),
        ("another CRC-32 in the local header", good().flip(good().local("index.json") + 14)),
        ("a lying offset", good().flip(good().record(&layer) + 42)),
        ("overlapping entries", overlapping()),
        ("an entry that the directory hides", hidden()),
        ("a lying directory offset", good().flip(good().end() + 17)),
        ("a lying count", good().flip(good().end() + 10)),
        ("a damaged index", good().flip(at("kharon.json") + 5)),
        ("a damaged manifest", good().flip(at(&manifest) + 5)),
    ]
}

fn stray() -> (String, Kind, Vec<u8>) {
    ("README.md".to_owned(), Kind::Small, b"hello".to_vec())
}

fn lying_indexes() -> Vec<(&'static str, Vec<u8>)> {
    let s = sample();
    let raw = |json: &str| parts().write_with_index(|_| json.as_bytes().to_vec());
    let mut no_index = Writer::new(Vec::new());
    parts().write_entries(&mut no_index);
    let too_large = usize::try_from(INDEX_MAX_BYTES).expect("small") + 1;
    let layer = s.layer.digest.blob_path();
    let repeated = |list: &'static str| {
        index(move |json| {
            let first = json[list][0].clone();
            json[list].as_array_mut().expect("a list").push(first);
        })
    };
    vec![
        ("no index", no_index.finish().expect("finished")),
        ("an index without end", parts().write_with_index(|_| vec![b' '; too_large])),
        ("an index that is text", raw("hello")),
        ("an index that is a list", raw("[]")),
        ("an index without images", raw(r#"{"version":1,"tool":"x"}"#)),
        ("an index nested too deep", raw(&"[".repeat(1000))),
        ("a newer version", index(|json| json["version"] = json!(2))),
        ("a version of the future", raw(r#"{"version":99,"all":"else"}"#)),
        ("a version with a key twice", raw(r#"{"version":1,"version":1}"#)),
        (
            "a blob that travels in an unknown way",
            index(|json| {
                json["blobs"][1] = json!({
                    "mediaType": "x/y", "digest": s.base.digest, "size": 1, "travels": "by-pigeon",
                    "pigeons": 2,
                });
            }),
        ),
        (
            "an expected blob without a repository",
            index(|json| {
                json["blobs"][1]["repositories"] = json!([]);
            }),
        ),
        (
            "a repository that breaks the grammar",
            index(|json| {
                json["blobs"][1]["repositories"] = json!(["../../x"]);
            }),
        ),
        ("a digest that is none", index(|json| json["blobs"][0]["digest"] = json!("sha256:.."))),
        ("an entry listed twice", repeated("entries")),
        ("a manifest listed twice", repeated("manifests")),
        ("a blob listed twice", repeated("blobs")),
        ("a hash that is none", index(|json| json["entries"][1]["sha256"] = json!("00"))),
        ("another size for an entry", index(|json| json["entries"][1]["size"] = json!(1))),
        (
            "an entry that is only listed",
            index(|json| {
                let entry = json!({"name": "x", "size": 1, "sha256": "0".repeat(64)});
                json["entries"].as_array_mut().expect("a list").push(entry);
            }),
        ),
        (
            "an entry that is not listed",
            index(|json| {
                json["entries"].as_array_mut().expect("a list").remove(7);
            }),
        ),
        ("no oci-layout", with(|parts| drop(parts.entries.remove(0)))),
        (
            "a carried blob without an entry",
            with(|parts| {
                parts.entries.retain(|(name, ..)| *name != layer);
            }),
        ),
        ("a carried blob of another size", index(|json| json["blobs"][2]["size"] = json!(20))),
        (
            "a blob that nothing has a use for",
            with(|parts| {
                let bytes = b"idle".to_vec();
                parts.entries.push((Digest::of(&bytes).blob_path(), Kind::Streamed, bytes));
            }),
        ),
    ]
}

fn lying_manifests() -> Vec<(&'static str, Vec<u8>)> {
    let s = sample();
    let no_manifest = Content::new(MediaType::OCI_MANIFEST, "[{}]");
    let both = Content::new(MediaType::OCI_MANIFEST, r#"{"manifests":[],"layers":[]}"#);
    let large = Content::new(
        MediaType::OCI_MANIFEST,
        vec![b' '; usize::try_from(MANIFEST_MAX_BYTES).expect("small") + 1],
    );
    let other_bytes = |parts: &mut Parts| {
        let bytes = &mut parts.entry(&s.manifest.digest.blob_path()).2;
        let at = bytes.len() - 2;
        bytes[at] = b' ';
        bytes[at - 1] = b' ';
    };
    vec![
        (
            "a manifest with another digest",
            with(|parts| {
                other_bytes(parts);
                let bytes = String::from_utf8_lossy(&parts.entries[2].2).replace("  }", "2 }");
                parts.entries[2].2 = bytes.into_bytes();
            }),
        ),
        ("a manifest that is none", with_manifest(&s.docker_manifest, &no_manifest)),
        ("a manifest that is two things", with_manifest(&s.docker_manifest, &both)),
        ("a manifest without end", with_manifest(&s.docker_manifest, &large)),
        ("another size for a manifest", index(|json| json["manifests"][0]["size"] = json!(1))),
        (
            "another media type inside",
            index(|json| {
                json["manifests"][0]["mediaType"] = json!(MediaType::DOCKER_MANIFEST);
            }),
        ),
        (
            "a media type of no manifest",
            index(|json| {
                json["manifests"][0]["mediaType"] = json!("text/plain");
            }),
        ),
        (
            "a blob that is not listed",
            index(|json| {
                json["blobs"].as_array_mut().expect("a list").remove(1);
            }),
        ),
        ("another size for an expected blob", index(|json| json["blobs"][1]["size"] = json!(1))),
        (
            "a child that is missing",
            index(|json| {
                json["images"][0].as_object_mut().expect("an image").remove("platforms");
            }),
        ),
        (
            "a child behind its parent",
            index(|json| {
                json["images"][0]["manifests"].as_array_mut().expect("a list").reverse();
            }),
        ),
    ]
}

/// The first image's index with its child moved to the second image.
fn child_of_another_image() -> Vec<u8> {
    let s = sample();
    let document: Value = serde_json::from_slice(&s.index.bytes).expect("an index");
    index(|json| {
        let first = json["images"][0].as_object_mut().expect("an image");
        first.remove("platforms");
        first.insert("absent".to_owned(), json!([document["manifests"][1]["digest"]]));
        first.insert("manifests".to_owned(), json!([s.index.digest]));
        json["images"][1]["manifests"] = json!([s.manifest.digest, s.docker_manifest.digest]);
    })
}

fn lying_images() -> Vec<(&'static str, Vec<u8>)> {
    let s = sample();
    vec![
        (
            "a manifest that is not there",
            index(|json| {
                json["images"][1]["manifests"] = json!([s.base.digest]);
            }),
        ),
        (
            "a tag of nothing",
            index(|json| {
                json["images"][0]["tags"][0]["digest"] = json!(s.base.digest);
            }),
        ),
        (
            "a name that forges a line",
            index(|json| json["images"][0]["name"] = json!("a:1\nregistry.example/b:1")),
        ),
        (
            "a reference that clears the screen",
            index(|json| json["images"][0]["reference"] = json!("a:1\u{1b}[2J")),
        ),
        ("a tool that turns text", index(|json| json["tool"] = json!("kharon\u{202e}"))),
        (
            "a tag of another image's manifest",
            index(|json| {
                json["images"][0]["tags"][0]["digest"] = json!(s.docker_manifest.digest);
            }),
        ),
        (
            "a tag of what only refers to the image",
            index(|json| {
                json["images"][0]["tags"][0]["digest"] = json!(s.signature.digest);
            }),
        ),
        ("a child that only another image has", child_of_another_image()),
        (
            "a tag without a digest",
            index(|json| {
                json["images"][0]["tags"][0] = json!({"tag": "3.9"});
            }),
        ),
        ("a tag that is none", index(|json| json["images"][0]["tags"][0]["tag"] = json!("a b"))),
        (
            "a tag that names two things",
            index(|json| {
                json["images"][1]["repository"] = json!("python");
                json["images"][1]["tags"][0]["tag"] = json!("3.9");
            }),
        ),
        (
            "an image that resolved to nothing",
            index(|json| {
                json["images"][0].as_object_mut().expect("an image").remove("resolved");
            }),
        ),
        (
            "an image that resolved elsewhere",
            index(|json| {
                json["images"][0]["resolved"] = json["manifests"][3].clone();
            }),
        ),
        (
            "a skipped image with content",
            index(|json| {
                json["images"][2]["manifests"] = json!([s.manifest.digest]);
            }),
        ),
        (
            "a referrer that is not there",
            index(|json| {
                json["images"][0]["referrers"][0]["digest"] = json!(s.base.digest);
            }),
        ),
        (
            "a referrer of nothing",
            index(|json| {
                json["images"][0]["referrers"][0]["subject"] = json!(s.base.digest);
            }),
        ),
        (
            "a referrer of another image's manifest",
            index(|json| {
                json["images"][0]["referrers"][0]["subject"] = json!(s.docker_manifest.digest);
            }),
        ),
    ]
}

fn lying_charon_payloads() -> Vec<(&'static str, Vec<u8>)> {
    let s = sample();
    let path = "manifests/team_tool:1";
    vec![
        (
            "docker-charon: an image without a tag",
            charon_payload(|descriptor, _| {
                descriptor["manifests_paths"] = json!({"tool": path});
            }),
        ),
        (
            "docker-charon: an image that forges a line",
            charon_payload(|descriptor, _| {
                descriptor["manifests_paths"] = json!({"team/tool:1\nb:1": path});
            }),
        ),
        (
            "docker-charon: an image with a registry",
            charon_payload(|descriptor, _| {
                descriptor["manifests_paths"] = json!({"localhost:5000/tool:1": path});
            }),
        ),
        (
            "docker-charon: a manifest that is missing",
            charon_payload(|_, entries| {
                entries.pop();
            }),
        ),
        (
            "docker-charon: one manifest for two images",
            charon_payload(|descriptor, _| {
                descriptor["manifests_paths"]["team_tool:1"] = json!(path);
            }),
        ),
        (
            "docker-charon: a blob that is missing",
            charon_payload(|_, entries| {
                entries.remove(1);
            }),
        ),
        (
            "docker-charon: a blob that was cut",
            charon_payload(|_, entries| {
                entries[1].1.pop();
            }),
        ),
        (
            "docker-charon: a blob without a place",
            charon_payload(|descriptor, _| {
                descriptor["blobs_paths"] = json!({});
            }),
        ),
        (
            "docker-charon: a blob at no repository",
            charon_payload(|descriptor, _| {
                descriptor["blobs_paths"][s.docker_config.digest.to_string()] =
                    json!({"repository": ""});
            }),
        ),
        (
            "docker-charon: a place of no known kind",
            charon_payload(|descriptor, _| {
                descriptor["blobs_paths"] = json!({"x": {}});
            }),
        ),
        (
            "docker-charon: an index",
            charon_payload(|_, entries| {
                entries[2].1.clone_from(&s.index.bytes);
            }),
        ),
        (
            "docker-charon: a manifest that is none",
            charon_payload(|_, entries| {
                entries[2].1 = b"hello".to_vec();
            }),
        ),
        (
            "docker-charon: a descriptor with a key twice",
            charon_payload(|descriptor, _| {
                *descriptor =
                    json!(r#"{"manifests_paths": {"a:1": null, "a:1": null}, "blobs_paths": {}}"#);
            }),
        ),
        (
            "docker-charon: a descriptor that is none",
            charon_payload(|descriptor, _| {
                *descriptor = json!(["hello"]);
            }),
        ),
    ]
}

/// The payload with its layer as a delta of the expected base, changed.
fn delta_payload(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut parts, s) = (parts(), sample());
    let entry = parts.entry(&s.layer.digest.blob_path());
    *entry = (delta_entry_name(&s.layer.digest), Kind::Streamed, b"a delta".to_vec());
    parts.index.blobs[2].travels = Travels::Delta { baselines: vec![s.base.digest] };
    parts.write_changed(change)
}

fn lying_deltas() -> Vec<(&'static str, Vec<u8>)> {
    let s = sample();
    let unknown = Digest::of(b"unknown");
    let only = json!([{
        "mediaType": "x/y", "digest": unknown, "size": 1, "repositories": ["python"],
    }]);
    let needs = |baselines: &[&Digest]| {
        let baselines = json!(baselines);
        delta_payload(move |json| json["blobs"][2]["baselines"] = baselines)
    };
    vec![
        ("a delta whose baseline is nowhere", needs(&[&s.base.digest, &unknown])),
        ("a delta that names a baseline twice", needs(&[&s.base.digest, &s.base.digest])),
        ("a delta of what is a delta itself", needs(&[&s.layer.digest])),
        ("a delta of what is left out", needs(&[&s.foreign.digest])),
        ("a baseline that serves nobody", delta_payload(|json| json["baselines"] = only.clone())),
        (
            "a baseline that is a blob of the payload",
            delta_payload(|json| {
                json["baselines"] = only.clone();
                json["baselines"][0]["digest"] = json!(s.base.digest);
            }),
        ),
        (
            "a baseline without a repository",
            delta_payload(|json| {
                json["blobs"][2]["baselines"] = json!([unknown]);
                json["baselines"] = only.clone();
                json["baselines"][0]["repositories"] = json!([]);
            }),
        ),
        (
            "a delta whose entry is missing",
            index(|json| {
                json["blobs"][2] = json!({
                    "mediaType": "x/y", "digest": s.layer.digest, "size": s.layer.bytes.len(),
                    "travels": "delta", "baselines": [],
                });
            }),
        ),
        (
            "a delta that nobody asked for",
            delta_payload(|json| {
                json["blobs"][2]["travels"] = json!("expected");
                json["blobs"][2]["repositories"] = json!(["python"]);
            }),
        ),
    ]
}

/// The signature is none; whether one is right is asked only where there is a key.
fn bad_signatures() -> Vec<(&'static str, Vec<u8>)> {
    let signed_by = |signature: &[u8]| {
        let mut writer = Writer::new(Vec::new());
        parts().write_entries(&mut writer);
        let index = kharon::payload::Index { entries: writer.entries().to_vec(), ..parts().index };
        let json = index.to_json().expect("an index is JSON");
        writer.add("kharon.json", &json).expect("memory takes everything");
        writer.add("kharon.json.minisig", signature).expect("memory takes everything");
        writer.finish().expect("memory takes everything")
    };
    let former = format!(
        "untrusted comment: u\nRWQ{}=\ntrusted comment: t\n{}==\n",
        "A".repeat(96),
        "A".repeat(86)
    );
    vec![
        ("an empty signature", signed_by(b"")),
        ("a signature that is something else", signed_by(b"untrusted comment: u\nRUQA\n")),
        ("a signature of minisign's former kind", signed_by(former.as_bytes())),
        ("a signature without end", signed_by(&vec![b'x'; 16 * 1024 + 1])),
    ]
}

fn what_a_user_sees(error: &Error) -> String {
    let mut text = format!("  {error}\n");
    let mut source = error.source();
    while let Some(error) = source {
        writeln!(text, "  because: {error}").expect("a string");
        source = error.source();
    }
    if let Some(hint) = error.hint() {
        writeln!(text, "  hint: {hint}").expect("a string");
    }
    text
}

#[test]
fn every_damaged_or_lying_payload_is_refused_with_a_message_that_names_the_fault() {
    let cases = [
        damaged_files(),
        damaged_zips(),
        lying_indexes(),
        lying_manifests(),
        lying_images(),
        lying_deltas(),
        bad_signatures(),
        lying_charon_payloads(),
    ];
    let mut text = String::new();
    for (case, bytes) in cases.into_iter().flatten() {
        let error = match open(&bytes) {
            Ok(payload) => panic!("{case} was taken: {:?}", payload.index()),
            Err(error) => error,
        };
        writeln!(text, "{case}:\n{}", what_a_user_sees(&error)).expect("a string");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/payload_damage.txt");
    if std::env::var_os("KHARON_BLESS").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let golden = fs::read_to_string(&path).expect("the golden file is there");
    for (found, expected) in text.split("\n\n").zip(golden.split("\n\n")) {
        assert_eq!(found, expected);
    }
    assert_eq!(text.len(), golden.len());
}

#[test]
fn the_good_payloads_of_this_table_are_good() {
    for bytes in [parts().write(), delta_payload(|_| {}), charon_payload(|_, _| {})] {
        let payload = open(&bytes).expect("opens");
        assert!(verify(&payload, &Silent).is_sound());
    }
}

#[test]
fn a_payload_cut_at_any_length_is_refused() {
    for good in [parts().write(), charon_payload(|_, _| {})] {
        for length in 0..good.len() {
            assert!(open(&good[..length]).is_err(), "cut to {length} of {} bytes", good.len());
        }
    }
}

/// The fields of the headers, with where each stands.
fn fields(bytes: &[u8]) -> Vec<(usize, usize, &'static str)> {
    const LOCAL: [(usize, usize, &str); 5] = [
        (4, 2, "local: version needed"),
        (6, 2, "local: flags"),
        (8, 2, "local: method"),
        (10, 4, "local: time"),
        (14, 16, "local: other"),
    ];
    const RECORD: [(usize, usize, &str); 12] = [
        (4, 2, "record: made by"),
        (6, 2, "record: version needed"),
        (8, 2, "record: flags"),
        (10, 2, "record: method"),
        (12, 4, "record: time"),
        (16, 12, "record: CRC-32 and sizes"),
        (28, 2, "record: name length"),
        (30, 2, "record: extra length"),
        (32, 2, "record: comment length"),
        (34, 2, "record: disk"),
        (36, 6, "record: attributes"),
        (42, 4, "record: offset"),
    ];
    const END: [(usize, usize, &str); 5] = [
        (4, 4, "end: disks"),
        (8, 4, "end: entries"),
        (12, 4, "end: directory size"),
        (16, 4, "end: directory offset"),
        (20, 2, "end: comment length"),
    ];
    let mut fields = Vec::new();
    for at in 0..bytes.len() {
        let table: &[_] = match &bytes[at..(at + 4).min(bytes.len())] {
            b"PK\x03\x04" => &LOCAL,
            b"PK\x01\x02" => &RECORD,
            b"PK\x05\x06" => &END,
            _ => &[],
        };
        fields.extend(table.iter().map(|(start, length, name)| (at + start, *length, *name)));
    }
    fields
}

#[test]
fn every_flipped_byte_is_noticed_but_where_it_means_nothing() {
    let good = parts().write();
    let fields = fields(&good);
    let mut unnoticed = BTreeSet::new();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let noticed = open(&bytes).map_or(true, |payload| !verify(&payload, &Silent).is_sound());
        if !noticed {
            let is_here =
                |(start, length, _): &&(usize, usize, _)| (*start..start + length).contains(&at);
            unnoticed.insert(fields.iter().find(is_here).map_or("elsewhere", |field| field.2));
        }
    }
    // Content, names, sizes, checksums and offsets are safe. These are not looked at: what wrote the
    // zip and what it takes to read it, permissions, the disk, flags for other methods than stored,
    // the directory's size (its offset and its end tell it), and how long a comment behind the last
    // record would be.
    let harmless = [
        "end: directory size",
        "local: flags",
        "local: version needed",
        "record: attributes",
        "record: comment length",
        "record: disk",
        "record: flags",
        "record: made by",
        "record: version needed",
    ];
    assert_eq!(unnoticed.into_iter().collect::<Vec<_>>(), harmless);
}
