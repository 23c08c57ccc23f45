//! A blob taken apart: its plain bytes, and the recipe that puts it together again.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use crate::digest::Digest;
use crate::gzip;
use crate::unpack::Packing;
use crate::verified::VerifiedWriter;
use crate::window::{Window, fill_at};

use super::error::LayerError;
use super::head::Form;

/// How much is written to a temporary file at a time, or read.
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

    /// Puts the blob together again from its plain bytes, as long as `is_wanted`, to see that it is
    /// the blob `digest` of `size_bytes` bytes.
    ///
    /// # Errors
    /// [`LayerError`] if it is another one, and when it is not wanted any more.
    pub fn prove(
        &self,
        digest: &Digest,
        size_bytes: u64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), LayerError> {
        let mut blob = VerifiedWriter::new(Discard(is_wanted), digest.clone(), size_bytes);
        let read = |file: &Arc<File>, bytes| {
            BufReader::with_capacity(BUFFER_BYTES, Window::new(Arc::clone(file), 0, bytes))
        };
        let mut plain = read(&self.plain, self.plain_bytes);
        match self.form {
            Form::Plain => io::copy(&mut plain, &mut blob).map_err(LayerError::Write)?,
            Form::Gzip => {
                let recipe = read(&self.recipe, self.recipe_bytes);
                gzip::rebuild(recipe, plain, &mut blob, size_bytes)?
            }
        };
        blob.finish().map_err(LayerError::Rebuilt)
    }
}

/// Takes bytes as long as they are wanted.
struct Discard<F>(F);

impl<F: Fn() -> bool> Write for Discard<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0)() { Ok(bytes.len()) } else { Err(io::Error::other("not wanted any more")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
