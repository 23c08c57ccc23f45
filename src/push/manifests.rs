//! Manifests by digest: children before parents, nothing that is there already.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::digest::Digest;
use crate::failure::Hinted;
use crate::manifest::{Descriptor, Manifest};
use crate::rebuild::rebuild;
use crate::reference::{RepositoryName, TagOrDigest};
use crate::registry;

use super::targets::Target;
use super::{Push, SparseIndexes};

const WRONG_TYPE: &str = "let the registry take them (zot: `\"compat\": [\"docker2s2\"]` under `http`), or convert \
                          the image to the OCI's format before it is packed: its digest is then another";
const FOREIGN_LAYERS: &str = "docker-registry, which is also called distribution, takes layers with addresses only \
                              where its configuration allows these: \
                              `validation: {manifests: {urls: {allow: ['^https?://']}}}`";

/// A manifest and a repository that it goes to.
type Place<'a> = (RepositoryName, &'a Manifest);
/// Which manifests go to which repositories.
type Travelling<'a> = BTreeSet<(&'a RepositoryName, &'a Digest)>;

/// Indexes that were written anew.
#[derive(Default)]
pub(super) struct Rebuilt(BTreeMap<(RepositoryName, Digest), Manifest>);

impl Rebuilt {
    /// What stands in `repository` for the manifest `original`; `None` where that is there itself.
    pub(super) fn get(&self, repository: &RepositoryName, original: &Digest) -> Option<&Manifest> {
        self.0.get(&(repository.clone(), original.clone()))
    }
}

impl Push {
    /// Puts the manifests of `targets` into their repositories by digest: first those without
    /// children, then level by level the indexes above them.
    pub(super) async fn send_manifests(&self, targets: &[Target<'_>]) -> anyhow::Result<Rebuilt> {
        let travelling: Travelling<'_> = targets.iter().flat_map(places).collect();
        let mut rebuilt = Rebuilt::default();
        for level in levels(targets) {
            let puts = level.into_iter().map(|(repository, manifest)| {
                let (travelling, rebuilt) = (&travelling, &rebuilt);
                async move {
                    let put = self.put_or_rebuild(&repository, manifest, travelling, rebuilt).await;
                    anyhow::Ok(put?.map(|new| ((repository, manifest.digest().clone()), new)))
                }
            });
            let new: Vec<Option<_>> =
                stream::iter(puts).buffer_unordered(self.jobs).try_collect().await?;
            rebuilt.0.extend(new.into_iter().flatten());
        }
        Ok(rebuilt)
    }

    /// Puts a manifest, or where its registry misses children, a new index of those that travel, which
    /// is given back. One that a former push wrote is found, so that nothing is refused again.
    async fn put_or_rebuild(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        travelling: &Travelling<'_>,
        rebuilt: &Rebuilt,
    ) -> anyhow::Result<Option<Manifest>> {
        let travels = |digest: &Digest| travelling.contains(&(repository, digest));
        let replaced = |digest: &Digest| rebuilt.get(repository, digest);
        let children = || manifest.children().iter().map(|child| &child.digest);
        let is_over_rebuilt = children().any(|child| replaced(child).is_some());
        let is_sparse = !children().all(travels);
        if !is_over_rebuilt {
            if self.is_there(repository, manifest).await? {
                return Ok(None);
            }
            if !is_sparse || self.sparse_indexes == SparseIndexes::Keep {
                return match self.try_to_put(repository, manifest).await? {
                    Ok(()) => Ok(None),
                    Err(refused) if is_sparse => {
                        Err(self.refused_sparse(repository, manifest, refused))
                    }
                    Err(refused) => Err(refused.into()),
                };
            }
        }
        let new = rebuild(manifest, travels, replaced)
            .with_context(|| format!("cannot rebuild index `{}`", manifest.digest()))?;
        if self.is_there(repository, &new).await? {
            return Ok(Some(new));
        }
        if !is_over_rebuilt && self.try_to_put(repository, manifest).await?.is_ok() {
            return Ok(None);
        }
        self.put(repository, &new).await?;
        self.reporter.warn(format!(
            "index `{}` is replaced by a new one of the platforms that travel, `{}`: its digest is new, \
             and signatures of the old one do not hold for it",
            manifest.digest(),
            new.digest()
        ));
        Ok(Some(new))
    }

    /// Puts a manifest. The inner error is a refusal that may mean that children are missing.
    async fn try_to_put(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> anyhow::Result<Result<(), registry::Error>> {
        match self.put(repository, manifest).await {
            Err(refused) if !may_be_about_children(&refused) => Err(explained(refused, manifest)),
            put => Ok(put),
        }
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
        if self.is_there(repository, manifest).await? {
            return Ok(());
        }
        self.put(repository, manifest).await
    }

    pub(super) async fn is_there(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<bool, registry::Error> {
        let which = TagOrDigest::Digest(manifest.digest().clone());
        Ok(self.registry.head_manifest(repository, &which).await?.is_some())
    }

    async fn put(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<(), registry::Error> {
        let which = TagOrDigest::Digest(manifest.digest().clone());
        self.registry.put_manifest(repository, &which, manifest).await.map(drop)
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

/// Says what a registry means that does not say it.
fn explained(refused: registry::Error, manifest: &Manifest) -> anyhow::Error {
    let Descriptor { media_type, digest, .. } = &manifest.descriptor;
    let (cannot, hint) = if is_wrong_type(&refused) {
        // zot says no more than that they are invalid.
        let cannot = format!("the registry takes no manifests of the media type `{media_type}`");
        (cannot, WRONG_TYPE)
    } else if refused.status() == Some(500) && manifest.blobs().any(|blob| !blob.urls.is_empty()) {
        // distribution calls addresses that it may not take an unknown error.
        let cannot = format!("the registry fails on manifest `{digest}`, which has foreign layers");
        (cannot, FOREIGN_LAYERS)
    } else {
        return refused.into();
    };
    anyhow::Error::new(refused).context(Hinted::new(cannot, hint))
}

fn places<'a>(target: &'a Target<'_>) -> impl Iterator<Item = (&'a RepositoryName, &'a Digest)> {
    target.manifests.iter().map(|manifest| (&target.repository, manifest.digest()))
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
