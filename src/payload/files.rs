//! Payloads by the names of their files: several volumes at once, or the folder that they lie in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::fault::Fault;
use super::reader::Payload;

impl Payload {
    /// Opens the payload in these files: one, or volumes of one payload. A folder stands for all zips in it.
    ///
    /// # Errors
    /// As [`Payload::open`] and [`Payload::join`], and where a folder has no zip in it.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut all = None;
        for path in payload_files(paths)? {
            // One after the other: each has all manifests.
            let opened = Self::open(&path)?;
            all = Self::join(all.into_iter().chain([opened]).collect())?;
        }
        all.ok_or_else(|| nothing(Path::new(".")))
    }
}

impl Payload {
    /// Opens the payloads in these files and folders. Volumes of one payload are given as one.
    ///
    /// # Errors
    /// As [`Payload::open_all`].
    pub fn open_each(paths: &[PathBuf]) -> Result<Vec<Self>, Error> {
        let mut payloads: Vec<Self> = Vec::new();
        for path in payload_files(paths)? {
            let opened = Self::open(&path)?;
            let plan = opened.index().plan.as_ref();
            let others = payloads
                .iter()
                .position(|known| plan.is_some() && known.index().plan.as_ref() == plan);
            match others {
                None => payloads.push(opened),
                Some(at) => {
                    let known = payloads.remove(at);
                    payloads.extend(Self::join(vec![known, opened])?);
                }
            }
        }
        Ok(payloads)
    }
}

/// The files that these paths name: each itself, a folder all zips in it by their names.
///
/// # Errors
/// Where a folder cannot be read, or has no zip in it.
pub fn payload_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = |error| Error::new(&path.display().to_string(), Fault::Io(error));
        let mut zips = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let extension = file.extension().unwrap_or_default();
            if extension.eq_ignore_ascii_case("zip") && file.is_file() {
                zips.push(file);
            }
        }
        if zips.is_empty() {
            return Err(nothing(path));
        }
        zips.sort();
        files.extend(zips);
    }
    Ok(files)
}

fn nothing(folder: &Path) -> Error {
    let message = "expected payloads (`*.zip`) in the folder, found none";
    let fault = Fault::Io(io::Error::new(io::ErrorKind::NotFound, message));
    Error::new(&folder.display().to_string(), fault)
}
