//! What goes wrong with a registry, said so that a person can act and a caller can decide.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use super::connection::{ConnectionError, NotPublic};
use super::credentials::CredentialError;
use crate::digest::Mismatch;
use crate::manifest::InvalidManifest;
use crate::reference::RegistryHost;
use crate::schema1::InvalidSchema1;

/// A failure at one registry, about one thing. Its cause is in [`std::error::Error::source`].
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    host: String,
    /// The other host that was asked on the registry's behalf, where that one failed.
    at: Option<String>,
    thing: String,
    kind: Kind,
}

/// What went wrong.
#[derive(Debug)]
pub(super) enum Kind {
    /// No client could be made for the host.
    Connection(ConnectionError),
    /// There are credentials, but they cannot be read.
    Credentials(CredentialError),
    /// No answer, or not all of it.
    Transport { trouble: Trouble, source: Option<Box<dyn StdError + Send + Sync>> },
    /// An answer that says no.
    Status(Refusal),
    /// Content that is not what its digest and size promise.
    Damaged(Mismatch),
    /// Bytes that are no manifest.
    Manifest(InvalidManifest),
    /// A manifest of Docker's schema 1 that cannot be read.
    Schema1(InvalidSchema1),
    /// An answer larger than any honest one.
    TooLarge { limit_bytes: u64 },
    /// A list longer than any honest one.
    TooMany { limit: usize, what: &'static str },
    /// An answer against the specification.
    Protocol(String),
    /// A foreign layer that says nowhere where it can be fetched from.
    NoAddress,
    /// An upload that the registry has forgotten, or whose bytes are not those that were sent.
    LostSession,
    /// The source of an upload has other content than promised.
    DamagedSource(Mismatch),
    /// The source of an upload cannot be read.
    Source(io::Error),
}

/// How a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The name is not known.
    UnknownHost,
    /// The host was not named, and none of its addresses is public.
    NotPublic,
    /// The other side's certificate is not trusted, or ours is not.
    Certificate,
    /// What answered does not speak TLS.
    NotTls,
    /// The other side hung up on a TLS handshake: it speaks none, or has trouble that passes by.
    TlsEnded,
    /// No connection came to stand.
    Connect,
    /// Nobody listens at the host's port, nor did before in this run.
    Closed,
    /// The connection broke.
    Torn,
    /// No answer began in time.
    NoAnswer(Duration),
    /// Nothing moved for too long.
    Stalled(Duration),
    /// A body ended as if it were complete, and was not.
    EndedEarly,
}

/// Who the registry knew us as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody.
    Anonymous,
    /// The owner of credentials.
    Known,
}

/// A status that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// The first code and message of the answer, fit to be shown.
    pub(super) detail: String,
    /// How long the registry wants us to wait.
    pub(super) retry_after: Option<Duration>,
    /// Who asked.
    pub(super) identity: Identity,
}

/// A failure before it is known what it was about.
#[derive(Debug)]
pub(super) struct Failure {
    /// What went wrong.
    pub(super) kind: Kind,
    /// The authority of the address that was asked.
    pub(super) at: Option<String>,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self { kind, at: None }
    }
}

/// What a request is about: names the failures of it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    host: String,
    authority: String,
    thing: String,
}

impl Subject {
    pub(super) fn new(host: &RegistryHost, thing: impl Into<String>) -> Self {
        Self {
            host: host.as_str().to_owned(),
            authority: host.api_authority().to_owned(),
            thing: thing.into(),
        }
    }

    pub(super) fn error(&self, failure: impl Into<Failure>) -> Error {
        let Failure { kind, at } = failure.into();
        let at = at.filter(|at| *at != self.authority);
        Error(Box::new(Inner { host: self.host.clone(), at, thing: self.thing.clone(), kind }))
    }
}

