//! The ordered queue of segments between the network and the payload.
//!
//! Large blobs are cut into byte ranges. Up to `jobs` of them are fetched at once, each over its own
//! connection, and their bytes are handed over in the order of the plan, so that one sequential
//! writer needs no temporary file. Memory is bounded by [`BUFFER_BYTES`]: a segment starts only when
//! its whole length fits into what is free, and starts are in order, so the segment that is due next
//! always has its room and its connection.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::manifest::Descriptor;
use crate::progress::{Event, Reporter};
use crate::registry::RemoteBlob;

use super::hedge::{Pace, Raced};
use super::pack::Piece;

/// The bytes that may wait for their turn, all segments together.
const BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// The longest segment: long enough that one round trip weighs little.
const SEGMENT_MAX_BYTES: u64 = 2 * 1024 * 1024;
/// The shortest piece a blob is cut into, and the room of a stream that cannot be cut.
const SEGMENT_MIN_BYTES: u64 = 256 * 1024;

/// A blob to fetch, and the image that it is fetched for.
pub(super) struct Download {
    pub(super) blob: RemoteBlob,
    pub(super) image: String,
}

/// Whether the server of a blob gives byte ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    Unknown,
    Honoured,
    Ignored,
}

struct Blob {
    remote: RemoteBlob,
    image: String,
    ranges: watch::Sender<Ranges>,
}

struct Segment {
    ordinal: usize,
    blob: Arc<Blob>,
    range: Range<u64>,
}

/// One segment's bytes on their way to the writer.
struct Lane {
    ordinal: usize,
    begins: Option<Piece>,
    chunks: mpsc::UnboundedReceiver<anyhow::Result<Chunk>>,
    ends_blob: bool,
    _room: OwnedSemaphorePermit,
}

struct Chunk {
    bytes: Bytes,
    _window: OwnedSemaphorePermit,
}

struct Shared {
    /// The ordinal of the segment that the writer waits for.
    due: AtomicUsize,
    pace: Pace,
    reporter: Arc<dyn Reporter>,
}

/// Fetches `downloads` with up to `jobs` connections and sends them to `pieces` in order.
///
/// # Errors
/// The first error of a registry; an error without a message of interest if `pieces` is closed.
pub(super) async fn fetch_in_order(
    downloads: Vec<Download>,
    jobs: usize,
    pieces: &mpsc::Sender<Piece>,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let shared = Arc::new(Shared { due: AtomicUsize::new(0), pace: Pace::default(), reporter });
    let (lanes, mut due) = mpsc::channel(4 * jobs);
    let consume = async {
        while let Some(lane) = due.recv().await {
            hand_over(lane, pieces, &shared).await?;
        }
        Ok(())
    };
    tokio::try_join!(dispatch(downloads, jobs, lanes, Arc::clone(&shared)), consume)?;
    Ok(())
}

async fn dispatch(
    downloads: Vec<Download>,
    jobs: usize,
    lanes: mpsc::Sender<Lane>,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let segment_bytes =
        (BUFFER_BYTES as u64 / jobs as u64).clamp(SEGMENT_MIN_BYTES, SEGMENT_MAX_BYTES);
    let room = Arc::new(Semaphore::new(BUFFER_BYTES));
    let connections = Arc::new(Semaphore::new(jobs));
    let mut tasks = JoinSet::new();
    let mut ordinal = 0;
    for download in downloads {
        let descriptor = download.blob.descriptor().clone();
        let mut begins =
            Some(Piece::Begin { blob: descriptor.clone(), image: download.image.clone() });
        let blob = Arc::new(Blob {
            remote: download.blob,
            image: download.image,
            ranges: watch::Sender::new(Ranges::Unknown),
        });
        for range in cut(descriptor.size, segment_bytes) {
            let window = window_bytes(&range);
            let permit = Arc::clone(&room).acquire_many_owned(window).await?;
            let connection = Arc::clone(&connections).acquire_owned().await?;
            while tasks.try_join_next().is_some() {}
            let (sender, chunks) = mpsc::unbounded_channel();
            let lane = Lane {
                ordinal,
                begins: begins.take(),
                chunks,
                ends_blob: range.end == descriptor.size,
                _room: permit,
            };
            let segment = Segment { ordinal, blob: Arc::clone(&blob), range };
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                let outlet = Outlet::new(sender, window as usize);
                if let Err(error) = fetch_segment(segment, &outlet, &shared).await {
                    // A closed outlet means that the run has failed elsewhere already.
                    let _ = outlet.sender.send(Err(error));
                }
                drop(connection);
            });
            if lanes.send(lane).await.is_err() {
                return Ok(());
            }
            ordinal += 1;
        }
    }
    drop(lanes);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// The byte ranges of a blob; an empty blob has one empty range.
