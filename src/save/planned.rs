//! A tar that is planned and not yet written: what is in it and how long it is, for whoever has to say so first.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::make::ImageName;
use crate::manifest::{Content, Descriptor, Manifest};
use crate::platform::Platform;
use crate::progress::{Event, Reporter};

use super::archive::{self, Chosen, Readers};
use super::choose::{Platforms, configured_platform};
use super::origin::{Origin, Store};
use super::tarball::{Head, Tarball};
use super::{SaveReport, carry, choose_all};

/// A tar whose images are resolved.
pub struct PlannedTar {
    store: Store,
    images: Vec<Chosen>,
    head: Head,
    length_bytes: u64,
    reporter: Arc<dyn Reporter>,
}

/// An image in a planned tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedImage {
    /// Its full name.
    pub name: String,
    /// What the name stands for: the image's manifest, or the index with all platforms.
    pub root: Descriptor,
    /// The manifest that is saved, with its layers; of an index that is saved whole, the one that old engines see.
    pub manifest: Option<Descriptor>,
    /// The config of that manifest.
    pub config: Option<Descriptor>,
    /// The layers of that manifest, in order.
    pub layers: Vec<Descriptor>,
    /// The platforms that the name has, where it stands for an index.
    pub platforms: Vec<Platform>,
    /// That of the manifest, as an index or else its own config says it.
    pub platform: Option<Platform>,
}

/// Resolves images for one tar. Nothing is written, and no layer fetched.
///
/// # Errors
/// When an image or its platform is not there, or a registry fails.
pub async fn plan_tar(
    wanted: Vec<ImageName>,
    origin: Origin,
    platforms: &Platforms,
    jobs: NonZeroUsize,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<PlannedTar> {
    let opening = Arc::clone(&reporter);
    let mut store = spawn_blocking(move || Store::open(origin, &opening)).await??;
    let images = choose_all(&store, Readers::All, wanted, platforms, reporter.as_ref()).await?;
    let blobs = archive::blobs(&images);
    store.prepare(&blobs, jobs.get()).await?;
    let blobs: Vec<&Descriptor> = blobs.into_iter().map(|(_, blob)| blob).collect();
    let head = Head::new(&archive::documents(&images, Readers::All)?, &blobs)?;
    let length_bytes = head.tar_bytes(&blobs)?;
    Ok(PlannedTar { store, images, head, length_bytes, reporter })
}

impl PlannedTar {
    /// How long the tar is.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// What is in it. Reads configs of images that stand in no index, to learn their platforms.
    ///
    /// # Errors
    /// When such a config cannot be read, or is not what its digest says.
    pub async fn images(&self) -> anyhow::Result<Vec<SavedImage>> {
        let mut all = Vec::new();
        for chosen in &self.images {
            let mut saved = SavedImage::new(chosen);
            if let (None, Some(manifest)) = (&saved.platform, &chosen.image) {
                let (name, reference) = (saved.name.clone(), chosen.reference.clone());
                let image = ImageName { name, reference };
                saved.platform = configured_platform(&self.store, &image, manifest).await?;
            }
            all.push(saved);
        }
        Ok(all)
    }

    /// Fetches the blobs over `jobs` connections and writes the tar. Its end is only written once all of it is
    /// found right.
    ///
    /// # Errors
    /// When a registry fails or sends something else than its digest says, or `out` cannot be written.
    pub async fn write(
        self,
        out: Box<dyn Write + Send>,
        jobs: NonZeroUsize,
    ) -> anyhow::Result<SaveReport> {
        let blobs = archive::blobs(&self.images);
        let report = SaveReport {
            images: self.images.iter().map(|image| image.reference.to_string()).collect(),
            blobs: blobs.len() as u64,
            present: 0,
            bytes: self.length_bytes,
        };
        let bytes = blobs.iter().fold(0, |sum: u64, (_, blob)| sum.saturating_add(blob.size));
        self.reporter.report(Event::Total { blobs: report.blobs, bytes });
        let (contents, downloads) = self.store.downloads(&blobs)?;
        let head = self.head;
        let sink = move || Tarball::begin(out, "the tar".to_owned(), &head);
        carry(sink, contents, downloads, jobs.get(), &self.reporter).await?;
        Ok(report)
    }
}

impl SavedImage {
    fn new(chosen: &Chosen) -> Self {
        let top = chosen.index.as_ref().or_else(|| chosen.manifests.last());
        let manifest = chosen.image.as_ref();
        let content = manifest.map(|manifest| &manifest.content);
        let (config, layers) = match content {
            Some(Content::Image { config, layers }) => (config.as_deref().cloned(), layers.clone()),
            _ => (None, Vec::new()),
        };
        let children = top.map(Manifest::children).unwrap_or_default();
        let images = children
            .iter()
            .filter(|child| child.attests_to().is_none() && !child.media_type.is_index());
        let own =
            children.iter().find(|child| Some(&child.digest) == manifest.map(Manifest::digest));
        Self {
            name: chosen.reference.to_string(),
            root: top.map_or_else(|| chosen.root.clone(), |top| top.descriptor.clone()),
            manifest: manifest.map(|manifest| manifest.descriptor.clone()),
            config,
            layers,
            platforms: images.filter_map(|child| child.platform.clone()).collect(),
            platform: own.and_then(|child| child.platform.clone()),
        }
    }
}

/// What a file is called after an image: `python:3.9` gives `python_3.9`.
pub fn file_name(image: &ImageName) -> String {
    let name = image.name.split('@').next().unwrap_or_default();
    let digest = image.reference.digest.as_ref().filter(|_| image.reference.tag.is_none());
    let name = digest.map_or_else(|| name.to_owned(), |it| format!("{name}_{}", it.short()));
    name.replace(['/', ':', '[', ']'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::make::parse_image;
    use crate::reference::RegistryHost;

    #[test]
    fn a_file_is_called_after_its_image() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, name) in [
            ("python:3.9", "python_3.9"),
            ("python", "python"),
            ("ghcr.io/team/app:1", "ghcr.io_team_app_1"),
            (&format!("app:1@{digest}"), "app_1"),
            (&format!("app@{digest}"), "app_aaaaaaaaaaaa"),
            ("[::1]:5000/app:1", "___1__5000_app_1"),
        ] {
            let parsed = parse_image(image, &RegistryHost::docker_hub()).expect(image);
            assert_eq!(file_name(&parsed), name, "{image}");
        }
    }
}
