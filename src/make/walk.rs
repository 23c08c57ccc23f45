//! The way through the indexes of one image, and its limits: they hold for the image, not for each
//! index, so that nesting multiplies nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::failure::Unusable;
use crate::manifest::{INDEX_DEPTH_MAX, Manifest};
use crate::reference::Reference;

use super::resolve::Source;

/// The most manifests that the indexes of one image may name together, each as often as it is named.
const IMAGE_MANIFESTS_MAX: usize = 10_000;

/// One image on the way through its indexes.
pub(super) struct Walk<'a> {
    pub(super) source: &'a Source,
    pub(super) reference: &'a Reference,
    pub(super) purpose: Purpose,
    /// How many manifests its indexes named so far.
    named: AtomicUsize,
}

/// What the manifests of an image are read for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// It is to travel.
    Carry,
    /// It was transferred before.
    Baseline,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a Source, reference: &'a Reference, purpose: Purpose) -> Self {
        Self { source, reference, purpose, named: AtomicUsize::new(0) }
    }

    /// Counts what an index at this depth names.
    pub(super) fn count(&self, index: &Manifest, depth: usize) -> Result<(), Unusable> {
        let more = index.children().len();
        let named = self.named.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if depth <= INDEX_DEPTH_MAX && named <= IMAGE_MANIFESTS_MAX {
            return Ok(());
        }
        let reference = self.reference;
        Err(Unusable::new(format!("image `{reference}` nests too many indexes or manifests"))
            .with_hint(format!("kharon follows {INDEX_DEPTH_MAX} levels of indexes and {IMAGE_MANIFESTS_MAX} manifests")))
    }
}
