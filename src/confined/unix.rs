//! By folder descriptors.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::{Adornments, DEPTH_MAX, Found, Missing, Unset, too_deep};
use crate::changeset::{Kind, Moment};

mod attributes;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How many links may be followed for one name, as Linux has it.
const LINKS_MAX: usize = 40;
/// What everybody may do with a folder that no entry describes.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);

/// The folder that is the root.
pub(crate) struct Root {
    folder: File,
    /// Whether files can be given to others.
    is_superuser: bool,
}

/// An opened folder, and its name from the root on, which has no link in it.
pub(crate) struct Place {
    folder: File,
    path: PathBuf,
    is_superuser: bool,
}

/// When a folder was read and changed.
pub(crate) struct Times(Timestamps);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = open(CWD, path.as_os_str())?;
        Ok(Self { folder, is_superuser: rustix::process::geteuid().is_root() })
    }

    /// The folder that these names lead to; none where it is not there.
    pub(crate) fn folder(&self, names: &[OsString], missing: Missing) -> io::Result<Option<Place>> {
        let mut place = self.top()?;
        let mut names: Vec<OsString> = names.iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(name) = names.pop() {
            if name == ".." {
                place = self.above(&place)?;
                continue;
            }
            match place.enter(&name) {
                Ok(next) => {
                    place = next;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if missing == Missing::Left {
                        return Ok(None);
                    }
                    place.imply(&name)?;
                    names.push(name);
                    continue;
                }
                Err(error) if !is_no_folder(&error) => return Err(error),
                Err(_) => {}
            }
            let target = match rustix::fs::readlinkat(&place.folder, &name, Vec::new()) {
                Err(Errno::INVAL) => return Err(Errno::NOTDIR.into()),
                target => target?.into_bytes(),
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            if target.starts_with(b"/") {
                place = self.top()?;
            }
            let parts = target.rsplit(|byte| *byte == b'/');
            let parts = parts.filter(|part| !part.is_empty() && *part != b".");
            names.extend(parts.map(|part| OsStr::from_bytes(part).to_owned()));
        }
        Ok(Some(place))
    }

    /// The root itself.
    pub(crate) fn top(&self) -> io::Result<Place> {
        let folder = open(&self.folder, OsStr::new("."))?;
        Ok(Place { folder, path: PathBuf::new(), is_superuser: self.is_superuser })
    }

    fn above(&self, place: &Place) -> io::Result<Place> {
        let mut above = self.top()?;
        for name in place.path.parent().into_iter().flatten() {
            above = above.enter(name)?;
        }
        Ok(above)
    }
}

