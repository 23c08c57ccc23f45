//! The folder that is expanded into.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::digest::Digest;
use crate::disk::{self, RESERVE_BYTES, Room};
use crate::failure::Usage;
use crate::units::format_bytes;

const HINT_ROOM: &str = "free some space, or name another folder with `--to`";

/// A folder that was empty, and the names in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    room: Room,
}

impl Folder {
    /// Takes `path`, which must be empty or not there.
    pub(super) fn claim(path: &Path) -> anyhow::Result<Self> {
        let taken = |found| {
            let path = path.display();
            Usage::new(format!("expected an empty folder at `{path}`, found {found}"))
                .with_hint("name one that is empty or not there with `--to`")
        };
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(taken("files in it").into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(taken("something else").into());
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot look into `{}`", path.display()));
            }
        }
        for folder in ["blobs", "layers"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        Ok(Self { path: path.to_owned(), room: Room::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to begin where not even what is packed would fit.
    pub(super) fn refuse_full(&self, bytes: u64) -> anyhow::Result<()> {
        let why =
            format!("what the payload brings has {} before it is unpacked", format_bytes(bytes));
        disk::refuse_full(&self.path, bytes.saturating_add(RESERVE_BYTES), &why, HINT_ROOM)
    }

    /// Refuses to go on where the disk is nearly full.
    pub(super) fn wrote(&mut self, bytes: u64) -> anyhow::Result<()> {
        self.room.wrote(bytes, &self.path, "expanding", HINT_ROOM)
    }
}

/// Where a blob or manifest is a file, below the folder.
pub(super) fn file_of(digest: &Digest) -> String {
    format!("blobs/{}-{}", digest.algorithm().name(), digest.hex())
}

/// Where a layer is a tree, below the folder.
pub(super) fn tree_of(digest: &Digest) -> String {
    format!("layers/{}-{}", digest.algorithm().name(), digest.hex())
}

/// Where what has no place in a layer's tree is, below the folder.
pub(super) fn odd_of(digest: &Digest) -> String {
    format!("{}.odd", tree_of(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::ExitCode;

    #[test]
    fn only_an_empty_folder_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let new = folder.path().join("new").join("deep");
        assert!(Folder::claim(&new).is_ok());
        assert!(new.join("layers").is_dir());
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        for path in [folder.path(), &new, &file, &file.join("below")] {
            let error = Folder::claim(path).expect_err("an error");
            assert_eq!(ExitCode::of(&error), ExitCode::Usage, "{error:#}");
            assert!(error.to_string().contains("expected an empty folder"), "{error}");
        }
    }
}
