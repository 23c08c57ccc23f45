//! What refers to an image arrives with it and is found there, by the API or by its fallback tag.

use std::collections::BTreeSet;

use kharon::digest::Digest;
use kharon::manifest::{Manifest, MediaType};
use serde_json::json;

use crate::content::Debian;
use crate::images::Image;
use crate::kit::{self, make, push, put, try_push};
use crate::real::{self, Kind, RealRegistry};

const SBOM: &str = "application/spdx+json";
const SIGNATURE: &str = "application/vnd.example.signature";

/// An image, what is said about it, a signature of that, and a signature in cosign's old way.
struct Signed {
    image: Image,
    sbom: Image,
    signature: Image,
    cosign: Image,
}

impl Signed {
    fn new() -> Self {
        let image = Image::oci(&Debian::read().first());
        let sbom = Image::referrer(&image, SBOM, br#"{"spdxVersion":"SPDX-2.3"}"#);
        let signature = Image::referrer(&sbom, SIGNATURE, b"signed by nobody");
        let cosign = Image::cosign_signature(&image);
        Self { image, sbom, signature, cosign }
    }

    fn put(&self, registry: &str, kind: Kind) {
        put(&self.image, registry, "app", "1");
        put(&self.cosign, registry, "app", &self.image.signature_tag());
        put_referrer(registry, kind, &self.image, &self.sbom);
        put_referrer(registry, kind, &self.sbom, &self.signature);
    }
}

fn has_the_api(kind: Kind) -> bool {
    matches!(kind, Kind::Referrers | Kind::Zot)
}

/// Puts a referrer, and lists it as clients must where the registry does not.
fn put_referrer(registry: &str, kind: Kind, subject: &Image, referrer: &Image) {
    put(referrer, registry, "app", "");
    if has_the_api(kind) {
        return;
    }
    let descriptor = &referrer.manifest.descriptor;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": [{
            "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
            "artifactType": SBOM,
        }],
    });
    let path = format!("/v2/app/manifests/{}", subject.digest().tag_form());
    let headers = [("Content-Type", MediaType::OCI_INDEX)];
    let answer = real::send(registry, "PUT", &path, &headers, index.to_string().as_bytes());
    assert_eq!(answer.expect("an answer").status, 201);
}

/// What a registry lists as referring to `subject`.
fn listed(registry: &str, kind: Kind, subject: &Image) -> BTreeSet<Digest> {
    if !has_the_api(kind) {
        let index = kit::find_manifest(registry, "app", &subject.digest().tag_form());
        return index.iter().flat_map(children).collect();
    }
    let path = format!("/v2/app/referrers/{}", subject.digest());
    let answer = real::send(registry, "GET", &path, &[], b"").expect("an answer");
    assert_eq!(answer.status, 200, "{path}");
    children(&Manifest::parse(answer.body.into(), None).expect("an index")).collect()
}

fn children(index: &Manifest) -> impl Iterator<Item = Digest> + use<> {
    let digests: Vec<_> = index.children().iter().map(|child| child.digest.clone()).collect();
    digests.into_iter()
}

fn only(image: &Image) -> BTreeSet<Digest> {
    BTreeSet::from([image.digest().clone()])
}

