//! The registries that the book speaks of, and what they hold before a page begins.
//!
//! Each page has a world of its own. A page that needs more pushes it there itself, in a `<!-- run` block.

use std::collections::HashMap;

use serde_json::json;

use crate::front;
use crate::support::access::Access;
use crate::support::images::{Blob, Image, layer, layer_at};
use crate::support::old_registry;
use crate::support::registry::{Options, TestRegistry};
use crate::support::schema1::OldImage;

/// The connected side: image by image, `host/repository:tag`.
const IMAGES: &[&str] = &[
    "docker.io/library/python:3.9",
    "docker.io/library/python:3.10",
    "docker.io/library/redis:7",
    "docker.io/library/nginx:1.27",
    "ghcr.io/team/app:1",
    "ghcr.io/team/app:2",
    "ghcr.io/team/init:4",
    "quay.io/prometheus/prometheus:v3.5.0",
    "docker-images.example/legacy:1",
    "mirror.local/hub/library/python:3.9",
    "nexus.example:8082/team/app:1.0",
    "nexus.example:8082/team/app:1.1",
    "nexus.example:8082/team/base:12",
];
/// These have a cosign signature and an SBOM that refers to them.
const SIGNED: &[&str] = &["ghcr.io/team/app:1", "ghcr.io/team/app:2"];
/// These have one platform, and are no index.
const SINGLE: &[&str] = &["docker.io/library/redis:7"];

/// The far side: empty before a page begins.
const FAR: &[&str] =
    &["registry.example", "registry.example:5000", "harbor.internal", "far.example"];

/// Registries with habits, for what goes wrong.
fn habits(host: &str) -> Options {
    match host {
        "locked.example" => Options {
            access: Access::Basic { username: "robot", password: "secret" },
            ..Options::default()
        },
        "fixed.example" => Options { immutable_tags: true, ..Options::default() },
        "busy.example" => Options { manifest_pulls: Some(0), ..Options::default() },
        _ => Options::default(),
    }
}
const WITH_HABITS: &[&str] = &["locked.example", "fixed.example", "busy.example", OLD];
/// Has images of Docker's schema 1 only; of one it has lost a layer.
const OLD: &str = "old.example";

/// All of them, up for as long as this lives.
pub struct World {
    registries: HashMap<String, TestRegistry>,
    /// The address of the proxy that knows them.
    pub front: String,
}

impl World {
    pub fn start() -> Self {
        let sources = IMAGES.iter().map(|image| image.split('/').next().expect("a host"));
        let mut registries = HashMap::new();
        for host in sources.chain(FAR.iter().chain(WITH_HABITS).copied()) {
            let start = || TestRegistry::start_with(habits(host));
            registries.entry(host.to_owned()).or_insert_with(start);
        }
        for name in IMAGES {
            let (host, rest) = name.split_once('/').expect("a host");
            let (repository, tag) = rest.split_once(':').expect("a tag");
            let (registry, image) = (&registries[host], image(repository, tag, name));
            registry.put(repository, tag, &image);
            if SIGNED.contains(name) {
                let signature = Image::cosign_signature(&image);
                registry.put(repository, &image.signature_tag(), &signature);
                let bom = Image::referrer(&image, "application/spdx+json", name.as_bytes());
                registry.put(repository, "", &bom);
            }
        }
        registries["busy.example"].put("team/app", "1", &image("team/app", "1", ""));
        let old = &registries[OLD];
        old_registry::put(old, "team/app:1", &OldImage::usual());
        let mut lost = OldImage::usual();
        lost.step(&layer(&[("lost", b"layer")]), json!({}));
        old_registry::put(old, "team/lost:1", &lost);
        old.forget_blob("team/lost", lost.steps[3].0.digest());
        let address = |(name, registry): (&String, &TestRegistry)| match name.as_str() {
            "docker.io" => ("registry-1.docker.io".to_owned(), registry.host()),
            _ => (name.clone(), registry.host()),
        };
        let front = front::start(registries.iter().map(address).collect());
        Self { registries, front }
    }

    /// The settings that let kharon speak plain http to all of them.
    pub fn config(&self) -> String {
        let names = self.registries.keys();
        let parts = names.flat_map(|name| ["[registry.\"", name, "\"]\nplain-http = true\n"]);
        parts.collect()
    }
}

/// An image of two layers: one that all tags of a repository share, and one of which each tag
/// changes a part, so that a delta pays.
fn image(repository: &str, tag: &str, name: &str) -> Image {
    let base = layer(&[("etc/os-release", repository.as_bytes())]);
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x"].map(|platform| {
        let library = noise(&format!("{repository} {platform}"), 48_000);
        let mut program = library.clone();
        program.splice(20_000..21_000, noise(&format!("{repository} {tag}"), 1_000));
        let changed = program_layer(&library, &program, tag);
        Image::oci_for(platform, &[base.clone(), changed])
    });
    match name {
        _ if name.starts_with("docker-images.example/") => Image::docker(platforms[0].layers()),
        _ if SINGLE.contains(&name) => platforms[0].clone(),
        _ => Image::index(&platforms),
    }
}

fn program_layer(library: &[u8], program: &[u8], tag: &str) -> Blob {
    let files = [("lib/library", library), ("bin/program", program), ("VERSION", tag.as_bytes())];
    layer_at(flate2::Compression::fast(), &files)
}

/// Bytes that do not compress, the same for the same words.
fn noise(words: &str, count: usize) -> Vec<u8> {
    let mut state = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}
