//! One blob after the other: checked while it is read, expanded, written down.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, anyhow};

use super::contents::{Absent, Contents, Item, Role};
use super::folder::{Folder, file_of, tree_of};
use super::record::{BlobHead, BlobTail, Form, ManifestLine, Record};
use super::report::{ExpandReport, Incomplete};
use super::tree::{self, Stop, Tree};
use crate::digest::{Algorithm, Digest, Hasher, Verifier};
use crate::payload::{BlobReader, Payload};
use crate::progress::{Arrival, Event, Reporter};
use crate::restore::Restorer;
use crate::verify::Problem;
use crate::watched::Watched;

const BUFFER_BYTES: usize = 256 << 10;
const CANNOT_WRITE: &str = "cannot write what was expanded";

/// Everything that is written, and what is known of it.
pub(super) struct Expander {
    folder: Folder,
    record: Record,
    absent: Vec<Absent>,
    report: ExpandReport,
}

/// Where a blob is read.
enum Source<'a> {
    Carried(Box<BlobReader>),
    Delta(&'a Restorer),
}

/// What became of a blob.
enum Became {
    Tree,
    File,
    /// A file, for which there is a reason, and which is not enough.
    Packed(String),
    Damaged(String),
}

impl Expander {
    /// Begins with the manifests.
    pub(super) fn begin(
        folder: Folder,
        payloads: &[Arc<Payload>],
        contents: &Contents,
    ) -> anyhow::Result<Self> {
        let indexes: Vec<(&str, &Digest)> =
            payloads.iter().flat_map(|payload| payload.indexes()).collect();
        let mut record = Record::begin(folder.path(), &indexes).context(CANNOT_WRITE)?;
        let mut report = ExpandReport::new(folder.path());
        let mut put = || -> io::Result<()> {
            for item in &contents.manifests {
                let (raw, descriptor) = (&item.manifest.raw, &item.manifest.descriptor);
                let at = file_of(&descriptor.digest);
                File::create_new(folder.path().join(&at))?.write_all(raw)?;
                record.sum(Digest::of(raw).hex(), at.as_bytes())?;
                record.line(&ManifestLine {
                    digest: &descriptor.digest,
                    media_type: &descriptor.media_type,
                    size: descriptor.size,
                    images: &item.images,
                    at: &at,
                })?;
                report.manifests += 1;
                report.bytes += descriptor.size;
            }
            record.section("blobs")
        };
        put().context(CANNOT_WRITE)?;
        Ok(Self { folder, record, absent: contents.absent.clone(), report })
    }

    /// Expands the blob `item` of `payload`. `damaged` are those of its deltas that cannot be opened, and why.
    pub(super) fn blob(
        &mut self,
        item: &Item,
        payload: &Payload,
        restorer: &Restorer,
        damaged: &[(Digest, String)],
        reporter: &Arc<dyn Reporter>,
    ) -> anyhow::Result<()> {
        let Item { digest, media_type, size, images, .. } = item;
        self.record
            .begin_blob(&BlobHead { digest, media_type, size: *size, images })
            .context(CANNOT_WRITE)?;
        let unopened = damaged.iter().find(|(damaged, _)| damaged == digest);
        let source = match payload.blob(digest) {
            Some(blob) => Some(Source::Carried(Box::new(blob))),
            None if restorer.blobs().any(|(blob, _)| blob == digest) => {
                Some(Source::Delta(restorer))
            }
            None => None,
        };
        let became = match (source, unopened) {
            (Some(source), _) => self.expand(item, &source, reporter)?,
            (None, Some((_, why))) => Became::Damaged(why.clone()),
            (None, None) => {
                let reason = if payload.missing_volumes().is_empty() {
                    "what its delta is made against was not to be had"
                } else {
                    "a volume that it is in, or what its delta is made against, was not to be had"
                };
                return self.not_rebuilt(item, reason);
            }
        };
        let (form, reason) = match became {
            Became::Tree => (Form::Tree, None),
            Became::File => (Form::File, None),
            Became::Packed(why) => (Form::File, Some(why)),
            Became::Damaged(why) => (Form::Nothing, Some(why)),
        };
        let at = match form {
            Form::Tree => Some(tree_of(digest)),
            Form::File => Some(file_of(digest)),
            Form::Nothing => None,
        };
        let complete = reason.is_none();
        let (at, reason_text) = (at.as_deref(), reason.as_deref());
        self.record
            .end_blob(&BlobTail { form, at, complete, reason: reason_text })
            .context(CANNOT_WRITE)?;
        match form {
            Form::Tree => self.report.trees += 1,
            Form::File => self.report.files += 1,
            Form::Nothing => {}
        }
        if let Some(reason) = reason {
            let list = match form {
                Form::Nothing => &mut self.report.damaged,
                _ => &mut self.report.packed,
            };
            list.push(incomplete(item, reason));
        }
        if form != Form::Nothing {
            let (digest, how) = (digest.clone(), Arrival::Verified);
            reporter.report(Event::BlobFinished { digest, how });
        }
        Ok(())
    }

    /// Ends both lists.
    pub(super) fn finish(mut self) -> anyhow::Result<ExpandReport> {
        self.record.finish(&self.absent).context(CANNOT_WRITE)?;
        self.report.absent = self.absent.len() as u64;
        Ok(self.report)
    }

    fn not_rebuilt(&mut self, item: &Item, reason: &str) -> anyhow::Result<()> {
        let tail =
            BlobTail { form: Form::Nothing, at: None, complete: false, reason: Some(reason) };
        self.record.end_blob(&tail).context(CANNOT_WRITE)?;
        self.report.not_rebuilt.push(incomplete(item, reason.to_owned()));
        Ok(())
    }