impl Error {
    fn refusal(&self) -> Option<&Refusal> {
        match &self.0.kind {
            Kind::Status(refusal) => Some(refusal),
            _ => None,
        }
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        match &self.0.kind {
            Kind::Transport { trouble, .. } => Some(*trouble),
            _ => None,
        }
    }

    /// Whether the same may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match &self.0.kind {
            Kind::Transport { trouble, .. } => {
                !matches!(trouble, Trouble::Certificate | Trouble::NotTls | Trouble::NotPublic)
            }
            Kind::Status(refusal) => {
                matches!(refusal.status, 408 | 429 | 500 | 502 | 503 | 504)
            }
            Kind::LostSession => true,
            _ => false,
        }
    }

    /// Whether the registry says that there is no such thing (404).
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the registry does not let us (401, 403).
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// Whether the registry said no on purpose: a 4xx but for those that pass by (408, 429).
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| (400..500).contains(&status)) && !self.is_temporary()
    }

    /// Whether no conversation with the host came about at all.
    pub fn is_unreachable(&self) -> bool {
        let unreachable =
            |trouble| !matches!(trouble, Trouble::Torn | Trouble::Stalled(_) | Trouble::EndedEarly);
        matches!(self.0.kind, Kind::Connection(_)) || self.trouble().is_some_and(unreachable)
    }

    /// Whether the registry sent content that has not the promised digest or size.
    pub fn is_damaged_content(&self) -> bool {
        matches!(self.0.kind, Kind::Damaged(_))
    }

    /// Whether the registry sent a manifest that kharon cannot read.
    pub fn is_unreadable_manifest(&self) -> bool {
        matches!(self.0.kind, Kind::Manifest(_) | Kind::Schema1(_))
    }

    /// Whether the source of an upload gave content that has not the promised digest or size.
    pub fn is_damaged_source(&self) -> bool {
        matches!(self.0.kind, Kind::DamagedSource(_))
    }

    pub(super) fn is_unreadable_source(&self) -> bool {
        matches!(self.0.kind, Kind::Source(_))
    }

    /// The HTTP status, where there was an answer that is no success.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// Whether another host failed, which was asked on the registry's behalf.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.0.at.is_some()
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }

    /// Whether the error's code or message holds `word`.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.refusal().is_some_and(|refusal| refusal.detail.contains(word))
    }

    /// Whether an upload is of no use any more, though the blob may yet be sent by another.
    pub(super) fn is_lost_session(&self) -> bool {
        matches!(self.0.kind, Kind::LostSession)
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let host = &self.0.host;
        match &self.0.kind {
            Kind::Connection(error) => error.hint(),
            Kind::Credentials(error) => error.hint(),
            Kind::Source(error) => {
                error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).and_then(Self::hint)
            }
            Kind::Transport { trouble, .. } => trouble.hint(self.0.at.as_ref().unwrap_or(host)),
            Kind::Status(refusal) => refusal.hint(host),
            Kind::TooLarge { .. } | Kind::TooMany { .. } | Kind::Protocol(_) => Some(format!(
                "check that `{host}` is a container registry, and no proxy answers for it"
            )),
            _ => None,
        }
    }
}

impl Trouble {
    fn hint(self, host: &str) -> Option<String> {
        match self {
            Self::UnknownHost => {
                Some(format!("check the spelling of `{host}`, and the proxy settings"))
            }
            Self::Certificate => Some(format!(
                "if `{host}` has a certificate of a private authority, name that with `--ca-file`"
            )),
            Self::NotPublic => Some(NotPublic::hint()),
            Self::Closed => Some(format!("check the port of `{host}`, and that the registry runs")),
            Self::NotTls | Self::TlsEnded => {
                Some(format!("if `{host}` speaks plain http, say so with `--insecure`"))
            }
            _ => None,
        }
    }
}

