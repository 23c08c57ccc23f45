//! Settings files, which are small: a limit keeps a wrong path from filling the memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most that is read of a settings file, in bytes. Bundles of all public authorities and files
/// with the logins of hundreds of registries stay far below it.
pub(super) const SETTINGS_FILE_MAX_BYTES: u64 = 1 << 20;

/// A file of settings, credentials or certificates that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UnreadableFile {
    /// The operating system says no.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file is too large to be what it should be.
    #[error("expected at most {SETTINGS_FILE_MAX_BYTES} bytes in `{}`, found more", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl UnreadableFile {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Arc::new(error) }
    }

    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }
}

/// The bytes of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, UnreadableFile> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SETTINGS_FILE_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| UnreadableFile::io(path, error))?;
    if bytes.len() as u64 > SETTINGS_FILE_MAX_BYTES {
        return Err(UnreadableFile::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_refused_beyond() {
        let directory = tempfile::tempdir().expect("temporary folder");
        let path = directory.path().join("file");
        let limit = usize::try_from(SETTINGS_FILE_MAX_BYTES).expect("small");
        std::fs::write(&path, vec![b'x'; limit]).expect("written");
        assert_eq!(read(&path).expect("within the limit").len(), limit);
        std::fs::write(&path, vec![b'x'; limit + 1]).expect("written");
        let error = read(&path).expect_err("beyond the limit");
        assert!(matches!(error, UnreadableFile::TooLarge { .. }), "{error}");
        assert!(!error.is_missing());
    }

    #[test]
    fn a_missing_file_is_told_from_an_unreadable_one() {
        let directory = tempfile::tempdir().expect("temporary folder");
        let missing = read(&directory.path().join("none")).expect_err("no such file");
        assert!(missing.is_missing(), "{missing}");
        let folder = read(directory.path()).expect_err("a folder is no file");
        assert!(!folder.is_missing(), "{folder}");
    }
}
