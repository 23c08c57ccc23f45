//! Where images that are saved come from: registries, payloads, an OCI image layout, a merged folder.

mod folder;
mod payloads;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::baselines::Baselines;
use crate::convert::{Converter, OldImage, ReadLayers};
use crate::digest::{Mismatch, Verifier};
use crate::failure::FromRegistry;
use crate::fetch::{Download, NewEntry, Source};
use crate::make::ImageName;
use crate::manifest::{Descriptor, Manifest};
use crate::payload::Payload;
use crate::progress::Reporter;
use crate::reference::{Reference, TagOrDigest};
use crate::registry::{Pulled, Registries, Registry};
use crate::verify::Problem;
use crate::window::Window;

use super::damaged::DamagedFolder;
use super::sink::Content;
use folder::Folder;
use payloads::Payloads;

/// Where the images come from.
pub enum Origin {
    /// The registries that their names say, and what is known of layers that were read to convert images.
    Registries(Registries, ReadLayers),
    /// Payloads.
    Payloads {
        /// Opened, volumes joined.
        payloads: Vec<Arc<Payload>>,
        /// The far registry, which has what they expect there.
        registry: Option<Registry>,
        /// Where else that is.
        baselines: Baselines,
    },
    /// A folder: an OCI image layout, or a merged one.
    Folder(PathBuf),
}

/// Who is to blame for a blob that is not what it should be.
#[derive(Clone, Debug)]
pub(crate) enum Blame {
    Registry,
    Payload,
    Folder(PathBuf),
}

impl Blame {
    pub(crate) fn error(&self, blob: &Descriptor, mismatch: Mismatch) -> anyhow::Error {
        match self {
            Self::Registry => FromRegistry(mismatch).into(),
            Self::Payload => Problem::Content { entry: blob.digest.blob_path(), mismatch }.into(),
            Self::Folder(path) => {
                let path = path.join(blob.digest.blob_path());
                DamagedFolder::new(path, mismatch.to_string()).into()
            }
        }
    }
}

/// An [`Origin`] that was opened.
pub(crate) enum Store {
    Registries(Registries, Box<Converter>),
    Payloads(Box<Payloads>),
    Folder(Folder),
}

impl Store {
    /// Reads what `origin` says it has. Blocks.
    pub(crate) fn open(origin: Origin, reporter: &Arc<dyn Reporter>) -> anyhow::Result<Self> {
        Ok(match origin {
            Origin::Registries(registries, read) => {
                let store = crate::store::Store {
                    cache: None,
                    folders: Vec::new(),
                    payloads: Vec::new(),
                    reporter: Arc::clone(reporter),
                    runtime: Handle::current(),
                };
                let converter = Converter::new(store, read);
                Self::Registries(registries, Box::new(converter))
            }
            Origin::Payloads { payloads, registry, baselines } => Self::Payloads(Box::new(
                Payloads::new(payloads, registry, baselines, Arc::clone(reporter)),
            )),
            Origin::Folder(path) => Self::Folder(Folder::open(path)?),
        })
    }

    /// The names of all images that are there; of registries nobody knows.
    pub(crate) fn all(&self) -> Vec<ImageName> {
        match self {
            Self::Registries(..) => Vec::new(),
            Self::Payloads(payloads) => payloads.all(),
            Self::Folder(folder) => folder.all(),
        }
    }

    /// What the name of an image stands for.
    pub(crate) async fn root(&self, image: &ImageName) -> anyhow::Result<Manifest> {
        match self {
            Self::Registries(registries, converter) => {
                let reference = &image.reference;
                let registry = registries.registry(&reference.registry)?;
                let repository = &reference.api_repository();
                let pulled = registry.pull(repository, &reference.tag_or_digest()).await;
                match pulled.with_context(|| format!("cannot read image `{reference}`"))? {
                    Pulled::Manifest(manifest) => Ok(*manifest),
                    Pulled::Schema1(document) => {
                        let name = reference.to_string();
                        let (registry, document) = (&registry, &*document);
                        let image = OldImage { registry, repository, name, document };
                        Ok(converter.convert(&image).await?.manifest)
                    }
                }
            }
            Self::Payloads(payloads) => payloads.root(image),
            Self::Folder(folder) => folder.root(image),
        }
    }

    /// A manifest that an index of the image names.
    pub(crate) async fn child(
        &self,
        image: &ImageName,
        child: &Descriptor,
    ) -> anyhow::Result<Manifest> {
        match self {
            Self::Registries(registries, _) => {
                let which = TagOrDigest::Digest(child.digest.clone());
                manifest(registries, &image.reference, &which).await
            }
            Self::Payloads(payloads) => payloads.manifest(&image.name, &child.digest),
            Self::Folder(folder) => folder.manifest(child),
        }
    }

