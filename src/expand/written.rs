//! Lists that grow line by line and take back what turns out to be nothing.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file under a temporary name.
#[derive(Debug)]
pub(super) struct Written {
    file: BufWriter<File>,
    partial: PathBuf,
    path: PathBuf,
}

impl Written {
    /// A file that is to become `name` in `folder`.
    pub(super) fn begin(folder: &Path, name: &str) -> io::Result<Self> {
        let partial = folder.join(format!("{name}.partial"));
        let file = BufWriter::new(File::options().write(true).create_new(true).open(&partial)?);
        Ok(Self { file, partial, path: folder.join(name) })
    }

    /// Where it stands, to come back to.
    pub(super) fn mark(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }

    /// Takes back everything since `mark`.
    pub(super) fn rewind(&mut self, mark: u64) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().set_len(mark)?;
        self.file.seek(SeekFrom::Start(mark)).map(drop)
    }

    /// Puts it in its place.
    pub(super) fn commit(mut self) -> io::Result<PathBuf> {
        self.file.flush()?;
        fs::rename(&self.partial, &self.path)?;
        Ok(self.path)
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
