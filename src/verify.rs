//! Reads every byte of a payload and says whether it is what its index promises.
//!
//! [`Payload::open`] has checked the structure; this checks the content of every entry, on several
//! threads for large payloads, and lists all problems. Changes nothing, asks no registry.

use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::{Serialize, Serializer};

use crate::digest::{Digest, Mismatch, Verifier};
use crate::payload::{self, BlobReader, EntryReader, Payload, delta_entry_name, payload_files};
use crate::progress::{Arrival, Event, Reporter};
use crate::restore::Unrestorable;
use crate::verified::{VerifiedReader, mismatch_in};

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
    #[error("cannot read the entry `{entry}`: {cause}")]
    Unreadable {
        /// The entry.
        entry: String,
        /// Why.
        cause: io::Error,
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
    /// A volume is not among the files.
    #[error("volume {number} of {last} is not there")]
    VolumeMissing {
        /// Its number.
        number: u32,
        /// How many volumes there are.
        last: usize,
    },
    /// The parts of a blob are not, together, what they should be.
    #[error("the parts of `{entry}` together: {mismatch}")]
    Parts {
        /// What they stand for.
        entry: String,
        /// What was promised and what was found.
        mismatch: Mismatch,
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
            Self::Unreadable { .. } => Some(
                "the medium may be damaged: try another drive, or bring this file again".to_owned(),
            ),
            Self::Delta(error) => error.hint(),
            Self::VolumeMissing { number, .. } => Some(format!(
                "bring it, or make it again with `kharon make-payload --only-volume {number} --plan` and any other volume"
            )),
            Self::Content { .. }
            | Self::Checksum { .. }
            | Self::Descriptor { .. }
            | Self::Parts { .. } => Some(
                "the file was damaged or changed on its way: copy it again, or make the payload anew"
                    .to_owned(),
            ),
        }
    }
}

/// Opens the payload in these files, which may be its volumes or a folder of them, and verifies it. A file
/// that cannot be opened is one problem, and so is a volume that is missing, unless one volume was named
/// alone. Gives what could be opened.
pub fn verify_files(paths: &[PathBuf], reporter: &dyn Reporter) -> (Report, Option<Payload>) {
    let mut report = Report { entries: 0, bytes: 0, problems: Vec::new() };
    let files = match payload_files(paths) {
        Ok(files) => files,
        Err(error) => {
            report.problems.push(error.into());
            return (report, None);
        }
    };
    let mut all: Option<Payload> = None;
    for file in files {
        // One after the other: each volume has all manifests.
        let opened = Payload::open(&file).and_then(|opened| match &all {
            Some(first) => first.check_volume(&opened).map(|()| opened),
            None => Ok(opened),
        });
        let joined = opened
            .and_then(|opened| Payload::join(all.take().into_iter().chain([opened]).collect()));
        match joined {
            Ok(joined) => all = joined,
            Err(error) => report.problems.push(error.into()),
        }
    }
    let Some(payload) = all else { return (report, None) };
    let found = verify(&payload, reporter);
    let last = payload.index().volumes.len();
    let is_alone = matches!(paths, [path] if path.is_file());
    let missing = payload.missing_volumes().into_iter().filter(|_| !is_alone);
    report.problems.extend(missing.map(|number| Problem::VolumeMissing { number, last }));
    report.problems.extend(found.problems);
    let Report { entries, bytes, .. } = found;
    (Report { entries, bytes, ..report }, Some(payload))
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
    let mut problems: Vec<Problem> = problems.into_iter().map(|(_, problem)| problem).collect();
    if problems.is_empty() {
        problems = check_parts(payload);
    }
    Report { entries: entries.len() as u64, bytes, problems }
}

/// Reads what comes in parts, as far as all of them are at hand. Each part was right by itself.
fn check_parts(payload: &Payload) -> Vec<Problem> {
    let index = payload.index();
    let deltas = index.making.iter().flat_map(|making| &making.deltas);
    let deltas = deltas.filter_map(|made| {
        let content = payload.delta(&made.blob).filter(BlobReader::is_in_parts)?;
        let digest = format!("sha256:{}", made.sha256).parse().ok()?;
        Some((delta_entry_name(&made.blob), content, digest))
    });
    let blobs = index.blobs.iter().filter_map(|blob| {
        let content = payload.blob(&blob.digest).filter(BlobReader::is_in_parts)?;
        Some((blob.digest.blob_path(), content, blob.digest.clone()))
    });
    let check = |(entry, content, digest): (String, BlobReader, Digest)| {
        let size_bytes = content.size_bytes();
        let bytes = VerifiedReader::new(content.bytes_from(0), digest, size_bytes);
        let error = bytes.finish().err()?;
        Some(match mismatch_in(&error).cloned() {
            Some(mismatch) => Problem::Parts { entry, mismatch },
            None => Problem::Unreadable { entry, cause: error },
        })
    };
    blobs.chain(deltas).filter_map(check).collect()
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
    let name = || entry.label();
    let problem = match found {
        Err(source) => Some(Problem::Unreadable { entry: name(), cause: source }),
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
