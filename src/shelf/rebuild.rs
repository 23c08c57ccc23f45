//! Blobs that travelled as deltas, rebuilt when they are asked for.
//!
//! First a plan: which blobs have to be rebuilt, each after those that it is made from, which may have travelled as
//! deltas in other payloads. Nothing in it waits for itself, whatever the payloads say. Then its steps, one
//! after the other; who needs a step that somebody else is at waits for that one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::spawn_blocking;

use super::content::Origin;
use super::{Absent, Content, Shelf, lock};
use crate::digest::Digest;
use crate::disk;
use crate::layer::LayerError;
use crate::payload::Travels;
use crate::restore::{HINT_DISK, OpenDelta, Restorer, Unrestorable};
use crate::units::format_bytes;
use crate::verified::mismatch_in;

/// A blob that is being rebuilt; everybody who waits gets it. `None` if it cannot be.
pub(super) type Running = Shared<BoxFuture<'static, Option<Content>>>;

/// How a blob can be rebuilt.
#[derive(Debug)]
pub(super) struct Plan {
    /// In an order in which each may be done.
    steps: Vec<Step>,
    /// Blobs that are there already.
    there: HashMap<Digest, Content>,
}

#[derive(Clone, Debug)]
struct Step {
    digest: Digest,
    /// The payload, and the place of the blob in its index.
    delta: (usize, usize),
}

impl Shelf {
    /// How the blob `digest`, which is not at hand, can be rebuilt. Blocks.
    pub(super) fn plan(&self, digest: &Digest) -> Result<Plan, Absent> {
        let mut there = HashMap::new();
        let mut open: BTreeMap<&Digest, Vec<(usize, usize)>> = BTreeMap::new();
        let mut missing = BTreeSet::new();
        let mut seen = HashSet::from([digest]);
        let mut next = vec![digest];
        while let Some(blob) = next.pop() {
            if let Some(content) = self.at_hand(blob).or_else(|| self.cached(blob)) {
                there.insert(blob.clone(), content);
                continue;
            }
            let deltas = self.deltas_of(blob);
            if deltas.is_empty() {
                missing.insert(blob);
                continue;
            }
            let baselines = deltas.iter().flat_map(|delta| self.baselines(*delta));
            next.extend(baselines.filter(|baseline| seen.insert(baseline)));
            open.insert(blob, deltas);
        }
        let mut steps: Vec<Step> = Vec::new();
        let mut made: HashSet<&Digest> = HashSet::new();
        loop {
            let before = steps.len();
            for (blob, deltas) in &open {
                let can_be_had = |baseline| there.contains_key(baseline) || made.contains(baseline);
                let is_ready =
                    |delta: &&(usize, usize)| self.baselines(**delta).iter().all(can_be_had);
                if !made.contains(blob)
                    && let Some(delta) = deltas.iter().find(is_ready)
                {
                    steps.push(Step { digest: (*blob).clone(), delta: *delta });
                    made.insert(blob);
                }
            }
            if made.contains(digest) || there.contains_key(digest) {
                break;
            }
            if steps.len() == before {
                return Err(self.absent(digest, missing));
            }
        }
        // What only other blobs would have needed is not done.
        let mut needed = HashSet::from([digest.clone()]);
        for step in steps.iter().rev() {
            if needed.contains(&step.digest) {
                needed.extend(self.baselines(step.delta).iter().cloned());
            }
        }
        steps.retain(|step| needed.contains(&step.digest));
        there.retain(|blob, _| needed.contains(blob));
        Ok(Plan { steps, there })
    }

    /// The deltas that a blob can be rebuilt from, those of later payloads first.
    fn deltas_of(&self, blob: &Digest) -> Vec<(usize, usize)> {
        let damaged = lock(&self.damaged_deltas);
        let all = self.deltas.get(blob).into_iter().flatten();
        all.filter(|delta| !damaged.contains(delta)).copied().collect()
    }

    fn baselines(&self, (payload, nth): (usize, usize)) -> &[Digest] {
        match &self.payloads[payload].index().blobs[nth].travels {
            Travels::Delta { baselines } => baselines,
            _ => &[],
        }
    }

    fn absent(&self, digest: &Digest, missing: BTreeSet<&Digest>) -> Absent {
        let digest = digest.clone();
        let is_damaged = lock(&self.damaged).iter().any(|(_, damaged)| *damaged == digest);
        let has_delta = self.deltas.contains_key(&digest);
        if is_damaged || (has_delta && self.deltas_of(&digest).is_empty()) {
            return Absent::Damaged(digest);
        }
        if has_delta {
            let baselines = missing.into_iter().cloned().collect();
            return Absent::NoBaseline { digest, baselines };
        }
        let expects =
            self.payloads.iter().rev().find(|payload| {
                payload.index().expected().any(|expected| *expected.digest == digest)
            });
        match expects {
            Some(payload) => Absent::Expected { digest, payload: payload.name().to_owned() },
            None => Absent::Unknown(digest),
        }
    }

