//! What the name of an entry means. Pure.

use std::ffi::OsString;

use super::report::Why;
use crate::confined::name_of;

/// The longest name with all its folders, in bytes, as Linux has it.
const NAME_MAX_BYTES: usize = 4096;
/// What a whiteout's name begins with (the OCI's layer.md).
const WHITEOUT: &[u8] = b".wh.";
/// What hides all that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Notes of the storage driver aufs.
const AUFS: &[u8] = b".wh..wh.";

/// What an entry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The folder of the tree itself.
    Top,
    /// Something of this name in a folder.
    There(Vec<OsString>, OsString),
    /// What lower layers have by this name in a folder goes.
    Hidden(Vec<OsString>, OsString),
    /// All that lower layers have in this folder goes.
    Opaque(Vec<OsString>),
    /// Nothing that concerns others than aufs.
    Nothing,
}

/// The names that lead to a path, as if the tree were the root: `..` never gets above it.
pub(super) fn places(path: &[u8]) -> Result<Vec<OsString>, Why> {
    if path.len() > NAME_MAX_BYTES {
        return Err(Why::NameTooLong);
    }
    let mut places = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(places.pop()),
            _ if part.contains(&0) => return Err(Why::NameNotAllowed),
            _ => places.push(name_of(part).ok_or(Why::NameNotAllowed)?),
        }
    }
    Ok(places)
}

/// What an entry of this name asks for where whiteouts are applied.
pub(super) fn wish(name: &[u8]) -> Result<Wish, Why> {
    let last = name.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty());
    let Some(hidden) = last.and_then(|last| last.strip_prefix(WHITEOUT)) else {
        return plain_wish(name);
    };
    let last = last.unwrap_or_default();
    let mut places = places(name)?;
    places.pop();
    match hidden {
        _ if last == OPAQUE => Ok(Wish::Opaque(places)),
        _ if last.starts_with(AUFS) => Ok(Wish::Nothing),
        b"" | b"." | b".." => Err(Why::WhiteoutOfNothing),
        _ => Ok(Wish::Hidden(places, name_of(hidden).ok_or(Why::NameNotAllowed)?)),
    }
}

/// What an entry of this name asks for where whiteouts are files as others.
pub(super) fn plain_wish(name: &[u8]) -> Result<Wish, Why> {
    let mut places = places(name)?;
    Ok(places.pop().map_or(Wish::Top, |last| Wish::There(places, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<OsString> {
        path.split('/').filter(|part| !part.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn whiteouts_hide_exactly_what_they_name() {
        let there = |folder, name: &str| Ok(Wish::There(names(folder), name.into()));
        let hidden = |folder, name: &str| Ok(Wish::Hidden(names(folder), name.into()));
        for (name, expected) in [
            (&b"./"[..], Ok(Wish::Top)),
            (b"/", Ok(Wish::Top)),
            (b"a/b", there("a", "b")),
            (b"./a//b/", there("a", "b")),
            (b"../../a/../b", there("", "b")),
            (b"/etc/passwd", there("etc", "passwd")),
            (b"a/.wh.b", hidden("a", "b")),
            (b"a/.wh.b/", hidden("a", "b")),
            (b"../.wh.b", hidden("", "b")),
            (b".wh..b", hidden("", ".b")),
            (b"a/.wh..wh..opq", Ok(Wish::Opaque(names("a")))),
            (b".wh..wh..opq", Ok(Wish::Opaque(Vec::new()))),
            (b".wh..wh.plnk", Ok(Wish::Nothing)),
            (b".wh.a/b", there(".wh.a", "b")),
            (b"a/.wh.", Err(Why::WhiteoutOfNothing)),
            (b"a/.wh..", Err(Why::WhiteoutOfNothing)),
            (b"a/.wh...", Err(Why::WhiteoutOfNothing)),
            (b"a\0b", Err(Why::NameNotAllowed)),
            (&[b'a'; 5000], Err(Why::NameTooLong)),
        ] {
            assert_eq!(wish(name), expected, "{:?}", String::from_utf8_lossy(name));
        }
        assert_eq!(plain_wish(b"a/.wh.b"), there("a", ".wh.b"));
    }
}
