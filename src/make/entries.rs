//! The entries of a payload around its blobs, in either format: everything but the blobs' bytes is
//! known as soon as the plan stands.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::payload::charon::Place;
use crate::payload::index::{self, Entry, Image, Index, Travels};
use crate::payload::{self, Kind, PlannedEntry, charon, oci_index, payload_length};
use crate::plan::Plan;

use super::Format;

/// The entries of one payload.
pub(super) struct Entries {
    format: Format,
    index: Index,
    before: Vec<(String, Bytes)>,
    after: Vec<(String, Bytes)>,
    payload_bytes: u64,
}

impl Entries {
    /// The entries for `plan`.
    ///
    /// # Errors
    /// When docker-charon's format was asked for and cannot hold the plan.
    pub(super) fn new(plan: &Plan, format: Format) -> anyhow::Result<Self> {
        let manifests = plan.manifests.iter().map(|manifest| (&manifest.descriptor).into());
        let blobs = plan.blobs.iter().map(|blob| index::Blob {
            media_type: blob.descriptor.media_type.clone(),
            digest: blob.descriptor.digest.clone(),
            size: blob.descriptor.size,
            travels: blob.travels.clone(),
        });
        let index = Index {
            version: index::VERSION,
            tool: concat!("kharon ", env!("CARGO_PKG_VERSION")).to_owned(),
            images: plan.images.clone(),
            manifests: manifests.collect(),
            blobs: blobs.collect(),
            entries: Vec::new(),
        };
        let (before, after) = match format {
            Format::Kharon => (layout_entries(&index, &plan.manifests)?, Vec::new()),
            Format::Charon => (Vec::new(), charon_manifests(plan)?),
        };
        let mut entries = Self { format, index, before, after, payload_bytes: 0 };
        entries.payload_bytes = entries.length(plan)?;
        Ok(entries)
    }

    /// The length of the payload that will be written, in bytes.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The small entries before the blobs.
    pub(super) fn before(&self) -> &[(String, Bytes)] {
        &self.before
    }

    /// The small entries after the blobs.
    pub(super) fn after(&self) -> &[(String, Bytes)] {
        &self.after
    }

    /// The entry that holds a blob.
    pub(super) fn blob_entry(&self, digest: &Digest) -> String {
        match self.format {
            Format::Kharon => digest.blob_path(),
            Format::Charon => charon::blob_entry_name(digest),
        }
    }

    /// The last entry, which describes all `written` ones.
    pub(super) fn last(&self, written: &[Entry]) -> anyhow::Result<(String, Vec<u8>)> {
        match self.format {
            Format::Kharon => {
                let index = Index { entries: written.to_vec(), ..self.index.clone() };
                Ok((index::ENTRY_NAME.to_owned(), serde_json::to_vec_pretty(&index)?))
            }
            Format::Charon => Ok((charon::ENTRY_NAME.to_owned(), charon_descriptor(&self.index))),
        }
    }

    fn length(&self, plan: &Plan) -> anyhow::Result<u64> {
        let small =
            |(name, bytes): &(String, Bytes)| (name.clone(), bytes.len() as u64, Kind::Small);
        let blobs = plan.carried().map(|blob| {
            (self.blob_entry(&blob.descriptor.digest), blob.descriptor.size, Kind::Streamed)
        });
        let planned: Vec<(String, u64, Kind)> = self
            .before
            .iter()
            .map(small)
            .chain(blobs)
            .chain(self.after.iter().map(small))
            .collect();
        // Every SHA-256 has the same length, so the last entry's length is known before its content.
        let sha256 = "0".repeat(64);
        let written: Vec<Entry> = planned
            .iter()
            .map(|(name, size, _)| Entry {
                name: name.clone(),
                size: *size,
                sha256: sha256.clone(),
            })
            .collect();
        let (name, bytes) = self.last(&written)?;
        let last = (name, bytes.len() as u64, Kind::Small);
        let entries = planned.iter().chain([&last]);
        Ok(payload_length(entries.map(|(name, size_bytes, kind)| PlannedEntry {
            name,
            size_bytes: *size_bytes,
            kind: *kind,
        })))
    }
}

/// The manifests of docker-charon's format, one for each image.
fn charon_manifests(plan: &Plan) -> anyhow::Result<Vec<(String, Bytes)>> {
    let names: Vec<String> = plan.images.iter().map(charon_name).collect();
    charon::check_entry_names(names.iter().map(String::as_str))?;
    let by_digest: BTreeMap<&Digest, &Manifest> =
        plan.manifests.iter().map(|manifest| (manifest.digest(), manifest)).collect();
    let mut entries = Vec::new();
    for (image, name) in plan.images.iter().zip(&names) {
        let root = image.resolved.as_ref().map(|root| &root.digest);
        let target = image.tags.first().and_then(|target| target.digest.as_ref());
        let Some(manifest) = target.or(root).and_then(|digest| by_digest.get(digest)) else {
            continue;
        };
        let tag = image.tags.first().map(|target| &target.tag);
        charon::check_carriable(&image.name, tag, manifest)?;
        entries.push((charon::manifest_entry_name(name), manifest.raw.clone()));
    }
    Ok(entries)
}

/// The name of an image in docker-charon's format. One without a tag is refused before it is used.
fn charon_name(image: &Image) -> String {
    let tagged =
        image.tags.first().map(|target| charon::image_name(&image.repository, &target.tag));
    tagged.unwrap_or_else(|| image.name.clone())
}

fn charon_descriptor(index: &Index) -> Vec<u8> {
    let names: Vec<String> = index.images.iter().map(charon_name).collect();
    let images = names.iter().map(String::as_str).zip(index.images.iter().map(|image| image.state));
    let blobs = index.blobs.iter().filter_map(|blob| match &blob.travels {
        Travels::Carried => Some((&blob.digest, Place::Payload)),
        Travels::Expected { repositories } => {
            Some((&blob.digest, Place::FarSide(repositories.first()?)))
        }
        Travels::LeftOut { .. } => None,
    });
    charon::descriptor_json(images, blobs)
}

fn layout_entries(index: &Index, manifests: &[Manifest]) -> anyhow::Result<Vec<(String, Bytes)>> {
    let index_json = oci_index::index_json(&index.images, &index.manifests)?;
    let mut entries = vec![
        (payload::LAYOUT_NAME.to_owned(), Bytes::from_static(oci_index::LAYOUT)),
        (payload::LAYOUT_INDEX_NAME.to_owned(), Bytes::from(index_json)),
    ];
    let manifests =
        manifests.iter().map(|manifest| (manifest.digest().blob_path(), manifest.raw.clone()));
    entries.extend(manifests);
    Ok(entries)
}
