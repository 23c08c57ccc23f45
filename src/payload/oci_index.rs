//! `oci-layout` and `index.json`: what makes an unzipped payload an OCI image layout.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::reference::{Reference, RegistryHost, Tag};

use super::index::{Image, ManifestEntry};

/// What the marker says (image-layout, "oci-layout file").
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation by which skopeo and podman find an image.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which containerd finds an image.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciIndex {
    schema_version: u32,
    media_type: MediaType,
    manifests: Vec<Descriptor>,
}

/// A name that a manifest of the payload has at the source.
struct Named<'a> {
    reference: Reference,
    digest: &'a Digest,
}

/// The bytes of `index.json`: everything that has a name, in the order of the images.
///
/// # Errors
/// [`serde_json::Error`] if the index cannot be written, which no valid image brings about.
pub fn index_json(
    images: &[Image],
    manifests: &[ManifestEntry],
) -> Result<Vec<u8>, serde_json::Error> {
    let by_digest: BTreeMap<&Digest, &ManifestEntry> =
        manifests.iter().map(|manifest| (&manifest.digest, manifest)).collect();
    let described = |named: Named<'_>| {
        let manifest = by_digest.get(named.digest)?;
        let (media_type, digest) = (manifest.media_type.clone(), manifest.digest.clone());
        Some((named.reference, Descriptor::new(media_type, digest, manifest.size)))
    };
    let named: Vec<_> = images.iter().flat_map(names_of).filter_map(described).collect();
    index_of(&named)
}

/// The bytes of an `index.json` that names these manifests so.
///
/// # Errors
/// As [`index_json`].
pub fn index_of(named: &[(Reference, Descriptor)]) -> Result<Vec<u8>, serde_json::Error> {
    let mut uses: BTreeMap<&Tag, usize> = BTreeMap::new();
    for tag in named.iter().filter_map(|(reference, _)| reference.tag.as_ref()) {
        *uses.entry(tag).or_default() += 1;
    }
    let mut descriptors: Vec<Descriptor> = Vec::new();
    for (reference, descriptor) in named {
        let full = reference.to_string();
        let mut annotations = BTreeMap::from([(CONTAINERD_NAME.to_owned(), full.clone())]);
        if let Some(tag) = &reference.tag {
            let is_unique = uses.get(tag) == Some(&1);
            let ref_name = if is_unique { tag.to_string() } else { full };
            annotations.insert(REF_NAME.to_owned(), ref_name);
        }
        let Descriptor { media_type, digest, size, .. } = descriptor.clone();
        let named = Descriptor { annotations, ..Descriptor::new(media_type, digest, size) };
        if !descriptors.contains(&named) {
            descriptors.push(named);
        }
    }
    serde_json::to_vec(&OciIndex {
        schema_version: 2,
        media_type: MediaType::new(MediaType::OCI_INDEX),
        manifests: descriptors,
    })
}

fn names_of<'a>(image: &'a Image) -> Vec<Named<'a>> {
    // An image's reference was written by this crate or checked when the payload was opened.
    let Ok(reference) = Reference::parse(&image.reference, &RegistryHost::docker_hub()) else {
        return Vec::new();
    };
    let name = |tag: Option<&Tag>, digest: &'a Digest| {
        let digest_in_name = tag.is_none().then(|| digest.clone());
        let reference =
            Reference { tag: tag.cloned(), digest: digest_in_name, ..reference.clone() };
        Named { reference, digest }
    };
    let mut names: Vec<Named<'_>> = image
        .tags
        .iter()
        .filter_map(|target| Some(name(Some(&target.tag), target.digest.as_ref()?)))
        .collect();
    if names.is_empty() {
        names.extend(image.resolved.iter().map(|root| name(None, &root.digest)));
    }
    names.extend(image.referrers.iter().map(|other| name(other.tag.as_ref(), &other.digest)));
    names
}
