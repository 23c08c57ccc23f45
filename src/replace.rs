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
        Ok(Self { path: path.to_owned(), output })
    }

    /// Writes `bytes` and puts them in their place.
    ///
    /// # Errors
    /// When they cannot be written; a former file is then as it was.
    pub fn commit(self, bytes: &[u8]) -> anyhow::Result<()> {
        let path = &self.path;
        let written = match self.output {
            Output::Special(mut file) => file.write_all(bytes),
            Output::Beside(mut file) => file
                .write_all(bytes)
                .and_then(|()| file.as_file().sync_all())
                .and_then(|()| file.persist(path).map(drop).map_err(io::Error::from)),
        };
        written.with_context(|| cannot_write(path))
    }
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
