//! Where the blobs of a payload are read, and those that its deltas are made against.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::Context as _;

use crate::digest::Digest;
use crate::fetch::{Download, KeptBytes, NewEntry, Source};
use crate::manifest::Descriptor;
use crate::payload::Payload;
use crate::plan::{Baseline, ForeignLayers, HeldBlob, Plan, PlannedBlob};
use crate::reference::Reference;
use crate::registry::{Registries, RemoteBlob};

use super::deltas::{Local, Sourced};
use super::entries::{Content, Entries};
use super::outputs::Outputs;
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

    /// Where the blobs of `plan` are that travel; those that were made here are nowhere else.
    pub(super) fn new_blobs(&self, plan: &Plan) -> anyhow::Result<Vec<Sourced<Descriptor>>> {
        let sourced = |planned: &PlannedBlob| {
            Ok(Sourced { blob: planned.descriptor.clone(), remotes: vec![self.of(planned)?] })
        };
        let made = plan.made_configs();
        let is_elsewhere = |planned: &&PlannedBlob| !made.contains(&planned.descriptor.digest);
        plan.packed().filter(is_elsewhere).map(sourced).collect()
    }

    /// Where old blobs may still be.
    pub(super) fn held(&self, chosen: &[HeldBlob]) -> Vec<Sourced<HeldBlob>> {
        let remote = |held: &HeldBlob, source: &Reference| {
            let registry = self.registries.registry(&source.registry).ok()?;
            Some(registry.blob(&source.api_repository(), &held.descriptor))
        };
        let sourced = |held: &HeldBlob| Sourced {
            remotes: held.sources.iter().filter_map(|source| remote(held, source)).collect(),
            blob: held.clone(),
        };
        chosen.iter().map(sourced).collect()
    }

    fn source(&self, planned: &PlannedBlob, plan: &Plan) -> anyhow::Result<Source> {
        Ok(match plan.made.get(&planned.descriptor.digest) {
            Some(made) => Source::in_memory(made.clone()),
            None => Source::Registry(self.of(planned)?),
        })
    }

    /// What the contents of the payload are made of: all of those that go into a file, the beginnings of which
    /// a former run may have left in `outputs`.
    pub(super) fn downloads(
        &self,
        plan: &Plan,
        entries: &Entries,
        local: &Local,
        outputs: &Outputs,
    ) -> anyhow::Result<Vec<Download>> {
        let planned: HashMap<&Digest, &PlannedBlob> =
            plan.blobs.iter().map(|planned| (&planned.descriptor.digest, planned)).collect();
        let mut former = Former::new(outputs);
        let wanted = entries
            .contents()
            .iter()
            .enumerate()
            .filter(|(_, content)| content.parts.iter().any(|part| outputs.wants(part.volume)));
        let download = |(place, content): (usize, &Content)| {
            let blob = &content.blob;
            let planned = planned.get(blob).with_context(|| format!("`{blob}` is not planned"))?;
            let (source, digest) = match (local.deltas.get(blob), local.raw.get(blob)) {
                (Some(made), _) => (Source::File(Arc::clone(&made.entry)), &made.entry_digest),
                (None, Some(file)) => (Source::File(Arc::clone(file)), blob),
                (None, None) => (self.source(planned, plan)?, blob),
            };
            let entry = NewEntry {
                content: place,
                size_bytes: content.size_bytes(),
                digest: digest.clone(),
                blob: blob.clone(),
                image: planned.source.to_string(),
            };
            Ok(Download { entry, kept: former.kept(content), source })
        };
        wanted.map(download).collect()
    }
}

/// What a former run left in each volume.
struct Former<'a> {
    outputs: &'a Outputs,
    files: HashMap<usize, Option<(Arc<File>, u64)>>,
}

impl<'a> Former<'a> {
    fn new(outputs: &'a Outputs) -> Self {
        Self { outputs, files: HashMap::new() }
    }

    /// The bytes of `content` that are there, from its beginning on.
    fn kept(&mut self, content: &Content) -> Vec<KeptBytes> {
        let mut kept = Vec::new();
        for part in &content.parts {
            let former = || self.outputs.former(part.volume);
            let Some((file, length)) = self.files.entry(part.volume).or_insert_with(former) else {
                break;
            };
            let bytes = length.saturating_sub(part.start).min(part.size_bytes);
            if bytes > 0 {
                kept.push(KeptBytes { file: Arc::clone(file), start: part.start, bytes });
            }
            if bytes < part.size_bytes {
                break;
            }
        }
        kept
    }
}
