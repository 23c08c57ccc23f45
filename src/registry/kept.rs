//! The session of one upload, kept in the journal while it is open.

use super::client::Registry;
use super::journal::{Entry, Opened, Record, UploadJournal};
use super::section::Content;
use super::upload::UploadSession;
use crate::progress::Reporter;
use crate::reference::RepositoryName;

/// An upload's place in the journal; none where there is no journal, or another run has it.
pub(super) struct Kept<'a> {
    registry: &'a Registry,
    entry: Option<Entry>,
    /// What was written last.
    location: String,
}

impl<'a> Kept<'a> {
    /// Writes nothing down.
    pub(super) fn nothing(registry: &'a Registry) -> Self {
        Self { registry, entry: None, location: String::new() }
    }

    /// Takes the upload's place, and gives what a former run wrote there.
    pub(super) fn open(
        journal: &UploadJournal,
        registry: &'a Registry,
        repository: &RepositoryName,
        content: &Content,
    ) -> (Self, Option<Record>) {
        let nothing = Self::nothing(registry);
        let digest = &content.digest;
        match journal.open(registry.host(), repository, digest, content.size_bytes) {
            Ok(Opened::Own(entry, record)) => (Self { entry: Some(entry), ..nothing }, record),
            Ok(Opened::Busy) => {
                nothing.reporter().detail(format!(
                    "another run is sending blob `{repository}@{digest}`; this one sends it by itself"
                ));
                (nothing, None)
            }
            Err(error) => {
                nothing.tell_useless(journal, &error);
                (nothing, None)
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.entry.is_some()
    }

    /// Writes down where the session is now.
    pub(super) fn remember(&mut self, session: &UploadSession, content: &Content) {
        let Some(entry) = &mut self.entry else { return };
        let record = session.record(self.registry.host(), content);
        if record.location == self.location {
            return;
        }
        match entry.write(&record) {
            Ok(()) => self.location = record.location,
            Err(error) => {
                self.entry = None;
                self.reporter()
                    .detail(format!("the journal of uploads cannot be written: {error}"));
            }
        }
    }

    /// The session has ended, or is of no use.
    pub(super) fn forget(&mut self) {
        self.location.clear();
        if let Some(entry) = &mut self.entry {
            entry.clear();
        }
    }

    fn tell_useless(&self, journal: &UploadJournal, error: &std::io::Error) {
        self.reporter().detail(format!(
            "no journal of uploads can be kept in `{}`: {error}; a run that is killed begins its large blobs anew",
            journal.folder().display()
        ));
    }

    fn reporter(&self) -> &dyn Reporter {
        self.registry.http().reporter.as_ref()
    }
}
