//! A folder that nothing leaves: names are looked up as if it were the root of all files.
//!
//! Every name goes from one opened folder to the next, and links on the way lead to where they would lead for a
//! process that has this folder as its root. So neither `..` nor an absolute link nor one out of the folder gets
//! anywhere else. The only home of rustix's file system calls.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

use std::ffi::{OsStr, OsString};
use std::io;

#[cfg(not(unix))]
pub(crate) use other::{Place, Root};
#[cfg(unix)]
pub(crate) use unix::{Place, Root};

use crate::changeset::{Kind, Moment};

/// How deep folders may lie in each other. More than any image has, and few enough to open all of them at once.
const DEPTH_MAX: usize = 256;

/// What becomes of folders on the way that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Created,
    Left,
}

/// What is found by a name, which is never a link's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Folder,
    Other,
}

/// What a file has beside its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adornments<'a> {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    #[cfg_attr(not(unix), expect(dead_code, reason = "files have no such owner there"))]
    pub(crate) owner: (u32, u32),
    #[cfg_attr(not(unix), expect(dead_code, reason = "it is not set there"))]
    pub(crate) accessed: Moment,
    pub(crate) modified: Moment,
    pub(crate) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

/// An extended attribute that could not be set, and why.
#[derive(Debug)]
pub(crate) struct Unset {
    pub(crate) attribute: String,
    pub(crate) error: io::Error,
}

fn too_deep() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidFilename, "folders lie too deep in each other")
}

/// A name as this system has it; none where it has no such names.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have fewer names")]
pub(crate) fn name_of(part: &[u8]) -> Option<OsString> {
    Some(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(part).to_owned())
}

/// A name as this system has it; none where it has no such names.
#[cfg(not(unix))]
pub(crate) fn name_of(part: &[u8]) -> Option<OsString> {
    other::name_of(part).map(|name| OsStr::new(name).to_owned())
}

#[cfg(all(test, unix))]
mod tests;
