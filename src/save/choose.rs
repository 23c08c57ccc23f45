//! What of an image is saved: one platform, or everything.

use anyhow::{Context as _, bail};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::failure::{Unusable, Usage};
use crate::make::ImageName;
use crate::manifest::{Content, Descriptor, INDEX_DEPTH_MAX, Manifest};
use crate::payload::MANIFESTS_MAX_BYTES;
use crate::platform::Platform;
use crate::progress::Reporter;
use crate::reference::Reference;

use super::archive::Chosen;
use super::origin::Store;
use super::select::nearest;

/// How many manifests of an index are asked for at once.
const REQUESTS_AT_ONCE: usize = 8;
/// The largest image config that is read to learn a platform, in bytes.
const CONFIG_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The system of what runs nowhere.
const UNKNOWN: &str = "unknown";

/// Which platforms are saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// That of this machine.
    Machine,
    /// This one.
    One(Platform),
    /// All, with the index that names them.
    All,
}

/// What becomes of artifacts, which are no images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Artifacts {
    Taken,
    /// They are left, with a word.
    Left,
    Refused,
}

/// The platform of this machine; engines run Linux in a machine of its own where the system is another.
pub fn machine_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7")),
        "powerpc64" => ("ppc64le", None),
        other => (other, None),
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
        os_version: None,
    }
}

/// Reads what is to be saved of `image`.
pub(crate) async fn choose(
    store: &Store,
    image: &ImageName,
    platforms: &Platforms,
    artifacts: Artifacts,
    reporter: &dyn Reporter,
) -> anyhow::Result<Option<Chosen>> {
    let root = store.root(image).await?;
    let reference = name_of(store.reference(image), &root);
    let chooser = Chooser { store, image, reporter };
    if !root.descriptor.media_type.is_index() {
        if let Platforms::One(platform) = platforms {
            chooser.check_platform(&root, platform).await?;
        }
        let is_image = is_image(&root);
        if !is_image && artifacts == Artifacts::Left {
            reporter.note(format!("`{}` is an artifact and left out", image.name));
            return Ok(None);
        }
        if !is_image && artifacts == Artifacts::Refused {
            bail!(
                Usage::new(format!("`{}` is no image of a container, but an artifact", image.name))
                    .with_hint("engines cannot load it; save it with `kharon save --to FOLDER --layout oci`")
            );
        }
        let descriptor = root.descriptor.clone();
        let found = is_image.then(|| root.clone());
        let manifests = vec![root];
        let index = None;
        return Ok(Some(Chosen { reference, root: descriptor, image: found, manifests, index }));
    }
    let wanted = match platforms {
        Platforms::One(platform) => platform.clone(),
        Platforms::Machine => machine_platform(),
        Platforms::All => return chooser.everything(reference, root).await.map(Some),
    };
    let child = nearest(&root, &wanted, &image.name)?;
    if *platforms == Platforms::Machine && !child.others.is_empty() {
        reporter.note(format!(
            "`{}` is saved for {wanted}; `--platform` chooses among what it has besides: {}",
            image.name,
            child.others.iter().map(Platform::with_version).collect::<Vec<_>>().join(", ")
        ));
    }
    let found = store.child(image, &child.descriptor).await?;
    let descriptor = found.descriptor.clone();
    let reference = Reference {
        // A name without a tag is the digest of what is there.
        digest: reference.tag.is_none().then(|| descriptor.digest.clone()),
        ..reference
    };
    let manifests = vec![found.clone()];
    let index = Some(root);
    Ok(Some(Chosen { reference, root: descriptor, image: Some(found), manifests, index }))
}

/// A tag where there is one; its digest besides would be no name that engines know.
fn name_of(reference: Reference, root: &Manifest) -> Reference {
    let digest = reference.tag.is_none().then(|| root.digest().clone());
    Reference { digest, ..reference }
}

pub(super) fn is_image(manifest: &Manifest) -> bool {
    image_config(manifest).is_some()
}

/// The config of an image; none of an artifact.
fn image_config(manifest: &Manifest) -> Option<&Descriptor> {
    match &manifest.content {
        Content::Image { config: Some(config), .. } if config.media_type.is_image_config() => {
            Some(config)
        }
        _ => None,
    }
}

