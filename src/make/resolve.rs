//! From names to manifests: what the source registries say about the images that were asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use futures_util::future::{BoxFuture, FutureExt as _, try_join_all};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::convert::Converter;
use crate::digest::{Digest, Verifier};
use crate::failure::{FromRegistry, Unusable, Usage};
use crate::manifest::{Content, Descriptor, Manifest};
use crate::payload::MANIFESTS_MAX_BYTES;
use crate::plan::Resolved;
use crate::platform::Platform;
use crate::progress::Reporter;
use crate::reference::{Reference, RegistryHost, RepositoryName, Tag, TagOrDigest};
use crate::registry::{self, Pulled, Registries, Registry};

use super::platforms::{self, Selection};
use super::referrers::{Fate, Found};
use super::walk::{Purpose, Walk};

/// The largest image config that is read to learn a platform, in bytes.
const CONFIG_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Asks registries, with a bound on how many requests are under way.
pub(super) struct Resolver<'a> {
    pub(super) registries: &'a Registries,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) platforms: &'a [Platform],
    pub(super) referrers: Fate,
    pub(super) converter: &'a Converter,
    requests: Semaphore,
    manifest_requests: AtomicU64,
    pub(super) manifest_bytes: AtomicU64,
    fetched: Mutex<BTreeMap<(RegistryHost, RepositoryName, Digest), Manifest>>,
}

/// A repository at its registry.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) registry: Registry,
    pub(super) repository: RepositoryName,
}

