//! What a plan costs, for people and for scripts.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::index::{ImageState, Travels};
use crate::plan::{Plan, PlannedBlob};
use crate::platform::Platform;
use crate::registry::PullQuota;
use crate::savings::Savings;
use crate::units::{count, format_bytes};

use super::entries::Entries;

/// The plan of a payload in numbers. Sizes are in bytes. A blob that several images share counts
/// for the first of them, so that the images add up to the totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Each image, in the order in which they were asked for.
    pub images: Vec<ImageSummary>,
    /// All images together.
    pub total: Cost,
    /// What the blobs take in the payload.
    pub savings: Savings,
    /// How long the payload is, with its manifests and index, all volumes together.
    pub payload_bytes: u64,
    /// How long each volume is, where the payload is split.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<u64>,
    /// The files that were written.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// How many manifests were asked for to make this plan; registries with a quota count these.
    pub manifest_requests: u64,
    /// What the registries said of their quotas.
    pub quotas: Vec<Quota>,
}

/// One image's part of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// The name as typed.
    pub name: String,
    /// Whether it travels.
    pub state: ImageState,
    /// What the name meant when the plan was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The manifest of Docker's schema 1 that it is converted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<Digest>,
    /// What it adds to the payload.
    #[serde(flatten)]
    pub cost: Cost,
    /// How many manifests refer to it and come along.
    pub referrers: usize,
    /// What each platform of an index would cost alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformSummary>,
}

/// What one platform of an image costs, shared blobs included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformSummary {
    /// The platform with the version of its operating system, or `unknown` where the index does not
    /// say.
    pub platform: String,
    /// Its cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// Numbers of blobs and their bytes, by how they travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Blobs in the payload, raw or as deltas.
    pub carried_blobs: u64,
    /// What they take there.
    pub carried_bytes: u64,
    /// Blobs that the far side has.
    pub expected_blobs: u64,
    /// Their bytes.
    pub expected_bytes: u64,
    /// Foreign layers that stay out.
    pub left_out_blobs: u64,
    /// Their bytes.
    pub left_out_bytes: u64,
}

impl Cost {
    fn add(&mut self, blob: &PlannedBlob) {
        let size_bytes = blob.descriptor.size;
        let (blobs, total_bytes, bytes) = match &blob.travels {
            Travels::Carried => (&mut self.carried_blobs, &mut self.carried_bytes, size_bytes),
            Travels::Delta { .. } => {
                (&mut self.carried_blobs, &mut self.carried_bytes, blob.packed_bytes())
            }
            Travels::Expected { .. } => {
                (&mut self.expected_blobs, &mut self.expected_bytes, size_bytes)
            }
            Travels::LeftOut { .. } => {
                (&mut self.left_out_blobs, &mut self.left_out_bytes, size_bytes)
            }
        };
        *blobs += 1;
        *total_bytes += bytes;
    }
}

/// What a registry said is left of its quota of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// The registry.
    pub registry: String,
    /// How many manifests may be fetched in one window.
    pub limit: u64,
    /// How many are left in this one.
    pub remaining: u64,
    /// The window's length in seconds, where the registry says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
}

impl Quota {
    pub(super) fn new(registry: String, quota: &PullQuota) -> Self {
        Self {
            registry,
            limit: quota.limit,
            remaining: quota.remaining,
            window_seconds: quota.window_seconds,
        }
    }
}

/// The plan's lookups, made once.
struct Index<'a> {
    plan: &'a Plan,
    manifests: std::collections::BTreeMap<&'a Digest, &'a Manifest>,
    blobs: std::collections::BTreeMap<&'a Digest, &'a PlannedBlob>,
}

impl<'a> Index<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            manifests: plan
                .manifests
                .iter()
                .map(|manifest| (manifest.digest(), manifest))
                .collect(),
            blobs: plan.blobs.iter().map(|blob| (&blob.descriptor.digest, blob)).collect(),
        }
    }

    /// Adds the blobs under `manifest` that are not in `seen` yet.
    fn add(&self, cost: &mut Cost, manifest: &Digest, seen: &mut BTreeSet<Digest>) {
        let Some(manifest) = self.manifests.get(manifest) else { return };
        for blob in manifest.blobs() {
            if let Some(planned) = self.blobs.get(&blob.digest)
                && seen.insert(blob.digest.clone())
            {
                cost.add(planned);
            }
        }
        for child in manifest.children() {
            self.add(cost, &child.digest, seen);
        }
    }

    fn platforms(&self, root: &Digest) -> Vec<PlatformSummary> {
        let children = self.manifests.get(root).map_or(&[][..], |root| root.children());
        let platforms = children.iter().filter(|child| {
            child.attests_to().is_none() && self.manifests.contains_key(&child.digest)
        });
        platforms
            .map(|child| {
                let mut cost = Cost::default();
                self.add(&mut cost, &child.digest, &mut BTreeSet::new());
                let platform = child.platform.as_ref();
                let platform =
                    platform.map_or_else(|| "unknown".to_owned(), Platform::with_version);
                PlatformSummary { platform, cost }
            })
            .collect()
    }
}

