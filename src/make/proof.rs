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
use crate::layer::{Apart, LayerError, MadeLayer, Recipe};
use crate::manifest::Descriptor;
use crate::window::Window;

/// What is proved, or why it is wrong.
type Verdict<T> = Result<T, LayerError>;

/// The plain bytes of old blobs, and how many there are.
pub(super) type OldPlain = HashMap<Digest, (Arc<File>, u64)>;

/// A recipe that is being proved. The work ends early when this is dropped.
pub(super) struct RecipeProof<'scope> {
    verdict: Option<ScopedJoinHandle<'scope, Verdict<Recipe>>>,
    is_wanted: Arc<AtomicBool>,
}

/// A delta that is being proved, and the blob that travels if it turns out wrong.
pub(super) struct Proof<'scope> {
    pub(super) descriptor: Descriptor,
    pub(super) blob: Arc<File>,
    verdict: ScopedJoinHandle<'scope, Verdict<MadeLayer>>,
}

impl<'scope> RecipeProof<'scope> {
    /// Puts the blob together again from `apart`.
    pub(super) fn begin(
        scope: &'scope Scope<'scope, '_>,
        apart: &Arc<Apart>,
        (descriptor, blob): (&Descriptor, &Arc<File>),
        workdir: &'scope Path,
    ) -> Self {
        let is_wanted = Arc::new(AtomicBool::new(true));
        let wanted = Arc::clone(&is_wanted);
        let (apart, blob) = (Arc::clone(apart), Arc::clone(blob));
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        let prove =
            move || apart.prove(&blob, &digest, size, workdir, || wanted.load(Ordering::Relaxed));
        Self { verdict: Some(scope.spawn(prove)), is_wanted }
    }

    fn verdict(mut self) -> Option<Verdict<Recipe>> {
        self.verdict.take().map(joined)
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
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        let verdict = scope.spawn(move || {
            let plain_of = |digest: &Digest| match plain.get(digest) {
                Some((file, bytes)) => Ok(Window::new(Arc::clone(file), 0, *bytes)),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            made.prove(&digest, size, plain_of, workdir)?;
            let Some(recipe) = recipe.verdict().transpose()? else { return Ok(made) };
            let whole = made.with_recipe(&recipe, workdir)?;
            if whole.entry_digest != made.entry_digest {
                whole.prove(&digest, size, plain_of, workdir)?;
            }
            Ok(whole)
        });
        Self { descriptor, blob, verdict }
    }

    /// Waits for the verdict: the delta, or why it is wrong.
    pub(super) fn settle(self) -> (Descriptor, Arc<File>, Result<MadeLayer, LayerError>) {
        let Self { descriptor, blob, verdict } = self;
        (descriptor, blob, joined(verdict))
    }
}

fn joined<T>(verdict: ScopedJoinHandle<'_, Verdict<T>>) -> Verdict<T> {
    verdict.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
