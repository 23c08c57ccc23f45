//! Layers as they come from wherever they are: one after the other, each read to its end and found right there.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::digest::Mismatch;
use crate::fetch::{Checker, Download, NewEntry, PIECES_WAITING_MAX, Parts, Piece, fetch_in_order};
use crate::progress::{Arrival, Event, Reporter};

use super::sink::{Abandoned, Content};
use super::until::{Running, until_ended};

const OUT_OF_ORDER: &str = "the pieces of layers came out of order";

/// The layers. What it reads as is the layer under way.
pub(crate) struct Incoming<'a> {
    pieces: mpsc::Receiver<Piece>,
    checker: Checker,
    contents: &'a [Content],
    reporter: Arc<dyn Reporter>,
    open: Option<NewEntry>,
    left_bytes: u64,
    waiting: VecDeque<Bytes>,
    /// The verdict on the layer under way, once it has ended.
    verdict: Option<Result<(), Mismatch>>,
    is_torn: bool,
    running: Running,
}

impl<'a> Incoming<'a> {
    fn new(
        pieces: mpsc::Receiver<Piece>,
        checker: Checker,
        contents: &'a [Content],
        reporter: Arc<dyn Reporter>,
        running: Running,
    ) -> Self {
        Self {
            pieces,
            checker,
            contents,
            reporter,
            open: None,
            left_bytes: 0,
            waiting: VecDeque::new(),
            verdict: None,
            is_torn: false,
            running,
        }
    }

    /// Begins the next layer, and says which of the contents it is; none when all have come.
    pub(crate) fn begin(&mut self) -> anyhow::Result<Option<usize>> {
        match self.pieces.blocking_recv() {
            Some(Piece::Begin(entry)) => {
                self.checker.begin(entry.digest.clone(), entry.size_bytes, Parts::One);
                (self.left_bytes, self.verdict) = (entry.size_bytes, None);
                let content = entry.content;
                self.open = Some(entry);
                Ok(Some(content))
            }
            Some(Piece::Complete) => Ok(None),
            Some(_) => anyhow::bail!(OUT_OF_ORDER),
            None => Err(Abandoned.into()),
        }
    }

    /// Reads what is left of the layer, and says whether it was the right one.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        // An error shows in the verdict, or in that there is none.
        let _ = io::copy(self, &mut io::sink());
        let entry = self.open.take().context(OUT_OF_ORDER)?;
        match self.verdict.take() {
            Some(Ok(())) => {
                let digest = entry.blob;
                self.reporter.report(Event::BlobFinished { digest, how: Arrival::Saved });
                Ok(())
            }
            Some(Err(mismatch)) => {
                let content = self.contents.get(entry.content).context(OUT_OF_ORDER)?;
                let error = content.blame.error(&content.blob, mismatch);
                Err(error.context(format!("cannot read image `{}`", entry.image)))
            }
            None if self.is_torn => Err(Abandoned.into()),
            None => anyhow::bail!(OUT_OF_ORDER),
        }
    }

    /// Takes the next piece of the layer; whether there was one.
    fn more(&mut self) -> io::Result<bool> {
        let wrong = |why: &str| io::Error::other(why.to_owned());
        if self.verdict.is_some() || self.is_torn {
            return if matches!(self.verdict, Some(Ok(()))) {
                Ok(false)
            } else {
                Err(wrong("the layer is not what its digest says"))
            };
        }
        match self.pieces.blocking_recv() {
            Some(Piece::Bytes(pieces) | Piece::Kept(pieces)) => {
                let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
                self.checker.take(pieces.clone());
                match self.left_bytes.checked_sub(bytes) {
                    Some(left) => self.left_bytes = left,
                    // More than was promised: the checker says so.
                    None => return self.judge(),
                }
                self.waiting.extend(pieces);
                Ok(true)
            }
            Some(Piece::End) => self.judge(),
            Some(_) => Err(wrong(OUT_OF_ORDER)),
            None => {
                self.is_torn = true;
                Err(wrong("the layer broke off"))
            }
        }
    }

    fn judge(&mut self) -> io::Result<bool> {
        let verdict = self.checker.end().map_err(io::Error::other)?;
        self.verdict = Some(verdict.map(drop));
        self.more()
    }
}

/// Fetches layers and has `work` read them meanwhile, on a thread of its own.
pub(crate) async fn read_layers<T: Send + 'static>(
    contents: Vec<Content>,
    downloads: Vec<Download>,
    jobs: usize,
    reporter: &Arc<dyn Reporter>,
    work: impl FnOnce(Incoming<'_>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (_until_ended, running) = until_ended();
    // Dropped before what waits for the thread that reads from it.
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let events = Arc::clone(reporter);
    let working = spawn_blocking(move || {
        std::thread::scope(|scope| {
            let checker = Checker::start(scope);
            work(Incoming::new(waiting, checker, &contents, events, running))
        })
    });
    let sent = async {
        fetch_in_order(downloads, jobs, &pieces, Arc::clone(reporter)).await?;
        pieces.send(Piece::Complete).await?;
        anyhow::Ok(())
    }
    .await;
    drop(pieces);
    match (sent, working.await.context("the reader broke off")?) {
        (Ok(()), worked) => worked,
        // Where the reader failed, the senders only noticed that it was gone.
        (Err(_), Err(error)) if !error.is::<Abandoned>() => Err(error),
        (Err(error), _) => Err(error),
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.running.is_given_up() {
            self.is_torn = true;
            return Err(io::Error::other("given up"));
        }
        loop {
            if let Some(bytes) = self.waiting.front_mut() {
                let count = bytes.len().min(buffer.len());
                bytes.copy_to_slice(&mut buffer[..count]);
                if bytes.is_empty() {
                    self.waiting.pop_front();
                }
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            } else if !self.more()? {
                return Ok(0);
            }
        }
    }
}
