//! `push-payload`: from a payload to the far registry.
//!
//! Pre-flight first: what is missing there and what may not be written there shows before one blob is
//! sent. Then blobs, then manifests by digest, then indexes, and tags last, when everything that they
//! lead to has been seen at its place.

mod blobs;
mod deltas;
mod manifests;
mod preflight;
mod referrers;
mod report;
mod request;
mod source;
mod spool;
mod tags;
mod targets;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;

use crate::baselines::Finder;
use crate::failure::{BaselineMissing, Usage};
use crate::payload::Payload;
use crate::progress::Reporter;
use crate::registry::{Registries, Registry, UploadOptions};
use crate::units::count;
use crate::verify;

pub use report::{Incomplete, KeptTag, PushReport, PushedImage, RefusedTag, Sent};
pub use request::{
    DEFAULT_CHUNK_BYTES, OnMissing, PushRequest, SparseIndexes, TagPolicy, VerifyFirst,
};
pub use spool::payload_from_stdin;

use preflight::Preflight;
use targets::Targets;

/// Up to this size a blob is sent in one request, in bytes.
const WHOLE_UP_TO_BYTES: u64 = 64 * 1024 * 1024;

/// More blobs are not rebuilt at once, however many processors there are.
const REBUILDS_MAX: usize = 3;

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
pub async fn push_payload(
    payload: Arc<Payload>,
    request: PushRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<PushReport> {
    let targets = Targets::new(&payload, &request.names).map_err(|error| {
        Usage::new(error.to_string()).with_hint("change `--rename` or `--prefix`")
    })?;
    if request.verify_first == VerifyFirst::Everything {
        verify_everything(&payload, &reporter).await?;
    }
    let PushRequest { connections, credentials, .. } = request;
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
        },
        rebuilding: Semaphore::new(rebuilds_at_once()),
        payload: Arc::clone(&payload),
        reporter,
    };
    push.run(targets).await
}

impl Push {
    async fn run(&self, targets: Targets<'_>) -> anyhow::Result<PushReport> {
        self.reporter.phase(format!("looking at `{}`", self.registry.host()));
        let preflight = self.preflight(&targets).await?;
        let mut report = PushReport::default();
        if self.on_missing == OnMissing::Fail && !preflight.incomplete.is_empty() {
            let images = preflight.incomplete.iter().map(ToString::to_string).collect();
            return Err(BaselineMissing { images }.into());
        }
        for image in &preflight.incomplete {
            self.reporter.warn(format!("{image}: it is not pushed"));
        }
        let Preflight { holders, places, incomplete, skipped_and_missing, .. } = preflight;
        report.incomplete = incomplete;
        report.skipped_and_missing = skipped_and_missing;
        let present = preflight.skipped_and_present;
        let complete = targets.without(&report.incomplete);
        self.refuse_unwritable(&complete).await?;
        let restorer = self.read_baselines(&complete, &holders, &places).await?;
        report.sent = self.send_blobs(&complete, &holders, &restorer).await?;
        self.reporter.phase("sending manifests".to_owned());
        let rebuilt = self.send_manifests(&complete).await?;
        self.send_referrers(&complete).await?;
        self.look_again(&complete).await?;
        self.reporter.phase("setting tags".to_owned());
        report.refused_tags = self.list_all_referrers(&complete).await?;
        self.set_tags(&complete, &rebuilt, &mut report).await?;
        report.add_present(present);
        Ok(report)
    }
}

/// How many blobs are rebuilt at once, each within 160 MiB.
fn rebuilds_at_once() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).min(REBUILDS_MAX)
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
