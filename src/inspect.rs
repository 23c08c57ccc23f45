//! What a payload holds, for people (a plain table) and for scripts (JSON).
//!
//! Looks at the index and the manifests; of the blobs it reads only the configs of images, for their
//! platforms. The JSON's keys are the fields below in camel case, sizes in bytes; keys may be added.

mod table;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Verifier};
use crate::manifest::{Descriptor, Manifest};
use crate::minisign::{KeyId, Signature};
use crate::payload::{
    Blob, Format, Image, ImageState, Index, ManifestEntry, Payload, Referrer, TagTarget, Travels,
};
use crate::platform::Platform;
use crate::reference::RepositoryName;
use crate::savings::Savings;

/// The largest config that is read for its platform, in bytes. The usual ones have a few kilobytes.
const CONFIG_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Everything worth knowing about a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The file as it was named.
    pub name: String,
    /// Which tool's format it has.
    pub format: Format,
    /// The format's version.
    pub version: u32,
    /// What wrote it.
    pub tool: String,
    /// The key that its signature names, which is not checked here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_key: Option<KeyId>,
    /// The file's length in bytes.
    pub length_bytes: u64,
    /// The volumes that were looked at, of a payload that was split.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<u32>,
    /// Its other volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_missing: Vec<u32>,
    /// Whether it becomes a complete OCI image layout when it is unzipped.
    pub complete_layout: bool,
    /// The images, in the order in which they were asked for.
    pub images: Vec<InspectedImage>,
    /// All manifests and indexes.
    pub manifests: Sum,
    /// The blobs of all images, each once.
    pub blobs_by_travel: BlobSums,
    /// What must be at the far side already, by repository.
    pub expected: Vec<ExpectedAt>,
    /// What the blobs that it brings take in it.
    pub savings: Savings,
    /// Every blob and how it travels.
    pub blobs: Vec<Blob>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedImage {
    /// The name as typed.
    pub name: String,
    /// The full reference at the source.
    pub reference: String,
    /// The repository at the far side.
    pub repository: RepositoryName,
    /// Whether it travels.
    pub state: ImageState,
    /// What the reference named when the payload was made.
    pub resolved: Option<ManifestEntry>,
    /// The manifest of Docker's schema 1 that it was converted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<Digest>,
    /// The tags that a push sets.
    pub tags: Vec<TagTarget>,
    /// The platforms that are in the payload, where they are known, with versions of operating systems.
    pub platforms: Vec<String>,
    /// Its manifests and indexes, children before parents.
    pub manifests: Vec<Digest>,
    /// Its indexes of which children are not in the payload.
    pub sparse: Vec<SparseIndex>,
    /// What refers to it.
    pub referrers: Vec<Referrer>,
    /// Its blobs and those of its referrers, each once.
    pub blobs_by_travel: BlobSums,
}

/// An index of which not all children are in the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SparseIndex {
    /// The index.
    pub digest: Digest,
    /// The absent children.
    pub absent: Vec<Digest>,
}

/// How many and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, size_bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(size_bytes);
    }
}

/// Blobs by how they travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobSums {
    /// In the payload as they are.
    pub carried: Sum,
    /// In the payload as deltas; the sizes are those of the blobs.
    pub deltas: Sum,
    /// At the far side already.
    pub expected: Sum,
    /// Fetched by clients from elsewhere.
    pub left_out: Sum,
}

impl BlobSums {
    fn of<'a>(blobs: impl IntoIterator<Item = &'a Blob>) -> Self {
        let mut sums = Self::default();
        for blob in blobs {
            match blob.travels {
                Travels::Carried => sums.carried.add(blob.size),
                Travels::Expected { .. } => sums.expected.add(blob.size),
                Travels::LeftOut { .. } => sums.left_out.add(blob.size),
                Travels::Delta { .. } => sums.deltas.add(blob.size),
            }
        }
        sums
    }
}

/// What a far repository is expected to hold. A blob may be expected in several of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedAt {
    /// The far repository.
    pub repository: RepositoryName,
    /// The blobs' number and size.
    pub blobs: Sum,
    /// The blobs.
    pub digests: Vec<Digest>,
}

/// Looks at an open payload.
pub fn inspect(payload: &Payload) -> Inspection {
    let index = payload.index();
    let blobs: HashMap<&Digest, &Blob> =
        index.blobs.iter().map(|blob| (&blob.digest, blob)).collect();
    let images: Vec<_> =
        index.images.iter().map(|image| inspect_image(payload, &blobs, image)).collect();
    let mut manifests = Sum::default();
    for manifest in &index.manifests {
        manifests.add(manifest.size);
    }
    let blobs_by_travel = BlobSums::of(&index.blobs);
    let complete_layout = payload.format() == Format::Native
        && index.plan.is_none()
        && blobs_by_travel.expected.count == 0
        && blobs_by_travel.left_out.count == 0
        && blobs_by_travel.deltas.count == 0
        && images.iter().all(|image| image.sparse.is_empty());
    Inspection {
        name: payload.name().to_owned(),
        format: payload.format(),
        version: index.version,
        tool: index.tool.clone(),
        signature_key: payload.signature().map(Signature::key_id),
        length_bytes: payload.length_bytes(),
        volumes: payload.volumes().collect(),
        volumes_missing: payload.missing_volumes(),
        complete_layout,
        images,
        manifests,
        blobs_by_travel,
        expected: expected(index),
        savings: savings(payload),
        blobs: index.blobs.clone(),
    }
}

