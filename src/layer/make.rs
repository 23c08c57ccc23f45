//! From a blob that was taken apart to its layer delta, and the proof that it is right.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::delta::{self, Baseline, Options, Spool};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::window::Window;

use super::apart::Apart;
use super::error::LayerError;
use super::head::{self, HEAD_BYTES};
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
    recipe_digest: Digest,
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
    let file = tempfile::tempfile_in(&options.workdir).map_err(LayerError::Write)?;
    let mut entry = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut put = |bytes: &mut dyn Read| io::copy(bytes, &mut entry).map_err(LayerError::Write);
    put(&mut head::encode(apart.form, apart.recipe_bytes).as_slice())?;
    put(&mut Window::new(Arc::clone(&apart.recipe), 0, apart.recipe_bytes))?;
    let made = delta::make(&apart.plain, apart.plain_bytes, baseline, options, &mut entry)?;
    entry.flush().map_err(LayerError::Write)?;
    let file = entry.into_inner().map_err(|error| LayerError::Write(error.into_error()))?;
    let entry_bytes = HEAD_BYTES + apart.recipe_bytes + made.delta_bytes;
    let entry = Arc::new(file);
    Ok(MadeLayer {
        entry_digest: digest_of(&entry, entry_bytes)?,
        recipe_digest: digest_of(&apart.recipe, apart.recipe_bytes)?,
        entry,
        entry_bytes,
        baselines: made.needs.blobs.into_iter().map(|blob| blob.digest).collect(),
    })
}

fn digest_of(file: &Arc<File>, bytes: u64) -> Result<Digest, LayerError> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    io::copy(&mut Window::new(Arc::clone(file), 0, bytes), &mut hasher)
        .map_err(LayerError::Entry)?;
    Ok(hasher.finish())
}

impl MadeLayer {
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
