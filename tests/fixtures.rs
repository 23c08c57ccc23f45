//! The fixtures are what their README says.

#[path = "support/fixtures.rs"]
mod fixtures;

use std::collections::BTreeSet;

use kharon::digest::Digest;
use kharon::manifest::Manifest;

fn layers(image: &Manifest) -> Vec<Digest> {
    // The first blob of an image is its config.
    image.blobs().skip(1).map(|blob| blob.digest.clone()).collect()
}

#[test]
fn every_blob_of_the_quickstart_image_is_there_and_whole() {
    for tag in ["v1", "v2"] {
        for image in fixtures::images(tag) {
            for blob in image.blobs() {
                let bytes = fixtures::read_blob(&blob.digest);
                assert_eq!(bytes.len() as u64, blob.size, "{}", blob.digest);
                assert_eq!(Digest::of(&bytes), blob.digest);
            }
        }
    }
}

#[test]
fn version_two_has_two_platforms_and_shares_two_layers_with_version_one() {
    let (old, new) = (fixtures::images("v1"), fixtures::images("v2"));
    assert_eq!((old.len(), new.len()), (1, 2));
    let old: BTreeSet<Digest> = layers(&old[0]).into_iter().collect();
    for image in &new {
        let new: BTreeSet<Digest> = layers(image).into_iter().collect();
        assert_eq!((old.len(), new.len()), (4, 4));
        assert_eq!(old.intersection(&new).count(), 2);
    }
}
