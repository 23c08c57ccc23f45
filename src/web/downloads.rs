//! Downloads under way: so many at once, and each as a file with a name and a length.

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::listen::Body;
use crate::progress::Reporter;
use crate::units::format_bytes;

use super::answer::{Refusal, set};
use super::pipe::{Pipe, download, pipe};

/// When it is worth asking again for a download, in seconds.
const AGAIN_SECONDS: u32 = 30;

/// How many downloads may be under way.
#[derive(Debug)]
pub(super) struct Downloads {
    free: Arc<Semaphore>,
    max: usize,
}

/// One of the downloads that may be under way.
pub(super) type Turn = OwnedSemaphorePermit;

impl Downloads {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        let max = max.get().min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(max)), max }
    }

    /// The turn that a request by this method needs: one that only asks what a file is needs none.
    pub(super) fn turn_for(&self, method: &Method) -> Result<Option<Turn>, Refusal> {
        if method == Method::GET { self.turn().map(Some) } else { Ok(None) }
    }

    /// A turn, if there is one.
    fn turn(&self) -> Result<Turn, Refusal> {
        let free = Arc::clone(&self.free).try_acquire_owned();
        free.map_err(|_| {
            let message = format!("all {} downloads that may run at once are taken", self.max);
            Refusal::busy(&message, AGAIN_SECONDS)
        })
    }

    pub(super) fn running(&self) -> usize {
        self.max - self.free.available_permits()
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }
}

/// A file that is sent.
pub(super) struct Attachment {
    pub(super) media_type: &'static str,
    pub(super) file_name: String,
    pub(super) length_bytes: u64,
    /// What people call it.
    pub(super) what: String,
}

impl Attachment {
    /// The answer: with what `write` writes where it has a turn, and else without the file.
    pub(super) fn answer(
        self,
        turn: Option<Turn>,
        reporter: &Arc<dyn Reporter>,
        write: impl FnOnce(Pipe) -> BoxFuture<'static, anyhow::Result<()>>,
    ) -> Response<Body> {
        match turn {
            Some(turn) => self.sent(turn, reporter, write),
            None => self.described(),
        }
    }

    /// The answer without the file.
    fn described(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        set(&mut response, &CONTENT_TYPE, self.media_type);
        set(&mut response, &CONTENT_LENGTH, &self.length_bytes.to_string());
        // What cannot be begun in the middle should not be asked for so.
        set(&mut response, &ACCEPT_RANGES, "none");
        let disposition = format!("attachment; filename=\"{}\"", self.file_name);
        set(&mut response, &CONTENT_DISPOSITION, &disposition);
        response
    }

    /// The answer with what `write` writes.
    fn sent(
        self,
        turn: Turn,
        reporter: &Arc<dyn Reporter>,
        write: impl FnOnce(Pipe) -> BoxFuture<'static, anyhow::Result<()>>,
    ) -> Response<Body> {
        let mut response = self.described();
        let Self { length_bytes, what, .. } = self;
        reporter.note(format!("sending {} of {what}", format_bytes(length_bytes)));
        let reporter = Arc::clone(reporter);
        let (pipe, outlet) = pipe();
        let held = pipe.held();
        let written = write(pipe);
        let writing = tokio::spawn(async move {
            if let Err(error) = written.await {
                reporter.warn(format!("the download of {what} was broken off: {error:#}"));
            }
            drop((held, turn));
        });
        *response.body_mut() = download(outlet, length_bytes, writing);
        response
    }
}