    fn expand(
        &mut self,
        item: &Item,
        source: &Source<'_>,
        reporter: &Arc<dyn Reporter>,
    ) -> anyhow::Result<Became> {
        if item.role == Role::File {
            return self.file(item, source, reporter, None);
        }
        let mark = self.record.mark().context(CANNOT_WRITE)?;
        let (folder, record) = (&mut self.folder, &mut self.record);
        let passed = pass(source, item, reporter, |raw| {
            let mut tree = Tree::new(folder, record, &item.digest, item.size);
            let filled = tree.fill(raw);
            (filled, tree.counts)
        })?;
        let why = match passed {
            Ok((Ok(()), counts)) => {
                self.report.paths += counts.paths;
                self.report.not_created += counts.not_created;
                self.report.bytes += counts.bytes;
                return Ok(Became::Tree);
            }
            Ok((Err(Stop::Disk(error)), _)) => return Err(error),
            Ok((Err(Stop::NoTar), _)) if item.role == Role::Perhaps => Ok(None),
            Ok((Err(Stop::NoTar), _)) => Ok(Some("it is no tar".to_owned())),
            Ok((Err(Stop::Broken(why)), _)) => Ok(Some(format!("its tar is broken: {why}"))),
            Ok((Err(Stop::TooLarge), _)) => {
                Ok(Some("it has more plain bytes than a layer of its size may have".to_owned()))
            }
            Err(damage) => Err(damage),
        };
        tree::remove(self.folder.path(), &item.digest).context(CANNOT_WRITE)?;
        self.record.rewind(mark).context(CANNOT_WRITE)?;
        match why {
            Err(damage) => Ok(Became::Damaged(damage)),
            Ok(why) => {
                let (digest, bytes) = (item.digest.clone(), item.size);
                reporter.report(Event::BlobRewound { digest, bytes });
                self.file(item, source, reporter, why)
            }
        }
    }

    /// Writes the blob as it is.
    fn file(
        &mut self,
        item: &Item,
        source: &Source<'_>,
        reporter: &Arc<dyn Reporter>,
        why: Option<String>,
    ) -> anyhow::Result<Became> {
        let at = file_of(&item.digest);
        let path = self.folder.path().join(&at);
        let folder = &mut self.folder;
        let passed = pass(source, item, reporter, |raw| {
            let mut file = File::create_new(&path).context(CANNOT_WRITE)?;
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                let count = match raw.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // What is wrong with the bytes is known when all have passed.
                    Err(error) => return Err(error).context("cannot read a blob"),
                };
                hasher.update(&buffer[..count]);
                file.write_all(&buffer[..count]).context(CANNOT_WRITE)?;
                folder.wrote(count as u64)?;
            }
            anyhow::Ok(hasher.finish())
        })?;
        match passed {
            Ok(hash) => {
                self.record.sum(hash?.hex(), at.as_bytes()).context(CANNOT_WRITE)?;
                self.report.bytes += item.size;
                Ok(why.map_or(Became::File, Became::Packed))
            }
            Err(damage) => {
                fs::remove_file(&path).context(CANNOT_WRITE)?;
                Ok(Became::Damaged(damage))
            }
        }
    }
}

fn incomplete(item: &Item, reason: String) -> Incomplete {
    Incomplete { digest: item.digest.clone(), images: item.images.clone(), reason }
}

/// Gives all bytes of a blob to `take`, and says what is wrong with them, whatever it made of them.
fn pass<T>(
    source: &Source<'_>,
    item: &Item,
    reporter: &Arc<dyn Reporter>,
    take: impl FnOnce(&mut (dyn Read + Send)) -> T,
) -> anyhow::Result<Result<T, String>> {
    let Item { digest, size, .. } = item;
    match source {
        Source::Carried(blob) => {
            let bytes = blob.as_ref().clone().bytes_from(0);
            let mut checked = Checked::new(Watched::new(bytes, digest, *size, reporter), item);
            let taken = take(&mut checked);
            Ok(checked.finish().map(|()| taken))
        }
        Source::Delta(deltas) => {
            let (reader, writer) = io::pipe().context("cannot rebuild a layer")?;
            let (taken, restored) = thread::scope(|scope| {
                let restoring = scope.spawn(move || deltas.restore(digest, writer));
                let mut reader = Watched::new(reader, digest, *size, reporter);
                let taken = take(&mut reader);
                // Whoever rebuilds it must come to the end, which says whether it is right.
                let _ = io::copy(&mut reader, &mut io::sink());
                let restored = restoring.join();
                (taken, restored.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
            match restored {
                Ok(()) => Ok(Ok(taken)),
                Err(error) if error.source.is_damage() => Ok(Err(Problem::from(error).to_string())),
                Err(error) => Err(anyhow!(error)),
            }
        }
    }
}

/// Bytes of a blob, of which it is remembered whether they are the right ones.
struct Checked<R> {
    bytes: R,
    verifier: Verifier,
    wrong: Option<String>,
}

impl<R: Read> Checked<R> {
    fn new(bytes: R, item: &Item) -> Self {
        Self { bytes, verifier: Verifier::new(item.digest.clone(), item.size), wrong: None }
    }

    /// Reads what is left, and says what is wrong.
    fn finish(mut self) -> Result<(), String> {
        let rest = io::copy(&mut self, &mut io::sink());
        let wrong = self.wrong.or(rest.err().map(|error| error.to_string()));
        match wrong {
            Some(wrong) => Err(wrong),
            None => self.verifier.finish().map_err(|mismatch| mismatch.to_string()),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer);
        let checked = match &read {
            Ok(count) => self.verifier.update(&buffer[..*count]).map_err(|wrong| wrong.to_string()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(format!("cannot read it: {error}")),
        };
        if let Err(wrong) = checked {
            self.wrong.get_or_insert(wrong);
        }
        read
    }
}
