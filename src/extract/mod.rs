//! `extract`: an image as the tree of files that a container would see, or each of its layers as one.
//!
//! Layers are fetched while former ones are unpacked, in bounded memory and without temporary files. Promises that
//! nothing is written outside of the folder; that the tree is what the OCI's layer.md says, with all that the system lets
//! files have; that what it lacks is listed; and that a run that fails leaves no tree. docs/extract.md lays down the rest.

mod name;
mod report;
mod tree;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::task::spawn_blocking;

use crate::failure::Usage;
use crate::make::ImageName;
use crate::manifest::{Content as Holds, Descriptor};
use crate::progress::{Event, Reporter};
use crate::reference::Reference;
use crate::save::{
    Artifacts, Chosen, Incoming, NewFolder, Origin, Platforms, Store, choose, read_layers,
};
use crate::units::count;

use unpack::{Numbered, Outcome, Trees};

pub use report::{ExtractReport, ExtractedLayer, NotCreated, NotSet};

/// Where the tree of all layers is, where there are others too.
const MERGED_NAME: &str = "merged";
/// Where the trees of single layers are.
const LAYERS_NAME: &str = "layers";

/// Which trees are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// That of all layers.
    Merged,
    /// That of this layer alone, 1 being the lowest, with its whiteouts as files.
    Layer(NonZeroUsize),
    /// That of all layers, and beside it that of each.
    Each,
}

/// What to extract, from where, and where to.
pub struct ExtractRequest {
    /// The image; none for the only one that the origin names.
    pub wanted: Option<ImageName>,
    /// Where it comes from.
    pub origin: Origin,
    /// Which platform of it.
    pub platforms: Platforms,
    /// What of it.
    pub parts: Parts,
    /// The folder, which must be empty or not there.
    pub folder: PathBuf,
    /// How many transfers run at once.
    pub jobs: NonZeroUsize,
}

/// Extracts an image.
///
/// # Errors
/// When the image, its platform or the layer is not there, when the folder is not empty ([`Usage`]), when a registry
/// fails or sends something else than its digest says, when a layer is no tar, or when the folder cannot be written. The
/// folder is then what it was before. That something cannot be created is no error, but in the report.
pub async fn extract(
    request: ExtractRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<ExtractReport> {
    let ExtractRequest { wanted, origin, platforms, parts, folder: path, jobs } = request;
    let folder = NewFolder::begin(&path)?;
    let opening = Arc::clone(&reporter);
    let mut store = spawn_blocking(move || Store::open(origin, &opening)).await??;
    let image = the_one(&store, wanted)?;
    reporter.phase("resolving 1 image".to_owned());
    let chosen = choose(&store, &image, &platforms, Artifacts::Refused, reporter.as_ref()).await?;
    let chosen = chosen.context("an artifact was taken for an image")?;
    let layers = layers(&chosen, parts)?;
    let blobs: Vec<(&Reference, &Descriptor)> =
        layers.iter().map(|(_, layer)| (&chosen.reference, layer)).collect();
    store.prepare(&blobs, jobs.get()).await?;
    let (contents, downloads) = store.downloads(&blobs)?;
    let trees = plant(folder.meanwhile(), parts, &layers)?;
    let bytes = contents.iter().fold(0_u64, |sum, it| sum.saturating_add(it.blob.size));
    reporter.report(Event::Total { blobs: contents.len() as u64, bytes });
    let named = layers.iter().map(|(number, layer)| {
        let name = format!("layer {number} of `{}`, `{}`", image.name, layer.digest);
        Numbered { number: *number, name }
    });
    let numbered: Vec<Numbered> = named.collect();
    let (root, events) = (folder.meanwhile().to_owned(), Arc::clone(&reporter));
    let work = move |incoming: Incoming<'_>| -> anyhow::Result<Outcome> {
        unpack::unpack(incoming, &numbered, &trees, &root, &events)
    };
    let outcome = read_layers(contents, downloads, jobs.get(), &reporter, work).await?;
    let single = |number: usize| match parts {
        Parts::Merged => None,
        Parts::Layer(_) => Some(path.clone()),
        Parts::Each => Some(path.join(LAYERS_NAME).join(number.to_string())),
    };
    let report = ExtractReport {
        image: chosen.reference.to_string(),
        digest: chosen.image.map_or(chosen.root.digest, |image| image.descriptor.digest),
        merged: match parts {
            Parts::Merged => Some(path.clone()),
            Parts::Layer(_) => None,
            Parts::Each => Some(path.join(MERGED_NAME)),
        },
        layers: layers
            .into_iter()
            .map(|(number, layer)| ExtractedLayer {
                number,
                digest: layer.digest,
                folder: single(number),
            })
            .collect(),
        folder: path.clone(),
        entries: outcome.entries,
        bytes: outcome.bytes,
        not_created: outcome.not_created,
        not_set: outcome.not_set,
    };
    spawn_blocking(move || finish(folder, &path, outcome.modes)).await??;
    Ok(report)
}

