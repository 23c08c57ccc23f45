//! What make-payload is asked to do.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::convert::ReadLayers;
use crate::delta::Effort;
use crate::minisign::SecretKey;
use crate::names::FarNames;
use crate::payload::index::Making;
use crate::plan::{ForeignLayers, HeldBlob};
use crate::platform::Platform;
use crate::receipt::Receipt;
use crate::reference::RegistryHost;
use crate::registry::{Connections, CredentialStore, Resume};

use super::list::ImageName;
use super::referrers::Referrers;
use super::repositories::Repositories;

/// How many transfers run at once unless asked otherwise.
pub const DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");

/// The layout of the zip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// kharon's own.
    #[default]
    Kharon,
    /// docker-charon 0.4's.
    Charon,
}

/// Whether deltas are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deltas {
    /// Where there is a baseline.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Whether layers are packed better where there is no baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompress {
    /// They travel as they are.
    #[default]
    No,
    /// They travel as recipe and better-packed plain bytes, where that is smaller.
    Yes,
}

/// How deltas are made.
#[derive(Clone, Debug)]
pub struct DeltaRequest {
    /// Whether at all.
    pub deltas: Deltas,
    /// Also without a baseline.
    pub recompress: Recompress,
    /// Time against bytes.
    pub effort: Effort,
    /// Where temporary files lie: the plain bytes of old and new layers. Without one, the system's folder
    /// for temporary files serves; where that is missing too, no deltas are made.
    pub workdir: Option<PathBuf>,
    /// Keeps blobs between runs.
    pub cache: Option<PathBuf>,
    /// OCI image layouts that may hold old blobs.
    pub baseline_folders: Vec<PathBuf>,
}

impl Default for DeltaRequest {
    fn default() -> Self {
        Self {
            deltas: Deltas::Auto,
            recompress: Recompress::No,
            effort: Effort::Default,
            workdir: None,
            cache: None,
            baseline_folders: Vec::new(),
        }
    }
}

impl DeltaRequest {
    /// What it takes to make the same deltas again, beside the blobs.
    pub(super) fn making(&self, old: &[HeldBlob]) -> Making {
        Making {
            effort: self.effort.name().to_owned(),
            recompress: self.recompress == Recompress::Yes,
            against: old.iter().map(HeldBlob::to_old_blob).collect(),
            deltas: Vec::new(),
        }
    }
}

/// What to make a payload of.
#[derive(Debug)]
pub struct MakeRequest {
    /// The images.
    pub wanted: Vec<ImageName>,
    /// Repositories whose tags are all wanted.
    pub repositories: Repositories,
    /// Images that the far side has.
    pub already_transferred: Vec<ImageName>,
    /// Former payloads, receipts and inventories: the far side has what they prove.
    pub against: Vec<PathBuf>,
    /// Receipts and inventories that were read already.
    pub receipts: Vec<Receipt>,
    /// The platforms to choose of each index; empty for all.
    pub platforms: Vec<Platform>,
    /// Whether what refers to the images comes along.
    pub referrers: Referrers,
    /// What becomes of layers that their distributor serves from elsewhere.
    pub foreign_layers: ForeignLayers,
    /// What repositories are called at the far side.
    pub names: FarNames,
    /// The layout of the zip.
    pub format: Format,
    /// Signs the payload's index, if given.
    pub sign: Option<SecretKey>,
    /// How layers travel of which the far side has older ones.
    pub delta: DeltaRequest,
    /// The most that one file may have, in bytes: the payload is split into volumes.
    pub volume_bytes: Option<u64>,
    /// What becomes of what an interrupted run left.
    pub resume: Resume,
    /// How many blobs or parts of blobs are fetched at once.
    pub jobs: NonZeroUsize,
    /// What is known of layers that were read to convert images.
    pub read_layers: ReadLayers,
    /// How registries are reached.
    pub connections: Connections,
    /// Who we are to them.
    pub credentials: CredentialStore,
}

impl MakeRequest {
    /// The registries of what is wanted.
    pub(super) fn hosts(&self) -> BTreeSet<RegistryHost> {
        let images = self.wanted.iter().map(|image| &image.reference.registry);
        let named = self.repositories.named.iter().map(|source| &source.registry);
        images.chain(named).chain(&self.repositories.registries).cloned().collect()
    }

    /// A request for `wanted` with everything else as it usually is.
    pub fn new(wanted: Vec<ImageName>) -> Self {
        Self {
            wanted,
            repositories: Repositories::default(),
            already_transferred: Vec::new(),
            against: Vec::new(),
            receipts: Vec::new(),
            platforms: Vec::new(),
            referrers: Referrers::Include,
            foreign_layers: ForeignLayers::LeaveOut,
            names: FarNames::default(),
            format: Format::Kharon,
            sign: None,
            delta: DeltaRequest::default(),
            volume_bytes: None,
            resume: Resume::Continue,
            jobs: DEFAULT_JOBS,
            read_layers: ReadLayers::default(),
            connections: Connections::default(),
            credentials: CredentialStore::anonymous(),
        }
    }
}
