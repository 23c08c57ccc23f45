//! The ordered queue of segments between the network and the writer.
//!
//! Large blobs are cut into byte ranges. Up to `jobs` of them are fetched at once, each over its own
//! connection, and their bytes are handed over in the order of the plan, so that one sequential
//! writer needs no temporary file. Memory is bounded by [`BUFFER_BYTES`]: a segment starts only when
//! its window, the bytes of it that may wait for their turn, fits into what is free, and starts are in
//! order, so the segment that is due next always has its room and its connection.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::progress::{Event, Reporter};
use crate::registry::RemoteBlob;
use crate::window::read_exact_at;

use super::hedge::Raced;
use super::pace::Pace;
use super::piece::{NewEntry, Piece};

/// The bytes that may wait for their turn, all segments together.
const BUFFER_BYTES: usize = 12 * 1024 * 1024;
/// The largest window, and the longest segment where asking for one takes longer than its bytes.
const WINDOW_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The longest of the first segments.
const SEGMENT_FIRST_BYTES: u64 = 3 * 512 * 1024;
/// The longest segment, where the network is ahead of the writer. One connection is then enough, and
/// every request spares the registry work.
const SEGMENT_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// How much of a segment is handed over at once.
const BATCH_BYTES: usize = 512 * 1024;
/// How many segments are read from files at a time.
const READS_AT_ONCE: usize = 2;
/// The shortest piece a blob is cut into, and the room of a stream that cannot be cut.
const SEGMENT_MIN_BYTES: u64 = 256 * 1024;

/// What one large entry is made of.
pub(crate) struct Download {
    pub(crate) entry: NewEntry,
    /// What a former run wrote of it, from its beginning on.
    pub(crate) kept: Vec<KeptBytes>,
    pub(crate) source: Source,
}

/// Bytes of an entry in what a former run wrote.
#[derive(Clone, Debug)]
pub(crate) struct KeptBytes {
    pub(crate) file: Arc<File>,
    /// Where they begin in the file.
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// Where the bytes of an entry are.
pub(crate) enum Source {
    /// At a registry.
    Registry(RemoteBlob),
    /// In a file, from its beginning on.
    File(Arc<File>),
    /// Where a reader from any offset on can be had.
    Reader(OpenAt),
}

impl Source {
    /// Bytes that are at hand.
    pub(crate) fn in_memory(bytes: Bytes) -> Self {
        Self::Reader(Arc::new(move |offset| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Box::new(io::Cursor::new(bytes.slice(from..))))
        }))
    }
}

/// Opens a content from an offset on.
pub(crate) type OpenAt = Arc<dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// Whether the server of a blob gives byte ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    Unknown,
    Honoured,
    Ignored,
}

struct Blob {
    entry: NewEntry,
    /// From where on the source is asked.
    fresh_from: u64,
    source: Source,
    ranges: watch::Sender<Ranges>,
}

struct Segment {
    ordinal: usize,
    blob: Arc<Blob>,
    range: Range<u64>,
    /// What a former run wrote of it: all or nothing.
    kept: Option<KeptBytes>,
}

/// One segment's bytes on their way to the writer.
struct Lane {
    ordinal: usize,
    begins: Option<Piece>,
    /// What its bytes are to the writer.
    as_piece: fn(Vec<Bytes>) -> Piece,
    batches: mpsc::UnboundedReceiver<anyhow::Result<Batch>>,
    ends_blob: bool,
    _room: OwnedSemaphorePermit,
}

/// Some pieces of a segment. One at a time would wake the writer for every few kilobytes.
struct Batch {
    pieces: Vec<Bytes>,
    _window: OwnedSemaphorePermit,
}

struct Shared {
    /// Files are read by few threads at a time: each that ever ran keeps some memory.
    reading: Semaphore,
    /// The ordinal of the segment that the writer waits for.
    due: AtomicUsize,
    pace: Pace,
    reporter: Arc<dyn Reporter>,
}

