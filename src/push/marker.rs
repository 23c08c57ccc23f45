//! The marker of a volume at the far side: a small manifest that says that the volume has arrived, and
//! keeps its blobs from the garbage collector. Pure.

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, MediaType};
use crate::payload::index::{Index, VolumeContent};
use crate::payload::{ContentReader, delta_entry_name};
use crate::reference::Tag;

/// The config of every marker (image-spec, "Guidance for an Empty Descriptor").
pub(super) const CONFIG: &[u8] = b"{}";
const CONFIG_TYPE: &str = "application/vnd.oci.empty.v1+json";
const ARTIFACT_TYPE: &str = "application/vnd.kharon.volume.v1";
/// What a blob is called that is only kept.
const BLOB_TYPE: &str = "application/octet-stream";
/// What an entry is called that waits for other volumes.
const ENTRY_TYPE: &str = "application/vnd.kharon.entry.v1";
/// The annotation that names the entry.
const ENTRY: &str = "kharon.entry";
/// So much of the plan's digest stands in a tag.
const PLAN_DIGITS: usize = 16;

/// A marker, ready to be put.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) tag: Tag,
    pub(super) config: Descriptor,
    pub(super) manifest: Manifest,
}

impl Marker {
    /// The marker of `volume`, of which a repository holds these blobs.
    pub(super) fn new(index: &Index, volume: u32, held: &[Descriptor]) -> anyhow::Result<Self> {
        let size = CONFIG.len() as u64;
        let config = Descriptor::new(MediaType::new(CONFIG_TYPE), Digest::of(CONFIG), size);
        let plan = index.plan.as_ref().context("the payload has no volumes")?;
        let body = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": config,
            "layers": held,
            "annotations": {
                "kharon.plan": plan.to_string(),
                // Two markers of one repository are never the same manifest: they are deleted by digest.
                "kharon.volume": format!("{volume} of {}", index.volumes.len()),
            },
        });
        let manifest = Manifest::parse(Bytes::from(serde_json::to_vec(&body)?), None)?;
        Ok(Self { tag: tag(index, volume)?, config, manifest })
    }
}

/// What the tags of a payload's markers begin with.
pub(super) fn prefix(index: &Index) -> String {
    let plan = index.plan.as_ref().map_or("", Digest::hex);
    format!("kharon-{}-", plan.get(..PLAN_DIGITS).unwrap_or(plan))
}

/// The tag of the marker of `volume`.
pub(super) fn tag(index: &Index, volume: u32) -> anyhow::Result<Tag> {
    Ok(format!("{}{volume}", prefix(index)).parse()?)
}

/// A blob that is where it belongs.
pub(super) fn whole(digest: &Digest, size_bytes: Option<u64>) -> Descriptor {
    Descriptor::new(MediaType::new(BLOB_TYPE), digest.clone(), size_bytes.unwrap_or_default())
}

/// An entry as a blob of its own.
pub(super) fn staged(content: &ContentReader) -> anyhow::Result<Descriptor> {
    let digest = format!("sha256:{}", content.sha256).parse()?;
    let media_type = MediaType::new(ENTRY_TYPE);
    let mut descriptor = Descriptor::new(media_type, digest, content.content.size_bytes());
    descriptor.annotations.insert(ENTRY.to_owned(), content.name.clone());
    Ok(descriptor)
}

/// The entries that a marker names.
pub(super) fn staged_in(marker: &Manifest) -> impl Iterator<Item = (String, Descriptor)> {
    let named = |blob: &Descriptor| Some((blob.annotations.get(ENTRY)?.clone(), blob.clone()));
    marker.blobs().filter_map(named)
}

/// The parts of what brings a blob, with their volumes, in order.
pub(super) fn parts_of<'a>(index: &'a Index, blob: &Digest) -> Vec<(u32, &'a str)> {
    let folder = format!("parts/{}/{}/", blob.algorithm().name(), blob.hex());
    find(index, |content| content.name.starts_with(&folder))
}

/// All entries that bring a blob as a delta, with their volumes, in order.
pub(super) fn entries_of<'a>(index: &'a Index, blob: &Digest) -> Vec<(u32, &'a str)> {
    let whole = delta_entry_name(blob);
    let whole = find(index, |content| content.name == whole);
    if whole.is_empty() { parts_of(index, blob) } else { whole }
}

/// The volumes that bring a blob, in any way.
pub(super) fn volumes_of(index: &Index, blob: &Digest) -> Vec<u32> {
    let raw = blob.blob_path();
    let mut entries = find(index, |content| content.name == raw);
    entries.extend(entries_of(index, blob));
    entries.into_iter().map(|(volume, _)| volume).collect()
}

fn find(index: &Index, is_wanted: impl Fn(&VolumeContent) -> bool) -> Vec<(u32, &str)> {
    let volumes = (1..).zip(&index.volumes);
    let contents = volumes
        .flat_map(|(number, volume)| volume.contents.iter().map(move |content| (number, content)));
    let wanted = contents.filter(|(_, content)| is_wanted(content));
    wanted.map(|(number, content)| (number, content.name.as_str())).collect()
}
