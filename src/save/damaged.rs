//! A folder of images that is not what it should be.

use std::path::PathBuf;

/// A file in it that is damaged.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is damaged: {why}", path.display())]
pub struct DamagedFolder {
    path: PathBuf,
    why: String,
}

impl DamagedFolder {
    pub(super) fn new(path: PathBuf, why: impl Into<String>) -> Self {
        Self { path, why: why.into() }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> String {
        "bring the file back from a copy, or save the images into a new folder".to_owned()
    }
}
