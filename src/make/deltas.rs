//! Deltas of the blobs that travel: read what is old, read what is new, and take whichever is
//! smaller, the blob or its delta.
//!
//! New blobs are read and taken apart ahead, in the order of the plan, the first ones while old blobs
//! are read; deltas are made one after the other, each on all processors; each is proved beside that. What comes out depends on
//! the plan and on which old blobs could be read, on nothing else.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::thread;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::delta::{Baseline as OldContent, OldBlob, Options};
use crate::digest::Digest;
use crate::failure::Hinted;
use crate::layer::{Apart, LayerError, MadeLayer, make};
use crate::manifest::Descriptor;
use crate::payload::Payload;
use crate::plan::{DeltaEntry, HeldBlob, Plan};
use crate::progress::{Arrival, Event, Reporter};
use crate::registry::RemoteBlob;
use crate::store::Store;
use crate::units::{count, format_bytes};
use crate::unpack::plain_reader;

use super::proof::{OldPlain, Proof, RecipeProof};
use super::request::DeltaRequest;
use super::work::{ProvedDelta, Verdict, WorkFolder};
use crate::ahead::Ahead;

/// What to do about a work folder that fails.
const HINT: &str =
    "free some space there, name another folder with `--workdir`, or use `--delta off`";
/// A delta of more than this part of its blob is not worth rebuilding.
const WORTH_PERCENT: u64 = 90;
/// Smaller blobs, configs most of them, are not worth a delta of their own, in bytes.
pub(super) const BLOB_MIN_BYTES: u64 = 32 << 10;
const NOT_SMALLER: &str = "its delta would not be smaller";
/// How much is copied at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// How many old blobs are read at once.
const OLD_AT_ONCE: usize = 4;
/// How many new blobs are read and taken apart at once, each within 64 MiB.
const NEW_AT_ONCE: usize = 2;

/// What was made of the new blobs, in temporary files.
#[derive(Default)]
pub(super) struct Local {
    /// Deltas, by the blob that they rebuild.
    pub(super) deltas: HashMap<Digest, ProvedDelta>,
    /// Blobs that travel raw.
    pub(super) raw: HashMap<Digest, Arc<File>>,
}

impl Local {
    /// Notes in `plan` which blobs travel as deltas, made against `old` ones.
    pub(super) fn note_in(&self, plan: &mut Plan, old: &[HeldBlob]) {
        plan.carry_as_deltas(old, |digest| {
            let made = self.deltas.get(digest)?;
            let sha256 = made.entry_digest.hex().to_owned();
            let entry = DeltaEntry { size_bytes: made.entry_bytes, sha256 };
            Some((entry, made.baselines.clone()))
        });
    }
}

/// A blob and where else it can be read.
pub(super) struct Sourced<T> {
    pub(super) blob: T,
    pub(super) remotes: Vec<RemoteBlob>,
}

/// Makes deltas.
pub(super) struct Maker {
    store: Store,
    options: Options,
    /// Keeps what is done, for a run that has to go on.
    work: Option<WorkFolder>,
}

/// What is to become of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A delta, if that is smaller.
    Delta,
    /// It travels raw. Its content may serve those behind it.
    Raw,
    /// It takes no part.
    Nothing,
}

/// A new blob that takes part, because it or one behind it is not decided yet.
struct Candidate {
    new: Sourced<Descriptor>,
    wish: Wish,
}

/// A new blob in temporary files.
struct Ready {
    blob: Arc<File>,
    apart: Result<Apart, LayerError>,
}

/// What the old blobs hold, and what they are made of.
#[derive(Default)]
struct Old {
    content: OldContent,
    plain: OldPlain,
}

/// What a blob travels as.
enum Made {
    Delta(MadeLayer),
    /// The delta is not worth it; the blob's own content may serve those behind it.
    Raw(Arc<Apart>),
}

