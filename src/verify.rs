//! Reads every byte of a payload and says whether it is what its index promises.
//!
//! [`Payload::open`] has checked the structure; this checks the content of every entry, on several
//! threads for large payloads, and lists all problems. Changes nothing, asks no registry.

use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::{Serialize, Serializer};

use crate::digest::{Digest, Mismatch, Verifier};
use crate::payload::{self, EntryReader, Payload};
use crate::progress::{Arrival, Event, Reporter};
use crate::restore::Unrestorable;

/// How much is read at a time, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Payloads shorter than this are not worth a second thread, in bytes.
const THREADS_FROM_BYTES: u64 = 16 * 1024 * 1024;
/// More threads than this only make the disk seek.
const THREADS_MAX: usize = 8;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many entries were read.
    pub entries: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// What is wrong, in the order of the entries; empty for a sound payload.
    #[serde(serialize_with = "texts")]
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong with a payload.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot even be opened.
    #[error(transparent)]
    Payload(#[from] payload::Error),
    /// An entry cannot be read.
    #[error("cannot read the entry `{entry}`")]
    Unreadable {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry has other bytes than promised.
    #[error("entry `{entry}`: {mismatch}")]
    Content {
        /// The entry.
        entry: String,
        /// What was promised and what was found.
        mismatch: Mismatch,
    },
    /// An entry's bytes are right by their digest, or have none, and its checksum is another.
    #[error("entry `{entry}`: expected the CRC-32 `{expected:08x}`, found `{found:08x}`")]
    Checksum {
        /// The entry.
        entry: String,
        /// What the zip directory says.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// What follows an entry's bytes says something else than the directory.
    #[error("entry `{entry}`: expected a data descriptor as the directory has it, found another")]
    Descriptor {
        /// The entry.
        entry: String,
    },
    /// A delta does not give its blob.
    #[error("{}", chain(.0))]
    Delta(#[from] Unrestorable),
}

/// An error and its causes on one line: problems are listed, and each stands for itself.
fn chain(error: &Unrestorable) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Problem {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Payload(error) => error.hint(),
            Self::Unreadable { .. } => None,
            Self::Delta(error) => error.hint(),
            Self::Content { .. } | Self::Checksum { .. } | Self::Descriptor { .. } => Some(
                "the file was damaged or changed on its way: copy it again, or make the payload anew"
                    .to_owned(),
            ),
        }
    }
}

/// Opens the payload at `path` and verifies it; a payload that cannot be opened is one problem.
pub fn verify_file(path: &Path, reporter: &dyn Reporter) -> Report {
    match Payload::open(path) {
        Ok(payload) => verify(&payload, reporter),
        Err(error) => Report { entries: 0, bytes: 0, problems: vec![error.into()] },
    }
}

/// Reads every entry of `payload`. Blobs and manifests are reported as they are read and, when they
/// are right, as [`Arrival::Verified`].
pub fn verify(payload: &Payload, reporter: &dyn Reporter) -> Report {
    let entries: Vec<EntryReader<'_>> = payload.entries().collect();
    let bytes = entries.iter().map(|entry| entry.content.size_bytes()).sum();
    let known = || entries.iter().filter(|entry| entry.digest.is_some());
    reporter.phase(format!("verifying {} entries of `{}`", entries.len(), payload.name()));
    reporter.report(Event::Total {
        blobs: known().count() as u64,
        bytes: known().map(|entry| entry.content.size_bytes()).sum(),
    });

    let next = AtomicUsize::new(0);
    let work = || {
        let mut problems = Vec::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(position) else { return problems };
            problems.extend(check(entry, &mut buffer, reporter).map(|problem| (position, problem)));
        }
    };
    let mut problems: Vec<(usize, Problem)> = thread::scope(|scope| {
        let others: Vec<_> = (1..thread_count(bytes)).map(|_| scope.spawn(work)).collect();
        let mut problems = work();
        for other in others {
            match other.join() {
                Ok(found) => problems.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        problems
    });
    problems.sort_by_key(|(position, _)| *position);
    let problems = problems.into_iter().map(|(_, problem)| problem).collect();
    Report { entries: entries.len() as u64, bytes, problems }
}

fn thread_count(bytes: u64) -> usize {
    if bytes < THREADS_FROM_BYTES {
        return 1;
    }
    thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX)
}

/// Reads one entry. At most one problem: the most telling one.
fn check(entry: &EntryReader<'_>, buffer: &mut [u8], reporter: &dyn Reporter) -> Option<Problem> {
    let size_bytes = entry.content.size_bytes();
    let report = |event: fn(Digest, u64) -> Event, bytes| {
        if let Some(digest) = entry.digest {
            reporter.report(event(digest.clone(), bytes));
        }
    };
    report(|digest, bytes| Event::BlobStarted { digest, bytes }, size_bytes);
    let found = read(entry, buffer, &|bytes| {
        report(|digest, bytes| Event::BlobAdvanced { digest, bytes }, bytes);
    });
    let name = || entry.name.to_owned();
    let problem = match found {
        Err(source) => Some(Problem::Unreadable { entry: name(), source }),
        Ok(Found { mismatch: Some(mismatch), .. }) => {
            Some(Problem::Content { entry: name(), mismatch })
        }
        Ok(Found { crc32, .. }) if crc32 != entry.crc32 => {
            Some(Problem::Checksum { entry: name(), expected: entry.crc32, found: crc32 })
        }
        Ok(Found { descriptor_agrees: false, .. }) => Some(Problem::Descriptor { entry: name() }),
        Ok(_) => None,
    };
    if problem.is_none() {
        report(|digest, _| Event::BlobFinished { digest, how: Arrival::Verified }, size_bytes);
    }
    problem
}

struct Found {
    mismatch: Option<Mismatch>,
    crc32: u32,
    descriptor_agrees: bool,
}

fn read(entry: &EntryReader<'_>, buffer: &mut [u8], advanced: &dyn Fn(u64)) -> io::Result<Found> {
    let size_bytes = entry.content.size_bytes();
    let by_index = entry.sha256.and_then(|sha256| format!("sha256:{sha256}").parse().ok());
    let mut digests: Vec<Digest> = entry.digest.cloned().into_iter().chain(by_index).collect();
    digests.dedup();
    let mut verifiers: Vec<Verifier> =
        digests.into_iter().map(|digest| Verifier::new(digest, size_bytes)).collect();
    let mut crc32 = crc32fast::Hasher::new();
    let mut mismatch = None;
    let mut offset = 0;
    while offset < size_bytes {
        let count = entry.content.read_at(offset, buffer)?;
        offset += count as u64;
        crc32.update(&buffer[..count]);
        for verifier in &mut verifiers {
            mismatch = mismatch.or(verifier.update(&buffer[..count]).err());
        }
        advanced(count as u64);
    }
    for verifier in verifiers {
        mismatch = mismatch.or(verifier.finish().err());
    }
    let descriptor_agrees = entry.descriptor_agrees()?;
    Ok(Found { mismatch, crc32: crc32.finalize(), descriptor_agrees })
}

fn texts<S: Serializer>(problems: &[Problem], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(problems.iter().map(ToString::to_string))
}
