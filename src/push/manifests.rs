//! Manifests by digest: children before parents, nothing that is there already.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::digest::Digest;
use crate::failure::Hinted;
use crate::manifest::Manifest;
use crate::rebuild::{Rebuilt, rebuild};
use crate::reference::{RepositoryName, TagOrDigest};
use crate::registry;

use super::targets::Target;
use super::{Push, SparseIndexes};

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
        if let Some(new) = self.find_rebuilt(repository, manifest, rebuilt).await? {
            return Ok(Some((manifest.digest().clone(), new)));
        }
        let over_rebuilt =
            manifest.children().iter().any(|child| rebuilt.contains_key(&child.digest));
        if !over_rebuilt {
            let refused = match self.put_unless_there(repository, manifest).await {
                Ok(()) => return Ok(None),
                Err(error) => error,
            };
            if !self.is_sparse(manifest) || !may_be_about_children(&refused) {
                return Err(explained(refused, manifest));
            }
            if self.sparse_indexes == SparseIndexes::Keep {
                return Err(self.refused_sparse(repository, manifest, refused));
            }
        }
        let new = self.rebuild(manifest, rebuilt)?;
        self.put_unless_there(repository, &new).await?;
        self.reporter.warn(format!(
            "index `{}` is replaced by a new one of the platforms that travel, `{}`: its digest is new, \
             and signatures of the old one do not hold for it",
            manifest.digest(),
            new.digest()
        ));
        Ok(Some((manifest.digest().clone(), new)))
    }

    fn rebuild(&self, manifest: &Manifest, rebuilt: &Rebuilt) -> anyhow::Result<Manifest> {
        rebuild(manifest, |digest| self.payload.manifest(digest).is_some(), rebuilt)
            .with_context(|| format!("cannot rebuild index `{}`", manifest.digest()))
    }

    /// The index that a former push wrote anew and that is there, so that nothing is refused again.
    async fn find_rebuilt(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        rebuilt: &Rebuilt,
    ) -> anyhow::Result<Option<Manifest>> {
        if self.sparse_indexes == SparseIndexes::Keep || !self.is_sparse(manifest) {
            return Ok(None);
        }
        let new = self.rebuild(manifest, rebuilt)?;
        let which = TagOrDigest::Digest(new.digest().clone());
        let there = self.registry.head_manifest(repository, &which).await?;
        Ok(there.map(|_| new))
    }

    fn refused_sparse(
        &self,
        repository: &RepositoryName,
        index: &Manifest,
        refused: registry::Error,
    ) -> anyhow::Error {
        let lost: BTreeSet<&Digest> =
            self.payload.index().images.iter().flat_map(|image| &image.absent).collect();
        let was_lost = index.children().iter().any(|child| lost.contains(&child.digest));
        let (why, otherwise) = if was_lost {
            ("the registry that it came from had lost some of its manifests", "")
        } else {
            (
                "not all of its platforms travel",
                ", or make the payload with all platforms or only one",
            )
        };
        let digest = index.digest();
        let cannot = format!(
            "the registry refuses index `{digest}` in `{repository}`, probably because {why}; no tag was moved"
        );
        let hint =
            format!("push with `--rebuild-index` to write a new index of what travels{otherwise}");
        anyhow::Error::new(refused).context(Hinted::new(cannot, hint))
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

/// Whether a refusal may mean that the registry misses children of an index. Rights, sizes and media
/// types are other matters.
fn may_be_about_children(refused: &registry::Error) -> bool {
    refused.is_refusal() && !matches!(refused.status(), Some(401 | 403 | 405 | 413 | 415))
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