impl Place {
    /// Its name from the root on.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, by no link.
    pub(crate) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.path.join(name);
        if self.path.components().count() >= DEPTH_MAX {
            return Err(too_deep());
        }
        let folder = open(&self.folder, name)?;
        Ok(Self { folder, path, is_superuser: self.is_superuser })
    }

    /// Creates a folder that no entry described so far.
    fn imply(&self, name: &OsStr) -> io::Result<()> {
        let times = self.times()?;
        rustix::fs::mkdirat(&self.folder, name, Mode::RWXU)?;
        rustix::fs::chmodat(&self.folder, name, IMPLIED_MODE, AtFlags::empty())?;
        self.set_times(&times)
    }

    pub(crate) fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode as RawMode) {
                FileType::Directory => Found::Folder,
                _ => Found::Other,
            })),
        }
    }

    /// The names of all that is in it.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.folder)
    }

    pub(crate) fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    pub(crate) fn create_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.folder, name, Mode::RWXU)?)
    }

    pub(crate) fn create_link(&self, name: &OsStr, target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.folder, name)?)
    }

    /// Another name for what `from` has by `former`, which may be a link itself.
    pub(crate) fn create_hard_link(
        &self,
        name: &OsStr,
        from: &Place,
        former: &OsStr,
    ) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(&from.folder, former, &self.folder, name, flags)?)
    }

    /// A device or a named pipe.
    #[cfg(not(any(target_vendor = "apple", target_os = "espidf")))]
    pub(crate) fn create_node(
        &self,
        name: &OsStr,
        kind: Kind,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let kind = match kind {
            Kind::CharacterDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(major, minor),
        };
        Ok(rustix::fs::mknodat(&self.folder, name, kind, Mode::RUSR | Mode::WUSR, device)?)
    }

    /// A named pipe; of devices there are others here.
    #[cfg(target_vendor = "apple")]
    pub(crate) fn create_node(&self, name: &OsStr, kind: Kind, _: (u32, u32)) -> io::Result<()> {
        if kind != Kind::NamedPipe {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(rustix::fs::mkfifoat(&self.folder, name, Mode::RUSR | Mode::WUSR)?)
    }

    /// Removes what `name` is, with all that is in it.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        remove(&self.folder, name)
    }

    pub(crate) fn times(&self) -> io::Result<Times> {
        let found = self.folder.metadata()?;
        let spec = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        Ok(Times(Timestamps {
            last_access: spec(found.atime(), found.atime_nsec()),
            last_modification: spec(found.mtime(), found.mtime_nsec()),
        }))
    }

    pub(crate) fn set_times(&self, times: &Times) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.folder, &times.0)?)
    }

    /// Gives `name` all that it has beside its content, and says which extended attributes it cannot have. Without
    /// the superuser's rights owners stay, and folders can be written by their owner.
    pub(crate) fn adorn(&self, name: &OsStr, it: &Adornments<'_>) -> io::Result<Vec<Unset>> {
        let (user, group) = (Uid::from_raw(it.owner.0), Gid::from_raw(it.owner.1));
        let not_through = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_superuser {
            rustix::fs::chownat(&self.folder, name, Some(user), Some(group), not_through)?;
        }
        // Changing owners takes capabilities away; changing the mode may take the right to set attributes.
        let unset = attributes::set(&self.folder, name, it);
        if it.kind != Kind::SymbolicLink {
            let mode = Mode::from_raw_mode(self.mode_for_now(it) as RawMode);
            rustix::fs::chmodat(&self.folder, name, mode, AtFlags::empty())?;
        }
        let times =
            Timestamps { last_access: spec(it.accessed), last_modification: spec(it.modified) };
        rustix::fs::utimensat(&self.folder, name, &times, not_through)?;
        Ok(unset)
    }

    /// The mode that a file has until everything is there: who owns a folder must be able to write it.
    pub(crate) fn mode_for_now(&self, it: &Adornments<'_>) -> u32 {
        let more = if it.kind == Kind::Folder && !self.is_superuser { 0o700 } else { 0 };
        it.mode | more
    }

    /// Sets the mode of a folder in it.
    pub(crate) fn set_mode(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode as RawMode);
        Ok(rustix::fs::chmodat(&self.folder, name, mode, AtFlags::empty())?)
    }
}

fn spec(moment: Moment) -> Timespec {
    Timespec { tv_sec: moment.seconds, tv_nsec: moment.nanoseconds.into() }
}

/// Whether there is something else than a folder: systems say it in three ways of a link.
fn is_no_folder(error: &io::Error) -> bool {
    let no_folder = [Errno::NOTDIR, Errno::LOOP, Errno::MLINK].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| no_folder.contains(&errno))
}

/// Opens a folder, by no link.
fn open(folder: impl AsFd, name: &OsStr) -> io::Result<File> {
    Ok(rustix::fs::openat(folder, name, FOLDER, Mode::empty())?.into())
}

fn names(folder: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn remove(folder: &File, name: &OsStr) -> io::Result<()> {
    let no_file = match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => error,
    };
    match open(folder, name) {
        Ok(inner) => {
            for name in names(&inner)? {
                remove(&inner, &name)?;
            }
            Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
        }
        Err(_) => Err(no_file.into()),
    }
}
