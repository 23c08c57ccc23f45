//! Reading by mirrors: each in its turn, and the registry itself last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::client::Registry;
use super::error::Error;
use super::mirror::Original;
use crate::progress::Reporter;
use crate::reference::{RegistryHost, RepositoryName};

/// How often a mirror may be out of reach or fail, one time after another, until it is left alone.
const MISSES_MAX: u32 = 3;

/// The mirrors of a registry, in use.
pub(super) struct Mirrored {
    pub(super) copies: Vec<Arc<Copy>>,
    pub(super) original: Original,
}

/// A mirror in use.
pub(super) struct Copy {
    registry: Registry,
    prefix: Option<RepositoryName>,
    /// How often it was out of reach or failed since it last answered.
    misses: AtomicU32,
    /// Whether a person knows that it fails.
    told: AtomicBool,
}

impl Copy {
    pub(super) fn new(registry: Registry, prefix: Option<RepositoryName>) -> Self {
        Self { registry, prefix, misses: AtomicU32::new(0), told: AtomicBool::new(false) }
    }

    fn is_gone(&self) -> bool {
        self.misses.load(Ordering::Relaxed) >= MISSES_MAX
    }
}

/// How much a failure says about the place that was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// It was asked once.
    Once,
    /// It was asked as often as is worth it.
    Often,
}

/// Somewhere to ask.
pub(super) struct Place {
    /// The registry there, without mirrors.
    pub(super) registry: Registry,
    copy: Option<Arc<Copy>>,
}

impl Place {
    /// What a repository is called there.
    pub(super) fn name(&self, repository: &RepositoryName) -> RepositoryName {
        let prefix = self.prefix();
        let name = prefix.and_then(|prefix| repository.under(prefix.as_str()).ok());
        name.unwrap_or_else(|| repository.clone())
    }

    /// What a repository there is called at the registry itself; none if it does not belong to it.
    pub(super) fn original_name(&self, name: RepositoryName) -> Option<RepositoryName> {
        let Some(prefix) = self.prefix() else { return Some(name) };
        name.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/')?.parse().ok()
    }

    fn prefix(&self) -> Option<&RepositoryName> {
        self.copy.as_ref()?.prefix.as_ref()
    }
}

/// The places that can be asked for one thing, one after another.
pub(super) struct Turn {
    places: Vec<Place>,
    at: usize,
    reporter: Arc<dyn Reporter>,
    /// What a mirror said, where that weighs more than that another does not have it.
    kept: Option<Error>,
    lacked: bool,
}

impl Turn {
    /// The places for what belongs to `registry`, in `repository` if it belongs to one.
    pub(super) fn new(registry: &Registry, repository: Option<&RepositoryName>) -> Self {
        let mut places = Vec::new();
        let original = || Place { registry: registry.direct(), copy: None };
        if let Some(mirrored) = registry.mirrored() {
            // A name that is too long below the prefix is nowhere there.
            let fits = |copy: &Copy| match (&copy.prefix, repository) {
                (Some(prefix), Some(repository)) => repository.under(prefix.as_str()).is_ok(),
                _ => true,
            };
            let of = |copy: &Arc<Copy>| Place {
                registry: copy.registry.clone(),
                copy: Some(Arc::clone(copy)),
            };
            let copies = || mirrored.copies.iter().filter(|copy| fits(copy));
            places.extend(copies().filter(|copy| !copy.is_gone()).map(of));
            match mirrored.original {
                Original::Ask => places.push(original()),
                // Whoever has nobody else to ask tries once more.
                Original::Leave if places.is_empty() => places.extend(copies().map(of)),
                Original::Leave => {}
            }
        }
        if places.is_empty() {
            places.push(original());
        }
        let reporter = Arc::clone(&registry.http().reporter);
        Self { places, at: 0, reporter, kept: None, lacked: false }
    }

    /// Begins with the place of this host, if it is among them.
    pub(super) fn begin_at(&mut self, host: &RegistryHost) {
        let place = self.places.iter().position(|place| place.registry.host() == host);
        self.at = place.unwrap_or(0);
    }

    /// Who is to be asked now.
    pub(super) fn place(&self) -> &Place {
        &self.places[self.at]
    }

    /// Goes on to the next place, if there is one.
    pub(super) fn skip(&mut self) -> bool {
        let has_next = self.at + 1 < self.places.len();
        self.at += usize::from(has_next);
        has_next
    }

    /// Takes the answer of the place that was asked: none if the next one is to be asked.
    pub(super) fn settled<T>(
        &mut self,
        answer: Result<T, Error>,
        asked: Asked,
    ) -> Option<Result<T, Error>> {
        let error = match answer {
            Ok(answer) => {
                if let Some(copy) = &self.place().copy {
                    copy.misses.store(0, Ordering::Relaxed);
                }
                return Some(Ok(answer));
            }
            Err(error) => error,
        };
        let Some(copy) = self.place().copy.clone() else {
            if self.lacked && error.is_unreachable() {
                self.warn_of_original(&error);
            }
            return Some(Err(error));
        };
        let next = self.places.get(self.at + 1).map(|place| place.registry.host().to_string());
        self.tell(&copy, &error, asked, next.as_deref());
        if next.is_some() {
            if error.is_not_found() {
                self.lacked = true;
            } else {
                self.kept = Some(error);
            }
            self.at += 1;
            return None;
        }
        // That one mirror does not have it proves little while another could not say.
        let kept = self.kept.take().filter(|_| error.is_not_found());
        Some(Err(kept.unwrap_or(error)))
    }

    fn tell(&self, copy: &Copy, error: &Error, asked: Asked, next: Option<&str>) {
        let then = next.map(|next| format!("; asking `{next}`")).unwrap_or_default();
        if error.is_not_found() {
            copy.misses.store(0, Ordering::Relaxed);
            self.reporter.detail(format!("{error}{then}"));
            return;
        }
        let mut gone = "";
        if error.is_unreachable() || error.is_temporary() {
            let misses = match asked {
                Asked::Once => copy.misses.fetch_add(1, Ordering::Relaxed) + 1,
                Asked::Often => {
                    copy.misses.store(MISSES_MAX, Ordering::Relaxed);
                    MISSES_MAX
                }
            };
            if misses >= MISSES_MAX && next.is_some() {
                gone = ", and leaving this mirror alone from now on";
            }
        }
        let message = format!("mirror {error}{then}{gone}");
        if copy.told.swap(true, Ordering::Relaxed) && gone.is_empty() {
            self.reporter.detail(message);
        } else {
            self.reporter.warn(message);
        }
    }

    fn warn_of_original(&self, error: &Error) {
        self.reporter.warn(format!(
            "its mirrors do not have it, and {error}; `--mirror-only` never asks a registry that has mirrors"
        ));
    }
}
