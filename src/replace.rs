//! Small files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::failure::{Usage, hinted};

/// A file that is to be written. Until then a former one stands; without [`Self::commit`] it stays.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    output: Output,
    keeps: Former,
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug)]
enum Former {
    Replaced,
    Stays,
}

#[derive(Debug)]
enum Output {
    /// A file in the same folder, to be renamed.
    Beside(NamedTempFile),
    /// A device or pipe, which nothing can take the place of.
    Special(File),
}

impl Replacement {
    /// Finds out that `path` can be written, and leaves it as it is.
    ///
    /// # Errors
    /// When it is a folder ([`Usage`]), or its folder is missing or cannot be written.
    pub fn begin(path: &Path) -> anyhow::Result<Self> {
        let output = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let message =
                    format!("expected a file to write, found the folder `{}`", path.display());
                return Err(Usage::new(message).with_hint("name a file in it").into());
            }
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                Output::Special(file.with_context(|| cannot_write(path))?)
            }
            Ok(_) => Output::Beside(beside(path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Output::Beside(beside(path)?),
            Err(error) => return Err(error).with_context(|| cannot_write(path)),
        };
        Ok(Self { path: path.to_owned(), output, keeps: Former::Replaced })
    }

    /// As [`Self::begin`], where no former file may be replaced.
    ///
    /// # Errors
    /// As [`Self::begin`], and [`Usage`] when there is a file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let replacement = Self::begin(path)?;
        if path.is_file() {
            return Err(is_there(path));
        }
        Ok(Self { keeps: Former::Stays, ..replacement })
    }

    /// Writes `bytes` and puts them in their place.
    ///
    /// # Errors
    /// When they cannot be written; a former file is then as it was.
    pub fn commit(mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file_mut().write_all(bytes).with_context(|| cannot_write(&self.path))?;
        self.finish()
    }

    /// Where the content is to be written, by another thread, before [`Self::finish`].
    ///
    /// # Errors
    /// When the system has no more files to open.
    pub fn writer(&self) -> anyhow::Result<File> {
        let file = match &self.output {
            Output::Special(file) => file,
            Output::Beside(file) => file.as_file(),
        };
        file.try_clone().with_context(|| cannot_write(&self.path))
    }

    /// Puts what was written in its place.
    ///
    /// # Errors
    /// When that cannot be; a former file is then as it was.
    pub fn finish(self) -> anyhow::Result<()> {
        let path = &self.path;
        let Output::Beside(file) = self.output else { return Ok(()) };
        file.as_file().sync_all().with_context(|| cannot_write(path))?;
        let put = match self.keeps {
            Former::Replaced => file.persist(path),
            Former::Stays => file.persist_noclobber(path),
        };
        match put.map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(is_there(path)),
            put => put.map(drop).with_context(|| cannot_write(path)),
        }
    }

    fn file_mut(&mut self) -> &mut File {
        match &mut self.output {
            Output::Special(file) => file,
            Output::Beside(file) => file.as_file_mut(),
        }
    }
}

fn is_there(path: &Path) -> anyhow::Error {
    Usage::new(format!("expected no file at `{}`, found one", path.display()))
        .with_hint("remove it, write under another name, or replace it with `--force`")
        .into()
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

/// A temporary file, with the rights that a new file has.
fn beside(path: &Path) -> anyhow::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    if !folder.is_dir() {
        let message =
            format!("the folder `{}` for `{}` is not there", folder.display(), path.display());
        return Err(hinted(message, "create it first, or write elsewhere"));
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".kharon-").tempfile_in(folder).with_context(|| cannot_write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_at_once_or_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for text in ["first", "second"] {
            let before = fs::read(&path).ok();
            drop(Replacement::begin(&path).expect("begun"));
            let replacement = Replacement::begin(&path).expect("begun");
            assert_eq!(fs::read(&path).ok(), before);
            replacement.commit(text.as_bytes()).expect("written");
            assert_eq!(fs::read(&path).expect("read"), text.as_bytes());
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        }
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_they_may_read_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let (path, plain) = (folder.path().join("file"), folder.path().join("plain"));
        Replacement::begin(&path).and_then(|file| file.commit(b"")).expect("written");
        File::create(&plain).expect("a file");
        let mode = |path| fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_stays_a_device() {
        use std::os::unix::fs::FileTypeExt as _;
        let path = Path::new("/dev/null");
        Replacement::begin(path).and_then(|file| file.commit(b"x")).expect("written");
        assert!(fs::metadata(path).expect("a device").file_type().is_char_device());
    }

    #[test]
    fn a_place_that_cannot_be_written_shows_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, part) in [
            (folder.path().to_owned(), "found the folder"),
            (folder.path().join("missing").join("file"), "is not there"),
        ] {
            let error = Replacement::begin(&path).expect_err("an error").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
