//! A blob taken apart: its plain bytes, and the recipe that puts it together again.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use crate::gzip;
use crate::unpack::Packing;
use crate::window::{Window, fill_at};

use super::error::LayerError;
use super::head::Form;

/// How much is written to a temporary file at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// The plain bytes of a blob and the recipe of what was around them, in temporary files.
#[derive(Debug)]
pub struct Apart {
    pub(super) form: Form,
    /// The plain bytes.
    pub plain: Arc<File>,
    /// How many there are.
    pub plain_bytes: u64,
    pub(super) recipe: Arc<File>,
    pub(super) recipe_bytes: u64,
}

impl Apart {
    /// Takes the blob in `blob` apart.
    ///
    /// # Errors
    /// [`LayerError::Zstd`] and [`LayerError::Gzip`] for a blob that can only travel raw, and
    /// temporary files that fail.
    pub fn new(blob: &Arc<File>, blob_bytes: u64, workdir: &Path) -> Result<Self, LayerError> {
        let mut beginning = [0; 4];
        let count = fill_at(blob, 0, &mut beginning).map_err(LayerError::Entry)?;
        let file = || tempfile::tempfile_in(workdir).map_err(LayerError::Write);
        match Packing::of(&beginning[..count]) {
            Packing::Zstd => Err(LayerError::Zstd),
            Packing::Plain => Ok(Self {
                form: Form::Plain,
                plain: Arc::clone(blob),
                plain_bytes: blob_bytes,
                recipe: Arc::new(file()?),
                recipe_bytes: 0,
            }),
            Packing::Gzip => {
                let (plain, recipe) = (file()?, file()?);
                let gzip = Window::new(Arc::clone(blob), 0, blob_bytes);
                let analysis = gzip::analyse(
                    gzip,
                    BufWriter::with_capacity(BUFFER_BYTES, &plain),
                    BufWriter::with_capacity(BUFFER_BYTES, &recipe),
                    &gzip::Limits::default(),
                )?;
                Ok(Self {
                    form: Form::Gzip,
                    plain: Arc::new(plain),
                    plain_bytes: analysis.plain_bytes,
                    recipe: Arc::new(recipe),
                    recipe_bytes: analysis.recipe_bytes,
                })
            }
        }
    }
}
