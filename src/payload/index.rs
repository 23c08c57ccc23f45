//! `kharon.json`: what a payload holds and what it expects, as docs/payload-format.md lays down.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::platform::Platform;
use crate::reference::{RepositoryName, Tag};

/// The version of the format that this kharon writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// The entry that holds the index.
pub const ENTRY_NAME: &str = "kharon.json";
/// The largest index that is read, in bytes: enough for a hundred thousand blobs.
pub const INDEX_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The payload's own index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// The format's version.
    pub version: u32,
    /// What wrote the payload.
    pub tool: String,
    /// The images, in the order in which they were asked for.
    pub images: Vec<Image>,
    /// Every manifest in the payload, in the order of the entries.
    pub manifests: Vec<ManifestEntry>,
    /// Every blob that a manifest of the payload names.
    pub blobs: Vec<Blob>,
    /// Blobs that only deltas need, in the order in which these first name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<BaselineBlob>,
    /// Names the payload across its volumes; absent where it was not split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// Which of its volumes this is, from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// What each of its volumes holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What it takes to make a volume again, where that has deltas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub making: Option<Making>,
    /// Every entry of the zip but the index itself.
    pub entries: Vec<Entry>,
}

impl Index {
    /// The bytes of `kharon.json`.
    ///
    /// # Errors
    /// None that this type can cause.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    /// What the far side must hold already: of the blobs of images, then for deltas alone.
    pub fn expected(&self) -> impl Iterator<Item = ExpectedBlob<'_>> {
        let named = self.blobs.iter().filter_map(|blob| match &blob.travels {
            Travels::Expected { repositories } => Some(ExpectedBlob {
                media_type: &blob.media_type,
                digest: &blob.digest,
                size: blob.size,
                repositories,
            }),
            _ => None,
        });
        named.chain(self.baselines.iter().map(|blob| ExpectedBlob {
            media_type: &blob.media_type,
            digest: &blob.digest,
            size: blob.size,
            repositories: &blob.repositories,
        }))
    }

    /// What names the payload across its volumes: the same in all of them.
    ///
    /// # Errors
    /// None that this type can cause.
    pub fn plan_digest(&self) -> serde_json::Result<Digest> {
        let common = Self { plan: None, volume: None, entries: Vec::new(), ..self.clone() };
        Ok(Digest::of(&common.to_json()?))
    }

    /// The size in bytes of each blob that is listed.
    pub fn sizes(&self) -> HashMap<&Digest, u64> {
        let named = self.blobs.iter().map(|blob| (&blob.digest, blob.size));
        named.chain(self.baselines.iter().map(|blob| (&blob.digest, blob.size))).collect()
    }
}

/// A blob that the far side must hold already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedBlob<'a> {
    /// Its media type.
    pub media_type: &'a MediaType,
    /// Its digest.
    pub digest: &'a Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The far repositories that hold it.
    pub repositories: &'a [RepositoryName],
}

/// An image as asked for, and what becomes of it at the far side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The name as typed.
    pub name: String,
    /// The full reference at the source.
    pub reference: String,
    /// The repository at the far side.
    pub repository: RepositoryName,
    /// Whether its manifests are in the payload.
    pub state: ImageState,
    /// What the reference named when the payload was made, or where one platform was chosen of an
    /// index, that manifest; absent for skipped images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ManifestEntry>,
    /// The platforms that were chosen; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "platform_texts")]
    pub platforms: Vec<Platform>,
    /// The tags to set at the far side.
    #[serde(default)]
    pub tags: Vec<TagTarget>,
    /// The image's own manifests, children before parents.
    #[serde(default)]
    pub manifests: Vec<Digest>,
    /// Children that its indexes name and that the registry did not have when the payload was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Digest>,
    /// What refers to it, in an order in which each may be pushed.
    #[serde(default)]
    pub referrers: Vec<Referrer>,
    /// The digest of the manifest of Docker's schema 1 that it was converted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<Digest>,
}

/// Whether an image travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// All its manifests are in the payload.
    Carried,
    /// It was named as already transferred, so nothing of it is in the payload.
    Skipped,
}

/// A tag and the manifest that it is to name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagTarget {
    /// The tag.
    pub tag: Tag,
    /// What it is to name; absent only for skipped images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it may name at the far side already, as far as baselines proved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Digest>,
}

/// A manifest that refers to another one of the same image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referrer {
    /// The referring manifest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Digest,
    /// Its tag, where cosign's tag scheme attaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

/// A manifest or index in the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestEntry {
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl From<&Descriptor> for ManifestEntry {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        }
    }
}

/// A blob that a manifest of the payload names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it gets to the far side.
    #[serde(flatten)]
    pub travels: Travels,
}

/// How a blob gets to the far side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "travels", rename_all = "kebab-case")]
pub enum Travels {
    /// Raw, in the payload.
    Carried,
    /// Not at all: it is there already.
    Expected {
        /// The far repositories that hold it.
        repositories: Vec<RepositoryName>,
    },
    /// Not at all: clients fetch it from elsewhere.
    LeftOut {
        /// Where from.
        urls: Vec<String>,
    },
    /// As a layer delta in the payload, which rebuilds it.
    Delta {
        /// The blobs that it is rebuilt from, in the order of the delta's need table.
        baselines: Vec<Digest>,
    },
}

/// A blob at the far side that only deltas need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaselineBlob {
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The far repositories that hold it.
    pub repositories: Vec<RepositoryName>,
}

/// What one volume of a payload holds beside manifests and indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Blobs, deltas and parts of them, in the order of their entries.
    pub contents: Vec<VolumeContent>,
}

/// A blob, a delta, or a part of one, in a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeContent {
    /// The entry's name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// How the deltas of a payload were made, so that one of its volumes can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// The effort, as it is asked for on the command line.
    pub effort: String,
    /// Whether layers were packed better also where nothing old was like them.
    pub recompress: bool,
    /// The old blobs that were looked at, in order.
    pub against: Vec<OldBlob>,
    /// The deltas that came of it.
    pub deltas: Vec<MadeDelta>,
}

/// A delta of a payload, whichever volumes it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeDelta {
    /// The blob that it rebuilds.
    pub blob: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// An old blob that deltas may be made against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldBlob {
    /// What the manifest that names it says.
    pub descriptor: Descriptor,
    /// The far repositories that hold it.
    pub repositories: Vec<RepositoryName>,
    /// The images at the connected side that may still have it.
    pub sources: Vec<String>,
}

/// An entry of the zip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The entry's name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

mod platform_texts {
    use super::Platform;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        platforms: &[Platform],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(platforms.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Platform>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}
