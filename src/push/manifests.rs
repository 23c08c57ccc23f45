//! Manifests by digest: children before parents, nothing that is there already.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::digest::Digest;
use crate::failure::Hinted;
use crate::manifest::Manifest;
use crate::reference::{RepositoryName, TagOrDigest};
use crate::registry;

use super::rebuild::rebuild;
use super::targets::Target;
use super::{Push, SparseIndexes};

/// Indexes that had to be written anew, by the digest of the original.
pub(super) type Rebuilt = BTreeMap<Digest, Manifest>;

/// A manifest and a repository that it goes to.
type Place<'a> = (RepositoryName, &'a Manifest);

impl Push {
    /// Puts the manifests of `targets` into their repositories by digest: first those without
    /// children, then level by level the indexes above them.
    pub(super) async fn send_manifests(&self, targets: &[Target<'_>]) -> anyhow::Result<Rebuilt> {
        let mut rebuilt = Rebuilt::new();
        for level in levels(targets) {
            let puts = level.into_iter().map(|(repository, manifest)| {
                let rebuilt = &rebuilt;
                async move { self.put_or_rebuild(&repository, manifest, rebuilt).await }
            });
            let new: Vec<Option<(Digest, Manifest)>> =
                stream::iter(puts).buffer_unordered(self.jobs).try_collect().await?;
            rebuilt.extend(new.into_iter().flatten());
        }
        Ok(rebuilt)
    }

    async fn put_or_rebuild(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        rebuilt: &Rebuilt,
    ) -> anyhow::Result<Option<(Digest, Manifest)>> {
        let over_rebuilt =
            manifest.children().iter().any(|child| rebuilt.contains_key(&child.digest));
        if !over_rebuilt {
            let refused = match self.put_unless_there(repository, manifest).await {
                Ok(()) => return Ok(None),
                Err(error) => error,
            };
            if !self.is_sparse(manifest) || !refused.is_refusal() || is_wrong_type(&refused) {
                return Err(explained(refused, manifest));
            }
            if self.sparse_indexes == SparseIndexes::Keep {
                let cannot = format!(
                    "the registry refuses index `{}` in `{repository}` because not all of its platforms travel; \
                     no tag was moved",
                    manifest.digest()
                );
                let hint = "push with `--rebuild-index` to write a new index of the platforms that travel, \
                            or make the payload with all platforms or only one";
                return Err(anyhow::Error::new(refused).context(Hinted::new(cannot, hint)));
            }
        }
        let travels = |digest: &Digest| self.payload.manifest(digest).is_some();
        let new = rebuild(manifest, travels, rebuilt)
            .with_context(|| format!("cannot rebuild index `{}`", manifest.digest()))?;
        self.put_unless_there(repository, &new).await?;
        self.reporter.warn(format!(
            "index `{}` is replaced by a new one of the platforms that travel, `{}`: its digest is new, \
             and signatures of the old one do not hold for it",
            manifest.digest(),
            new.digest()
        ));
        Ok(Some((manifest.digest().clone(), new)))
    }

    /// Puts a manifest by its digest, unless the repository has it.
    pub(super) async fn put_unless_there(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<(), registry::Error> {
        let which = TagOrDigest::Digest(manifest.digest().clone());
        if self.registry.head_manifest(repository, &which).await?.is_some() {
            return Ok(());
        }
        self.registry.put_manifest(repository, &which, manifest).await?;
        Ok(())
    }

    fn is_sparse(&self, manifest: &Manifest) -> bool {
        manifest.children().iter().any(|child| self.payload.manifest(&child.digest).is_none())
    }
}

/// Whether the registry takes no manifests of such a media type, whatever they say.
fn is_wrong_type(refused: &registry::Error) -> bool {
    refused.status() == Some(415)
}

/// zot refuses Docker's manifests unless it is told to take them, and says no more than that they are
/// invalid.
fn explained(refused: registry::Error, manifest: &Manifest) -> anyhow::Error {
    if !is_wrong_type(&refused) {
        return refused.into();
    }
    let media_type = &manifest.descriptor.media_type;
    let cannot = format!("the registry takes no manifests of the media type `{media_type}`");
    let hint = "let the registry take them (zot: `\"compat\": [\"docker2s2\"]` under `http`), or convert the \
                image to the OCI's format before it is packed: its digest is then another";
    anyhow::Error::new(refused).context(Hinted::new(cannot, hint))
}

/// The manifests of all targets by their height: those without children first.
fn levels<'a>(targets: &[Target<'a>]) -> Vec<Vec<Place<'a>>> {
    let mut levels: Vec<Vec<Place<'a>>> = Vec::new();
    let mut seen = BTreeSet::new();
    for target in targets {
        let mut heights: BTreeMap<&Digest, usize> = BTreeMap::new();
        for &manifest in &target.manifests {
            let below = manifest.children().iter().filter_map(|child| heights.get(&child.digest));
            let height = below.max().map_or(0, |highest| highest + 1);
            heights.insert(manifest.digest(), height);
            if seen.insert((target.repository.clone(), manifest.digest())) {
                levels.resize_with(levels.len().max(height + 1), Vec::new);
                levels[height].push((target.repository.clone(), manifest));
            }
        }
    }
    levels
}
