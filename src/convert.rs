//! Images that a registry only has as Docker's schema 1, made into schema 2.
//!
//! A config names the plain bytes of each layer, so every layer is read once before it is known. It passes through memory:
//! nothing is put on disk but in a cache that somebody asked for. One image is converted at a time, some of its layers at once; what
//! was read once is known for all images.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::failure::Unusable;
use crate::fetch::PIECES_WAITING_MAX;
use crate::manifest::{Descriptor, MediaType};
use crate::progress::{Arrival, Event, Reporter};
use crate::reference::RepositoryName;
use crate::registry::{Registry, RemoteBlob};
use crate::schema1::{Converted, ReadLayer, Schema1};
use crate::store::Store;
use crate::units::{count, format_bytes};
use crate::unpack::{Packing, plain_reader};

/// How many layers are read at once.
const LAYERS_AT_ONCE: usize = 4;
/// How many sizes are asked for at once.
const REQUESTS_AT_ONCE: usize = 8;
/// How many layers are remembered. A server may run for years.
const KNOWN_MAX: usize = 10_000;
/// How much plain content is hashed at a time.
const BUFFER_BYTES: usize = 128 << 10;
/// How much of a layer tells its packing.
const MAGIC_BYTES: u64 = 4;
/// What a layer is called before it is known how it is packed.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What is known of layers that were read to convert images. Clones share it, so that none is read twice.
///
/// A layer is known by its digest: what was found out holds wherever it lies.
#[derive(Clone, Debug, Default)]
pub struct ReadLayers(Arc<Mutex<BTreeMap<Digest, ReadLayer>>>);

impl ReadLayers {
    fn get(&self, digest: &Digest) -> Option<ReadLayer> {
        self.lock().get(digest).cloned()
    }

    fn add(&self, layer: ReadLayer) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(layer.digest.clone(), layer);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, ReadLayer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Converts images.
pub(crate) struct Converter {
    store: Arc<Store>,
    reporter: Arc<dyn Reporter>,
    /// Held while an image is converted.
    turn: tokio::sync::Mutex<()>,
    read: ReadLayers,
    /// The configs that were made, which no registry has.
    configs: Mutex<BTreeMap<Digest, Bytes>>,
}

/// An image of schema 1 and where it is.
pub(crate) struct OldImage<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) repository: &'a RepositoryName,
    /// What it is called in messages.
    pub(crate) name: String,
    pub(crate) document: &'a Schema1,
}

/// An image that stays what it is.
#[derive(Debug, thiserror::Error)]
#[error("cannot convert `{0}`, which its registry has as Docker's schema 1 only")]
pub(crate) struct CannotConvert(String);

impl Converter {
    /// Reads layers by way of `store`, but for those that were `read` before.
    pub(crate) fn new(store: Store, read: ReadLayers) -> Self {
        let reporter = Arc::clone(&store.reporter);
        let (turn, configs) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { store: Arc::new(store), reporter, turn, read, configs }
    }

    /// Makes `image` one of schema 2, and says so.
    ///
    /// # Errors
    /// When a layer cannot be had, is not what its digest says or cannot be unpacked; when the image does not say what a
    /// config needs.
    pub(crate) async fn convert(&self, image: &OldImage<'_>) -> anyhow::Result<Converted> {
        self.try_to_convert(image).await.with_context(|| CannotConvert(image.name.clone()))
    }

    async fn try_to_convert(&self, image: &OldImage<'_>) -> anyhow::Result<Converted> {
        let _turn = self.turn.lock().await;
        let document = image.document;
        let known = document.layers().filter_map(|digest| self.read.get(digest));
        let mut layers: BTreeMap<Digest, ReadLayer> =
            known.map(|layer| (layer.digest.clone(), layer)).collect();
        let unread = image.layers(|digest| !layers.contains_key(digest)).await?;
        if !unread.is_empty() {
            let bytes = unread.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
            self.reporter.phase(format!(
                "reading {} ({}) to convert `{}`",
                count(unread.len() as u64, "layer"),
                format_bytes(bytes),
                image.name
            ));
            self.reporter.report(Event::Total { blobs: unread.len() as u64, bytes });
            let reading = unread.into_iter().map(|layer| self.read_layer(image, layer));
            let reading: Vec<_> = reading.collect();
            let mut reading = stream::iter(reading).buffer_unordered(LAYERS_AT_ONCE);
            while let Some(layer) = reading.try_next().await? {
                self.read.add(layer.clone());
                layers.insert(layer.digest.clone(), layer);
            }
        }
        let layer = |digest: &Digest| {
            layers.get(digest).cloned().with_context(|| format!("layer `{digest}` was not read"))
        };
        let layers: Vec<ReadLayer> = document.layers().map(layer).collect::<anyhow::Result<_>>()?;
        let converted = document.convert(&layers).map_err(|error| {
            let unusable = Unusable::new("its history does not say what a config needs");
            anyhow::Error::new(error).context(unusable)
        })?;
        let (former, digest) = (&converted.former, converted.manifest.digest());
        self.reporter.note(format!(
            "`{}` is served as Docker's schema 1 only and is converted to schema 2: its digest was `{former}`, and \
             is now `{digest}`",
            image.name
        ));
        let config = converted.config.clone();
        self.lock().insert(Digest::of(&config), config);
        Ok(converted)
    }

