//! What payloads bring, each once, and what of it is a layer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::digest::Digest;
use crate::manifest::{Content, Manifest, MediaType};
use crate::payload::{ImageState, Payload, Travels};

/// What a blob is expanded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// One file.
    File,
    /// A tree if it is a tar, else a file: named as a layer by an image, under another media type.
    Perhaps,
    /// A tree: its media type says so.
    Layer,
}

/// A blob that a payload brings.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) payload: usize,
    pub(super) digest: Digest,
    pub(super) media_type: MediaType,
    pub(super) size: u64,
    pub(super) images: Vec<String>,
    pub(super) role: Role,
}

/// A blob that images of the payloads need and no payload brings.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Absent {
    digest: Digest,
    media_type: MediaType,
    size: u64,
    images: Vec<String>,
    why: Why,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Why {
    Expected,
    LeftOut,
}

/// A manifest or index.
#[derive(Clone, Debug)]
pub(super) struct ManifestItem {
    pub(super) manifest: Manifest,
    pub(super) images: Vec<String>,
}

/// Everything that some payloads bring and need.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) manifests: Vec<ManifestItem>,
    blobs: Vec<Item>,
    pub(super) absent: Vec<Absent>,
    /// The sizes of all that is brought.
    pub(super) bytes: u64,
}

impl Contents {
    pub(super) fn of(payloads: &[Arc<Payload>]) -> Self {
        let mut contents =
            Self { manifests: Vec::new(), blobs: Vec::new(), absent: Vec::new(), bytes: 0 };
        let roles = roles(payloads);
        let users = users(payloads);
        let images = |digest: &Digest| -> Vec<String> {
            users.get(digest).into_iter().flatten().cloned().collect()
        };
        let (mut seen, mut absent) = (HashSet::new(), BTreeMap::new());
        for (payload, index) in payloads.iter().map(|payload| (payload, payload.index())) {
            for listed in &index.manifests {
                if let Some(manifest) = payload.manifest(&listed.digest)
                    && seen.insert(listed.digest.clone())
                {
                    let (manifest, images) = (manifest.clone(), images(&listed.digest));
                    contents.bytes = contents.bytes.saturating_add(listed.size);
                    contents.manifests.push(ManifestItem { manifest, images });
                }
            }
        }
        for (position, payload) in payloads.iter().enumerate() {
            for blob in &payload.index().blobs {
                let images = images(&blob.digest);
                let why = match blob.travels {
                    Travels::Carried | Travels::Delta { .. } => {
                        if seen.insert(blob.digest.clone()) {
                            contents.bytes = contents.bytes.saturating_add(blob.size);
                            contents.blobs.push(Item {
                                payload: position,
                                digest: blob.digest.clone(),
                                media_type: blob.media_type.clone(),
                                size: blob.size,
                                images,
                                role: roles.get(&blob.digest).copied().unwrap_or(Role::File),
                            });
                        }
                        continue;
                    }
                    Travels::Expected { .. } => Why::Expected,
                    Travels::LeftOut { .. } => Why::LeftOut,
                };
                let (media_type, size) = (blob.media_type.clone(), blob.size);
                let digest = blob.digest.clone();
                absent.insert(digest.clone(), Absent { digest, media_type, size, images, why });
            }
        }
        let absent = absent.into_iter().filter(|(digest, _)| !seen.contains(digest));
        contents.absent = absent.map(|(_, absent)| absent).collect();
        contents
    }

    /// The blobs to take from the payload at this position, in its order.
    pub(super) fn of_payload(&self, position: usize) -> Vec<Item> {
        self.blobs.iter().filter(|item| item.payload == position).cloned().collect()
    }
}

/// What manifests name as layers. The strictest name counts: a registry serves a blob under any.
fn roles(payloads: &[Arc<Payload>]) -> HashMap<Digest, Role> {
    let mut roles: HashMap<Digest, Role> = HashMap::new();
    let manifests = payloads.iter().flat_map(|payload| {
        let digests = payload.index().manifests.iter().map(|entry| &entry.digest);
        digests.filter_map(|digest| payload.manifest(digest))
    });
    for manifest in manifests {
        let Content::Image { config, layers } = &manifest.content else { continue };
        let of_image = config.as_ref().is_some_and(|config| config.media_type.is_image_config());
        for layer in layers {
            let role = match layer.media_type.as_str() {
                text if is_layer(text) => Role::Layer,
                _ if of_image => Role::Perhaps,
                _ => Role::File,
            };
            let known = roles.entry(layer.digest.clone()).or_insert(role);
            *known = role.max(*known);
        }
    }
    roles
}

/// The media types of the OCI image-spec and of Docker's schema 2, foreign layers among them.
fn is_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// The images that use each manifest and blob, by their names.
fn users(payloads: &[Arc<Payload>]) -> HashMap<Digest, BTreeSet<String>> {
    let mut users: HashMap<Digest, BTreeSet<String>> = HashMap::new();
    for payload in payloads {
        let carried =
            payload.index().images.iter().filter(|image| image.state == ImageState::Carried);
        for image in carried {
            let referring = image.referrers.iter().map(|referrer| &referrer.digest);
            for digest in image.manifests.iter().chain(referring) {
                let named = payload.manifest(digest).into_iter().flat_map(Manifest::blobs);
                for used in std::iter::once(digest).chain(named.map(|blob| &blob.digest)) {
                    users.entry(used.clone()).or_default().insert(image.name.clone());
                }
            }
        }
    }
    users
}
