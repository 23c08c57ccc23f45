//! `save`: images as files that engines load, without a registry at the far side.
//!
//! Resolve, choose a platform, write. Promises that blobs and manifests are byte for byte those of the registry, so
//! that image IDs and digests are too; that a tar is streamed, its length known before its first byte; and that a
//! file or folder is there whole or not at all. docs/save.md lays down what each output holds.

mod archive;
mod catalog;
mod choose;
mod damaged;
mod folders;
mod incoming;
mod origin;
mod planned;
mod rewrite;
mod select;
mod sink;
mod tar;
mod tarball;
mod until;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::failure::Usage;
use crate::fetch::{Download, PIECES_WAITING_MAX, Piece, Source, fetch_in_order};
use crate::make::ImageName;
use crate::manifest::Descriptor;
use crate::progress::{Event, Reporter};
use crate::reference::Reference;
use crate::replace::Replacement;
use crate::units::count;

pub use choose::{Platforms, machine_platform};
pub use damaged::DamagedFolder;
pub use origin::Origin;
pub use planned::{PlannedTar, SavedImage, file_name, plan_tar};
pub use rewrite::{Rewrite, RewrittenLayers};

pub(crate) use archive::Chosen;
pub(crate) use choose::{Artifacts, choose};
pub(crate) use folders::NewFolder;
pub(crate) use incoming::{Incoming, read_layers};
pub(crate) use origin::Store;

use archive::Readers;
use folders::{FolderSink, Merged};
use origin::{Blame, fetched};
use rewrite::Rewritten;
use sink::{Abandoned, Content, Sink};
use tarball::{Head, Tarball};
use until::until_ended;

/// How many images are resolved at once.
const IMAGES_AT_ONCE: usize = 8;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is saved.
    Refuse,
    /// It is replaced when the new one is whole.
    Replace,
}

/// How images lie in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// An OCI image layout.
    Oci,
    /// What the tar holds: an OCI image layout that `docker load` takes once it is a tar.
    Docker,
    /// Blobs that many images share, and a catalog of them; more can be added.
    Merged,
}

/// Where the images go.
pub enum Target {
    /// One tar.
    File(PathBuf, Existing),
    /// One tar, streamed.
    Stream(Box<dyn Write + Send>),
    /// A folder.
    Folder(PathBuf, Layout),
}

/// What to save, from where, and where to.
pub struct SaveRequest {
    /// The images; none for all that the origin names, which registries do not.
    pub wanted: Vec<ImageName>,
    /// Where they come from.
    pub origin: Origin,
    /// What of them.
    pub platforms: Platforms,
    /// Which layers are packed in another way; none in most cases.
    pub rewrite: Option<Rewrite>,
    /// Where they go.
    pub target: Target,
    /// How many transfers run at once.
    pub jobs: NonZeroUsize,
}

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveReport {
    /// The full names of the images.
    pub images: Vec<String>,
    /// How many blobs were written.
    pub blobs: u64,
    /// How many were there before.
    pub present: u64,
    /// How many bytes were written: the length of a tar, or of all new blobs.
    pub bytes: u64,
}

/// Saves images.
///
/// # Errors
/// When an image or its platform is not there, when the target is ([`Usage`]), when a registry fails or sends
/// something else than its digest says, or when the target cannot be written. A file or folder is then what it was
/// before; a merged folder keeps the blobs that were right.
pub async fn save(request: SaveRequest, reporter: Arc<dyn Reporter>) -> anyhow::Result<SaveReport> {
    let SaveRequest { wanted, origin, platforms, rewrite, target, jobs } = request;
    let output = Output::begin(target)?;
    let opening = Arc::clone(&reporter);
    let store = spawn_blocking(move || Store::open(origin, &opening)).await??;
    let anew = Anew::default();
    let mut saving = Saving { store, output, anew, jobs: jobs.get(), reporter };
    let mut images = saving.choose(wanted, &platforms).await?;
    if let Some(rewrite) = rewrite {
        images = saving.rewrite(images, rewrite).await?;
    }
    saving.write(images).await
}

/// Where things go, found to be writable.
enum Output {
    File(Replacement, PathBuf),
    Stream(Box<dyn Write + Send>),
    Folder(NewFolder, Readers),
    Merged(Box<Merged>, PathBuf),
}

impl Output {
    fn begin(target: Target) -> anyhow::Result<Self> {
        Ok(match target {
            Target::File(path, Existing::Refuse) => Self::File(Replacement::create(&path)?, path),
            Target::File(path, Existing::Replace) => Self::File(Replacement::begin(&path)?, path),
            Target::Stream(stream) => Self::Stream(stream),
            Target::Folder(path, Layout::Merged) => {
                Self::Merged(Box::new(Merged::open(&path)?), path)
            }
            Target::Folder(path, Layout::Oci) => {
                Self::Folder(NewFolder::begin(&path)?, Readers::Oci)
            }
            Target::Folder(path, Layout::Docker) => {
                Self::Folder(NewFolder::begin(&path)?, Readers::All)
            }
        })
    }

