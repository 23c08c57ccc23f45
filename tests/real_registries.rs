//! The registries of the real tests themselves: they start, speak the API that they are said to
//! speak, and leave nothing behind.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/real.rs"]
#[expect(dead_code, reason = "nothing is guarded here")]
mod real;

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use kharon::digest::Digest;
use real::{Kind, RealRegistry};

fn speaks_the_registry_api(kind: Kind) -> RealRegistry {
    let registry = RealRegistry::start(kind);
    let answer = registry.get("/v2/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    registry
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json";

/// distribution 2.8 hides OCI manifests from clients that do not say they take them.
fn get_manifest(registry: &RealRegistry, digest: &Digest) -> real::Answer {
    let path = format!("/v2/app/manifests/{digest}");
    registry.send("GET", &path, &[("Accept", ACCEPTED)], b"")
}

/// Puts an empty-config manifest and gives its digest.
fn put_manifest(registry: &RealRegistry, subject: Option<&Digest>) -> Digest {
    let blob = b"{}";
    let blob_digest = Digest::of(blob);
    let opened = registry.send("POST", "/v2/app/blobs/uploads/", &[], b"");
    assert_eq!(opened.status, 202, "{opened:?}");
    let location = opened.header("location").expect("where to upload to").to_owned();
    let path = location.strip_prefix(&format!("http://{}", registry.host())).unwrap_or(&location);
    let separator = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{separator}digest={blob_digest}");
    let octets = [("Content-Type", "application/octet-stream")];
    assert_eq!(registry.send("PUT", &path, &octets, blob).status, 201);

    let descriptor = serde_json::json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": blob_digest, "size": 2,
    });
    let mut manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example",
        "config": descriptor, "layers": [descriptor],
    });
    if let Some(digest) = subject {
        let size = get_manifest(registry, digest).body.len();
        manifest["subject"] =
            serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": size});
    }
    let manifest = manifest.to_string();
    let digest = Digest::of(manifest.as_bytes());
    let path = format!("/v2/app/manifests/{digest}");
    let put = registry.send("PUT", &path, &[("Content-Type", MANIFEST)], manifest.as_bytes());
    assert_eq!(put.status, 201, "{put:?}");
    digest
}

fn referrers(registry: &RealRegistry) -> Option<serde_json::Value> {
    let subject = put_manifest(registry, None);
    let referrer = put_manifest(registry, Some(&subject));
    let answer = registry.get(&format!("/v2/app/referrers/{subject}"));
    if answer.status == 404 {
        return None;
    }
    let index: serde_json::Value = serde_json::from_slice(&answer.body).expect("an index");
    assert_eq!(index["manifests"][0]["digest"], referrer.to_string(), "{index}");
    Some(index)
}

/// skopeo copies by its own code, so what it leaves is what kharon should find, and leave.
fn takes_the_quickstart_image(kind: Kind) {
    let registry = RealRegistry::start(kind);
    for tag in ["v1", "v2"] {
        let from = format!("oci:{}:{tag}", fixtures::quickstart().display());
        let to = format!("docker://{}/app:{tag}", registry.host());
        let mut skopeo = Command::new(real::tool("skopeo"));
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false"]);
        let output = skopeo.args([&from, &to]).output().expect("skopeo runs");
        assert!(output.status.success(), "{output:?}\n{}", registry.log());
        let manifests = fixtures::images(tag).into_iter().chain([fixtures::tagged(tag)]);
        for digest in manifests.map(|manifest| manifest.digest().clone()) {
            let answer = get_manifest(&registry, &digest);
            assert_eq!((answer.status, Digest::of(&answer.body)), (200, digest));
        }
    }
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn distribution_takes_the_quickstart_image() {
        takes_the_quickstart_image(Kind::DockerRegistry);
    }

    #[test]
    #[ignore = "needs docker-registry"]
    fn distribution_serves_without_a_referrers_api() {
        let registry = speaks_the_registry_api(Kind::DockerRegistry);
        assert_eq!(referrers(&registry), None);
    }

    #[test]
    #[ignore = "needs docker-registry"]
    fn content_survives_a_restart() {
        let mut registry = RealRegistry::start(Kind::DockerRegistry);
        let digest = put_manifest(&registry, None);
        registry.restart();
        assert_eq!(get_manifest(&registry, &digest).status, 200);
    }

    #[test]
    #[ignore = "needs docker-registry"]
    fn a_panic_leaves_no_process_and_no_file_behind() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let panicked = std::panic::catch_unwind(move || {
            let registry = RealRegistry::start(Kind::DockerRegistry);
            let seen = (registry.process_id(), registry.host(), registry.storage());
            sender.send(seen).expect("the receiver waits");
            panic!("as a failing test does");
        });
        assert!(panicked.is_err());
        let (process_id, host, storage) = receiver.recv().expect("what was started");
        assert!(TcpStream::connect(host).is_err());
        assert!(!Path::new(&format!("/proc/{process_id}")).exists());
        assert!(!storage.exists());
    }
}

mod distribution_3 {
    use super::*;

    #[test]
    #[ignore = "needs registry (distribution 3) and skopeo"]
    fn distribution_takes_the_quickstart_image() {
        takes_the_quickstart_image(Kind::Distribution3);
    }

    #[test]
    #[ignore = "needs registry (distribution 3)"]
    fn distribution_serves_without_a_referrers_api() {
        let registry = speaks_the_registry_api(Kind::Distribution3);
        assert_eq!(referrers(&registry), None);
    }
}

mod referrers_registry {
    use super::*;

    #[test]
    #[ignore = "needs referrers-registry and skopeo"]
    fn go_containerregistry_takes_the_quickstart_image() {
        takes_the_quickstart_image(Kind::Referrers);
    }

    #[test]
    #[ignore = "needs referrers-registry"]
    fn go_containerregistry_lists_referrers() {
        let registry = speaks_the_registry_api(Kind::Referrers);
        assert!(referrers(&registry).is_some());
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn zot_takes_the_quickstart_image() {
        takes_the_quickstart_image(Kind::Zot);
    }

    #[test]
    #[ignore = "needs zot"]
    fn zot_lists_referrers() {
        let registry = speaks_the_registry_api(Kind::Zot);
        let index = referrers(&registry).expect("a referrers API");
        assert_eq!(index["manifests"][0]["artifactType"], "application/vnd.example");
    }
}