    /// The name of an image as others know it.
    pub(crate) fn reference(&self, image: &ImageName) -> Reference {
        match self {
            Self::Registries(..) => image.reference.clone(),
            Self::Payloads(payloads) => payloads.reference(image),
            Self::Folder(folder) => folder.reference(image),
        }
    }

    /// Gets ready to read these blobs: rebuilds those that travelled as deltas, and looks for those that did not.
    pub(crate) async fn prepare(
        &mut self,
        blobs: &[(&Reference, &Descriptor)],
        jobs: usize,
    ) -> anyhow::Result<()> {
        match self {
            Self::Payloads(payloads) => payloads.prepare(blobs, jobs).await,
            Self::Registries(..) | Self::Folder(_) => Ok(()),
        }
    }

    /// Where the bytes of a blob are, and who is to blame for them.
    pub(crate) fn source(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> anyhow::Result<(Source, Blame)> {
        match self {
            Self::Registries(registries, converter) => {
                if let Some(made) = converter.config(&blob.digest) {
                    return Ok((Source::in_memory(made), Blame::Registry));
                }
                let remote = if blob.is_foreign() {
                    registries.foreign_blob(blob)?
                } else {
                    let registry = registries.registry(&reference.registry)?;
                    registry.blob(&reference.api_repository(), blob)
                };
                Ok((Source::Registry(remote), Blame::Registry))
            }
            Self::Payloads(payloads) => payloads.source(reference, blob),
            Self::Folder(folder) => folder.source(blob),
        }
    }

    /// What it takes to fetch these blobs, in order.
    pub(crate) fn downloads(
        &self,
        blobs: &[(&Reference, &Descriptor)],
    ) -> anyhow::Result<(Vec<Content>, Vec<Download>)> {
        let download = |(place, (reference, blob)): (usize, &(&Reference, &Descriptor))| {
            let (source, blame) = self.source(reference, blob)?;
            Ok(fetched(place, reference, blob, source, blame))
        };
        blobs.iter().enumerate().map(download).collect()
    }

    /// The first `length_bytes` bytes of a blob, or all of a shorter one, which nothing was compared with.
    pub(crate) async fn beginning(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        length_bytes: u64,
    ) -> anyhow::Result<Vec<u8>> {
        let length_bytes = length_bytes.min(blob.size);
        let mut bytes = Vec::new();
        let reader: Box<dyn Read + Send> = match self.source(reference, blob)?.0 {
            Source::Registry(remote) => {
                let found = remote.open(0..length_bytes).await;
                let mut stream =
                    found.with_context(|| format!("cannot read image `{reference}`"))?;
                while (bytes.len() as u64) < length_bytes
                    && let Some(more) = stream.next().await?
                {
                    bytes.extend_from_slice(&more);
                }
                return Ok(bytes);
            }
            Source::File(file) => Box::new(Window::new(file, 0, length_bytes)),
            Source::Reader(open) => open(0)?,
        };
        reader.take(length_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The content of a blob that is small enough to be in memory.
    pub(crate) async fn small(
        &self,
        image: &ImageName,
        blob: &Descriptor,
    ) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let (source, blame) = match self {
            Self::Payloads(payloads) => payloads.small(&image.reference, blob).await?,
            _ => self.source(&image.reference, blob)?,
        };
        let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
        match source {
            Source::Registry(remote) => {
                let mut stream = remote.open(0..blob.size).await?;
                while let Some(more) = stream.next().await? {
                    verifier.update(&more).map_err(|error| blame.error(blob, error))?;
                    bytes.extend_from_slice(&more);
                }
            }
            Source::File(file) => {
                bytes = vec![0; usize::try_from(blob.size)?];
                crate::window::read_exact_at(&file, 0, &mut bytes)?;
                verifier.update(&bytes).map_err(|error| blame.error(blob, error))?;
            }
            Source::Reader(open) => {
                bytes = vec![0; usize::try_from(blob.size)?];
                open(0)?.read_exact(&mut bytes)?;
                verifier.update(&bytes).map_err(|error| blame.error(blob, error))?;
            }
        }
        verifier.finish().map_err(|error| blame.error(blob, error))?;
        Ok(bytes)
    }
}

/// What it takes to fetch a blob from a source.
pub(super) fn fetched(
    place: usize,
    reference: &Reference,
    blob: &Descriptor,
    source: Source,
    blame: Blame,
) -> (Content, Download) {
    let entry = NewEntry {
        content: place,
        size_bytes: blob.size,
        digest: blob.digest.clone(),
        blob: blob.digest.clone(),
        image: reference.to_string(),
    };
    let content = Content { blob: blob.clone(), blame };
    (content, Download { entry, kept: Vec::new(), source })
}

async fn manifest(
    registries: &Registries,
    reference: &Reference,
    which: &TagOrDigest,
) -> anyhow::Result<Manifest> {
    let registry = registries.registry(&reference.registry)?;
    let found = registry.manifest(&reference.api_repository(), which).await;
    found.with_context(|| format!("cannot read image `{reference}`"))
}