    /// Who reads it.
    fn readers(&self) -> Readers {
        match self {
            Self::Folder(_, readers) => *readers,
            Self::File(..) | Self::Stream(_) => Readers::All,
            Self::Merged(..) => Readers::Oci,
        }
    }
}

/// Layers that were written anew, and where they lie meanwhile.
#[derive(Default)]
struct Anew {
    files: BTreeMap<Digest, Arc<File>>,
    workdir: PathBuf,
    /// How much was read for them.
    read_bytes: u64,
}

struct Saving {
    store: Store,
    output: Output,
    anew: Anew,
    jobs: usize,
    reporter: Arc<dyn Reporter>,
}

impl Saving {
    async fn choose(
        &self,
        wanted: Vec<ImageName>,
        platforms: &Platforms,
    ) -> anyhow::Result<Vec<Chosen>> {
        let readers = self.output.readers();
        choose_all(&self.store, readers, wanted, platforms, self.reporter.as_ref()).await
    }

    /// Writes layers anew, and has the manifests name them so.
    async fn rewrite(
        &mut self,
        images: Vec<Chosen>,
        rewrite: Rewrite,
    ) -> anyhow::Result<Vec<Chosen>> {
        let layers = rewrite::layers_of(&images);
        self.store.prepare(&layers, self.jobs).await?;
        let concerned = rewrite::concerned(&self.store, layers, rewrite.layers, self.jobs).await?;
        if concerned.is_empty() {
            return Ok(images);
        }
        rewrite::look_at(&rewrite.workdir)?;
        let (contents, downloads) = self.store.downloads(&concerned)?;
        let layers: Vec<Descriptor> = concerned.iter().map(|(_, layer)| (*layer).clone()).collect();
        let read_bytes = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let reporter = &self.reporter;
        reporter.phase(format!("unpacking {}", count(layers.len() as u64, "layer")));
        reporter.report(Event::Total { blobs: layers.len() as u64, bytes: read_bytes });
        let (which, workdir) = (rewrite.layers, rewrite.workdir.clone());
        let work = move |incoming: Incoming<'_>| rewrite::write_anew(incoming, &layers, &rewrite);
        let written: BTreeMap<Digest, Rewritten> =
            read_layers(contents, downloads, self.jobs, reporter, work).await?;
        let former: Vec<Digest> = images.iter().map(|image| image.root.digest.clone()).collect();
        let images = rewrite::renamed(images, which, &written)?;
        for (image, former) in images.iter().zip(former) {
            if image.root.digest != former {
                reporter.note(format!(
                    "`{}` has another manifest than it had, `{}`, as its layers are packed in another way; its \
                     config, and so Docker's image ID, is the same",
                    image.reference, image.root.digest
                ));
            }
        }
        let files = written.into_values().map(|layer| (layer.digest, layer.file)).collect();
        self.anew = Anew { files, workdir, read_bytes };
        Ok(images)
    }

    async fn write(mut self, images: Vec<Chosen>) -> anyhow::Result<SaveReport> {
        let all = archive::blobs(&images);
        let (wanted, present) = self.without_present(all).await?;
        let (contents, downloads) = self.downloads(&wanted).await?;
        let documents = match &self.output {
            // A merged folder names its images in its catalog.
            Output::Merged(..) => manifests(&images),
            output => archive::documents(&images, output.readers())?,
        };
        let descriptors: Vec<&Descriptor> = wanted.iter().map(|(_, blob)| *blob).collect();
        let mut report = SaveReport {
            images: images.iter().map(|image| image.reference.to_string()).collect(),
            blobs: wanted.len() as u64,
            present,
            bytes: descriptors.iter().fold(0, |sum, blob| sum.saturating_add(blob.size)),
        };
        let (blobs, bytes) = (
            report.blobs + self.anew.files.len() as u64,
            report.bytes.saturating_add(self.anew.read_bytes),
        );
        self.reporter.report(Event::Total { blobs, bytes });
        let (jobs, reporter) = (self.jobs, Arc::clone(&self.reporter));
        match self.output {
            Output::File(replacement, path) => {
                let head = Head::new(&documents, &descriptors)?;
                report.bytes = head.tar_bytes(&descriptors)?;
                let file: File = replacement.writer()?;
                let name = format!("`{}`", path.display());
                let sink = move || Tarball::begin(file, name, &head);
                carry(sink, contents, downloads, jobs, &reporter).await?;
                spawn_blocking(move || replacement.finish()).await??;
            }
            Output::Stream(stream) => {
                let head = Head::new(&documents, &descriptors)?;
                report.bytes = head.tar_bytes(&descriptors)?;
                let sink = move || Tarball::begin(stream, "to stdout".to_owned(), &head);
                carry(sink, contents, downloads, jobs, &reporter).await?;
            }
            Output::Folder(folder, _) => {
                let root = folder.meanwhile().to_owned();
                let sink = move || FolderSink::begin(&root, &documents);
                carry(sink, contents, downloads, jobs, &reporter).await?;
                spawn_blocking(move || folder.finish()).await??;
            }
            Output::Merged(mut merged, path) => {
                let root = path.clone();
                let sink = move || FolderSink::begin(&root, &documents);
                carry(sink, contents, downloads, jobs, &reporter).await?;
                for image in images {
                    let name = image.reference.to_string();
                    let former = merged.catalog.images.insert(name.clone(), image.root.clone());
                    if former.is_some_and(|former| former.digest != image.root.digest) {
                        reporter.note(format!("`{name}` was another image in the folder before"));
                    }
                }
                merged.catalog.write(&path)?;
            }
        }
        Ok(report)
    }