fn cut(size_bytes: u64, segment_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let count = size_bytes.div_ceil(segment_bytes).max(1);
    (0..count).map(move |n| n * segment_bytes..((n + 1) * segment_bytes).min(size_bytes))
}

/// The room that a segment holds: its length. A stream that cannot be cut goes on within it.
fn window_bytes(range: &Range<u64>) -> u32 {
    u32::try_from((range.end - range.start).max(1)).unwrap_or(u32::MAX)
}

async fn hand_over(
    mut lane: Lane,
    pieces: &mpsc::Sender<Piece>,
    shared: &Shared,
) -> anyhow::Result<()> {
    let closed = || anyhow!("the payload's writer has stopped");
    shared.due.store(lane.ordinal, Ordering::Relaxed);
    if let Some(begins) = lane.begins {
        pieces.send(begins).await.map_err(|_| closed())?;
    }
    while let Some(chunk) = lane.chunks.recv().await {
        let chunk = chunk?;
        pieces.send(Piece::Bytes(chunk.bytes)).await.map_err(|_| closed())?;
    }
    if lane.ends_blob {
        pieces.send(Piece::End).await.map_err(|_| closed())?;
    }
    Ok(())
}

/// Where a segment's bytes go: never more waiting than its window.
struct Outlet {
    sender: mpsc::UnboundedSender<anyhow::Result<Chunk>>,
    window: Arc<Semaphore>,
    window_bytes: usize,
}

impl Outlet {
    fn new(sender: mpsc::UnboundedSender<anyhow::Result<Chunk>>, window_bytes: usize) -> Self {
        Self { sender, window: Arc::new(Semaphore::new(window_bytes)), window_bytes }
    }

    async fn send(&self, mut bytes: Bytes) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(self.window_bytes));
            let length = u32::try_from(part.len())?;
            let permit = Arc::clone(&self.window).acquire_many_owned(length).await?;
            self.sender
                .send(Ok(Chunk { bytes: part, _window: permit }))
                .map_err(|_| anyhow!("the payload's writer has stopped"))?;
        }
        Ok(())
    }
}

async fn fetch_segment(segment: Segment, outlet: &Outlet, shared: &Shared) -> anyhow::Result<()> {
    let Segment { ordinal, blob, range } = segment;
    let descriptor = blob.remote.descriptor();
    let context = || format!("cannot fetch blob `{}` of `{}`", descriptor.digest, blob.image);
    if range.start == 0 {
        let (digest, bytes) = (descriptor.digest.clone(), descriptor.size);
        shared.reporter.report(Event::BlobStarted { digest, bytes });
    } else if wait_for_ranges(&blob).await == Ranges::Ignored {
        return Ok(());
    }
    if range.is_empty() {
        return Ok(());
    }
    let stream = blob.remote.open(range.clone()).await.with_context(context)?;
    if range.start == 0 {
        let ignored = stream.extent().end > range.end;
        blob.ranges.send_replace(if ignored { Ranges::Ignored } else { Ranges::Honoured });
    }
    let is_due = || shared.due.load(Ordering::Relaxed) == ordinal;
    let mut stream = Raced::new(stream, blob.remote.clone(), &shared.pace, is_due);
    while let Some(bytes) = stream.next().await.with_context(context)? {
        advanced(shared, descriptor, &bytes);
        outlet.send(bytes).await?;
    }
    Ok(())
}

/// Waits until the blob's first segment has seen how its server answers. A first segment that failed
/// ends the run by itself.
async fn wait_for_ranges(blob: &Blob) -> Ranges {
    let mut ranges = blob.ranges.subscribe();
    let known = ranges.wait_for(|ranges| *ranges != Ranges::Unknown).await;
    known.map_or(Ranges::Ignored, |ranges| *ranges)
}

fn advanced(shared: &Shared, descriptor: &Descriptor, bytes: &Bytes) {
    shared.reporter.report(Event::BlobAdvanced {
        digest: descriptor.digest.clone(),
        bytes: bytes.len() as u64,
    });
}