impl Maker {
    /// To be made where a runtime is. None where there is no folder for temporary files.
    ///
    /// # Errors
    /// When the folder that was asked for cannot be used.
    pub(super) fn new(
        request: DeltaRequest,
        payloads: Vec<Payload>,
        work: Option<WorkFolder>,
        reporter: Arc<dyn Reporter>,
    ) -> anyhow::Result<Option<Self>> {
        let workdir = request.workdir.clone().unwrap_or_else(std::env::temp_dir);
        let cannot = || format!("cannot make deltas in `{}`", workdir.display());
        match tempfile::tempfile_in(&workdir) {
            Ok(_) => {}
            Err(error) if request.workdir.is_none() => {
                reporter.warn(format!("{}: {error}; layers travel as they are, {HINT}", cannot()));
                return Ok(None);
            }
            Err(error) => return Err(error).context(Hinted::new(cannot(), HINT)),
        }
        let store = Store {
            cache: request.cache,
            folders: request.baseline_folders,
            payloads,
            reporter,
            runtime: Handle::current(),
        };
        let options = Options {
            effort: request.effort,
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            workdir,
        };
        Ok(Some(Self { store, options, work }))
    }

    /// Decides for each of `new`, in the order of the plan, whether it travels as a delta.
    ///
    /// # Errors
    /// When a new blob cannot be read, or a temporary file fails. An old blob that cannot be read is only
    /// a message.
    pub(super) async fn run(
        self,
        held: Vec<Sourced<HeldBlob>>,
        new: Vec<Sourced<Descriptor>>,
    ) -> anyhow::Result<Local> {
        self.run_as(held, new, |_| Wish::Delta).await
    }

