//! One registry's verbs over HTTP, as the OCI distribution-spec and Docker's token specification
//! lay them down.
//!
//! Promises: whatever is asked for by digest comes with that digest or not at all; an upload is
//! completed only when its source had the promised digest and size; failures that pass by are tried
//! again; credentials go to the registry they belong to, and to the token service it names.
//! Refuses: plain http where TLS was expected, endless answers, redirects without end.
//!
//! `reqwest` has its home in [`connection`] and `http`, nowhere else.

mod access;
mod answer;
mod auth;
mod blob;
pub(crate) mod bounded_file;
mod challenge;
mod client;
pub mod connection;
pub mod credentials;
mod error;
mod filling;
mod http;
mod journal;
mod kept;
mod listing;
mod manifests;
mod mirror;
mod mirrored;
mod outgoing;
mod presence;
mod range;
mod reading;
mod retry;
mod search_paths;
mod section;
mod sending;
mod stream;
mod throttle;
mod upload;

pub use blob::RemoteBlob;
pub use client::{PullQuota, Registries, Registry};
pub use connection::{
    ClientIdentity, Connections, HostSettings, Reach, RetryPolicy, TlsVerification,
};
pub use credentials::{CredentialStore, Credentials, PasswordSource, Referenced, Secret};
pub use error::Error;
pub use journal::{Resume, UploadJournal};
pub use listing::Referrers;
pub use manifests::{ManifestHead, Pulled, SubjectSupport};
pub use mirror::{InvalidMirror, Mirror, MirrorLoop, MirrorOf, Mirrors, Original, refuse_loops};
pub use reading::BlockingBlob;
pub use section::BlobSource;
pub use stream::BlobStream;
pub use upload::{Mount, UploadOptions, UploadSession};
