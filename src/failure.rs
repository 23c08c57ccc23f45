//! How a run ends badly: the exit codes, and the advice that goes with an error.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::digest::{Digest, Mismatch};
use crate::minisign::InvalidText;
use crate::payload::charon::NotCarriable;
use crate::plan::Contradiction;
use crate::receipt::InvalidReceipt;
use crate::reference::RepositoryName;
use crate::restore::Unrestorable;
use crate::save::DamagedFolder;
use crate::scanned::{InvalidList, NotScanned};
use crate::terminal::PromptError;
use crate::{listen, payload, registry, serve, verify};

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything was done.
    Done = 0,
    /// Something failed that has no code of its own, such as a full disk.
    Failed = 1,
    /// The command line asks for something that makes no sense.
    Usage = 2,
    /// A registry cannot be reached, refused something, or sent something wrong.
    Registry = 3,
    /// The payload, a receipt or an inventory is damaged, or a payload is not signed or scanned as asked.
    PayloadDamaged = 4,
    /// The far side lacks something that the payload expects there.
    BaselineMissing = 5,
    /// Interrupted by the user (128 + SIGINT).
    Interrupted = 130,
    /// Terminated from outside (128 + SIGTERM).
    Terminated = 143,
}

impl ExitCode {
    /// The code for `error`, from the first of its causes that has one.
    pub fn of(error: &anyhow::Error) -> Self {
        if matches!(find::<PromptError>(error), Some(PromptError::Interrupted))
            || find::<Interrupted>(error).is_some()
        {
            Self::Interrupted
        } else if find::<FarContent>(error).is_some() {
            Self::Registry
        } else if find::<Usage>(error).is_some()
            || find::<NotCarriable>(error).is_some()
            || find::<PromptError>(error).is_some()
        {
            Self::Usage
        } else if let Some(error) = find::<payload::Error>(error) {
            // A file that is not there or may not be read says nothing about the payload in it.
            let unreadable = matches!(error.fault(), payload::Fault::Io(_));
            if unreadable { Self::Failed } else { Self::PayloadDamaged }
        } else if find::<verify::Problem>(error).is_some()
            || find::<InvalidReceipt>(error).is_some()
            || find::<payload::NotSigned>(error).is_some()
            || find::<NotScanned>(error).is_some()
            || find::<InvalidList>(error).is_some()
            || find::<DamagedFolder>(error).is_some()
        {
            Self::PayloadDamaged
        } else if let Some(error) = find::<Unrestorable>(error) {
            if error.source.is_damage() { Self::PayloadDamaged } else { Self::Failed }
        } else if find::<BaselineMissing>(error).is_some() {
            Self::BaselineMissing
        } else if let Some(error) = find::<registry::Error>(error) {
            if error.is_damaged_source() { Self::PayloadDamaged } else { Self::Registry }
        } else if find::<FromRegistry>(error).is_some()
            || find::<Unusable>(error).is_some()
            || find::<Contradiction>(error).is_some()
            || find::<Vanished>(error).is_some()
            || find::<VolumeVanished>(error).is_some()
        {
            Self::Registry
        } else {
            Self::Failed
        }
    }
}

/// The first `T` among an error, its contexts and its causes.
fn find<T: StdError + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&T> {
    error.downcast_ref::<T>().or_else(|| error.chain().find_map(inside))
}

/// The `T` that `cause` is, or that a reader has wrapped: an `io::Error` leaves what is inside of it out of
/// the chain of causes.
fn inside<'a, T: StdError + 'static>(cause: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    cause.downcast_ref::<T>().or_else(|| inside(cause.downcast_ref::<io::Error>()?.get_ref()?))
}

/// A request that makes no sense as it was typed.
#[derive(Debug)]
pub struct Usage {
    message: String,
    hint: Option<String>,
}

impl Usage {
    /// Says what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Says what to do instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where that was found.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Usage {}

/// Blobs that the payload expects at the far side and that are not there.
#[derive(Debug)]
pub struct BaselineMissing {
    /// For each image that cannot be completed, what it lacks.
    pub images: Vec<String>,
    /// Whether an image itself is not there, and not only blobs of one.
    pub lacks_image: bool,
}

impl fmt::Display for BaselineMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the far side lacks what this payload expects there:")?;
        self.images.iter().try_for_each(|image| write!(f, "\n  {image}"))
    }
}

impl std::error::Error for BaselineMissing {}

/// A push that was asked to end before it was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: what arrived stays and is not sent again")]
pub struct Interrupted;

/// A blob that was at the far side, or was brought there, and is gone before tags could move.
#[derive(Debug, thiserror::Error)]
#[error("blob `{digest}` has vanished from `{repository}` during the push; no tag was moved")]
pub(crate) struct Vanished {
    pub(crate) digest: Digest,
    pub(crate) repository: RepositoryName,
}

