//! Names in tars: which of them may become files here. Pure.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::confined::name_of;

/// Why a path of a layer was not created under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    /// It is a symbolic link, a device, a named pipe, or something that no engine creates.
    Kind,
    /// Its name is absolute or has a `..`.
    LeavesTheFolder,
    /// Something is there by this name, or by one that this file system takes for the same.
    NameTaken,
    /// This system has no such names.
    NameNotAllowed,
    /// A hard link to what is no file of the layer.
    TargetMissing,
    /// It stands behind the end of the tar.
    BehindTheEnd,
}

/// The path below a tree that `name` means; empty for the tree itself.
pub(super) fn place(name: &[u8]) -> Result<PathBuf, Why> {
    if name.starts_with(b"/") {
        return Err(Why::LeavesTheFolder);
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Why::LeavesTheFolder),
            _ if part.contains(&0) => return Err(Why::NameNotAllowed),
            _ => path.push(name_of(part).ok_or(Why::NameNotAllowed)?),
        }
    }
    Ok(path)
}

/// What an error says of the name that was to be created; `None` where it says something of the disk.
pub(super) fn of_error(error: &io::Error) -> Option<Why> {
    use io::ErrorKind::{
        AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, TooManyLinks,
    };
    /// Unix: bytes that a file system takes for no text.
    const ILLEGAL_SEQUENCE: [i32; 2] = [84, 92];
    match error.kind() {
        AlreadyExists | NotADirectory | IsADirectory => Some(Why::NameTaken),
        InvalidFilename | InvalidInput | TooManyLinks => Some(Why::NameNotAllowed),
        _ if cfg!(unix) && error.raw_os_error().is_some_and(|n| ILLEGAL_SEQUENCE.contains(&n)) => {
            Some(Why::NameNotAllowed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_tree() {
        for (name, expected) in [
            (&b"etc/passwd"[..], Ok("etc/passwd")),
            (b"./etc//x/", Ok("etc/x")),
            (b"./", Ok("")),
            (b"", Ok("")),
            (b"..x/...", Ok("..x/...")),
            (b"/etc/passwd", Err(Why::LeavesTheFolder)),
            (b"..", Err(Why::LeavesTheFolder)),
            (b"a/../../b", Err(Why::LeavesTheFolder)),
            (b"a/..", Err(Why::LeavesTheFolder)),
            (b"a\0b", Err(Why::NameNotAllowed)),
        ] {
            assert_eq!(place(name), expected.map(PathBuf::from), "{name:?}");
        }
    }
}
