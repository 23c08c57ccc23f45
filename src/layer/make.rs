//! From a blob that was taken apart to its layer delta, and the proof that it is right.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::delta::{self, Baseline, Options, Spool};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::window::Window;

use super::apart::{Apart, Recipe};
use super::error::LayerError;
use super::head::{self, Form, HEAD_BYTES};
use super::rebuild::LayerDelta;

/// How much is copied at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// A layer delta in a temporary file.
#[derive(Clone, Debug)]
pub struct MadeLayer {
    /// The entry's bytes.
    pub entry: Arc<File>,
    /// How many there are.
    pub entry_bytes: u64,
    /// Their digest.
    pub entry_digest: Digest,
    /// The baseline blobs that it needs, in the order of its need table.
    pub baselines: Vec<Digest>,
    form: Form,
    recipe_digest: Digest,
    recipe_bytes: u64,
}

/// Makes the layer delta of `apart` against `baseline`.
///
/// # Errors
/// [`LayerError::Delta`] where the layer is beyond what the format can say, and temporary files that fail.
pub fn make(
    apart: &Apart,
    baseline: &Baseline,
    options: &Options,
) -> Result<MadeLayer, LayerError> {
    let mut baselines = Vec::new();
    MadeLayer::put_together(apart.form, &apart.recipe, &options.workdir, |entry| {
        let made = delta::make(&apart.plain, apart.plain_bytes, baseline, options, entry)?;
        baselines.extend(made.needs.blobs.into_iter().map(|blob| blob.digest));
        Ok(made.delta_bytes)
    })
    .map(|made| MadeLayer { baselines, ..made })
}

fn digest_of(mut bytes: Window) -> Result<Digest, LayerError> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    io::copy(&mut bytes, &mut hasher).map_err(LayerError::Entry)?;
    Ok(hasher.finish())
}

impl MadeLayer {
    /// An entry of `recipe` and what `put_delta` writes, which says how much that is.
    fn put_together(
        form: Form,
        recipe: &Recipe,
        workdir: &Path,
        put_delta: impl FnOnce(&mut BufWriter<File>) -> Result<u64, LayerError>,
    ) -> Result<Self, LayerError> {
        let file = tempfile::tempfile_in(workdir).map_err(LayerError::Write)?;
        let mut entry = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut put = |bytes: &mut dyn Read| io::copy(bytes, &mut entry).map_err(LayerError::Write);
        put(&mut head::encode(form, recipe.bytes).as_slice())?;
        put(&mut recipe.read())?;
        let delta_bytes = put_delta(&mut entry)?;
        entry.flush().map_err(LayerError::Write)?;
        let file = entry.into_inner().map_err(|error| LayerError::Write(error.into_error()))?;
        let entry_bytes = HEAD_BYTES + recipe.bytes + delta_bytes;
        let entry = Arc::new(file);
        Ok(Self {
            entry_digest: digest_of(Window::new(Arc::clone(&entry), 0, entry_bytes))?,
            recipe_digest: digest_of(recipe.read())?,
            entry,
            entry_bytes,
            baselines: Vec::new(),
            form,
            recipe_bytes: recipe.bytes,
        })
    }

    /// The same delta with `recipe`; nothing is done where it has that already.
    ///
    /// # Errors
    /// [`LayerError`] for temporary files that fail.
    pub fn with_recipe(&self, recipe: &Recipe, workdir: &Path) -> Result<Self, LayerError> {
        if digest_of(recipe.read())? == self.recipe_digest {
            return Ok(self.clone());
        }
        let delta_at = HEAD_BYTES + self.recipe_bytes;
        let delta_bytes = self.entry_bytes - delta_at;
        let mut delta = Window::new(Arc::clone(&self.entry), delta_at, delta_bytes);
        let made = Self::put_together(self.form, recipe, workdir, |entry| {
            io::copy(&mut delta, entry).map_err(LayerError::Write)
        })?;
        Ok(Self { baselines: self.baselines.clone(), ..made })
    }

    /// Applies the delta to the plain bytes of baselines, as the far side will; `plain_of` gives them from
    /// the beginning. Together with [`Apart::prove`] it proves that the entry gives its blob.
    ///
    /// # Errors
    /// [`LayerError`] if other plain bytes come out than those of the blob, or the entry holds another
    /// recipe.
    pub fn prove<R: Read>(
        &self,
        digest: &Digest,
        size_bytes: u64,
        plain_of: impl Fn(&Digest) -> io::Result<R>,
        workdir: &Path,
    ) -> Result<(), LayerError> {
        let open = |at| -> Box<dyn Read + Send> {
            let left = self.entry_bytes.saturating_sub(at);
            Box::new(Window::new(Arc::clone(&self.entry), at, left))
        };
        let layer = LayerDelta::new(open, self.entry_bytes, digest.clone(), size_bytes)?;
        layer.check_recipe(&self.recipe_digest)?;
        let mut spool = Spool::new(layer.needs()?, workdir);
        for baseline in &self.baselines {
            let mut plain = plain_of(baseline).map_err(LayerError::Entry)?;
            spool.fill(baseline, &mut plain)?;
        }
        layer.check_plain(&spool, workdir)
    }
}