/// A blob that a volume brought, and that is gone before all of them have arrived.
#[derive(Debug, thiserror::Error)]
#[error(
    "blob `{digest}` has vanished from the far side since its volume was pushed; no tag was moved"
)]
pub(crate) struct VolumeVanished {
    pub(crate) digest: Digest,
    /// The volumes that bring it.
    pub(crate) volumes: Vec<u32>,
}

impl VolumeVanished {
    fn hint(&self) -> String {
        let numbers: Vec<String> = self.volumes.iter().map(ToString::to_string).collect();
        format!("push volume {} again", numbers.join(" and "))
    }
}

/// Content at the far side that is damaged: the context of an error that would otherwise blame the
/// payload.
#[derive(Debug, thiserror::Error)]
#[error("the blob in `{repository}` at the far side is damaged or cannot be read")]
pub(crate) struct FarContent {
    pub(crate) repository: RepositoryName,
}

/// Content of a registry that is not what the manifest that names it says.
#[derive(Debug, thiserror::Error)]
#[error("a registry sent a blob that is not what its manifest says")]
pub(crate) struct FromRegistry(#[source] pub(crate) Mismatch);

/// Something of a registry that kharon does not take: it lies, cannot be read, or goes beyond a
/// limit. An error of its own, or the context of another.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Unusable {
    message: String,
    hint: Option<String>,
}

impl Unusable {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A message with advice: an error of its own, or the context of another.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// An error that says `message` and gives advice.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hinted::new(message, hint))
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// The advice that goes with `error`, each once.
pub fn hints(error: &anyhow::Error) -> Vec<String> {
    let missing = |_: &BaselineMissing| {
        "push the payload that brings these blobs first, or make this one again without what promised \
         them (`-a`, `--against`)"
            .to_owned()
    };
    let vanished = |_: &Vanished| {
        "push again; should it vanish again, somebody cleans that registry up meanwhile".to_owned()
    };
    let advice = [
        find::<Usage>(error).and_then(|error| error.hint.clone()),
        find::<Hinted>(error).map(|error| error.hint.clone()),
        find::<Unusable>(error).and_then(|error| error.hint.clone()),
        find::<payload::Error>(error).and_then(payload::Error::hint),
        find::<InvalidReceipt>(error).map(InvalidReceipt::hint),
        find::<payload::NotSigned>(error).map(payload::NotSigned::hint),
        find::<NotScanned>(error).map(NotScanned::hint),
        find::<InvalidList>(error).map(InvalidList::hint),
        find::<DamagedFolder>(error).map(DamagedFolder::hint),
        find::<InvalidText>(error).map(|error| error.hint().to_owned()),
        find::<NotCarriable>(error).and_then(NotCarriable::hint),
        find::<PromptError>(error).and_then(PromptError::hint),
        find::<serve::Error>(error).and_then(serve::Error::hint),
        find::<listen::Error>(error).and_then(listen::Error::hint),
        find::<listen::InvalidTls>(error).and_then(listen::InvalidTls::hint),
        find::<listen::InvalidLogins>(error).and_then(listen::InvalidLogins::hint),
        find::<verify::Problem>(error).and_then(verify::Problem::hint),
        find::<Unrestorable>(error).and_then(Unrestorable::hint),
        find::<BaselineMissing>(error).map(missing),
        find::<Vanished>(error).map(vanished),
        find::<VolumeVanished>(error).map(VolumeVanished::hint),
        find::<registry::Error>(error).and_then(registry::Error::hint),
    ];
    let mut hints: Vec<String> = Vec::new();
    for hint in advice.into_iter().flatten() {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn code_and_advice_are_found_under_context() {
        let usage = Usage::new("no such thing").with_hint("name another");
        let error = anyhow::Error::new(usage).context("cannot begin");
        assert_eq!(ExitCode::of(&error), ExitCode::Usage);
        assert_eq!(hints(&error), ["name another"]);
        let full = std::io::Error::other("disk full");
        let error = Err::<(), _>(full).context(Hinted::new("cannot write", "free some space"));
        let error = error.context("cannot end").expect_err("an error");
        assert_eq!(ExitCode::of(&error), ExitCode::Failed);
        assert_eq!(hints(&error), ["free some space"]);
    }

    #[test]
    fn a_lying_registry_is_not_a_damaged_payload() {
        let digest = crate::digest::Digest::of(b"");
        let mismatch = Mismatch::TooLong { digest, expected: 1 };
        let error = anyhow::Error::new(FromRegistry(mismatch)).context("cannot fetch");
        assert_eq!(ExitCode::of(&error), ExitCode::Registry);
        let error = anyhow::Error::new(Unusable::new("too much").with_hint("ask for less"));
        let error = error.context("cannot read");
        assert_eq!(ExitCode::of(&error), ExitCode::Registry);
        assert_eq!(hints(&error), ["ask for less"]);
    }
}