/// The platform that the config of an image says, if it says one.
pub(super) async fn configured_platform(
    store: &Store,
    image: &ImageName,
    manifest: &Manifest,
) -> anyhow::Result<Option<Platform>> {
    let config = image_config(manifest).filter(|config| config.size <= CONFIG_MAX_BYTES);
    let Some(config) = config else { return Ok(None) };
    let bytes = store.small(image, config).await;
    let bytes = bytes.with_context(|| format!("cannot read the config of `{}`", image.name))?;
    let platform: Option<Platform> = serde_json::from_slice(&bytes).ok();
    Ok(platform.filter(|platform| !matches!(platform.os.as_str(), "" | UNKNOWN)))
}

struct Chooser<'a> {
    store: &'a Store,
    image: &'a ImageName,
    reporter: &'a dyn Reporter,
}

impl Chooser<'_> {
    async fn everything(&self, reference: Reference, root: Manifest) -> anyhow::Result<Chosen> {
        let descriptor = root.descriptor.clone();
        let manifests = self.descend(root, 0).await?;
        let root = manifests.last().context("an index is among its own manifests")?;
        // Old engines see one platform: this machine's, else the first. It may stand in an index within the index.
        let within = manifests.iter().filter(|it| it.digest() != root.digest());
        let indexes = std::iter::once(root).chain(within);
        let indexes: Vec<&Manifest> =
            indexes.filter(|it| it.descriptor.media_type.is_index()).collect();
        let machine = machine_platform();
        let near = |index: &&Manifest| nearest(index, &machine, &self.image.name).ok();
        let nearest = indexes.iter().find_map(near);
        let mut children = indexes.iter().flat_map(|index| index.children());
        let first = children.find(|it| it.attests_to().is_none() && !it.media_type.is_index());
        let seen = nearest.as_ref().map(|it| &it.descriptor.digest);
        let seen = seen.or_else(|| first.map(|child| &child.digest));
        let found = manifests.iter().find(|it| Some(it.digest()) == seen && is_image(it)).cloned();
        if found.is_none() {
            self.reporter.warn(format!(
                "`{}` has no image that engines without an index could load",
                self.image.name
            ));
        }
        Ok(Chosen { reference, root: descriptor, image: found, manifests, index: None })
    }

    /// A manifest and all below it, children before parents, each once.
    fn descend(
        &self,
        manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'_, anyhow::Result<Vec<Manifest>>> {
        async move {
            if depth > INDEX_DEPTH_MAX {
                let name = &self.image.name;
                bail!(Unusable::new(format!(
                    "`{name}` nests its indexes deeper than {INDEX_DEPTH_MAX} levels"
                )));
            }
            let children: Vec<_> = stream::iter(manifest.children().to_vec())
                .map(async |child| {
                    let found = self.store.child(self.image, &child).await?;
                    self.descend(found, depth + 1).await
                })
                .buffered(REQUESTS_AT_ONCE)
                .try_collect()
                .await?;
            let mut all: Vec<Manifest> = Vec::new();
            for child in children.into_iter().flatten().chain([manifest]) {
                if all.iter().all(|known| known.digest() != child.digest()) {
                    all.push(child);
                }
            }
            if all.iter().map(|it| it.descriptor.size).sum::<u64>() > MANIFESTS_MAX_BYTES {
                let name = &self.image.name;
                bail!(Unusable::new(format!(
                    "`{name}` has more than {MANIFESTS_MAX_BYTES} bytes of manifests"
                )));
            }
            Ok(all)
        }
        .boxed()
    }

    /// Refuses an image that is for another platform than the one asked for.
    async fn check_platform(&self, root: &Manifest, wanted: &Platform) -> anyhow::Result<()> {
        let Some(config) = image_config(root) else { return Ok(()) };
        let name = &self.image.name;
        let unusable = || Unusable::new(format!("the config of `{name}` cannot be used"));
        if config.size > CONFIG_MAX_BYTES {
            bail!(Unusable::new(format!(
                "expected the config of `{name}` to have at most {CONFIG_MAX_BYTES} bytes, found {}",
                config.size
            )));
        }
        let bytes = self.store.small(self.image, config).await.with_context(unusable)?;
        let offered: Platform = serde_json::from_slice(&bytes).with_context(unusable)?;
        if wanted.distance(&offered).is_some() {
            return Ok(());
        }
        bail!(
            Usage::new(format!("`{name}` is an image for {offered} only"))
                .with_hint("leave `--platform` out, or name a tag that has the platform")
        )
    }
}