/// The manifests of an image, children before parents, and the tags that are to name them.
struct Tree {
    /// The manifest that stands for the image at the far side.
    root: Descriptor,
    manifests: Vec<Manifest>,
    tags: Vec<(Tag, Digest)>,
    /// Manifests that are not carried but whose referrers somebody may miss.
    left: Vec<Digest>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        registries: &'a Registries,
        reporter: &'a dyn Reporter,
        platforms: &'a [Platform],
        referrers: Fate,
        converter: &'a Converter,
        requests_at_once: usize,
    ) -> Self {
        Self {
            registries,
            reporter,
            platforms,
            referrers,
            converter,
            requests: Semaphore::new(requests_at_once),
            manifest_requests: AtomicU64::new(0),
            manifest_bytes: AtomicU64::new(0),
            fetched: Mutex::default(),
        }
    }

    /// How many manifests were asked for so far; registries with a quota count these.
    pub(super) fn manifest_requests(&self) -> u64 {
        self.manifest_requests.load(Ordering::Relaxed)
    }

    /// Everything that travels for `reference`.
    pub(super) async fn resolve(&self, reference: &Reference) -> anyhow::Result<Resolved> {
        let source = self.source(reference)?;
        let pulled = self
            .pull(&source, &reference.tag_or_digest())
            .await
            .with_context(|| format!("cannot read image `{reference}`"))?;
        let (root, converted) = match pulled {
            Pulled::Manifest(root) => (*root, None),
            Pulled::Schema1(document) => {
                let converted = self.convert(&source, reference, &document).await?;
                (converted.manifest.clone(), Some(converted))
            }
        };
        let walk = Walk::new(&source, reference, Purpose::Carry);
        let tree = self.tree(&walk, &root).await?;
        if let Some(converted) = &converted {
            self.warn_of_referrers(&walk, &converted.former).await;
        }
        let digests: BTreeSet<Digest> =
            tree.manifests.iter().map(|manifest| manifest.digest().clone()).collect();
        let mut manifests = tree.manifests;
        let Found { mut referrers, children } =
            self.find_referrers(&walk, &digests, &tree.left).await?;
        // A manifest of the image itself travels anyway, but a tag that attaches it has to be told.
        referrers
            .retain(|(referrer, _)| referrer.tag.is_some() || !digests.contains(&referrer.digest));
        manifests.extend(children.into_iter().filter(|child| !digests.contains(child.digest())));
        Ok(Resolved {
            root: tree.root,
            platforms: self.platforms.to_vec(),
            tags: tree.tags,
            manifests,
            referrers,
            converted,
        })
    }

    /// The blobs of an image that was transferred before, as far as the source still knows them.
    /// `None` where the image is gone.
    pub(super) async fn blobs_of(
        &self,
        reference: &Reference,
    ) -> anyhow::Result<Option<Vec<Descriptor>>> {
        let source = self.source(reference)?;
        let walk = Walk::new(&source, reference, Purpose::Baseline);
        let blobs = match self.pull(&source, &reference.tag_or_digest()).await {
            Ok(Pulled::Manifest(root)) => {
                let manifests = self.transferred(&walk, *root).await;
                manifests.map(|all| all.iter().flat_map(Manifest::blobs).cloned().collect())
            }
            Ok(Pulled::Schema1(document)) => {
                return self.layers_of(&source, reference, &document).await;
            }
            Err(error) => Err(error.into()),
        };
        match blobs {
            Ok(blobs) => Ok(Some(blobs)),
            Err(error) if is_gone(&error) => {
                self.reporter.warn(format!(
                    "`{reference}` was named as already transferred, but its registry no longer has it ({}): \
                     its blobs are not taken as present",
                    error.root_cause()
                ));
                Ok(None)
            }
            Err(error) => Err(error.context(format!("cannot read image `{reference}`"))),
        }
    }

    /// The manifests of an image that was transferred before. Of an index only the platforms that
    /// are chosen now are sure to be there: it may have been transferred with the same choice.
    async fn transferred(&self, walk: &Walk<'_>, root: Manifest) -> anyhow::Result<Vec<Manifest>> {
        if self.platforms.is_empty() || !root.descriptor.media_type.is_index() {
            return self.descend(walk, root, 0).await;
        }
        walk.count(&root, 0)?;
        let selection = platforms::select(root.children(), self.platforms);
        let children = selection.children.iter().map(|child| self.child(walk, child, 0));
        Ok(try_join_all(children).await?.into_iter().flatten().collect())
    }

    pub(super) fn source(&self, reference: &Reference) -> anyhow::Result<Source> {
        let registry = self.registries.registry(&reference.registry)?;
        Ok(Source { registry, repository: reference.api_repository() })
    }

    /// Waits until one more request may be under way.
    pub(super) async fn turn(&self) -> anyhow::Result<SemaphorePermit<'_>> {
        Ok(self.requests.acquire().await?)
    }

    /// Fetches a manifest, by digest at most once in a run. One of schema 1 is refused.
    pub(super) async fn manifest(
        &self,
        source: &Source,
        which: &TagOrDigest,
    ) -> Result<Manifest, registry::Error> {
        match self.pull(source, which).await? {
            Pulled::Manifest(manifest) => Ok(*manifest),
            Pulled::Schema1(_) => Err(source.registry.refuse_schema1(&source.repository, which)),
        }
    }

    async fn pull(&self, source: &Source, which: &TagOrDigest) -> Result<Pulled, registry::Error> {
        let key = |digest: &Digest| {
            (source.registry.host().clone(), source.repository.clone(), digest.clone())
        };
        let lock = || self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let known = || match which {
            TagOrDigest::Digest(digest) => lock().get(&key(digest)).cloned(),
            TagOrDigest::Tag(_) => None,
        };
        if let Some(manifest) = known() {
            return Ok(Pulled::Manifest(Box::new(manifest)));
        }
        let turn = self.requests.acquire().await;
        // Another one may have fetched it meanwhile.
        if let Some(manifest) = known() {
            return Ok(Pulled::Manifest(Box::new(manifest)));
        }
        self.manifest_requests.fetch_add(1, Ordering::Relaxed);
        let pulled = source.registry.pull(&source.repository, which).await?;
        drop(turn);
        let Pulled::Manifest(manifest) = pulled else { return Ok(pulled) };
        if lock().insert(key(manifest.digest()), manifest.as_ref().clone()).is_none() {
            self.manifest_bytes.fetch_add(manifest.descriptor.size, Ordering::Relaxed);
        }
        Ok(Pulled::Manifest(manifest))
    }

    /// All manifests of a run are kept in memory, and no payload with more of them can be read.
    pub(super) fn refuse_too_much(&self) -> Result<(), Unusable> {
        if self.manifest_bytes.load(Ordering::Relaxed) <= MANIFESTS_MAX_BYTES {
            return Ok(());
        }
        Err(Unusable::new(format!(
            "the images of this run have more than {MANIFESTS_MAX_BYTES} bytes of manifests"
        ))
        .with_hint("make several payloads, each of fewer images"))
    }

    async fn tree(&self, walk: &Walk<'_>, root: &Manifest) -> anyhow::Result<Tree> {
        let reference = walk.reference;
        if self.platforms.is_empty() || !root.descriptor.media_type.is_index() {
            self.check_platform(walk.source, reference, root).await?;
            let manifests = self.descend(walk, root.clone(), 0).await?;
            let tags = reference.tag.iter().map(|tag| (tag.clone(), root.digest().clone()));
            let (root, tags) = (root.descriptor.clone(), tags.collect());
            return Ok(Tree { root, manifests, tags, left: Vec::new() });
        }
        walk.count(root, 0)?;
        let selection = platforms::select(root.children(), self.platforms);
        self.report_missing(reference, &selection, root)?;
        self.report_versions(reference, &selection);
        let mut manifests = Vec::new();
        for child in &selection.children {
            manifests.extend(self.child(walk, child, 0).await?);
        }
        let mut manifests = unique(manifests);
        refuse_lost(reference, &selection, &manifests)?;
        let only = match (self.platforms, selection.chosen.as_slice()) {
            ([_], [(_, digest)]) => manifests.iter().find(|manifest| manifest.digest() == digest),
            _ => None,
        };
        let (stands, left) = match only {
            Some(only) => (only.descriptor.clone(), vec![root.digest().clone()]),
            None => (root.descriptor.clone(), Vec::new()),
        };
        if left.is_empty() {
            manifests.push(root.clone());
        }
        let tags = platforms::tags(reference.tag.as_ref(), root, self.platforms, &selection)
            .with_context(|| format!("cannot name the platforms of `{reference}`"))?;
        Ok(Tree { root: stands, manifests, tags, left })
    }

    fn report_missing(
        &self,
        reference: &Reference,
        selection: &Selection,
        root: &Manifest,
    ) -> anyhow::Result<()> {
        if selection.missing.is_empty() {
            return Ok(());
        }
        let list = |platforms: &[Platform]| {
            platforms.iter().map(Platform::with_version).collect::<Vec<_>>().join(", ")
        };
        let images = root.children().iter().filter(|child| child.attests_to().is_none());
        let offered: Vec<Platform> = images.filter_map(|child| child.platform.clone()).collect();
        let inner = root.children().iter().filter(|child| child.media_type.is_index()).count();
        let has = match (offered.as_slice(), inner) {
            ([], 0) => "it names no platform".to_owned(),
            ([], 1) => "it holds 1 index inside, which is not searched for platforms".to_owned(),
            ([], _) => {
                format!("it holds {inner} indexes inside, which are not searched for platforms")
            }
            (offered, _) => format!("it has {}", list(offered)),
        };
        let message = format!("`{reference}` has no {}; {has}", list(&selection.missing));
        if selection.chosen.is_empty() {
            let hint = if offered.is_empty() {
                "leave `--platform` out, or name by digest what is inside of the index"
            } else {
                "choose with `--platform` among those it has"
            };
            bail!(Usage::new(message).with_hint(hint));
        }
        self.reporter.warn(message);
        Ok(())
    }

    fn report_versions(&self, reference: &Reference, selection: &Selection) {
        for versions in &selection.versions {
            self.reporter.warn(format!(
                "`{reference}` has {} for several versions of the operating system: {} is taken, left are {}",
                versions.platform,
                versions.taken,
                versions.left.join(", ")
            ));
        }
    }

    /// Refuses a single image of another platform than those asked for. Artifacts have none.
    async fn check_platform(
        &self,
        source: &Source,
        reference: &Reference,
        root: &Manifest,
    ) -> anyhow::Result<()> {
        let Content::Image { config: Some(config), .. } = &root.content else { return Ok(()) };
        if self.platforms.is_empty() || !config.media_type.is_image_config() {
            return Ok(());
        }
        if config.size > CONFIG_MAX_BYTES {
            bail!(Unusable::new(format!(
                "expected the config of `{reference}` to have at most {CONFIG_MAX_BYTES} bytes, found {}",
                config.size
            )));
        }
        let unusable = || {
            let host = source.registry.host();
            Unusable::new(format!("`{host}` sent an unusable config for image `{reference}`"))
        };
        let bytes = match self.converter.config(&config.digest) {
            Some(made) => made.to_vec(),
            None => self.small_blob(source, config).await.with_context(unusable)?,
        };
        let offered: Platform = serde_json::from_slice(&bytes).with_context(unusable)?;
        if self.platforms.iter().any(|wanted| wanted.distance(&offered).is_some()) {
            return Ok(());
        }
        bail!(
            Usage::new(format!("`{reference}` is an image for {offered} only"))
                .with_hint("leave `--platform` out, or name a tag that has the platform")
        )
    }

    async fn small_blob(&self, source: &Source, blob: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let turn = self.turn().await?;
        let mut stream = source.registry.blob(&source.repository, blob).open(0..blob.size).await?;
        let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
        let mut bytes = Vec::new();
        while let Some(more) = stream.next().await? {
            verifier.update(&more).map_err(FromRegistry)?;
            bytes.extend_from_slice(&more);
        }
        drop(turn);
        verifier.finish().map_err(FromRegistry)?;
        Ok(bytes)
    }

    async fn child(
        &self,
        walk: &Walk<'_>,
        child: &Descriptor,
        depth: usize,
    ) -> anyhow::Result<Vec<Manifest>> {
        let reference = walk.reference;
        match self.manifest(walk.source, &TagOrDigest::Digest(child.digest.clone())).await {
            Ok(manifest) if manifest.descriptor.size != child.size => {
                bail!(Unusable::new(format!(
                    "expected manifest `{}` of image `{reference}` to have {} bytes as its index says, found {}",
                    child.digest, child.size, manifest.descriptor.size
                )))
            }
            Ok(manifest) => self.descend(walk, manifest, depth + 1).await,
            Err(error) if error.is_not_found() => {
                let platform = child
                    .platform
                    .as_ref()
                    .map_or_else(String::new, |platform| format!(" ({platform})"));
                let so = match walk.purpose {
                    Purpose::Carry => "the index travels without it",
                    Purpose::Baseline => "its blobs are not taken as present",
                };
                self.reporter.warn(format!(
                    "the index `{reference}` names manifest `{}`{platform}, which its registry does not have: {so}",
                    child.digest
                ));
                Ok(Vec::new())
            }
            Err(error) => Err(anyhow::Error::new(error)
                .context(format!("cannot read a manifest of image `{reference}`"))),
        }
    }

    /// `manifest` and everything under it, children before parents.
    pub(super) fn descend<'b>(
        &'b self,
        walk: &'b Walk<'_>,
        manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'b, anyhow::Result<Vec<Manifest>>> {
        async move {
            walk.count(&manifest, depth)?;
            self.refuse_too_much()?;
            let children = manifest.children().iter().map(|child| self.child(walk, child, depth));
            let mut manifests: Vec<Manifest> =
                try_join_all(children).await?.into_iter().flatten().collect();
            manifests.push(manifest);
            Ok(unique(manifests))
        }
        .boxed()
    }
}

/// A platform that was chosen and whose manifest is lost cannot be left out with a word: there would
/// be nothing for its tag to name.
fn refuse_lost(
    reference: &Reference,
    selection: &Selection,
    manifests: &[Manifest],
) -> anyhow::Result<()> {
    let is_there = |digest| manifests.iter().any(|manifest| manifest.digest() == digest);
    match selection.chosen.iter().find(|(_, digest)| !is_there(digest)) {
        None => Ok(()),
        Some((platform, digest)) => {
            let message = format!(
                "the registry has lost the manifest `{digest}` of `{reference}` for {platform}"
            );
            let hint =
                "choose other platforms with `--platform`, or have the image pushed there again";
            Err(Unusable::new(message).with_hint(hint).into())
        }
    }
}

fn unique(manifests: Vec<Manifest>) -> Vec<Manifest> {
    let mut seen = BTreeSet::new();
    manifests.into_iter().filter(|manifest| seen.insert(manifest.digest().clone())).collect()
}

/// Registries say 404 for what is gone, Docker Hub says 401 for a repository that is.
fn is_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<registry::Error>()
        .is_some_and(|error| error.is_not_found() || error.is_unauthorized())
}
