//! Proofs that deltas give their blobs, each on threads of its own beside the making of the next ones.
//!
//! A layer delta is proved in two halves: the recipe on the blob's own plain bytes as soon as there are any, the
//! delta when it is made.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use crate::digest::Digest;
use crate::layer::{Apart, LayerError, MadeLayer};
use crate::manifest::Descriptor;
use crate::window::Window;

type Verdict = Result<(), LayerError>;

/// The plain bytes of old blobs, and how many there are.
pub(super) type OldPlain = HashMap<Digest, (Arc<File>, u64)>;

/// A recipe that is being proved. The work ends early when this is dropped.
pub(super) struct RecipeProof<'scope> {
    verdict: Option<ScopedJoinHandle<'scope, Verdict>>,
    is_wanted: Arc<AtomicBool>,
}

/// A delta that is being proved, and the blob that travels if it turns out wrong.
pub(super) struct Proof<'scope> {
    pub(super) descriptor: Descriptor,
    pub(super) blob: Arc<File>,
    pub(super) made: MadeLayer,
    verdict: ScopedJoinHandle<'scope, Verdict>,
}

impl<'scope> RecipeProof<'scope> {
    /// Puts the blob together again from `apart`.
    pub(super) fn begin(
        scope: &'scope Scope<'scope, '_>,
        apart: &Arc<Apart>,
        blob: &Descriptor,
    ) -> Self {
        let is_wanted = Arc::new(AtomicBool::new(true));
        let wanted = Arc::clone(&is_wanted);
        let (apart, digest, size) = (Arc::clone(apart), blob.digest.clone(), blob.size);
        let prove = move || apart.prove(&digest, size, || wanted.load(Ordering::Relaxed));
        Self { verdict: Some(scope.spawn(prove)), is_wanted }
    }

    fn verdict(mut self) -> Verdict {
        self.verdict.take().map_or(Ok(()), joined)
    }
}

impl Drop for RecipeProof<'_> {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }
}

impl<'scope> Proof<'scope> {
    /// Applies `made` as the far side will, and waits for the proof of its recipe.
    pub(super) fn begin(
        scope: &'scope Scope<'scope, '_>,
        (descriptor, blob): (Descriptor, Arc<File>),
        made: MadeLayer,
        recipe: RecipeProof<'scope>,
        old: &OldPlain,
        workdir: &'scope Path,
    ) -> Self {
        let plain: OldPlain = made
            .baselines
            .iter()
            .filter_map(|digest| Some((digest.clone(), old.get(digest)?.clone())))
            .collect();
        let (digest, size, delta) = (descriptor.digest.clone(), descriptor.size, made.clone());
        let verdict = scope.spawn(move || {
            let plain_of = |digest: &Digest| match plain.get(digest) {
                Some((file, bytes)) => Ok(Window::new(Arc::clone(file), 0, *bytes)),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            delta.prove(&digest, size, plain_of, workdir)?;
            recipe.verdict()
        });
        Self { descriptor, blob, made, verdict }
    }

    /// Waits for the verdict: the delta, or why it is wrong.
    pub(super) fn settle(self) -> (Descriptor, Arc<File>, Result<MadeLayer, LayerError>) {
        let Self { descriptor, blob, made, verdict } = self;
        (descriptor, blob, joined(verdict).map(|()| made))
    }
}

fn joined(verdict: ScopedJoinHandle<'_, Verdict>) -> Verdict {
    verdict.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