/// The image that is meant.
fn the_one(store: &Store, wanted: Option<ImageName>) -> anyhow::Result<ImageName> {
    if let Some(wanted) = wanted {
        return Ok(wanted);
    }
    let mut all = store.all();
    match (all.pop(), all.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => Err(Usage::new("no image was named").with_hint("name one").into()),
        (Some(last), others) => {
            let names = others.iter().map(|image| image.name.as_str());
            let names: Vec<&str> = names.chain([last.name.as_str()]).collect();
            Err(Usage::new(format!("expected one image, found {}", names.len()))
                .with_hint(format!("name one of {}", names.join(", ")))
                .into())
        }
    }
}

/// The layers that are read, with their numbers. One that is used twice comes twice.
fn layers(chosen: &Chosen, parts: Parts) -> anyhow::Result<Vec<(usize, Descriptor)>> {
    let Some(Holds::Image { layers, .. }) = chosen.image.as_ref().map(|image| &image.content)
    else {
        bail!("`{}` is no image", chosen.reference);
    };
    let mut numbered: Vec<_> =
        layers.iter().enumerate().map(|(at, layer)| (at + 1, layer.clone())).collect();
    if let Parts::Layer(wanted) = parts {
        numbered.retain(|(number, _)| *number == wanted.get());
        if numbered.is_empty() {
            let found = count(layers.len() as u64, "layer");
            let message = format!("`{}` has no layer {wanted}, it has {found}", chosen.reference);
            bail!(Usage::new(message).with_hint("1 is the lowest layer"));
        }
    }
    Ok(numbered)
}

/// Makes the folders of all trees below `root`.
fn plant(root: &Path, parts: Parts, layers: &[(usize, Descriptor)]) -> anyhow::Result<Trees> {
    let single = |folder: &dyn Fn(usize) -> PathBuf| -> BTreeMap<usize, PathBuf> {
        layers.iter().map(|(number, _)| (*number, folder(*number))).collect()
    };
    let trees = match parts {
        Parts::Merged => Trees { merged: Some(root.to_owned()), single: BTreeMap::new() },
        Parts::Layer(_) => Trees { merged: None, single: single(&|_| root.to_owned()) },
        Parts::Each => Trees {
            merged: Some(root.join(MERGED_NAME)),
            single: single(&|number| root.join(LAYERS_NAME).join(number.to_string())),
        },
    };
    for path in trees.single.values().chain(&trees.merged) {
        let made = fs::create_dir_all(path).and_then(|()| as_implied(path));
        made.with_context(|| format!("cannot create `{}`", path.display()))?;
    }
    Ok(trees)
}

/// Gives a tree the mode that it has if no layer says another.
#[cfg(unix)]
fn as_implied(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it is set")]
fn as_implied(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Puts everything in its place. Folders get their modes there, as nobody could move some of them afterwards.
fn finish(
    folder: NewFolder,
    path: &Path,
    modes: Vec<(PathBuf, BTreeMap<PathBuf, u32>)>,
) -> anyhow::Result<()> {
    let meanwhile = folder.meanwhile().to_owned();
    folder.finish()?;
    for (tree, modes) in modes {
        let below = tree.strip_prefix(&meanwhile).unwrap_or(&tree);
        let at = path.join(below);
        tree::set_modes(&at, modes)
            .with_context(|| format!("cannot set the modes of folders in `{}`", at.display()))?;
    }
    Ok(())
}
