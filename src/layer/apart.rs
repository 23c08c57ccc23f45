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
use super::rebuild::threads;

/// How much is written to a temporary file at a time, or read.
const BUFFER_BYTES: usize = 256 << 10;

/// After how many plain bytes the model of an encoder that made no mistake is believed. To compare the rest as well would take
/// as long as the proof that follows in any case.
const COMPARED_BYTES: u64 = 4 << 20;

/// The plain bytes of a blob and the recipe of what was around them, in temporary files.
#[derive(Debug)]
pub struct Apart {
    pub(super) form: Form,
    /// The plain bytes.
    pub plain: Arc<File>,
    /// How many there are.
    pub plain_bytes: u64,
    pub(super) recipe: Recipe,
}

/// What puts a blob together again from its plain bytes, in a temporary file.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
    /// Whether it was compared with the whole blob.
    is_certain: bool,
}

impl Apart {
    /// Takes the blob in `blob` apart.
    ///
    /// # Errors
    /// [`LayerError::Zstd`] and [`LayerError::Gzip`] for a blob that can only travel raw, and
    /// temporary files that fail.
    pub fn new(blob: &Arc<File>, blob_bytes: u64, workdir: &Path) -> Result<Self, LayerError> {
        Self::believing(blob, blob_bytes, COMPARED_BYTES, workdir)
    }

    /// As [`Self::new`], where the model of an encoder is believed that made no mistake for `compared_bytes` plain bytes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn believing(
        blob: &Arc<File>,
        blob_bytes: u64,
        compared_bytes: u64,
        workdir: &Path,
    ) -> Result<Self, LayerError> {
        let mut beginning = [0; 4];
        let count = fill_at(blob, 0, &mut beginning).map_err(LayerError::Entry)?;
        let file = || tempfile::tempfile_in(workdir).map_err(LayerError::Write);
        match Packing::of(&beginning[..count]) {
            Packing::Zstd => Err(LayerError::Zstd),
            Packing::Plain => Ok(Self {
                form: Form::Plain,
                plain: Arc::clone(blob),
                plain_bytes: blob_bytes,
                recipe: Recipe { file: Arc::new(file()?), bytes: 0, is_certain: true },
            }),
            Packing::Gzip => {
                let plain = file()?;
                let out = BufWriter::with_capacity(BUFFER_BYTES, &plain);
                let (recipe, plain_bytes) =
                    Recipe::new((blob, blob_bytes), out, file()?, compared_bytes)?;
                Ok(Self { form: Form::Gzip, plain: Arc::new(plain), plain_bytes, recipe })
            }
        }
    }

    /// Puts `blob` together again from its plain bytes, as long as `is_wanted`, to see that it is the blob `digest` of
    /// `size_bytes` bytes. Gives the recipe that does so, which is another one where the first look was too short.
    ///
    /// # Errors
    /// [`LayerError`] if it is another one, and when it is not wanted any more.
    pub fn prove(
        &self,
        blob: &Arc<File>,
        digest: &Digest,
        size_bytes: u64,
        workdir: &Path,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Recipe, LayerError> {
        match self.prove_with(&self.recipe, digest, size_bytes, &is_wanted) {
            Ok(()) => Ok(self.recipe.clone()),
            Err(_) if !self.recipe.is_certain && is_wanted() => {
                let file = tempfile::tempfile_in(workdir).map_err(LayerError::Write)?;
                let (recipe, _) = Recipe::new((blob, size_bytes), io::sink(), file, u64::MAX)?;
                self.prove_with(&recipe, digest, size_bytes, &is_wanted)?;
                Ok(recipe)
            }
            Err(error) => Err(error),
        }
    }

    fn prove_with(
        &self,
        recipe: &Recipe,
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
                let recipe = read(&recipe.file, recipe.bytes);
                gzip::rebuild_on(threads(), recipe, plain, &mut blob, size_bytes)?
            }
        };
        blob.finish().map_err(LayerError::Rebuilt)
    }
}

impl Recipe {
    /// That of a gzip blob, and how many plain bytes it gives to `plain`.
    fn new(
        (blob, blob_bytes): (&Arc<File>, u64),
        plain: impl Write,
        file: File,
        compared_bytes: u64,
    ) -> Result<(Self, u64), LayerError> {
        let gzip = Window::new(Arc::clone(blob), 0, blob_bytes);
        let out = BufWriter::with_capacity(BUFFER_BYTES, &file);
        let limits = gzip::Limits { compared_bytes, ..gzip::Limits::default() };
        let analysis = gzip::analyse(gzip, plain, out, &limits)?;
        let (bytes, is_certain) = (analysis.recipe_bytes, analysis.is_certain);
        Ok((Self { file: Arc::new(file), bytes, is_certain }, analysis.plain_bytes))
    }

    /// Reads it from its beginning.
    pub(super) fn read(&self) -> Window {
        Window::new(Arc::clone(&self.file), 0, self.bytes)
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
