//! What push-payload is asked to do.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::baselines::Baselines;
use crate::make::DEFAULT_JOBS;
use crate::minisign::PublicKey;
use crate::names::TargetNames;
use crate::reference::RegistryHost;
use crate::registry::{Connections, CredentialStore, Resume};
use crate::scanned::Scanned;
use crate::stop::Stop;

/// The size of the requests that large blobs are sent in, unless asked otherwise, in bytes.
pub const DEFAULT_CHUNK_BYTES: u64 = 64 * 1024 * 1024;

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
    /// Who must have signed the payload; everything is then read first.
    pub verify_key: Option<PublicKey>,
    /// What must have all of the payload on it, if given.
    pub scanned: Option<Scanned>,
    /// Where old blobs are read.
    pub baselines: Baselines,
    /// Where to write what is proved to be there when the push has gone through (docs/receipts.md).
    pub receipt: Option<PathBuf>,
    /// How many blobs are sent at once.
    pub jobs: NonZeroUsize,
    /// The size of the requests that large blobs are sent in, in bytes.
    pub chunk_bytes: u64,
    /// The folder where large blobs that are under way are written down, so that another push goes on
    /// inside of them; without it they are begun anew.
    pub state: Option<PathBuf>,
    /// What to do about those that a former push has begun.
    pub resume: Resume,
    /// Ends the push in good order when it is asked to: chunks under way are sent to their end, nothing
    /// else is begun.
    pub stop: Stop,
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
            verify_key: None,
            scanned: None,
            baselines: Baselines::default(),
            receipt: None,
            jobs: DEFAULT_JOBS,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            state: None,
            resume: Resume::Continue,
            stop: Stop::default(),
            connections: Connections::default(),
            credentials: CredentialStore::anonymous(),
        }
    }
}
