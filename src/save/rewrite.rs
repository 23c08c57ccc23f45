//! Layers packed in another way, for engines and tools that do not take them as they are.
//!
//! The config of an image names its layers by their plain bytes, so it and with it the image's ID stay. The manifest names
//! them as they are packed, so it is written anew, and so are the indexes above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::disk::Room;
use crate::failure::hinted;
use crate::manifest::{Content, Descriptor, Manifest, MediaType};
use crate::reference::Reference;
use crate::unpack::{Packing, gzip_writer, plain_reader};

use super::archive::Chosen;
use super::choose::is_image;
use super::incoming::Incoming;
use super::origin::Store;

const BUFFER_BYTES: usize = 256 << 10;
/// How many bytes of a layer tell how it is packed.
const BEGINNING_BYTES: u64 = 4;
/// What `BuildKit` and others note of one manifest in another's descriptor.
const SUBJECT: &str = "vnd.docker.reference.digest";
const HINT_ROOM: &str = "free some space, or name another folder with `--workdir`";

/// Which layers are packed in another way, and where they lie meanwhile.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// Which, and how.
    pub layers: RewrittenLayers,
    /// Where temporary files lie.
    pub workdir: PathBuf,
}

/// Which layers are packed in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewrittenLayers {
    /// All are unpacked.
    AllPlain,
    /// Those of zstd, by their media type or their first bytes, are unpacked.
    ZstdPlain,
    /// The same are packed with gzip.
    ZstdGzip,
}

impl RewrittenLayers {
    fn packs(self) -> bool {
        self == Self::ZstdGzip
    }
}

/// A layer in its new form.
#[derive(Clone, Debug)]
pub(super) struct Rewritten {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) file: Arc<File>,
}

/// The layers of `images`, each once, and the image that it is for.
pub(super) fn layers_of(images: &[Chosen]) -> Vec<(&Reference, &Descriptor)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for image in images {
        for manifest in image.manifests.iter().filter(|manifest| is_image(manifest)) {
            let Content::Image { layers: all, .. } = &manifest.content else { continue };
            for layer in all {
                if seen.insert(&layer.digest) {
                    found.push((&image.reference, layer));
                }
            }
        }
    }
    found
}

/// Those of `layers` that are to be written anew. Engines go by how a layer begins, whatever its media type is, so each is
/// looked at.
pub(super) async fn concerned<'a>(
    store: &Store,
    layers: Vec<(&'a Reference, &'a Descriptor)>,
    which: RewrittenLayers,
    jobs: usize,
) -> anyhow::Result<Vec<(&'a Reference, &'a Descriptor)>> {
    if which == RewrittenLayers::AllPlain {
        return Ok(layers);
    }
    let look = |(reference, layer): (&'a Reference, &'a Descriptor)| async move {
        let is_zstd = layer.media_type.as_str().ends_with("zstd") || {
            let beginning = store.beginning(reference, layer, BEGINNING_BYTES).await?;
            Packing::of(&beginning) == Packing::Zstd
        };
        anyhow::Ok(is_zstd.then_some((reference, layer)))
    };
    // A closure across an await would keep the future from being sent.
    let looks: Vec<_> = layers.into_iter().map(look).collect();
    let found: Vec<Option<_>> = stream::iter(looks).buffered(jobs).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Writes layers anew as they come. Blocks: for a thread of its own.
pub(super) fn write_anew(
    mut incoming: Incoming<'_>,
    layers: &[Descriptor],
    to: &Rewrite,
) -> anyhow::Result<BTreeMap<Digest, Rewritten>> {
    let (mut all, mut room) = (BTreeMap::new(), Room::default());
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(content) = incoming.begin()? {
        let layer = layers.get(content).context("a layer came that nobody asked for")?;
        let rewritten = one(&mut incoming, to, &mut room, &mut buffer);
        // What is wrong with its bytes says more than what came of them.
        let read = incoming.end();
        if let Err(Failed::Disk(error)) = rewritten {
            return Err(error);
        }
        read?;
        let rewritten = rewritten.map_err(|failed| match failed {
            Failed::Disk(error) => error,
            Failed::Layer(error) => hinted(
                format!("cannot unpack layer `{}`: {error}", layer.digest),
                "no engine can run this image; have it built again",
            ),
        })?;
        all.insert(layer.digest.clone(), rewritten);
    }
    Ok(all)
}

enum Failed {
    Layer(io::Error),
    Disk(anyhow::Error),
}

fn one(
    packed: &mut Incoming<'_>,
    to: &Rewrite,
    room: &mut Room,
    buffer: &mut [u8],
) -> Result<Rewritten, Failed> {
    let cannot_write = |error: io::Error| {
        let message = format!("cannot write into `{}`", to.workdir.display());
        Failed::Disk(anyhow::Error::new(error).context(message))
    };
    let mut plain = plain_reader(packed).map_err(Failed::Layer)?;
    let file = tempfile::tempfile_in(&to.workdir).map_err(cannot_write)?;
    let out = Hashed { out: BufWriter::new(file), hasher: Hasher::new(Algorithm::Sha256) };
    let mut out: Box<dyn Finish> =
        if to.layers.packs() { Box::new(gzip_writer(out)) } else { Box::new(out) };
    loop {
        let count = match plain.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failed::Layer(error)),
        };
        out.write_all(&buffer[..count]).map_err(cannot_write)?;
        room.wrote(count as u64, &to.workdir, "unpacking layers", HINT_ROOM)
            .map_err(Failed::Disk)?;
    }
    let Hashed { out, hasher } = out.finish().map_err(cannot_write)?;
    let mut file = out.into_inner().map_err(|error| cannot_write(error.into_error()))?;
    let size = file.stream_position().map_err(cannot_write)?;
    Ok(Rewritten { digest: hasher.finish(), size, file: Arc::new(file) })
}