    /// Rebuilds what a plan says.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        digest: &Digest,
        plan: Plan,
    ) -> Result<Content, Absent> {
        let Plan { steps, mut there } = plan;
        for step in steps {
            let blob = step.digest.clone();
            let rebuilt = self.join(step, &there).await;
            let content = rebuilt.ok_or_else(|| Absent::Unrestorable(digest.clone()))?;
            there.insert(blob, content);
        }
        there.remove(digest).ok_or_else(|| Absent::Unrestorable(digest.clone()))
    }

    /// Does a step, or waits for whoever does it.
    async fn join(
        self: &Arc<Self>,
        step: Step,
        there: &HashMap<Digest, Content>,
    ) -> Option<Content> {
        let running = {
            let mut all = lock(&self.running);
            if let Some(running) = all.get(&step.digest) {
                running.clone()
            } else {
                let baselines: Option<Vec<_>> = self
                    .baselines(step.delta)
                    .iter()
                    .map(|baseline| there.get(baseline).cloned())
                    .collect();
                let (store, digest) = (Arc::clone(self), step.digest.clone());
                // It goes on also when all that wait have gone away: others will ask.
                let task = tokio::spawn(async move {
                    let rebuilt = store.take_turn(&step, baselines?).await;
                    lock(&store.running).remove(&step.digest);
                    rebuilt
                });
                let running = async move { task.await.ok().flatten() }.boxed().shared();
                all.insert(digest, running.clone());
                running
            }
        };
        running.await
    }

    async fn take_turn(self: &Arc<Self>, step: &Step, baselines: Vec<Content>) -> Option<Content> {
        let _turn = self.rebuilding.acquire().await.ok()?;
        // Somebody may just have ended with it.
        let (store, again) = (Arc::clone(self), step.clone());
        let work = move || {
            let cached = store.cached(&again.digest);
            cached.map_or_else(|| store.rebuild(&again, &baselines), Ok)
        };
        let rebuilt = spawn_blocking(work).await.unwrap_or_else(|error| Err(error.into()));
        if let Err(error) = &rebuilt {
            self.reporter.warn(crate::printable::escaped(&format!("{error:#}")));
        }
        rebuilt.ok()
    }

    fn rebuild(&self, step: &Step, baselines: &[Content]) -> anyhow::Result<Content> {
        let (payload, nth) = step.delta;
        let payload = &self.payloads[payload];
        let blob = &payload.index().blobs[nth];
        let in_payload = || format!("payload `{}`", payload.name());
        let unusable = |error: Unrestorable| {
            if is_damage(&error.source) {
                lock(&self.damaged_deltas).insert(step.delta);
                self.set_asides.fetch_add(1, Ordering::AcqRel);
            }
            anyhow::Error::new(error).context(in_payload())
        };
        let delta = OpenDelta::new(payload, blob).map_err(unusable)?;
        let restorer = Restorer::new(payload, vec![delta], &self.workdir);
        let needed_bytes = restorer.disk_bytes(1);
        let why = format!("rebuilding a layer takes up to {}", format_bytes(needed_bytes));
        disk::refuse_full(&self.workdir, needed_bytes, &why, HINT_DISK)?;
        for digest in restorer.baselines().keys() {
            let content = baselines.iter().find(|content| content.digest() == digest);
            let content = content.ok_or_else(|| anyhow!("baseline `{digest}` is not there"))?;
            if let Err(error) = restorer.feed(digest, content.bytes_from(0)) {
                if mismatch_in(&error).is_some() {
                    self.set_aside(content);
                }
                return Err(error).with_context(|| format!("`{}`", self.called(&content.origin)));
            }
        }
        let file = self.cache.begin()?;
        restorer.restore(&blob.digest, file.as_file()).map_err(unusable)?;
        let file = self.cache.keep(file, &blob.digest, blob.size)?;
        let content = Content::of_file(&blob.digest, blob.size, file, Origin::Cache);
        self.was_read(&content, Ok(()));
        Ok(content)
    }
}

/// Whether a delta will fail again, so that it is not worth another try.
fn is_damage(error: &LayerError) -> bool {
    let is_short = |entry: &io::Error| {
        matches!(entry.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
    };
    error.is_damage() || matches!(error, LayerError::Entry(entry) if is_short(entry))
}
