//! One blob on its way into a registry: whole or in chunks, begun again where that helps.

use std::sync::Arc;

use super::client::Registry;
use super::error::{Error, Subject};
use super::journal::UploadJournal;
use super::kept::Kept;
use super::retry::Attempts;
use super::section::Content;
use super::upload::{UploadOptions, UploadSession};
use crate::reference::RepositoryName;
use crate::stop::Stop;

/// A proxy that takes no requests of this size takes no images.
const CHUNK_FLOOR_BYTES: u64 = 1024 * 1024;

/// A blob being sent.
pub(super) struct Sending<'a> {
    pub(super) registry: &'a Registry,
    repository: RepositoryName,
    pub(super) subject: Subject,
    pub(super) content: Arc<Content>,
    pub(super) progress: Tally<'a>,
    pub(super) chunk_bytes: u64,
    whole_up_to_bytes: u64,
    /// How often the blob may be begun again.
    restarts: Attempts,
    /// Where its session is written down while it goes up in chunks.
    pub(super) kept: Kept<'a>,
    pub(super) stop: Stop,
}

/// What a session holds when it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Nothing.
    New,
    /// What it was sent before: by a former run, or until the registry could not be reached.
    Former,
}

/// How a blob is begun again.
enum Recovery {
    /// As it was; it may be there by now.
    Again,
    /// In the same session; it may be there by now.
    GoOn,
    /// In requests of another size.
    Otherwise,
}

/// What was told of the progress.
pub(super) struct Tally<'a> {
    tell: &'a (dyn Fn(i64) + Send + Sync),
    told_bytes: u64,
}

impl Tally<'_> {
    /// Tells that `bytes` of the blob are sent by now.
    pub(super) fn set(&mut self, bytes: u64) {
        if bytes != self.told_bytes {
            (self.tell)(bytes.cast_signed() - self.told_bytes.cast_signed());
            self.told_bytes = bytes;
        }
    }
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        repository: RepositoryName,
        content: Content,
        options: &UploadOptions,
        tell: &'a (dyn Fn(i64) + Send + Sync),
    ) -> Self {
        Self {
            registry,
            subject: registry.subject(format!("blob `{repository}@{}`", content.digest)),
            repository,
            content: Arc::new(content),
            progress: Tally { tell, told_bytes: 0 },
            chunk_bytes: options.chunk_size_bytes.max(CHUNK_FLOOR_BYTES),
            whole_up_to_bytes: options.whole_up_to_bytes,
            restarts: registry.http().attempts(),
            kept: Kept::nothing(registry),
            stop: options.stop.clone(),
        }
    }

    /// Sends the blob, as often as it takes. The session of a former run, which `journal` knows, comes
    /// before the one that is `given`.
    pub(super) async fn run(
        mut self,
        mut given: Option<UploadSession>,
        journal: Option<&UploadJournal>,
    ) -> Result<(), Error> {
        let mut former = match journal.filter(|_| !self.is_whole()) {
            Some(journal) => self.open(journal).await?,
            None => None,
        };
        loop {
            self.stop.pass().await;
            let beginning = if former.is_some() { Beginning::Former } else { Beginning::New };
            let mut session = match (former.take(), given.take()) {
                (Some(former), unused) => {
                    if let Some(unused) = unused {
                        self.give_up(&unused).await;
                    }
                    former
                }
                (None, Some(given)) => given,
                (None, None) => self.registry.start_upload(&self.repository).await?,
            };
            let sent = if self.is_whole() {
                let stop = self.stop.clone();
                stop.unless_asked(self.send_whole(&mut session)).await
            } else {
                self.send_chunks(&mut session, beginning).await
            };
            let Err(error) = sent else { break };
            match self.recover(error, &session, beginning).await? {
                Recovery::Otherwise => {}
                _ if self.is_there().await? => break,
                Recovery::Again => {}
                Recovery::GoOn => {
                    former = Some(session);
                    continue;
                }
            }
            self.progress.set(0);
        }
        self.kept.forget();
        self.progress.set(self.content.size_bytes);
        Ok(())
    }

    /// Opens the journal, and the session that it knows.
    async fn open(&mut self, journal: &UploadJournal) -> Result<Option<UploadSession>, Error> {
        let (kept, record) = Kept::open(journal, self.registry, &self.repository, &self.content);
        self.kept = kept;
        match record {
            Some(record) => self.registry.former_session(record).await,
            None => Ok(None),
        }
    }

    fn is_whole(&self) -> bool {
        self.content.size_bytes <= self.whole_up_to_bytes
    }

    /// Prepares for another beginning, or gives the error back.
    async fn recover(
        &mut self,
        error: Error,
        session: &UploadSession,
        beginning: Beginning,
    ) -> Result<Recovery, Error> {
        if self.outlives(&error, beginning) {
            self.restarts.pause_after(error).await?;
            return Ok(Recovery::GoOn);
        }
        self.kept.forget();
        if error.status().is_some() || error.is_damaged_source() || error.is_unreadable_source() {
            self.give_up(session).await;
        }
        let is_former = beginning == Beginning::Former;
        if error.is_lost_session() && !self.is_whole() || error.is_refusal() && is_former {
            self.registry.http().reporter.warn(format!("{error}; it begins anew"));
            if is_former {
                return Ok(Recovery::Again);
            }
        }
        if error.status() == Some(413) && self.shrink() {
            return Ok(Recovery::Otherwise);
        }
        if !self.is_whole() && is_unsupported(&error) {
            self.whole_up_to_bytes = u64::MAX;
            return Ok(Recovery::Otherwise);
        }
        self.restarts.pause_after(error).await?;
        Ok(Recovery::Again)
    }

    /// Whether a session is worth going on with after `error`, now or in another run.
    fn outlives(&self, error: &Error, beginning: Beginning) -> bool {
        let passes_by = error.trouble().is_some()
            || matches!(error.status(), Some(408 | 429 | 502 | 503 | 504));
        // Some registries say so of an address that has expired.
        let is_denied = error.is_unauthorized() && beginning == Beginning::New;
        let is_for_another_run = self.kept.is_open() && (is_denied || error.is_unreadable_source());
        !self.is_whole() && (passes_by || is_for_another_run)
    }

    /// Gives a session up. It may be gone already, and a registry forgets it in time.
    async fn give_up(&self, session: &UploadSession) {
        let _ = self.registry.answer_once(&self.registry.ask_cancel(session)).await;
    }

    /// Makes requests smaller, if they can be.
    fn shrink(&mut self) -> bool {
        let largest = if self.is_whole() { self.content.size_bytes } else { self.chunk_bytes };
        let smaller = (largest / 2).max(CHUNK_FLOOR_BYTES).min(self.chunk_bytes);
        if largest <= CHUNK_FLOOR_BYTES || self.whole_up_to_bytes == u64::MAX {
            return false;
        }
        self.chunk_bytes = smaller;
        self.whole_up_to_bytes = 0;
        true
    }

    /// Whether the blob arrived though the answer to its last request did not, or by somebody else.
    async fn is_there(&self) -> Result<bool, Error> {
        let found = self.registry.blob_size(&self.repository, &self.content.digest).await;
        match found {
            Ok(size_bytes) => Ok(size_bytes == Some(self.content.size_bytes)),
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a registry does not take blobs in chunks at all.
fn is_unsupported(error: &Error) -> bool {
    matches!(error.status(), Some(405 | 411 | 501)) || error.mentions("UNSUPPORTED")
}