    async fn read_layer(
        &self,
        image: &OldImage<'_>,
        layer: Descriptor,
    ) -> anyhow::Result<ReadLayer> {
        let digest = layer.digest.clone();
        let read = if let Some(read) = self.near(layer.clone()).await? {
            read
        } else {
            let read = self.far(image.registry.blob(image.repository, &layer), layer).await;
            read.with_context(|| format!("cannot read layer `{digest}`"))?
        };
        self.reporter.report(Event::BlobFinished { digest, how: Arrival::Read });
        Ok(read)
    }

    /// The layer as it lies in a cache or folder, if it is there and right.
    async fn near(&self, layer: Descriptor) -> anyhow::Result<Option<ReadLayer>> {
        let store = Arc::clone(&self.store);
        let read = spawn_blocking(move || {
            let may_be_there = store.may_have(&layer.digest);
            may_be_there.then(|| store.read(&layer, &[], |packed| look_at(packed, &layer)).ok())
        });
        Ok(read.await?.flatten())
    }

    /// The layer as its registry sends it. Where nobody waits for it any more, all of this ends.
    async fn far(&self, remote: RemoteBlob, layer: Descriptor) -> anyhow::Result<ReadLayer> {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let (store, size_bytes) = (Arc::clone(&self.store), layer.size);
        let reading = spawn_blocking(move || {
            let packed = Pieces { pieces, piece: Bytes::new() };
            store.read_from(packed, &layer, |packed| look_at(packed, &layer))
        });
        let sent = async {
            let mut stream = remote.open(0..size_bytes).await?;
            while let Some(piece) = stream.next().await? {
                if sender.send(piece).await.is_err() {
                    // Whoever reads has failed, and says why.
                    break;
                }
            }
            anyhow::Ok(())
        }
        .await;
        drop(sender);
        let read = reading.await?;
        sent.and(read)
    }

    /// The bytes of a config that was made here.
    pub(crate) fn config(&self, digest: &Digest) -> Option<Bytes> {
        self.lock().get(digest).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Bytes>> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OldImage<'_> {
    /// The layers that are `wanted`, each once, with the sizes that the registry says: schema 1 says none.
    ///
    /// # Errors
    /// When the registry does not have one.
    pub(crate) async fn layers(
        &self,
        wanted: impl Fn(&Digest) -> bool,
    ) -> anyhow::Result<Vec<Descriptor>> {
        let mut seen = BTreeSet::new();
        let layers = self.document.layers().filter(|digest| wanted(digest) && seen.insert(*digest));
        let sized = layers.map(|digest| async move {
            let size = self.registry.blob_size(self.repository, digest).await?;
            let size = size.ok_or_else(|| {
                let host = self.registry.host();
                Unusable::new(format!("`{host}` does not have layer `{digest}`"))
                    .with_hint("have the image pushed there again, or leave it out")
            })?;
            anyhow::Ok(layer(digest.clone(), size))
        });
        let sized: Vec<_> = sized.collect();
        stream::iter(sized).buffered(REQUESTS_AT_ONCE).try_collect().await
    }
}

/// A layer as a descriptor. How it is packed is not known yet.
pub(crate) fn layer(digest: Digest, size_bytes: u64) -> Descriptor {
    Descriptor::new(MediaType::new(LAYER), digest, size_bytes)
}

/// Reads a packed layer to its end.
fn look_at(packed: &mut (dyn Read + Send), layer: &Descriptor) -> anyhow::Result<ReadLayer> {
    let mut beginning = Vec::new();
    packed.take(MAGIC_BYTES).read_to_end(&mut beginning)?;
    let packing = Packing::of(&beginning);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let unpacked = plain_reader(io::Cursor::new(beginning).chain(&mut *packed))
        .and_then(|mut plain| copy(&mut plain, &mut hasher));
    // What is wrong with its bytes says more than what came of them.
    io::copy(packed, &mut io::sink())?;
    unpacked.context(
        Unusable::new("it cannot be unpacked")
            .with_hint("no engine can run this image; have it built again"),
    )?;
    let Descriptor { digest, size, .. } = layer;
    let (digest, size_bytes) = (digest.clone(), *size);
    Ok(ReadLayer { digest, size_bytes, packing, diff_id: hasher.finish() })
}

fn copy(plain: &mut dyn Read, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes as they come from the network.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                // The end, or nobody sends any more: whoever checks the digest knows.
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