impl Summary {
    pub(super) fn new(plan: &Plan, entries: &Entries, requests: u64, quotas: Vec<Quota>) -> Self {
        let index = Index::new(plan);
        let mut seen = BTreeSet::new();
        let images: Vec<ImageSummary> = index
            .plan
            .images
            .iter()
            .map(|image| {
                let mut cost = Cost::default();
                let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
                for manifest in image.manifests.iter().chain(referrers) {
                    index.add(&mut cost, manifest, &mut seen);
                }
                let root = image.resolved.as_ref().map(|root| &root.digest);
                ImageSummary {
                    name: image.name.clone(),
                    state: image.state,
                    digest: root.cloned(),
                    converted_from: image.converted_from.clone(),
                    cost,
                    referrers: image.referrers.len(),
                    platforms: root.map_or_else(Vec::new, |root| index.platforms(root)),
                }
            })
            .collect();
        let mut total = Cost::default();
        for blob in &plan.blobs {
            total.add(blob);
        }
        let mut savings = Savings::default();
        for blob in plan.packed() {
            let baselines = match &blob.travels {
                Travels::Delta { baselines } => Some(baselines.len()),
                _ => None,
            };
            let Descriptor { digest, size, .. } = &blob.descriptor;
            savings.add(digest, *size, blob.packed_bytes(), baselines);
        }
        let volumes = if entries.is_split() { entries.lengths().to_vec() } else { Vec::new() };
        Self {
            images,
            total,
            savings,
            payload_bytes: entries.payload_bytes(),
            volumes,
            files: Vec::new(),
            manifest_requests: requests,
            quotas,
        }
    }
}

/// A table of at most a hundred columns where names allow it.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.images.iter().flat_map(|image| {
            let platforms = image.platforms.iter().map(|row| INDENT.len() + width(&row.platform));
            platforms.chain([width(&image.name)])
        });
        let width = rows.max().unwrap_or(0).max("everything".len()).max(24);
        writeln!(f, "{:width$}  {:>20}  {:>20}", "image", "carried", "expected")?;
        for image in &self.images {
            if image.state == ImageState::Skipped {
                writeln!(f, "{:width$}  {:>20}", image.name, "skipped")?;
                continue;
            }
            write_row(f, &image.name, width, &image.cost)?;
            for platform in &image.platforms {
                write_row(f, &format!("{INDENT}{}", platform.platform), width, &platform.cost)?;
            }
            if image.referrers > 0 {
                writeln!(f, "  with {} that refer to it", image.referrers)?;
            }
        }
        write_row(f, "everything", width, &self.total)?;
        if self.total.left_out_blobs > 0 {
            let bytes = format_bytes(self.total.left_out_bytes);
            writeln!(f, "{} foreign layers ({bytes}) are left out", self.total.left_out_blobs)?;
        }
        write!(f, "{}", self.savings)?;
        write!(f, "the payload has {}", format_bytes(self.payload_bytes))?;
        match self.volumes.len() {
            0 => writeln!(f)?,
            number => writeln!(f, " in {}", count(number as u64, "volume"))?,
        }
        writeln!(
            f,
            "{} manifests were asked for; making the payload asks for as many",
            self.manifest_requests
        )?;
        for quota in &self.quotas {
            write!(f, "{} leaves {} of {}", quota.registry, quota.remaining, quota.limit)?;
            match quota.window_seconds {
                Some(seconds) => writeln!(f, " pulls in {} minutes", seconds / 60)?,
                None => writeln!(f, " pulls")?,
            }
        }
        Ok(())
    }
}

/// In front of the platforms of an image.
const INDENT: &str = "  ";

/// In columns.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, width: usize, cost: &Cost) -> fmt::Result {
    let part = |blobs: u64, bytes: u64| format!("{blobs} in {}", format_bytes(bytes));
    let carried = part(cost.carried_blobs, cost.carried_bytes);
    let expected = part(cost.expected_blobs, cost.expected_bytes);
    writeln!(f, "{name:width$}  {carried:>20}  {expected:>20}")
}
