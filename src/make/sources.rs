//! Where the blobs of a payload are read, and those that its deltas are made against.

use std::sync::Arc;

use crate::manifest::Descriptor;
use crate::payload::Payload;
use crate::plan::{Baseline, ForeignLayers, HeldBlob, Plan, PlannedBlob};
use crate::reference::Reference;
use crate::registry::{Registries, RemoteBlob};

use super::deltas::{Local, Sourced};
use super::entries::Entries;
use super::fetch::{Download, Source};
use super::pack::NewEntry;
use super::request::DeltaRequest;

/// The blobs of `baseline` that somebody at the connected side may have.
pub(super) fn at_hand<'a>(
    baseline: &'a Baseline,
    payloads: &[Payload],
    request: &DeltaRequest,
) -> Vec<&'a HeldBlob> {
    let is_at_hand = |held: &&HeldBlob| {
        let digest = &held.descriptor.digest;
        let mut folders = request.cache.iter().chain(&request.baseline_folders);
        !held.sources.is_empty()
            || payloads.iter().any(|payload| payload.blob(digest).is_some())
            || folders.any(|folder| folder.join(digest.blob_path()).is_file())
    };
    baseline.blobs().iter().filter(is_at_hand).collect()
}

/// The registries, and whose layers are fetched from elsewhere.
pub(super) struct Sources<'a> {
    pub(super) registries: &'a Registries,
    pub(super) foreign_layers: ForeignLayers,
}

impl Sources<'_> {
    fn of(&self, planned: &PlannedBlob) -> anyhow::Result<RemoteBlob> {
        let descriptor = &planned.descriptor;
        if descriptor.is_foreign() && self.foreign_layers == ForeignLayers::Fetch {
            return Ok(self.registries.foreign_blob(descriptor)?);
        }
        let registry = self.registries.registry(&planned.source.registry)?;
        Ok(registry.blob(&planned.source.api_repository(), descriptor))
    }

    /// Where the blobs of `plan` are that travel.
    pub(super) fn new_blobs(&self, plan: &Plan) -> anyhow::Result<Vec<Sourced<Descriptor>>> {
        let sourced = |planned: &PlannedBlob| {
            Ok(Sourced { blob: planned.descriptor.clone(), remotes: vec![self.of(planned)?] })
        };
        plan.packed().map(sourced).collect()
    }

    /// Where old blobs may still be.
    pub(super) fn held(&self, chosen: &[&HeldBlob]) -> Vec<Sourced<HeldBlob>> {
        let remote = |held: &HeldBlob, source: &Reference| {
            let registry = self.registries.registry(&source.registry).ok()?;
            Some(registry.blob(&source.api_repository(), &held.descriptor))
        };
        let sourced = |held: &&HeldBlob| Sourced {
            remotes: held.sources.iter().filter_map(|source| remote(held, source)).collect(),
            blob: (*held).clone(),
        };
        chosen.iter().map(sourced).collect()
    }

    /// What the large entries of the payload are made of.
    pub(super) fn downloads(
        &self,
        plan: &Plan,
        entries: &Entries,
        local: &Local,
    ) -> anyhow::Result<Vec<Download>> {
        let download = |planned: &PlannedBlob| {
            let blob = &planned.descriptor.digest;
            let (name, size_bytes) = entries.entry_of(planned);
            let (source, digest) = match (local.deltas.get(blob), local.raw.get(blob)) {
                (Some(made), _) => (Source::File(Arc::clone(&made.entry)), &made.entry_digest),
                (None, Some(file)) => (Source::File(Arc::clone(file)), blob),
                (None, None) => (Source::Registry(self.of(planned)?), blob),
            };
            let (digest, image) = (digest.clone(), planned.source.to_string());
            let entry = NewEntry { name, size_bytes, digest, blob: blob.clone(), image };
            Ok(Download { entry, source })
        };
        plan.packed().map(download).collect()
    }
}