/// Fetches `downloads` with up to `jobs` connections and sends them to `pieces` in order.
///
/// # Errors
/// The first error of a registry; an error without a message of interest if `pieces` is closed.
pub(crate) async fn fetch_in_order(
    downloads: Vec<Download>,
    jobs: usize,
    pieces: &mpsc::Sender<Piece>,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let each = (BUFFER_BYTES as u64 / jobs as u64).clamp(SEGMENT_MIN_BYTES, SEGMENT_FIRST_BYTES);
    let pace = Pace::new(each..=WINDOW_MAX_BYTES, SEGMENT_MAX_BYTES);
    let reading = Semaphore::new(READS_AT_ONCE);
    let shared = Arc::new(Shared { reading, due: AtomicUsize::new(0), pace, reporter });
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
    let room = Arc::new(Semaphore::new(BUFFER_BYTES));
    let connections = Arc::new(Semaphore::new(jobs));
    let mut tasks = JoinSet::new();
    let mut ordinal = 0;
    for download in downloads {
        let Download { entry, kept, source } = download;
        let size_bytes = entry.size_bytes;
        let mut begins = Some(Piece::Begin(entry.clone()));
        let ranges = watch::Sender::new(Ranges::Unknown);
        let fresh_from = kept.iter().map(|kept| kept.bytes).sum();
        let blob = Arc::new(Blob { entry, fresh_from, source, ranges });
        let mut next = 0;
        // An empty blob has one empty segment.
        while next < size_bytes || begins.is_some() {
            let kept = kept_at(&kept, next);
            let limit = kept.as_ref().map_or(size_bytes, |kept| next + kept.bytes);
            let range = next..limit.min(next + shared.pace.segment_bytes());
            next = range.end;
            let window = window_bytes(&range);
            let permit = Arc::clone(&room).acquire_many_owned(window).await?;
            let connection = Arc::clone(&connections).acquire_owned().await?;
            while tasks.try_join_next().is_some() {}
            let (sender, batches) = mpsc::unbounded_channel();
            let lane = Lane {
                ordinal,
                begins: begins.take(),
                as_piece: if kept.is_some() { Piece::Kept } else { Piece::Bytes },
                batches,
                ends_blob: range.end == size_bytes,
                _room: permit,
            };
            let segment = Segment { ordinal, blob: Arc::clone(&blob), range, kept };
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                let mut outlet = Outlet::new(sender, window as usize);
                if let Err(error) = fetch_segment(segment, &mut outlet, &shared).await {
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

/// What was kept of a blob from its byte `at` on, as far as one file has it.
fn kept_at(kept: &[KeptBytes], at: u64) -> Option<KeptBytes> {
    let mut begins = 0;
    for part in kept {
        let passed = at - begins;
        if passed < part.bytes {
            let (start, bytes) = (part.start + passed, part.bytes - passed);
            return Some(KeptBytes { file: Arc::clone(&part.file), start, bytes });
        }
        begins += part.bytes;
    }
    None
}

/// The room that a segment holds. A stream that cannot be cut goes on within it.
fn window_bytes(range: &Range<u64>) -> u32 {
    u32::try_from((range.end - range.start).clamp(1, WINDOW_MAX_BYTES)).unwrap_or(u32::MAX)
}

async fn hand_over(
    mut lane: Lane,
    pieces: &mpsc::Sender<Piece>,
    shared: &Shared,
) -> anyhow::Result<()> {
    let closed = || anyhow!("the writer has stopped");
    shared.due.store(lane.ordinal, Ordering::Relaxed);
    if let Some(begins) = lane.begins {
        pieces.send(begins).await.map_err(|_| closed())?;
    }
    let mut asked = Instant::now();
    while let Some(batch) = lane.batches.recv().await {
        let came = Instant::now();
        pieces.send((lane.as_piece)(batch?.pieces)).await.map_err(|_| closed())?;
        let taken = Instant::now();
        shared.pace.handed_over(came - asked, taken - came);
        asked = taken;
    }
    if lane.ends_blob {
        pieces.send(Piece::End).await.map_err(|_| closed())?;
    }
    Ok(())
}

/// Where a segment's bytes go: never more waiting than its window.
struct Outlet {
    sender: mpsc::UnboundedSender<anyhow::Result<Batch>>,
    window: Arc<Semaphore>,
    /// How much goes at once.
    batch_bytes: usize,
    pieces: Vec<Bytes>,
    pieces_bytes: usize,
}

impl Outlet {
    fn new(sender: mpsc::UnboundedSender<anyhow::Result<Batch>>, window_bytes: usize) -> Self {
        Self {
            sender,
            window: Arc::new(Semaphore::new(window_bytes)),
            batch_bytes: window_bytes.min(BATCH_BYTES),
            pieces: Vec::new(),
            pieces_bytes: 0,
        }
    }

    async fn put(&mut self, mut bytes: Bytes) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(self.batch_bytes - self.pieces_bytes));
            self.pieces_bytes += part.len();
            self.pieces.push(part);
            if self.pieces_bytes == self.batch_bytes {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(std::mem::take(&mut self.pieces_bytes))?;
        let pieces = std::mem::take(&mut self.pieces);
        let permit = Arc::clone(&self.window).acquire_many_owned(length).await?;
        self.sender
            .send(Ok(Batch { pieces, _window: permit }))
            .map_err(|_| anyhow!("the writer has stopped"))
    }
}

async fn fetch_segment(
    segment: Segment,
    outlet: &mut Outlet,
    shared: &Shared,
) -> anyhow::Result<()> {
    let NewEntry { blob, image, size_bytes, .. } = &segment.blob.entry;
    if segment.range.start == 0 {
        let (digest, bytes) = (blob.clone(), *size_bytes);
        shared.reporter.report(Event::BlobStarted { digest, bytes });
    }
    let fetched = match (&segment.kept, &segment.blob.source) {
        (Some(kept), _) => read_range(&kept.file, kept.start, &segment, outlet, shared).await,
        (None, Source::Registry(remote)) => fetch_range(remote, &segment, outlet, shared).await,
        (None, Source::File(file)) => {
            read_range(file, segment.range.start, &segment, outlet, shared).await
        }
        (None, Source::Reader(open)) => read_through(open, &segment, outlet, shared).await,
    };
    match fetched {
        Ok(()) => outlet.flush().await,
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot fetch blob `{blob}` of `{image}`"))
}

async fn fetch_range(
    remote: &RemoteBlob,
    segment: &Segment,
    outlet: &mut Outlet,
    shared: &Shared,
) -> anyhow::Result<()> {
    let Segment { ordinal, blob, range, .. } = segment;
    let is_first = range.start == blob.fresh_from;
    if !is_first && wait_for_ranges(blob).await == Ranges::Ignored {
        return Ok(());
    }
    if range.is_empty() {
        return Ok(());
    }
    let is_due = || shared.due.load(Ordering::Relaxed) == *ordinal;
    let mut stream = if is_first {
        let started = Instant::now();
        let stream = remote.open_rest(range.clone()).await?;
        let ignored = stream.extent().end > range.end;
        blob.ranges.send_replace(if ignored { Ranges::Ignored } else { Ranges::Honoured });
        Raced::opened(stream, started, remote.clone(), &shared.pace, is_due)
    } else {
        Raced::open(range.clone(), remote.clone(), &shared.pace, is_due)
    };
    while let Some(bytes) = stream.next().await? {
        hand_out(bytes, blob, outlet, shared).await?;
    }
    Ok(())
}

/// Hands out the segment's bytes from `file`, where they begin at `start`.
async fn read_range(
    file: &Arc<File>,
    start: u64,
    segment: &Segment,
    outlet: &mut Outlet,
    shared: &Shared,
) -> anyhow::Result<()> {
    let (mut at, end) = (start, start + (segment.range.end - segment.range.start));
    while at < end {
        let length = usize::try_from(end - at).map_or(BATCH_BYTES, |left| left.min(BATCH_BYTES));
        let file = Arc::clone(file);
        let read = move || {
            let mut bytes = vec![0; length];
            read_exact_at(&file, at, &mut bytes).map(|()| Bytes::from(bytes))
        };
        let turn = shared.reading.acquire().await?;
        let bytes = tokio::task::spawn_blocking(read).await??;
        drop(turn);
        hand_out(bytes, &segment.blob, outlet, shared).await?;
        at += length as u64;
    }
    Ok(())
}

/// Hands out the segment's bytes from a reader of its own.
async fn read_through(
    open: &OpenAt,
    segment: &Segment,
    outlet: &mut Outlet,
    shared: &Shared,
) -> anyhow::Result<()> {
    let mut left = segment.range.end - segment.range.start;
    let mut reader = open(segment.range.start)?;
    while left > 0 {
        let length = usize::try_from(left).map_or(BATCH_BYTES, |left| left.min(BATCH_BYTES));
        let read = move || {
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes).map(|()| (reader, Bytes::from(bytes)))
        };
        let turn = shared.reading.acquire().await?;
        let (after, bytes) = tokio::task::spawn_blocking(read).await??;
        drop(turn);
        reader = after;
        hand_out(bytes, &segment.blob, outlet, shared).await?;
        left -= length as u64;
    }
    Ok(())
}

async fn hand_out(
    bytes: Bytes,
    blob: &Blob,
    outlet: &mut Outlet,
    shared: &Shared,
) -> anyhow::Result<()> {
    let (digest, length) = (blob.entry.blob.clone(), bytes.len() as u64);
    shared.reporter.report(Event::BlobAdvanced { digest, bytes: length });
    outlet.put(bytes).await
}

/// Waits until the blob's first segment has seen how its server answers. A first segment that failed
/// ends the run by itself.
async fn wait_for_ranges(blob: &Blob) -> Ranges {
    let mut ranges = blob.ranges.subscribe();
    let known = ranges.wait_for(|ranges| *ranges != Ranges::Unknown).await;
    known.map_or(Ranges::Ignored, |ranges| *ranges)
}
