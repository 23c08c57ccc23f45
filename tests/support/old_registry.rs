//! A test registry that has images as Docker's schema 1 only.

use kharon::digest::Digest;
use kharon::manifest::MediaType;

use super::fault::{Effect, Fault};
use super::images::{Blob, Image, random_layer};
use super::registry::TestRegistry;
use super::schema1::{OldImage, sign};

/// Has the registry serve `document` for a tag, by the digest of its payload too.
pub fn serve(registry: &TestRegistry, name: &str, blobs: &[&Blob], payload: &str, document: &str) {
    let (repository, tag) = name.split_once(':').expect("a tag");
    // There has to be something, for lists and HEAD.
    registry.put(repository, tag, &Image::oci(&[random_layer(99, 10)]));
    for blob in blobs {
        registry.put_blob(repository, &blob.bytes);
    }
    let digest = Digest::of(payload.as_bytes()).to_string();
    for which in [tag, &digest] {
        let headers = [
            ("content-type", MediaType::DOCKER_SCHEMA1_SIGNED.to_owned()),
            ("docker-content-digest", digest.clone()),
        ];
        let answer = Effect::Answer(200, headers.to_vec(), document.to_owned().into());
        let path = format!("/v2/{repository}/manifests/{which}");
        registry.fail(Fault::on("GET", &path, answer).always());
    }
}

/// Serves an image, signed; gives the digest that it has.
pub fn put(registry: &TestRegistry, name: &str, image: &OldImage) -> Digest {
    let (repository, tag) = name.split_once(':').expect("a tag");
    let payload = image.payload(repository, tag);
    let blobs: Vec<&Blob> = image.blobs().collect();
    serve(registry, name, &blobs, &payload, &sign(&payload));
    Digest::of(payload.as_bytes())
}
