//! `push-payload`: from a payload to the far registry.
//!
//! Pre-flight first: what is missing there and what may not be written there shows before one blob is
//! sent. Then blobs, then manifests by digest, then indexes, and tags last, when everything that they
//! lead to has been seen at its place.

mod blobs;
mod deltas;
mod manifests;
mod marker;
mod preflight;
mod publish;
mod receipt;
mod referrers;
mod report;
mod request;
mod source;
mod spool;
mod tags;
mod targets;
mod volumes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Semaphore;

use crate::baselines::Finder;
use crate::failure::{Hinted, Interrupted, Usage};
use crate::payload::Payload;
use crate::progress::Reporter;
use crate::receipt::Receipt;
use crate::registry::{Connections, Registries, Registry, UploadJournal, UploadOptions};
use crate::replace::Replacement;
use crate::restore::rebuilds_at_once;
use crate::units::count;
use crate::verify;

pub use crate::registry::Resume;
pub use report::{Incomplete, KeptTag, PushReport, PushedImage, RefusedTag, Sent};
pub use request::{
    DEFAULT_CHUNK_BYTES, OnMissing, PushRequest, SparseIndexes, TagPolicy, VerifyFirst,
};
pub use spool::payload_from_stdin;

use preflight::Preflight;
use receipt::{PayloadNames, payload_names};
use targets::Targets;

/// Up to this size a blob is sent in one request, in bytes.
const WHOLE_UP_TO_BYTES: u64 = 64 * 1024 * 1024;

/// One push under way.
struct Push {
    payload: Arc<Payload>,
    registry: Registry,
    on_missing: OnMissing,
    tag_policy: TagPolicy,
    sparse_indexes: SparseIndexes,
    jobs: usize,
    upload: UploadOptions,
    finder: Finder,
    payload_names: PayloadNames,
    /// Rebuilding takes memory, so it is done in turn.
    rebuilding: Semaphore,
    reporter: Arc<dyn Reporter>,
}

/// Pushes `payload` as `request` says.
///
/// # Errors
/// When the registry cannot be reached or written, or refuses content; when the payload turns out to
/// be damaged; when something is missing at the far side and `on_missing` says so. No tag has moved
/// then, unless the error is about a tag itself: see [`PushReport`] for tags that were refused.
/// [`Interrupted`] when `stop` was asked to end.
pub async fn push_payload(
    payload: Arc<Payload>,
    request: PushRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<PushReport> {
    let stop = request.stop.clone();
    tokio::select! {
        biased;
        () = stop.settled() => Err(Interrupted.into()),
        pushed = Box::pin(push(payload, request, reporter)) => pushed,
    }
}

async fn push(
    payload: Arc<Payload>,
    request: PushRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<PushReport> {
    if let Some(key) = &request.verify_key {
        payload.check_signature(key).context("nothing was sent")?;
    }
    if let Some(scanned) = &request.scanned {
        scanned.check(&payload).context("nothing was sent")?;
    }
    let cannot_name = |error: &dyn fmt::Display| {
        Usage::new(error.to_string()).with_hint("change `--rename` or `--prefix`")
    };
    let targets = Targets::new(&payload, &request.names).map_err(|error| cannot_name(&error))?;
    let payload_names =
        payload_names(payload.index(), &request.names).map_err(|error| cannot_name(&error))?;
    let receipt = request.receipt.as_deref().map(Replacement::begin).transpose()?;
    if request.verify_first == VerifyFirst::Everything || request.verify_key.is_some() {
        verify_everything(&payload, &reporter).await?;
    }
    let PushRequest { connections, credentials, .. } = request;
    // What is there is asked of the registry itself, and written to it.
    let connections = Connections { mirrors: BTreeMap::new(), ..connections };
    let registries = Registries::new(connections, credentials, Arc::clone(&reporter));
    let registry = registries.registry(&request.registry)?;
    let push = Push {
        finder: Finder {
            payload: Arc::clone(&payload),
            registry: Some(registry.clone()),
            baselines: request.baselines,
            reporter: Arc::clone(&reporter),
        },
        registry,
        on_missing: request.on_missing,
        tag_policy: request.tag_policy,
        sparse_indexes: request.sparse_indexes,
        jobs: request.jobs.get(),
        upload: UploadOptions {
            chunk_size_bytes: request.chunk_bytes,
            whole_up_to_bytes: WHOLE_UP_TO_BYTES,
            journal: request.state.map(|state| UploadJournal::new(&state, request.resume)),
            stop: request.stop,
        },
        payload_names,
        rebuilding: Semaphore::new(rebuilds_at_once()),
        payload: Arc::clone(&payload),
        reporter,
    };
    if payload.index().plan.is_none() {
        push.run(targets, receipt).await
    } else if payload.missing_volumes().is_empty() {
        push.run_to_the_end(targets, receipt).await
    } else {
        push.run_volumes(targets, receipt).await
    }
}

impl Push {
    async fn run(
        &self,
        targets: Targets<'_>,
        receipt: Option<Replacement>,
    ) -> anyhow::Result<PushReport> {
        self.reporter.phase(format!("looking at `{}`", self.registry.host()));
        let preflight = self.preflight(&targets).await?;
        let mut report = PushReport::default();
        if self.on_missing == OnMissing::Fail && !preflight.incomplete.is_empty() {
            return Err(report::baseline_missing(&preflight.incomplete).into());
        }
        for image in &preflight.incomplete {
            self.reporter.warn(format!("{image}: it is not pushed"));
        }
        report.incomplete.clone_from(&preflight.incomplete);
        report.skipped_and_missing.clone_from(&preflight.skipped_and_missing);
        let Preflight { holders, places, .. } = &preflight;
        let complete = targets.without(&report.incomplete);
        self.refuse_unwritable(&complete).await?;
        let restorer = self.read_baselines(&complete, holders, places).await?;
        report.sent = self.send_blobs(&complete, holders, &restorer).await?;
        self.reporter.phase("sending manifests".to_owned());
        let rebuilt = self.send_manifests(&complete).await?;
        self.send_referrers(&complete).await?;
        self.look_again(&complete).await?;
        self.reporter.phase("setting tags".to_owned());
        report.refused_tags = self.list_all_referrers(&complete).await?;
        let tags = self.set_tags(&complete, &rebuilt, &mut report).await?;
        if let Some(file) = receipt {
            write_receipt(file, &self.receipt(&complete, &rebuilt, &tags, &preflight))?;
        }
        report.add_present(preflight.skipped_and_present);
        Ok(report)
    }
}

fn write_receipt(file: Replacement, receipt: &Receipt) -> anyhow::Result<()> {
    let written = receipt.to_json().and_then(|json| file.commit(&json));
    written.context(Hinted::new(
        "everything was pushed, but the receipt is not written",
        "push again: nothing is sent twice",
    ))
}

async fn verify_everything(
    payload: &Arc<Payload>,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let (payload, reporter) = (Arc::clone(payload), Arc::clone(reporter));
    let report =
        tokio::task::spawn_blocking(move || verify::verify(&payload, reporter.as_ref())).await?;
    let problems = report.problems.len();
    match report.problems.into_iter().next() {
        None => Ok(()),
        Some(first) => {
            let problems = count(problems as u64, "problem");
            let context = format!("the payload has {problems}; nothing was sent");
            Err(anyhow::Error::new(first).context(context))
        }
    }
}
