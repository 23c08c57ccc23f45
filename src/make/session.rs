//! One run towards one file, what a former run of the same request left, and what this one leaves for
//! the next.
//!
//! `NAME.partial.plan` is written before the first byte of `NAME.partial`. Who finds it goes on where it
//! leads, and asks no registry again what tags name. Nothing in it is trusted: manifests are checked
//! by their digests, and every byte that was written is hashed again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::failure::hinted;
use crate::manifest::Manifest;
use crate::payload::MANIFESTS_MAX_BYTES;
use crate::payload::index::{INDEX_MAX_BYTES, Index, OldBlob};
use crate::plan::{HeldBlob, Plan};
use crate::progress::Reporter;
use crate::registry::Resume;

use super::Ground;
use super::output::FormerBytes;
use super::outputs::with_suffix;
use super::work::WorkFolder;

/// The version of the file that this kharon writes and reads.
const VERSION: u32 = 1;
/// The largest plan that is read, in bytes: an index and manifests as texts within texts.
const PLAN_MAX_BYTES: u64 = 2 * (INDEX_MAX_BYTES + MANIFESTS_MAX_BYTES);

/// A plan as it lies beside the partial file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedPlan {
    version: u32,
    /// What was asked for, as [`super::key`] knows it.
    request: String,
    /// Where blobs and deltas are kept meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    work_folder: Option<PathBuf>,
    /// What travels, before any deltas are made.
    index: Index,
    manifests: Vec<String>,
    /// The configs of converted images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made: Vec<String>,
    /// The old blobs that deltas are made against.
    old: Vec<OldBlob>,
}

/// A run under way. Nobody else writes this payload meanwhile.
pub(super) struct Session {
    path: PathBuf,
    request: String,
    file: Option<File>,
    former: FormerBytes,
    work: Option<WorkFolder>,
}