/// A file and the hash of what was written into it.
struct Hashed {
    out: BufWriter<File>,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What ends with what was written into it.
trait Finish: Write {
    fn finish(self: Box<Self>) -> io::Result<Hashed>;
}

impl Finish for Hashed {
    fn finish(self: Box<Self>) -> io::Result<Hashed> {
        Ok(*self)
    }
}

impl Finish for crate::unpack::GzipWriter<Hashed> {
    fn finish(self: Box<Self>) -> io::Result<Hashed> {
        (*self).finish()
    }
}

/// The images with manifests that name the layers in their new form.
pub(super) fn renamed(
    images: Vec<Chosen>,
    layers: RewrittenLayers,
    rewritten: &BTreeMap<Digest, Rewritten>,
) -> anyhow::Result<Vec<Chosen>> {
    images.into_iter().map(|image| rename(image, layers, rewritten)).collect()
}

fn rename(
    image: Chosen,
    layers: RewrittenLayers,
    rewritten: &BTreeMap<Digest, Rewritten>,
) -> anyhow::Result<Chosen> {
    let mut new: BTreeMap<Digest, Manifest> = BTreeMap::new();
    let mut manifests = Vec::new();
    // Children come before their parents.
    for manifest in image.manifests {
        let mut document: Value = serde_json::from_slice(&manifest.raw)?;
        let mut changed = false;
        if is_image(&manifest) {
            for layer in list(&mut document, "layers") {
                let Some(digest) = digest_of(layer) else { continue };
                let Some(found) = rewritten.get(&digest) else { continue };
                // One that was plain already stays as it is called, unless it was called packed.
                let called = layer.get("mediaType").and_then(Value::as_str).unwrap_or_default();
                if found.digest == digest && !called.ends_with("zstd") && !called.ends_with("gzip")
                {
                    continue;
                }
                let kind = media_type(layer, layers);
                set(layer, &found.digest, found.size);
                layer.insert("mediaType".to_owned(), kind.into());
                layer.remove("urls");
                changed = true;
            }
        }
        for child in list(&mut document, "manifests") {
            if let Some(found) = digest_of(child).and_then(|digest| new.get(&digest)) {
                set(child, found.digest(), found.descriptor.size);
                changed = true;
            }
            let notes = child.get_mut("annotations").and_then(Value::as_object_mut);
            let Some(subject) = notes.and_then(|notes| notes.get_mut(SUBJECT)) else { continue };
            let digest: Option<Digest> = subject.as_str().and_then(|text| text.parse().ok());
            if let Some(found) = digest.and_then(|digest| new.get(&digest)) {
                *subject = found.digest().to_string().into();
                changed = true;
            }
        }
        if !changed {
            manifests.push(manifest);
            continue;
        }
        let raw = serde_json::to_vec(&document)?;
        let mut renamed = Manifest::parse(raw.into(), Some(&manifest.descriptor.media_type))?;
        renamed.descriptor.platform.clone_from(&manifest.descriptor.platform);
        new.insert(manifest.digest().clone(), renamed.clone());
        manifests.push(renamed);
    }
    let now = |former: &Digest| new.get(former).cloned();
    let root = now(&image.root.digest).map_or(image.root, |root| root.descriptor);
    let digest = image.reference.digest.is_some().then(|| root.digest.clone());
    Ok(Chosen {
        reference: Reference { digest, ..image.reference },
        image: image.image.map(|it| now(it.digest()).unwrap_or(it)),
        root,
        manifests,
        index: image.index,
    })
}

fn list<'a>(
    document: &'a mut Value,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = document.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn digest_of(descriptor: &Map<String, Value>) -> Option<Digest> {
    descriptor.get("digest")?.as_str()?.parse().ok()
}

fn set(descriptor: &mut Map<String, Value>, digest: &Digest, size: u64) {
    descriptor.insert("digest".to_owned(), digest.to_string().into());
    descriptor.insert("size".to_owned(), size.into());
}

/// What a layer is called in its new form: Docker's media types stay Docker's.
fn media_type(layer: &Map<String, Value>, layers: RewrittenLayers) -> &'static str {
    let former = layer.get("mediaType").and_then(Value::as_str).map(MediaType::new);
    let is_dockers = former.is_some_and(|it| it.as_str().starts_with("application/vnd.docker."));
    match (is_dockers, layers.packs()) {
        (true, true) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (true, false) => "application/vnd.docker.image.rootfs.diff.tar",
        (false, true) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (false, false) => "application/vnd.oci.image.layer.v1.tar",
    }
}

/// Finds out that temporary files can be written.
pub(super) fn look_at(workdir: &Path) -> anyhow::Result<()> {
    let cannot_write = || format!("cannot write into `{}`", workdir.display());
    tempfile::tempfile_in(workdir).map(drop).with_context(cannot_write)
}
