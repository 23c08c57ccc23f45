//! What a running command reports: one [`Event`] enum, which is also the `--progress json` stream.

use std::sync::Mutex;

use serde::Serialize;

use crate::digest::Digest;

/// Something that happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A new part of the work begins, named for people.
    Phase {
        /// Such as `resolving 3 images`.
        message: String,
    },
    /// How much content the current part will move.
    Total {
        /// How many blobs.
        blobs: u64,
        /// Their sizes together, in bytes.
        bytes: u64,
    },
    /// A blob begins to move.
    BlobStarted {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        bytes: u64,
    },
    /// More of a blob has moved.
    BlobAdvanced {
        /// Its digest.
        digest: Digest,
        /// How many bytes moved since the last event of this blob.
        bytes: u64,
    },
    /// Bytes of a blob moved in vain and will move again.
    BlobRewound {
        /// Its digest.
        digest: Digest,
        /// How many of the bytes reported so far do not count.
        bytes: u64,
    },
    /// A blob is where it should be.
    BlobFinished {
        /// Its digest.
        digest: Digest,
        /// How it got there.
        how: Arrival,
    },
    /// Something that a person should know of, though the work goes on.
    Warning {
        /// One sentence.
        message: String,
    },
    /// Something that happened as it should and is worth a line.
    Note {
        /// One sentence.
        message: String,
    },
    /// A detail for `-v`.
    Detail {
        /// One sentence.
        message: String,
    },
}

/// How a blob got to where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Read from a registry and written into a payload.
    Packed,
    /// Read from wherever it was and written into an archive or a folder.
    Saved,
    /// Read for making deltas.
    Read,
    /// Read from a payload and found right.
    Verified,
    /// It was there already.
    Present,
    /// Mounted from another repository of the same registry.
    Mounted,
    /// Sent from the payload.
    Uploaded,
    /// Streamed from another repository of the far registry.
    Copied,
    /// Rebuilt from a delta, and sent.
    Rebuilt,
}

/// Takes the events of a running command. Called from several threads.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn report(&self, event: Event);

    /// Reports a [`Event::Warning`].
    fn warn(&self, message: String) {
        self.report(Event::Warning { message });
    }

    /// Reports a [`Event::Note`].
    fn note(&self, message: String) {
        self.report(Event::Note { message });
    }

    /// Reports a [`Event::Detail`].
    fn detail(&self, message: String) {
        self.report(Event::Detail { message });
    }

    /// Reports a [`Event::Phase`].
    fn phase(&self, message: String) {
        self.report(Event::Phase { message });
    }
}

/// Forgets everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event) {}
}

/// Keeps everything, for tests and for callers that look afterwards.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The texts of all warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |event| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        };
        self.events().into_iter().filter_map(warning).collect()
    }
}

impl Reporter for Recorder {
    fn report(&self, event: Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }
}