fn savings(payload: &Payload) -> Savings {
    let mut savings = Savings::default();
    for Blob { digest, size, travels, .. } in &payload.index().blobs {
        match travels {
            Travels::Carried => savings.add(digest, *size, *size, None),
            Travels::Delta { baselines } => {
                let carried_bytes = payload.delta_bytes(digest).unwrap_or_default();
                savings.add(digest, *size, carried_bytes, Some(baselines.len()));
            }
            Travels::Expected { .. } | Travels::LeftOut { .. } => {}
        }
    }
    savings
}

fn expected(index: &Index) -> Vec<ExpectedAt> {
    let mut by_repository: BTreeMap<&RepositoryName, ExpectedAt> = BTreeMap::new();
    for blob in index.expected() {
        for repository in blob.repositories {
            let expected = by_repository.entry(repository).or_insert_with(|| ExpectedAt {
                repository: repository.clone(),
                blobs: Sum::default(),
                digests: Vec::new(),
            });
            expected.blobs.add(blob.size);
            expected.digests.push(blob.digest.clone());
        }
    }
    by_repository.into_values().collect()
}

fn inspect_image(
    payload: &Payload,
    blobs: &HashMap<&Digest, &Blob>,
    image: &Image,
) -> InspectedImage {
    let own: Vec<&Manifest> =
        image.manifests.iter().filter_map(|digest| payload.manifest(digest)).collect();
    let referring =
        image.referrers.iter().filter_map(|referrer| payload.manifest(&referrer.digest));
    let named: HashSet<&Digest> = own
        .iter()
        .copied()
        .chain(referring)
        .flat_map(|manifest| manifest.blobs().map(|blob| &blob.digest))
        .collect();
    InspectedImage {
        name: image.name.clone(),
        reference: image.reference.clone(),
        repository: image.repository.clone(),
        state: image.state,
        resolved: image.resolved.clone(),
        converted_from: image.converted_from.clone(),
        tags: image.tags.clone(),
        platforms: platforms(payload, &own),
        manifests: image.manifests.clone(),
        sparse: own.iter().filter_map(|manifest| sparse(payload, manifest)).collect(),
        referrers: image.referrers.clone(),
        blobs_by_travel: BlobSums::of(named.iter().filter_map(|digest| blobs.get(digest).copied())),
    }
}

fn sparse(payload: &Payload, manifest: &Manifest) -> Option<SparseIndex> {
    let is_absent = |child: &&Descriptor| {
        child.media_type.is_manifest() && payload.manifest(&child.digest).is_none()
    };
    let children = manifest.children().iter().filter(is_absent);
    let absent: Vec<Digest> = children.map(|child| child.digest.clone()).collect();
    (!absent.is_empty()).then(|| SparseIndex { digest: manifest.digest().clone(), absent })
}

/// The platforms of the images that are there, as their index names them, or as their config does.
fn platforms(payload: &Payload, manifests: &[&Manifest]) -> Vec<String> {
    let mut by_index: HashMap<&Digest, &Platform> = HashMap::new();
    for child in manifests.iter().flat_map(|manifest| manifest.children()) {
        by_index.extend(child.platform.as_ref().map(|platform| (&child.digest, platform)));
    }
    let mut platforms = Vec::new();
    for manifest in manifests {
        let platform = match by_index.get(manifest.digest()) {
            // BuildKit's attestations call their platform so.
            Some(platform) if platform.os == "unknown" => None,
            Some(platform) => Some(platform.with_version()),
            None => platform_in_config(payload, manifest),
        };
        platforms.extend(platform.filter(|platform| !platforms.contains(platform)));
    }
    platforms
}

/// What the config of a container image says, if the payload carries it whole.
fn platform_in_config(payload: &Payload, manifest: &Manifest) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        os: String,
        architecture: String,
        variant: Option<String>,
        #[serde(rename = "os.version")]
        os_version: Option<String>,
    }
    let config = manifest.blobs().find(|blob| blob.media_type.is_image_config())?;
    let reader = payload.blob(&config.digest)?;
    if reader.size_bytes() > CONFIG_MAX_BYTES {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(reader.size_bytes()).ok()?];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += reader.read_at(filled as u64, &mut bytes[filled..]).ok()?;
    }
    let mut verifier = Verifier::new(config.digest.clone(), config.size);
    verifier.update(&bytes).ok()?;
    verifier.finish().ok()?;
    let Config { os, architecture, variant, os_version } = serde_json::from_slice(&bytes).ok()?;
    let variant = variant.filter(|variant| !variant.is_empty());
    Some(Platform { os, architecture, variant, os_version }.with_version())
}
