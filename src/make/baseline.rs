//! What the far side is known to hold: images named by the user, and former payloads.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::names::FarNames;
use crate::payload::index::{Blob, Image, Travels};
use crate::payload::{Format, Payload};
use crate::plan::Baseline;
use crate::rebuild::rebuild_all;
use crate::reference::{Reference, RegistryHost, RepositoryName};

use super::list::ImageName;
use super::resolve::Resolver;

/// Adds what the registries say of images that were transferred before.
pub(super) async fn add_images(
    baseline: &mut Baseline,
    resolver: &Resolver<'_>,
    images: &[ImageName],
    names: &FarNames,
) -> anyhow::Result<()> {
    let blobs = images.iter().map(|image| resolver.blobs_of(&image.reference));
    for (image, blobs) in images.iter().zip(try_join_all(blobs).await?) {
        let repository = names.of(&image.reference)?;
        for blob in blobs.into_iter().flatten().filter(|blob| !blob.is_foreign()) {
            baseline.add_blob(&blob, repository.clone(), Some(&image.reference));
        }
    }
    Ok(())
}

/// Adds what a former payload brought and what it expected. Nothing is asked of a registry, so a tag
/// that moved since does no harm.
pub(super) fn add_payload(baseline: &mut Baseline, payload: &Payload) -> anyhow::Result<()> {
    let index = payload.index();
    let is_left_out = |blob: &&Blob| matches!(blob.travels, Travels::LeftOut { .. });
    let left_out: HashSet<&Digest> =
        index.blobs.iter().filter(is_left_out).map(|blob| &blob.digest).collect();
    let places = index
        .images
        .iter()
        .flat_map(|image| image.manifests.iter().map(|digest| (&image.repository, digest)));
    let travelling: HashSet<(&RepositoryName, &Digest)> = places.collect();
    for image in &index.images {
        add_tags(baseline, payload, image, &travelling)?;
        add_brought(baseline, payload, image, &left_out);
    }
    for blob in index.expected() {
        let held = Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
        for repository in blob.repositories {
            baseline.add_blob(&held, repository.clone(), None);
        }
    }
    Ok(())
}

/// Adds what the image's tags name since: also the index that was written where a sparse one was
/// refused.
fn add_tags(
    baseline: &mut Baseline,
    payload: &Payload,
    image: &Image,
    travelling: &HashSet<(&RepositoryName, &Digest)>,
) -> anyhow::Result<()> {
    let manifests = image.manifests.iter().filter_map(|digest| payload.manifest(digest));
    let rebuilt =
        rebuild_all(manifests, |digest| travelling.contains(&(&image.repository, digest)))?;
    for target in &image.tags {
        for digest in target.digest.iter().flat_map(|digest| {
            [Some(digest), rebuilt.get(digest).map(Manifest::digest)].into_iter().flatten()
        }) {
            baseline.add_tag(image.repository.clone(), target.tag.clone(), digest.clone());
        }
    }
    Ok(())
}

fn add_brought(
    baseline: &mut Baseline,
    payload: &Payload,
    image: &Image,
    left_out: &HashSet<&Digest>,
) {
    // A reference of docker-charon's format names no registry, so it leads nowhere.
    let source = match payload.format() {
        Format::Native => Reference::parse(&image.reference, &RegistryHost::docker_hub()).ok(),
        Format::Charon => None,
    };
    let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
    let manifests = image.manifests.iter().chain(referrers);
    for manifest in manifests.filter_map(|digest| payload.manifest(digest)) {
        for blob in manifest.blobs().filter(|blob| !left_out.contains(&blob.digest)) {
            baseline.add_blob(blob, image.repository.clone(), source.as_ref());
        }
    }
}
