//! Extended attributes, where the system has them.

use std::ffi::OsStr;
use std::fs::File;

use super::super::{Adornments, Unset};

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn set(_: &File, _: &OsStr, it: &Adornments<'_>) -> Vec<Unset> {
    let unset = |(name, _): &(Vec<u8>, Vec<u8>)| Unset {
        attribute: String::from_utf8_lossy(name).into_owned(),
        error: std::io::ErrorKind::Unsupported.into(),
    };
    it.attributes.iter().map(unset).collect()
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) use there::set;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod there {
    use std::ffi::CString;
    use std::io;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::fs::{Mode, OFlags, XattrFlags};
    use rustix::io::Errno;

    use super::{Adornments, File, OsStr, Unset};
    use crate::changeset::Kind;

    /// The longest list of names, as Linux has it.
    const LIST_MAX_BYTES: usize = 64 << 10;
    /// Attributes that belong to the machine rather than to a file.
    const OF_THE_MACHINE: [&[u8]; 2] = [b"security.selinux", b"system."];

    /// Sets those of `it`, and removes others that a former layer left on a folder.
    pub(in super::super) fn set(folder: &File, name: &OsStr, it: &Adornments<'_>) -> Vec<Unset> {
        if it.attributes.is_empty() && it.kind != Kind::Folder {
            return Vec::new();
        }
        let unset = |name: &[u8], error: io::Error| Unset {
            attribute: String::from_utf8_lossy(name).into_owned(),
            error,
        };
        let file = match open(folder, name, it.kind) {
            Ok(file) => file,
            Err(error) => {
                let unset = |(name, _): &(Vec<u8>, Vec<u8>)| {
                    unset(name, io::Error::from_raw_os_error(error.raw_os_error()))
                };
                return it.attributes.iter().map(unset).collect();
            }
        };
        if it.kind == Kind::Folder {
            file.remove_others(it.attributes);
        }
        let refused = it.attributes.iter().filter_map(|(name, value)| {
            let error = file.set(name, value).err()?;
            Some(unset(name, error))
        });
        refused.collect()
    }

    /// Files and folders are opened. What must not be, as it could wait or do something, has a name in `/proc`.
    enum Opened {
        File(File),
        Named(CString),
    }

    fn open(folder: &File, name: &OsStr, kind: Kind) -> Result<Opened, Errno> {
        if matches!(kind, Kind::File | Kind::Folder) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return rustix::fs::openat(folder, name, flags, Mode::empty())
                .map(|file| Opened::File(file.into()));
        }
        let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        CString::new(path).map(Opened::Named).map_err(|_| Errno::INVAL)
    }

    impl Opened {
        fn set(&self, name: &[u8], value: &[u8]) -> io::Result<()> {
            let flags = XattrFlags::empty();
            let set = match self {
                Self::File(file) => rustix::fs::fsetxattr(file, name, value, flags),
                Self::Named(path) => rustix::fs::lsetxattr(path, name, value, flags),
            };
            Ok(set?)
        }

        /// Those that stay in spite of this are the system's own.
        fn remove_others(&self, wanted: &[(Vec<u8>, Vec<u8>)]) {
            let Self::File(file) = self else { return };
            // Most have none, and some systems know none.
            let Ok(1..) = rustix::fs::flistxattr(file, &mut [0_u8; 0]) else { return };
            let mut list = vec![0; LIST_MAX_BYTES];
            let Ok(length) = rustix::fs::flistxattr(file, &mut list[..]) else { return };
            for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                let is_machines = OF_THE_MACHINE.iter().any(|known| name.starts_with(known));
                if !is_machines && wanted.iter().all(|(known, _)| known != name) {
                    let _ = rustix::fs::fremovexattr(file, name);
                }
            }
        }
    }
}