    /// As [`Self::run`], where it is known what is to become of some blobs.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) async fn run_as(
        self,
        held: Vec<Sourced<HeldBlob>>,
        new: Vec<Sourced<Descriptor>>,
        wish: impl Fn(&Digest) -> Wish,
    ) -> anyhow::Result<Local> {
        let new = new.into_iter().filter(|new| new.blob.size >= BLOB_MIN_BYTES);
        let candidate = |new: Sourced<Descriptor>| Candidate { wish: wish(&new.blob.digest), new };
        let new: Vec<Candidate> =
            new.map(candidate).filter(|candidate| candidate.wish != Wish::Nothing).collect();
        // Dropped with this future, so that the thread of an abandoned run ends with the layer at hand.
        let alive = Arc::new(());
        let run = Arc::downgrade(&alive);
        let made = tokio::task::spawn_blocking(move || self.make_all(held, new, &run)).await?;
        drop(alive);
        made
    }

    /// What a former run decided; the blobs that are left, up to the last one that is not decided.
    fn decided(&self, new: Vec<Candidate>) -> (Local, Vec<Candidate>) {
        let (mut local, mut left) = (Local::default(), Vec::new());
        for Candidate { new, wish } in new {
            let digest = &new.blob.digest;
            match self.work.as_ref().and_then(|work| work.verdict(digest)) {
                Some(Verdict::Delta(delta)) => drop(local.deltas.insert(digest.clone(), delta)),
                Some(Verdict::Raw) => left.push(Candidate { new, wish: Wish::Raw }),
                None => left.push(Candidate { new, wish }),
            }
        }
        let undecided = left.iter().rposition(|candidate| candidate.wish == Wish::Delta);
        for Candidate { new, .. } in left.drain(undecided.map_or(0, |last| last + 1)..) {
            if let Some(file) = self.work.as_ref().and_then(|work| work.blob(&new.blob)) {
                local.raw.insert(new.blob.digest, Arc::new(file));
            }
        }
        (local, left)
    }

    fn make_all(
        &self,
        held: Vec<Sourced<HeldBlob>>,
        new: Vec<Candidate>,
        run: &Weak<()>,
    ) -> anyhow::Result<Local> {
        let (mut local, new) = self.decided(new);
        if new.is_empty() {
            return Ok(local);
        }
        self.announce(&held, &new);
        thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, new, NEW_AT_ONCE, |new| self.ready(new));
            ahead.begin();
            let mut old = self.read_old(held, run)?;
            let mut proofs = VecDeque::new();
            for (Candidate { new, wish }, ready) in ahead {
                refuse_abandoned(run)?;
                let (descriptor, Ready { blob, apart }) = (new.blob, ready?);
                let made = apart.and_then(|apart| {
                    if wish == Wish::Raw {
                        return Ok((Made::Raw(Arc::new(apart)), None));
                    }
                    let apart = Arc::new(apart);
                    let recipe = RecipeProof::begin(
                        scope,
                        &apart,
                        (&descriptor, &blob),
                        &self.options.workdir,
                    );
                    Ok((self.make(&descriptor, apart, &old)?, Some(recipe)))
                });
                match made {
                    Ok((Made::Delta(made), Some(recipe))) => {
                        let (whole, workdir) = ((descriptor, blob), &self.options.workdir);
                        proofs.push_back(Proof::begin(
                            scope, whole, made, recipe, &old.plain, workdir,
                        ));
                    }
                    Ok((Made::Delta(_), None)) => {}
                    Ok((Made::Raw(apart), _)) => {
                        old.add(&descriptor, &apart.plain, apart.plain_bytes)?;
                        self.keep_raw(&mut local, &descriptor, blob, NOT_SMALLER);
                    }
                    Err(error) if error.is_disk() => {
                        let context = Hinted::new("cannot make deltas", HINT);
                        return Err(anyhow::Error::new(error).context(context));
                    }
                    Err(error) => {
                        let why = format!("{:#}", anyhow::Error::new(error));
                        self.keep_raw(&mut local, &descriptor, blob, &why);
                    }
                }
                if proofs.len() > NEW_AT_ONCE
                    && let Some(proof) = proofs.pop_front()
                {
                    self.settle(proof, &mut local);
                }
            }
            for proof in proofs {
                self.settle(proof, &mut local);
            }
            anyhow::Ok(())
        })?;
        Ok(local)
    }

    /// Reads the old blobs; those that nobody gives are left.
    fn read_old(&self, held: Vec<Sourced<HeldBlob>>, run: &Weak<()>) -> anyhow::Result<Old> {
        let mut old = Old::default();
        thread::scope(|scope| {
            for (held, plain) in Ahead::new(scope, held, OLD_AT_ONCE, |held| self.plain_of(held)) {
                refuse_abandoned(run)?;
                let descriptor = &held.blob.descriptor;
                match plain {
                    Ok((plain, plain_bytes)) => {
                        old.add(descriptor, &Arc::new(plain), plain_bytes)?;
                    }
                    Err(error) => self.store.reporter.warn(format!(
                        "old blob `{}` cannot be had, so nothing is made against it: {error:#}",
                        descriptor.digest
                    )),
                }
            }
            Ok(old)
        })
    }

    /// The plain bytes of an old blob in a temporary file, and how many there are.
    fn plain_of(&self, held: &Sourced<HeldBlob>) -> anyhow::Result<(File, u64)> {
        let descriptor = &held.blob.descriptor;
        let plain = self.store.read(descriptor, &held.remotes, |blob| {
            self.keep(&mut plain_reader(blob).context("cannot unpack it")?)
        })?;
        self.finished(&descriptor.digest);
        Ok(plain)
    }

    fn ready(&self, candidate: &Candidate) -> anyhow::Result<Ready> {
        let new = &candidate.new;
        let Descriptor { digest, size, .. } = &new.blob;
        let blob = self.fetch(new).with_context(|| format!("cannot fetch blob `{digest}`"))?;
        let blob = Arc::new(blob);
        let apart = Apart::new(&blob, *size, &self.options.workdir);
        Ok(Ready { blob, apart })
    }

    /// The blob in a file, which stays for later runs if there is a folder for that.
    fn fetch(&self, new: &Sourced<Descriptor>) -> anyhow::Result<File> {
        let Some(work) = &self.work else {
            return Ok(self.store.read(&new.blob, &new.remotes, |blob| self.keep(blob))?.0);
        };
        if let Some(file) = work.blob(&new.blob) {
            return Ok(file);
        }
        let (file, path) = self.store.read(&new.blob, &new.remotes, |blob| {
            let (mut file, path) = work.new_blob(&new.blob.digest).map_err(LayerError::Write)?;
            io::copy(blob, &mut file)?;
            anyhow::Ok((file, path))
        })?;
        Ok(file.persist(path).map_err(|error| LayerError::Write(error.error))?)
    }

    /// Puts bytes into a temporary file, and counts them.
    fn keep(&self, bytes: &mut dyn Read) -> anyhow::Result<(File, u64)> {
        let workdir = &self.options.workdir;
        let file = tempfile::tempfile_in(workdir).map_err(LayerError::Write)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let count = io::copy(bytes, &mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, count))
    }

    fn make(&self, blob: &Descriptor, apart: Arc<Apart>, old: &Old) -> Result<Made, LayerError> {
        let made = make(&apart, &old.content, &self.options)?;
        Ok(if is_worth_it(&made, blob) { Made::Delta(made) } else { Made::Raw(apart) })
    }

    fn settle(&self, proof: Proof<'_>, local: &mut Local) {
        let (descriptor, blob, made) = proof.settle();
        match made {
            // Only a recipe that had to be made anew can have made it too long.
            Ok(made) if !is_worth_it(&made, &descriptor) => {
                self.keep_raw(local, &descriptor, blob, NOT_SMALLER);
            }
            Ok(made) => {
                self.finished(&descriptor.digest);
                let delta = ProvedDelta::from(made);
                self.decide(&descriptor.digest, &Verdict::Delta(delta.clone()));
                local.deltas.insert(descriptor.digest, delta);
            }
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::new(error));
                self.store.reporter.warn(format!(
                    "the delta of blob `{}` does not give it back, please report this: {why}",
                    descriptor.digest
                ));
                self.keep_raw(local, &descriptor, blob, &why);
            }
        }
    }

    fn keep_raw(&self, local: &mut Local, descriptor: &Descriptor, blob: Arc<File>, why: &str) {
        let digest = &descriptor.digest;
        self.store.reporter.detail(format!("blob `{digest}` travels raw: {why}"));
        self.decide(digest, &Verdict::Raw);
        self.finished(digest);
        local.raw.insert(digest.clone(), blob);
    }

    fn decide(&self, digest: &Digest, verdict: &Verdict) {
        if let Some(work) = &self.work {
            work.keep(digest, verdict);
        }
    }

    fn announce(&self, held: &[Sourced<HeldBlob>], new: &[Candidate]) {
        let old_bytes: u64 = held.iter().map(|held| held.blob.descriptor.size).sum();
        let new_bytes: u64 = new.iter().map(|candidate| candidate.new.blob.size).sum();
        let blobs = format!("{} ({})", count(new.len() as u64, "blob"), format_bytes(new_bytes));
        let against = match held.len() as u64 {
            0 => String::new(),
            held => format!(" against {} ({})", count(held, "old one"), format_bytes(old_bytes)),
        };
        self.store.reporter.phase(format!("making deltas of {blobs}{against}"));
        let blobs = (held.len() + new.len()) as u64;
        self.store.reporter.report(Event::Total { blobs, bytes: old_bytes + new_bytes });
    }

    fn finished(&self, digest: &Digest) {
        let digest = digest.clone();
        self.store.reporter.report(Event::BlobFinished { digest, how: Arrival::Read });
    }
}

impl Old {
    fn add(
        &mut self,
        blob: &Descriptor,
        plain: &Arc<File>,
        plain_bytes: u64,
    ) -> anyhow::Result<()> {
        self.content.add(OldBlob {
            digest: blob.digest.clone(),
            plain: plain.try_clone()?,
            plain_bytes,
            blob_bytes: blob.size,
        })?;
        self.plain.insert(blob.digest.clone(), (Arc::clone(plain), plain_bytes));
        Ok(())
    }
}

/// Whether the delta is so much smaller than `blob` that it travels in its place.
fn is_worth_it(made: &MadeLayer, blob: &Descriptor) -> bool {
    made.entry_bytes <= blob.size / 100 * WORTH_PERCENT
}

/// Ends what nobody waits for any more.
fn refuse_abandoned(run: &Weak<()>) -> anyhow::Result<()> {
    anyhow::ensure!(run.strong_count() > 0, "the run was abandoned");
    Ok(())
}
