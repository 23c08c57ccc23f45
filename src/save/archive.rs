//! What stands in an archive of images beside their blobs: `oci-layout`, `index.json`, and Docker's
//! `manifest.json`. Pure; docs/save.md says what each field is for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;

use crate::digest::Digest;
use crate::failure::Usage;
use crate::manifest::{Content, Descriptor, Manifest};
use crate::payload::{self, oci_index};
use crate::reference::Reference;

/// Where Docker finds the images.
const DOCKER_NAME: &str = "manifest.json";

/// An image that is saved, and what of it.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// The name under which it is found again: a tag, or else a digest.
    pub(crate) reference: Reference,
    /// What this name stands for.
    pub(crate) root: Descriptor,
    /// The image of one platform, for engines that know nothing else; none of an artifact.
    pub(crate) image: Option<Manifest>,
    /// All manifests of it, children before parents.
    pub(crate) manifests: Vec<Manifest>,
    /// The index that the name stood for, where one platform of it was chosen.
    pub(crate) index: Option<Manifest>,
}

/// Who is to find the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Whoever reads OCI image layouts.
    Oci,
    /// `docker load` of any version, too.
    All,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// The small files of an archive: those that name the images, and all manifests.
pub(super) fn documents(
    images: &[Chosen],
    readers: Readers,
) -> anyhow::Result<Vec<(String, Bytes)>> {
    let named: Vec<_> =
        images.iter().map(|image| (image.reference.clone(), image.root.clone())).collect();
    let mut documents = vec![
        (payload::LAYOUT_NAME.to_owned(), Bytes::from_static(oci_index::LAYOUT)),
        (payload::LAYOUT_INDEX_NAME.to_owned(), oci_index::index_of(&named)?.into()),
    ];
    if readers == Readers::All {
        documents.push((DOCKER_NAME.to_owned(), docker_json(images)?.into()));
    }
    let mut seen = BTreeSet::new();
    for manifest in images.iter().flat_map(|image| &image.manifests) {
        if seen.insert(manifest.digest()) {
            documents.push((manifest.digest().blob_path(), manifest.raw.clone()));
        }
    }
    Ok(documents)
}

/// The blobs of the images in the order in which they are written, each once, and the image that it is for.
pub(super) fn blobs(images: &[Chosen]) -> Vec<(&Reference, &Descriptor)> {
    let mut seen: BTreeSet<&Digest> =
        images.iter().flat_map(|image| &image.manifests).map(Manifest::digest).collect();
    let mut blobs = Vec::new();
    for image in images {
        for blob in image.manifests.iter().flat_map(Manifest::blobs) {
            if seen.insert(&blob.digest) {
                blobs.push((&image.reference, blob));
            }
        }
    }
    blobs
}

/// Docker's list of images. An image with several names stands there once.
fn docker_json(images: &[Chosen]) -> anyhow::Result<Vec<u8>> {
    let mut listed: Vec<(&Digest, DockerImage)> = Vec::new();
    for chosen in images {
        let Some(image) = &chosen.image else { continue };
        let Content::Image { config: Some(config), layers } = &image.content else { continue };
        let tag = repo_tag(&chosen.reference);
        match listed.iter_mut().find(|(digest, _)| *digest == image.digest()) {
            Some((_, entry)) => entry.repo_tags.extend(tag),
            None => listed.push((
                image.digest(),
                DockerImage {
                    config: config.digest.blob_path(),
                    repo_tags: tag.into_iter().collect(),
                    layers: layers.iter().map(|layer| layer.digest.blob_path()).collect(),
                },
            )),
        }
    }
    Ok(serde_json::to_vec(&listed.into_iter().map(|(_, image)| image).collect::<Vec<_>>())?)
}

/// What Docker calls the image; nothing where it has no tag. Docker Hub's images have no host there.
fn repo_tag(reference: &Reference) -> Option<String> {
    let Reference { registry, repository, tag, .. } = reference;
    let tag = tag.as_ref()?;
    if !registry.is_docker_hub() {
        return Some(format!("{registry}/{repository}:{tag}"));
    }
    let repository = repository.as_str();
    Some(format!("{}:{tag}", repository.strip_prefix("library/").unwrap_or(repository)))
}

/// Refuses two images of one name: whichever is loaded last would have it.
pub(super) fn refuse_collisions(images: &[Chosen]) -> Result<(), Usage> {
    let mut names: BTreeMap<String, &Digest> = BTreeMap::new();
    for image in images {
        let name = image.reference.to_string();
        let digest = &image.root.digest;
        if names.insert(name.clone(), digest).is_some_and(|former| former != digest) {
            return Err(Usage::new(format!("two images would both be `{name}`"))
                .with_hint("name only one of them"));
        }
    }
    Ok(())
}
