//! Images as registries held them before 2016: Docker's schema 1.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kharon::digest::Digest;
use serde_json::{Value, json};

use super::images::{Blob, layer};

/// An image of schema 1 under way: its steps, the oldest first.
#[derive(Clone, Default)]
pub struct OldImage {
    pub steps: Vec<(Blob, Value)>,
}

impl OldImage {
    /// Two layers with a step in between that has none, and texts that Go escapes.
    pub fn usual() -> Self {
        let mut image = Self::default();
        let first = layer(&[("etc/first", b"1")]);
        let second = layer(&[("etc/second", b"2")]);
        image.step(
            &first,
            json!({ "container_config": { "Cmd": ["/bin/sh", "-c", "#(nop) ADD <a> & b"] } }),
        );
        image.nothing(json!({ "comment": "a comment", "author": "A <a@example.org>" }));
        image.step(
            &second,
            json!({
                "architecture": "amd64", "os": "linux", "docker_version": "1.9.1", "Size": 7,
                "config": { "Env": ["X=<&>"], "Cmd": ["sh"] },
            }),
        );
        image
    }

    /// Adds a step that made a layer.
    pub fn step(&mut self, layer: &Blob, mut entry: Value) -> &mut Self {
        let id = |number: usize| Digest::of(format!("step {number}").as_bytes()).hex().to_owned();
        let number = self.steps.len();
        entry["id"] = id(number).into();
        if number > 0 {
            entry["parent"] = id(number - 1).into();
        }
        entry["created"] = format!("2015-10-31T22:22:{number:02}.500Z").into();
        self.steps.push((layer.clone(), entry));
        self
    }

    /// Adds a step that made none.
    pub fn nothing(&mut self, mut entry: Value) -> &mut Self {
        entry["throwaway"] = true.into();
        self.step(&layer(&[]), entry)
    }

    /// The blobs that its steps name.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.steps.iter().map(|(blob, _)| blob)
    }

    /// The manifest without signatures.
    pub fn payload(&self, name: &str, tag: &str) -> String {
        let newest = || self.steps.iter().rev();
        let layers: Vec<Value> =
            newest().map(|(blob, _)| json!({ "blobSum": blob.digest() })).collect();
        let history: Vec<Value> =
            newest().map(|(_, entry)| json!({ "v1Compatibility": entry.to_string() })).collect();
        let document = json!({
            "schemaVersion": 1, "name": name, "tag": tag, "architecture": "amd64",
            "fsLayers": layers, "history": history,
        });
        serde_json::to_string_pretty(&document).expect("JSON")
    }

    /// The manifest with a signature, whose key is nobody's.
    pub fn signed(&self, name: &str, tag: &str) -> String {
        sign(&self.payload(name, tag))
    }
}

/// Puts a signature into a manifest, as Docker's libtrust does.
pub fn sign(payload: &str) -> String {
    let beginning = payload.trim_end().strip_suffix('}').expect("an object").trim_end();
    let tail = &payload[beginning.len()..];
    let protected = json!({
        "formatLength": beginning.len(),
        "formatTail": BASE64_URL_SAFE_NO_PAD.encode(tail),
        "time": "2015-10-31T22:22:56Z",
    });
    let protected = BASE64_URL_SAFE_NO_PAD.encode(protected.to_string());
    let signature = json!([{
        "header": { "alg": "ES256" }, "signature": "bm9ib2R5", "protected": protected,
    }]);
    format!("{beginning},\n   \"signatures\": {signature}\n}}")
}