impl Refusal {
    fn hint(&self, host: &str) -> Option<String> {
        match (self.status, self.identity) {
            (401 | 403, Identity::Anonymous) => Some(format!(
                "no credentials were used: log in with `docker login {host}`, or give `--username` and a password"
            )),
            (401 | 403, Identity::Known) => Some(format!(
                "credentials were used: check that they are current and may do this at `{host}`"
            )),
            (300..=399, _) => Some(format!(
                "`{host}` sends us elsewhere: check its name, and whether it wants https"
            )),
            (429, Identity::Anonymous) => {
                Some(format!("`{host}` may allow more to those who log in"))
            }
            _ => None,
        }
    }

    fn verb(&self) -> &'static str {
        match self.status {
            401 | 403 => "denied",
            404 => "does not have",
            300..=499 => "refused",
            _ => "failed on",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost => f.write_str("no host of that name is known"),
            Self::NotPublic => f.write_str("it has no public address and was not allowed"),
            Self::Certificate => f.write_str("the certificates do not agree"),
            Self::NotTls => f.write_str("expected TLS, found something else"),
            Self::TlsEnded => f.write_str("the connection ended where TLS should begin"),
            Self::Connect => f.write_str("no connection"),
            Self::Closed => f.write_str("the port is closed"),
            Self::Torn => f.write_str("the connection broke"),
            Self::NoAnswer(limit) => write!(f, "no answer within {} s", limit.as_secs_f64()),
            Self::EndedEarly => f.write_str("the content ended early"),
            Self::Stalled(limit) => write!(f, "no byte moved for {} s", limit.as_secs_f64()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " {}", self.detail) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { host, at, thing, kind } = &*self.0;
        if matches!(kind, Kind::NoAddress) {
            return write!(f, "expected an http or https address for {thing}, found none");
        }
        write!(f, "`{host}`")?;
        if let Some(at) = at {
            write!(f, " (at `{at}`)")?;
        }
        match kind {
            Kind::Connection(_) => write!(f, " cannot be connected to for {thing}"),
            Kind::Credentials(_) => {
                write!(f, " needs credentials for {thing}, which cannot be read")
            }
            Kind::Transport { trouble, .. } => write!(f, " could not serve {thing}: {trouble}"),
            Kind::Status(refusal) => {
                write!(f, " {} {thing}: {refusal}", refusal.verb())?;
                match (refusal.status, refusal.identity) {
                    (401 | 403, Identity::Anonymous) => f.write_str(" (asked without credentials)"),
                    (401 | 403, Identity::Known) => f.write_str(" (asked with credentials)"),
                    _ => Ok(()),
                }
            }
            Kind::Damaged(_) => write!(f, " sent damaged content for {thing}"),
            Kind::Manifest(_) | Kind::Schema1(_) => {
                write!(f, " sent something unusable for {thing}")
            }
            Kind::TooLarge { limit_bytes } => {
                write!(f, " sent more than {limit_bytes} bytes for {thing}")
            }
            Kind::TooMany { limit, what } => {
                write!(f, " listed more than {limit} {what} for {thing}")
            }
            Kind::Protocol(what) => {
                write!(f, " answered against the specification for {thing}: {what}")
            }
            Kind::NoAddress => Ok(()),
            Kind::LostSession => write!(f, " lost the upload of {thing}"),
            Kind::DamagedSource(_) => write!(f, " was not given {thing}: its source is damaged"),
            Kind::Source(_) => write!(f, " was not given {thing}: its source cannot be read"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.kind {
            Kind::Connection(error) => Some(error),
            Kind::Credentials(error) => Some(error),
            Kind::Transport { source, .. } => source.as_ref().map(|source| &**source as _),
            Kind::Damaged(mismatch) | Kind::DamagedSource(mismatch) => Some(mismatch),
            Kind::Manifest(error) => Some(error),
            Kind::Schema1(error) => Some(error),
            Kind::Source(error) => Some(error),
            Kind::Status(_)
            | Kind::TooLarge { .. }
            | Kind::TooMany { .. }
            | Kind::Protocol(_)
            | Kind::LostSession
            | Kind::NoAddress => None,
        }
    }
}
