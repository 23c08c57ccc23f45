//! By paths, on systems where files have neither owners nor modes as Unix has them.
//!
//! No link is ever created, so none is on the way: what is there was put there as a file or a folder. Whoever else can
//! write into the folder meanwhile could put one; folders are looked at each time.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Adornments, DEPTH_MAX, Found, Missing, Unset, too_deep};
use crate::changeset::{Kind, Moment};

/// The folder that is the root.
pub(crate) struct Root {
    path: PathBuf,
}

/// A folder, and its name from the root on.
pub(crate) struct Place {
    at: PathBuf,
    path: PathBuf,
}

/// Folders keep no times that could be put back.
pub(crate) struct Times;

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: fs::canonicalize(path)? })
    }

    /// The folder that these names lead to; none where it is not there.
    pub(crate) fn folder(&self, names: &[OsString], missing: Missing) -> io::Result<Option<Place>> {
        let mut place = self.top()?;
        for name in names {
            place = match place.enter(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if missing == Missing::Left {
                        return Ok(None);
                    }
                    place.create_folder(name)?;
                    place.enter(name)?
                }
                next => next?,
            };
        }
        Ok(Some(place))
    }

    /// The root itself.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it is opened")]
    pub(crate) fn top(&self) -> io::Result<Place> {
        Ok(Place { at: self.path.clone(), path: PathBuf::new() })
    }
}

impl Place {
    /// Its name from the root on.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, by no link.
    pub(crate) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let place = Self { at: self.at.join(name), path: self.path.join(name) };
        if place.path.components().count() > DEPTH_MAX {
            return Err(too_deep());
        }
        match fs::symlink_metadata(&place.at)?.is_dir() {
            true => Ok(place),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(crate) fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        match fs::symlink_metadata(self.at.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_dir() => Ok(Some(Found::Folder)),
            Ok(_) => Ok(Some(Found::Other)),
        }
    }

    /// The names of all that is in it.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.at)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    pub(crate) fn create_file(&self, name: &OsStr) -> io::Result<File> {
        File::create_new(self.at.join(name))
    }

    pub(crate) fn create_folder(&self, name: &OsStr) -> io::Result<()> {
        fs::create_dir(self.at.join(name))
    }

    #[expect(clippy::unused_self, reason = "elsewhere it can be had")]
    pub(crate) fn create_link(&self, _: &OsStr, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Another name for what `from` has by `former`.
    pub(crate) fn create_hard_link(
        &self,
        name: &OsStr,
        from: &Place,
        former: &OsStr,
    ) -> io::Result<()> {
        fs::hard_link(from.at.join(former), self.at.join(name))
    }

    #[expect(clippy::unused_self, reason = "elsewhere it can be had")]
    pub(crate) fn create_node(&self, _: &OsStr, _: Kind, _: (u32, u32)) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes what `name` is, with all that is in it.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        let path = self.at.join(name);
        match self.find(name)? {
            None => Ok(()),
            Some(Found::Folder) => fs::remove_dir_all(path),
            Some(Found::Other) => fs::remove_file(path),
        }
    }

    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "elsewhere they are asked for"
    )]
    pub(crate) fn times(&self) -> io::Result<Times> {
        Ok(Times)
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "elsewhere they are set")]
    pub(crate) fn set_times(&self, _: &Times) -> io::Result<()> {
        Ok(())
    }

    /// Gives `name` what it can have here: the time of a file.
    pub(crate) fn adorn(&self, name: &OsStr, it: &Adornments<'_>) -> io::Result<Vec<Unset>> {
        if it.kind == Kind::File
            && let Some(modified) = time(it.modified)
        {
            File::options().write(true).open(self.at.join(name))?.set_modified(modified)?;
        }
        let unset = |(name, _): &(Vec<u8>, Vec<u8>)| Unset {
            attribute: String::from_utf8_lossy(name).into_owned(),
            error: io::ErrorKind::Unsupported.into(),
        };
        Ok(it.attributes.iter().map(unset).collect())
    }

    #[expect(clippy::unused_self, reason = "elsewhere it matters whose folder it is")]
    pub(crate) fn mode_for_now(&self, it: &Adornments<'_>) -> u32 {
        it.mode
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "elsewhere they are set")]
    pub(crate) fn set_mode(&self, _: &OsStr, _: u32) -> io::Result<()> {
        Ok(())
    }
}

fn time(moment: Moment) -> Option<SystemTime> {
    let seconds = u64::try_from(moment.seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, moment.nanoseconds))
}

/// Windows cuts, splits and redirects many names (its "Naming Files, Paths, and Namespaces").
pub(super) fn name_of(part: &[u8]) -> Option<&str> {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let text = std::str::from_utf8(part).ok()?;
    let forbidden = |c: char| c.is_control() || "<>:\"\\|?*".contains(c);
    let stem = text.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let is_port = |name: &str| {
        let number = stem.strip_prefix(name);
        number.is_some_and(|number| number.chars().count() == 1)
    };
    let is_device = DEVICES.contains(&stem.as_str()) || is_port("COM") || is_port("LPT");
    let is_cut = text.ends_with(['.', ' ']);
    (!text.contains(forbidden) && !is_device && !is_cut).then_some(text)
}
