//! What the far side is known to hold: images named by the user, and former payloads.

use std::path::Path;

use anyhow::Context as _;
use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::names::FarNames;
use crate::payload::Payload;
use crate::payload::index::{Image, Index, Travels};
use crate::plan::Baseline;
use crate::rebuild::rebuild_all;
use crate::reference::RepositoryName;

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
            baseline.add_blob(blob.digest, repository.clone());
        }
    }
    Ok(())
}

/// Adds what a former payload carried and what it expected. Nothing is asked of a registry, so a tag
/// that moved since does no harm.
pub(super) fn add_payload(baseline: &mut Baseline, path: &Path) -> anyhow::Result<()> {
    let payload = Payload::open(path)
        .with_context(|| format!("cannot take payload `{}` as baseline", path.display()))?;
    let index = payload.index();
    for image in &index.images {
        add_tags(baseline, &payload, image)?;
        add_carried(baseline, &payload, index, image);
    }
    for blob in &index.blobs {
        if let Travels::Expected { repositories } = &blob.travels {
            for repository in repositories {
                baseline.add_blob(blob.digest.clone(), repository.clone());
            }
        }
    }
    Ok(())
}

/// Adds what the image's tags name since: also the index that was written where a sparse one was
/// refused.
fn add_tags(baseline: &mut Baseline, payload: &Payload, image: &Image) -> anyhow::Result<()> {
    let manifests = image.manifests.iter().filter_map(|digest| payload.manifest(digest));
    let rebuilt = rebuild_all(manifests, |digest| payload.manifest(digest).is_some())?;
    for target in &image.tags {
        for digest in target.digest.iter().flat_map(|digest| {
            [Some(digest), rebuilt.get(digest).map(Manifest::digest)].into_iter().flatten()
        }) {
            baseline.add_tag(image.repository.clone(), target.tag.clone(), digest.clone());
        }
    }
    Ok(())
}

fn add_carried(baseline: &mut Baseline, payload: &Payload, index: &Index, image: &Image) {
    let repository: &RepositoryName = &image.repository;
    let left_out = |digest: &Digest| {
        index
            .blobs
            .iter()
            .any(|blob| blob.digest == *digest && matches!(blob.travels, Travels::LeftOut { .. }))
    };
    let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
    let manifests = image.manifests.iter().chain(referrers);
    for manifest in manifests.filter_map(|digest| payload.manifest(digest)) {
        for blob in manifest.blobs().filter(|blob| !blob.is_foreign() || !left_out(&blob.digest)) {
            baseline.add_blob(blob.digest.clone(), repository.clone());
        }
    }
}