    /// Leaves those blobs that a merged folder has already, and says how many these are.
    async fn without_present<'a>(
        &self,
        blobs: Vec<(&'a Reference, &'a Descriptor)>,
    ) -> anyhow::Result<(Vec<(&'a Reference, &'a Descriptor)>, u64)> {
        let Output::Merged(merged, _) = &self.output else { return Ok((blobs, 0)) };
        let (mut lacking, mut present) = (Vec::new(), 0);
        for (reference, blob) in blobs {
            let (found, reporter) = (merged.at(blob), Arc::clone(&self.reporter));
            if spawn_blocking(move || found.is_right(reporter.as_ref())).await?? {
                present += 1;
            } else {
                lacking.push((reference, blob));
            }
        }
        Ok((lacking, present))
    }

    async fn downloads(
        &mut self,
        blobs: &[(&Reference, &Descriptor)],
    ) -> anyhow::Result<(Vec<Content>, Vec<Download>)> {
        let Anew { files, workdir, .. } = &self.anew;
        let former = blobs.iter().copied().filter(|(_, blob)| !files.contains_key(&blob.digest));
        self.store.prepare(&former.collect::<Vec<_>>(), self.jobs).await?;
        let download = |(place, (reference, blob)): (usize, &(&Reference, &Descriptor))| {
            let (source, blame) = match files.get(&blob.digest) {
                Some(file) => (Source::File(Arc::clone(file)), Blame::Folder(workdir.clone())),
                None => self.store.source(reference, blob)?,
            };
            Ok(fetched(place, reference, blob, source, blame))
        };
        blobs.iter().enumerate().map(download).collect()
    }
}

/// What is saved of each image.
async fn choose_all(
    store: &Store,
    readers: Readers,
    wanted: Vec<ImageName>,
    platforms: &Platforms,
    reporter: &dyn Reporter,
) -> anyhow::Result<Vec<Chosen>> {
    let is_all = wanted.is_empty();
    let wanted = if is_all { store.all() } else { wanted };
    if wanted.is_empty() {
        return Err(Usage::new("no image was named").with_hint("name images as arguments").into());
    }
    let artifacts = match readers {
        Readers::Oci => Artifacts::Taken,
        Readers::All if is_all => Artifacts::Left,
        Readers::All => Artifacts::Refused,
    };
    reporter.phase(format!("resolving {}", count(wanted.len() as u64, "image")));
    let choosing = wanted.iter().map(|image| choose(store, image, platforms, artifacts, reporter));
    // A closure across an await would keep the future from being sent.
    let choosing: Vec<_> = choosing.collect();
    let images: Vec<Option<Chosen>> =
        stream::iter(choosing).buffered(IMAGES_AT_ONCE).try_collect().await?;
    let images: Vec<Chosen> = images.into_iter().flatten().collect();
    archive::refuse_collisions(&images)?;
    Ok(images)
}

/// All manifests, as files.
fn manifests(images: &[Chosen]) -> Vec<(String, Bytes)> {
    let manifests = images.iter().flat_map(|image| &image.manifests);
    manifests.map(|manifest| (manifest.digest().blob_path(), manifest.raw.clone())).collect()
}

/// Fetches everything and has it written to the sink that `begin` opens, on a thread of its own.
async fn carry<S: Sink + 'static>(
    begin: impl FnOnce() -> anyhow::Result<S> + Send + 'static,
    contents: Vec<Content>,
    downloads: Vec<Download>,
    jobs: usize,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let (_until_ended, running) = until_ended();
    // Dropped before what waits for the thread that reads from it.
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let events = Arc::clone(reporter);
    let writer = spawn_blocking(move || {
        let _running = running;
        sink::write(&mut begin()?, waiting, &contents, &events)
    });
    let sent = async {
        fetch_in_order(downloads, jobs, &pieces, Arc::clone(reporter)).await?;
        pieces.send(Piece::Complete).await?;
        anyhow::Ok(())
    }
    .await;
    drop(pieces);
    let written = writer.await.context("the writer broke off")?;
    match (sent, written) {
        (Ok(()), Ok(())) => Ok(()),
        // Where the writer failed, the senders only noticed that it was gone.
        (_, Err(error)) if !error.is::<Abandoned>() => Err(error),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
    }
}