fn what_refers_to_an_image_arrives(from: Kind, to: Kind) {
    let (near, far) = (RealRegistry::start(from), RealRegistry::start(to));
    let signed = Signed::new();
    signed.put(&near.host(), from);
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "signed.zip");
    let made = make(&near.host(), &file, &["app:1"]);
    assert_eq!(made["plan"]["images"][0]["referrers"], 3, "{made:#}");

    for round in ["first", "second"] {
        push(&far.host(), &file, &[]);
        assert_eq!(listed(&far.host(), to, &signed.image), only(&signed.sbom), "{round}");
        assert_eq!(listed(&far.host(), to, &signed.sbom), only(&signed.signature), "{round}");
        for image in [&signed.image, &signed.sbom, &signed.signature] {
            kit::assert_whole(&far.host(), "app", &image.digest().to_string());
        }
        let cosign = kit::assert_whole(&far.host(), "app", &signed.image.signature_tag());
        assert_eq!(&cosign, signed.cosign.digest());
    }
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry"]
    fn referrers_arrive_and_are_listed() {
        what_refers_to_an_image_arrives(Kind::DockerRegistry, Kind::DockerRegistry);
    }

    #[test]
    #[ignore = "needs docker-registry"]
    fn the_list_of_the_far_side_is_kept_and_grows() {
        let kind = Kind::DockerRegistry;
        let (near, far) = (RealRegistry::start(kind), RealRegistry::start(kind));
        let signed = Signed::new();
        signed.put(&near.host(), kind);
        let own = Image::referrer(&signed.image, "application/vnd.example.audit", b"seen here");
        put(&signed.image, &far.host(), "app", "1");
        put_referrer(&far.host(), kind, &signed.image, &own);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "signed.zip");
        make(&near.host(), &file, &["app:1"]);
        push(&far.host(), &file, &[]);
        let both = BTreeSet::from([own, signed.sbom].map(|image| image.digest().clone()));
        assert_eq!(listed(&far.host(), kind, &signed.image), both);
    }

    #[test]
    #[ignore = "needs docker-registry"]
    fn a_signature_of_the_far_side_is_replaced_only_by_force() {
        let kind = Kind::DockerRegistry;
        let (near, far) = (RealRegistry::start(kind), RealRegistry::start(kind));
        let signed = Signed::new();
        signed.put(&near.host(), kind);
        let tag = signed.image.signature_tag();
        let own = Image::cosign_signature(&signed.sbom);
        put(&own, &far.host(), "app", &tag);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "signed.zip");
        make(&near.host(), &file, &["app:1"]);
        let ended = try_push(&far.host(), &file, &[]);
        ended.saying(&[&tag, "is left alone", "--force-tags"]);
        assert_eq!(kit::manifest(&far.host(), "app", &tag).digest(), own.digest());
        push(&far.host(), &file, &["--force-tags"]);
        assert_eq!(kit::manifest(&far.host(), "app", &tag).digest(), signed.cosign.digest());
    }

    #[test]
    #[ignore = "needs docker-registry"]
    fn what_is_left_as_asked_is_counted() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        Signed::new().put(&near.host(), Kind::DockerRegistry);
        let ended = kit::kharon(&[
            "make-payload",
            "-r",
            &near.host(),
            "--dry-run",
            "--no-referrers",
            "app:1",
        ]);
        ended.well().saying(&["2 manifests that refer to", "are left, as asked"]);
    }
}

mod distribution_3 {
    use super::*;

    #[test]
    #[ignore = "needs registry (distribution 3)"]
    fn referrers_arrive_and_are_listed() {
        what_refers_to_an_image_arrives(Kind::Distribution3, Kind::Distribution3);
    }
}

mod referrers_registry {
    use super::*;

    #[test]
    #[ignore = "needs referrers-registry"]
    fn referrers_arrive_and_are_listed() {
        what_refers_to_an_image_arrives(Kind::Referrers, Kind::Referrers);
    }

    #[test]
    #[ignore = "needs referrers-registry and docker-registry"]
    fn what_one_side_lists_by_its_api_the_other_lists_by_a_tag() {
        what_refers_to_an_image_arrives(Kind::Referrers, Kind::DockerRegistry);
        what_refers_to_an_image_arrives(Kind::DockerRegistry, Kind::Referrers);
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot"]
    fn referrers_arrive_and_are_listed() {
        what_refers_to_an_image_arrives(Kind::Zot, Kind::Zot);
    }

    #[test]
    #[ignore = "needs zot and docker-registry"]
    fn what_one_side_lists_by_its_api_the_other_lists_by_a_tag() {
        what_refers_to_an_image_arrives(Kind::Zot, Kind::DockerRegistry);
        what_refers_to_an_image_arrives(Kind::DockerRegistry, Kind::Zot);
    }
}