impl Session {
    /// Looks at what a former run left beside `payload`. Gives the plan to go on with, if there is one of
    /// this very `request`.
    ///
    /// # Errors
    /// When another run is writing this payload.
    pub(super) fn open(
        payload: &Path,
        request: String,
        resume: Resume,
        workdir: Option<&Path>,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<(Self, Option<Ground>)> {
        let path = with_suffix(payload, ".partial.plan");
        let work = workdir.map(|workdir| WorkFolder::new(workdir, payload, &request));
        let former = FormerBytes::Discard;
        let mut session = Self { path, request, file: None, former, work };
        let Some(mut file) = session.open_plan()? else {
            // Without the plan, nobody knows what was decided of its blobs.
            session.forget_work();
            return Ok((session, None));
        };
        let saved = read(&mut file);
        session.file = Some(file);
        let saved = match (saved, resume) {
            (Ok(saved), _) if saved.request != session.request => {
                reporter.note(format!(
                    "`{}` is of another request and is not gone on with",
                    session.path.display()
                ));
                if let Some(other) = saved.work_folder.and_then(WorkFolder::named) {
                    other.remove();
                }
                return Ok((session, None));
            }
            (Ok(saved), Resume::Fresh) => {
                if let Some(other) = saved.work_folder.and_then(WorkFolder::named) {
                    other.remove();
                }
                session.forget_work();
                return Ok((session, None));
            }
            (saved, _) => saved,
        };
        if let Some(work) = saved.as_ref().ok().and_then(|saved| saved.work_folder.clone()) {
            // The folder of that run, wherever this one would have made its own.
            let work = WorkFolder::named(work).filter(|work| work.path().is_dir());
            session.work = work.or(session.work.take());
        }
        let ground = match saved.and_then(|saved| ground(&saved)) {
            Ok(ground) => ground,
            Err(error) => {
                reporter.warn(format!(
                    "`{}` cannot be used, so the payload is made anew: {error:#}",
                    session.path.display()
                ));
                session.forget_work();
                return Ok((session, None));
            }
        };
        reporter.note(format!(
            "going on with `{}` as it was planned; tags are not resolved again, `--fresh` does that",
            with_suffix(payload, ".partial").display()
        ));
        session.former = FormerBytes::Keep;
        Ok((session, Some(ground)))
    }

    /// The plan of a former run, locked; `None` where there is none.
    fn open_plan(&self) -> anyhow::Result<Option<File>> {
        let file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.cannot("open")),
        };
        self.lock(&file)?;
        Ok(Some(file))
    }

    fn lock(&self, file: &File) -> anyhow::Result<()> {
        match file.try_lock() {
            // Some network file systems have no locks; then there is only the user's care.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(hinted(
                format!("another run is writing the payload of `{}`", self.path.display()),
                "wait for it, or write under another name with `-f`",
            )),
        }
    }

    /// Writes the plan down, for whoever has to go on with it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&mut self, ground: &Ground, index: &Index) -> anyhow::Result<()> {
        if self.former == FormerBytes::Keep {
            return Ok(());
        }
        // JSON is UTF-8, so every manifest is a text.
        let text = |raw: &Bytes| String::from_utf8(raw.to_vec()).context("a manifest is no UTF-8");
        let manifests = ground.plan.manifests.iter().map(|manifest| text(&manifest.raw));
        let made = ground.plan.made.values().map(text);
        let saved = SavedPlan {
            version: VERSION,
            request: self.request.clone(),
            work_folder: self.work.as_ref().map(|work| work.path().to_owned()),
            index: index.clone(),
            manifests: manifests.collect::<anyhow::Result<_>>()?,
            made: made.collect::<anyhow::Result<_>>()?,
            old: ground.old.iter().map(HeldBlob::to_old_blob).collect(),
        };
        let json = serde_json::to_vec(&saved)?;
        let mut file = if let Some(file) = self.file.take() {
            file
        } else {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.open(&self.path).with_context(|| self.cannot("create"))?;
            self.lock(&file)?;
            file
        };
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&json))
            .and_then(|()| file.flush());
        written.with_context(|| self.cannot("write"))?;
        self.file = Some(file);
        Ok(())
    }

    /// What becomes of the bytes that a former run wrote.
    pub(super) fn former(&self) -> FormerBytes {
        self.former
    }

    /// Where blobs and deltas are kept until the payload is complete.
    pub(super) fn work(&self) -> Option<&WorkFolder> {
        self.work.as_ref()
    }

    /// Everything is written: there is nothing to go on with any more.
    pub(super) fn end(&self) {
        // What stays is only in the way, and is noticed by the next run.
        let _ = fs::remove_file(&self.path);
        self.forget_work();
    }

    fn forget_work(&self) {
        if let Some(work) = &self.work {
            work.remove();
        }
    }

    fn cannot(&self, what: &str) -> String {
        format!("cannot {what} `{}`", self.path.display())
    }
}

fn read(file: &mut File) -> anyhow::Result<SavedPlan> {
    let mut json = Vec::new();
    io::Read::take(file, PLAN_MAX_BYTES).read_to_end(&mut json)?;
    let saved: SavedPlan = serde_json::from_slice(&json)?;
    if saved.version != VERSION {
        return Err(anyhow!("expected version {VERSION}, found {}", saved.version));
    }
    Ok(saved)
}

fn ground(saved: &SavedPlan) -> anyhow::Result<Ground> {
    let Index { manifests: listed, .. } = &saved.index;
    if listed.len() != saved.manifests.len() {
        return Err(anyhow!(
            "expected {} manifests, found {}",
            listed.len(),
            saved.manifests.len()
        ));
    }
    let manifests = listed.iter().zip(&saved.manifests).map(|(listed, text)| {
        let raw = Bytes::from(text.clone());
        if listed.digest.same_algorithm_of(&raw) != listed.digest {
            return Err(anyhow!("the manifest `{}` is another one", listed.digest));
        }
        let manifest = Manifest::parse(raw, Some(&listed.media_type))?;
        Ok(manifest.verified_as(&listed.digest)?)
    });
    let manifests = manifests.collect::<anyhow::Result<Vec<_>>>()?;
    let old: Result<Vec<HeldBlob>, _> = saved.old.iter().map(HeldBlob::of_old_blob).collect();
    let mut plan = Plan::of_index(&saved.index, manifests, |_| None)?;
    let made = saved.made.iter().map(|text| Bytes::from(text.clone()));
    plan.made = made.map(|config| (Digest::of(&config), config)).collect();
    Ok(Ground { plan, old: old?, manifest_requests: 0 })
}
