//! `push-payload`: from a payload to the far registry.
//!
//! Pre-flight first: what is missing there and what may not be written there shows before one blob is
//! sent. Then blobs, then manifests by digest, then indexes, and tags last, when everything that they
//! lead to has been seen at its place.

mod blobs;
mod manifests;
mod preflight;
mod rebuild;
mod referrers;
mod report;
mod source;
mod spool;
mod tags;
mod targets;

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::failure::{BaselineMissing, Usage};
use crate::names::TargetNames;
use crate::payload::Payload;
use crate::progress::Reporter;
use crate::reference::RegistryHost;
use crate::registry::{Connections, CredentialStore, Registries, Registry, UploadOptions};
use crate::verify;

pub use report::{Incomplete, KeptTag, PushReport, PushedImage, RefusedTag, Sent};
pub use spool::payload_from_stdin;

use targets::Targets;

/// The size of the requests that large blobs are sent in, unless asked otherwise, in bytes.
pub const DEFAULT_CHUNK_BYTES: u64 = 64 * 1024 * 1024;
/// Up to this size a blob is sent in one request, in bytes.
const WHOLE_UP_TO_BYTES: u64 = 64 * 1024 * 1024;

/// What to do about images that lack something at the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// Push the others, and say which were left.
    #[default]
    PushOthers,
    /// End before anything is sent.
    Fail,
}

/// What to do about tags that somebody else moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagPolicy {
    /// Leave them alone and say so.
    #[default]
    Protect,
    /// Move them.
    Force,
}

/// What to do about an index of which the registry wants children that do not travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SparseIndexes {
    /// End with an error where the registry refuses one.
    #[default]
    Keep,
    /// Push a new index of the children that travel, with a digest of its own.
    Rebuild,
}

/// Whether the payload is read as a whole before anything is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyFirst {
    /// Content is checked while it is sent.
    #[default]
    WhileSending,
    /// Everything is checked before.
    Everything,
}

/// Where and how to push.
#[derive(Debug)]
pub struct PushRequest {
    /// The far registry.
    pub registry: RegistryHost,
    /// What the payload's repositories are called there.
    pub names: TargetNames,
    /// What to do about images that lack something there.
    pub on_missing: OnMissing,
    /// What to do about tags that somebody else moved.
    pub tag_policy: TagPolicy,
    /// What to do about sparse indexes that are refused.
    pub sparse_indexes: SparseIndexes,
    /// Whether to read everything first.
    pub verify_first: VerifyFirst,
    /// How many blobs are sent at once.
    pub jobs: NonZeroUsize,
    /// The size of the requests that large blobs are sent in, in bytes.
    pub chunk_bytes: u64,
    /// How the registry is reached.
    pub connections: Connections,
    /// Who we are to it.
    pub credentials: CredentialStore,
}

impl PushRequest {
    /// A request to push to `registry` with everything else as it usually is.
    pub fn new(registry: RegistryHost) -> Self {
        Self {
            registry,
            names: TargetNames::default(),
            on_missing: OnMissing::PushOthers,
            tag_policy: TagPolicy::Protect,
            sparse_indexes: SparseIndexes::Keep,
            verify_first: VerifyFirst::WhileSending,
            jobs: crate::make::DEFAULT_JOBS,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            connections: Connections::default(),
            credentials: CredentialStore::anonymous(),
        }
    }
}

/// One push under way.
struct Push {
    payload: Arc<Payload>,
    registry: Registry,
    on_missing: OnMissing,
    tag_policy: TagPolicy,
    sparse_indexes: SparseIndexes,
    jobs: usize,
    upload: UploadOptions,
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
    let push = Push {
        registry: registries.registry(&request.registry)?,
        on_missing: request.on_missing,
        tag_policy: request.tag_policy,
        sparse_indexes: request.sparse_indexes,
        jobs: request.jobs.get(),
        upload: UploadOptions {
            chunk_size_bytes: request.chunk_bytes,
            whole_up_to_bytes: WHOLE_UP_TO_BYTES,
        },
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
        report.incomplete = preflight.incomplete;
        report.skipped_and_missing = preflight.skipped_and_missing;
        let present = preflight.skipped_and_present;
        let complete = targets.without(&report.incomplete);
        self.refuse_unwritable(&complete).await?;
        report.sent = self.send_blobs(&complete, &preflight.holders).await?;
        self.reporter.phase("sending manifests".to_owned());
        let rebuilt = self.send_manifests(&complete).await?;
        report.refused_tags = self.send_referrers(&complete).await?;
        self.look_again(&complete).await?;
        self.reporter.phase("setting tags".to_owned());
        self.set_tags(&complete, &rebuilt, &mut report).await?;
        report.add_present(present);
        Ok(report)
    }
}

async fn verify_everything(
    payload: &Arc<Payload>,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let (payload, reporter) = (Arc::clone(payload), Arc::clone(reporter));
    let report =
        tokio::task::spawn_blocking(move || verify::verify(&payload, reporter.as_ref())).await?;
    let count = report.problems.len();
    match report.problems.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(anyhow::Error::new(first)
            .context(format!("the payload has {count} problems; nothing was sent"))),
    }
}
