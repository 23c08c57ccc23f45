//! What a header says.

use std::io;

use serde::Serialize;
use tar::{EntryType, Header};

use super::pax::Pax;

/// What a path of a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    File,
    HardLink,
    Folder,
    SymbolicLink,
    CharacterDevice,
    BlockDevice,
    NamedPipe,
    Other,
}

impl Kind {
    /// What an entry with this header is, whose name may stand in front of it. As for engines, which go by Go's
    /// `archive/tar`: of files only those of the oldest form are folders where their names end with `/`.
    pub(crate) fn of(header: &Header, name: &[u8]) -> Self {
        if header.as_old().linkflag == [0] && name.ends_with(b"/") {
            return Self::Folder;
        }
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Self::File,
            EntryType::Link => Self::HardLink,
            EntryType::Symlink => Self::SymbolicLink,
            EntryType::Char => Self::CharacterDevice,
            EntryType::Block => Self::BlockDevice,
            EntryType::Directory => Self::Folder,
            EntryType::Fifo => Self::NamedPipe,
            _ => Self::Other,
        }
    }
}

/// A time as Unix has it, with nanoseconds that always count up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// An entry of a changeset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// With the bits for set-user-ID, set-group-ID and sticky.
    pub(crate) mode: u32,
    /// User and group.
    pub(crate) owner: (u32, u32),
    pub(crate) modified: Moment,
    pub(crate) accessed: Moment,
    /// What a link points to.
    pub(crate) target: Vec<u8>,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    /// Extended attributes.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Joins what a header says with what stood in front of it.
    pub(super) fn new(
        header: &Header,
        pax: &mut Pax,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> io::Result<Self> {
        let name = pax.path.take().or(long_name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = pax
            .link_path
            .take()
            .or(long_target)
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let old = header.as_old();
        let id = |pax: Option<u64>, field: &[u8]| match pax {
            Some(id) => u32::try_from(id).map_err(io::Error::other),
            None => number(field).and_then(|id| u32::try_from(id).map_err(io::Error::other)),
        };
        let modified = match pax.modified {
            Some(modified) => modified,
            None => Moment { seconds: number(&old.mtime)?, nanoseconds: 0 },
        };
        let none = [0; 8];
        let device = match (header.as_gnu(), header.as_ustar()) {
            (Some(gnu), _) => [&gnu.dev_major, &gnu.dev_minor],
            (None, Some(ustar)) => [&ustar.dev_major, &ustar.dev_minor],
            (None, None) => [&none, &none],
        };
        Ok(Self {
            kind: Kind::of(header, &name),
            name,
            mode: id(None, &old.mode)? & 0o7777,
            owner: (id(pax.user, &old.uid)?, id(pax.group, &old.gid)?),
            modified,
            accessed: pax.accessed.unwrap_or(modified),
            target: target.unwrap_or_default(),
            device: (id(None, device[0])?, id(None, device[1])?),
            attributes: std::mem::take(&mut pax.attributes),
        })
    }

    /// Whether a size in the header would say nothing.
    pub(super) fn has_no_content(&self) -> bool {
        !matches!(self.kind, Kind::File | Kind::Other)
    }
}

/// The number in a field of a header: octal digits, or GNU's binary. As in Go, an empty field is zero.
pub(super) fn number(field: &[u8]) -> io::Result<i64> {
    let wrong = || io::Error::other("a header whose numbers are none");
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        // Two's complement, of which the first bit only says that it is.
        let first = i64::from(first & 0x7f) - if first & 0x40 == 0 { 0 } else { 0x80 };
        let add = |sum: i64, byte: &u8| sum.checked_mul(256)?.checked_add(i64::from(*byte));
        return rest.iter().try_fold(first, add).ok_or_else(wrong);
    }
    let is_around = |byte: &u8| matches!(byte, 0 | b' ');
    let digits = field.iter().skip_while(|byte| is_around(byte));
    let digits: Vec<u8> = digits.take_while(|byte| !is_around(byte)).copied().collect();
    if digits.is_empty() {
        return Ok(0);
    }
    let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
    i64::from_str_radix(digits, 8).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_oldest_form_has_folders_that_are_files_by_their_type() {
        for (flag, name, expected) in [
            (0, "a/", Kind::Folder),
            (0, "a", Kind::File),
            (b'0', "a/", Kind::File),
            (b'7', "a/", Kind::File),
            (b'5', "a", Kind::Folder),
            (b'2', "a/", Kind::SymbolicLink),
            (b'V', "a", Kind::Other),
        ] {
            let mut header = Header::new_ustar();
            header.as_old_mut().linkflag = [flag];
            assert_eq!(Kind::of(&header, name.as_bytes()), expected, "{flag} {name}");
        }
    }

    #[test]
    fn numbers_are_octal_or_binary_or_left_out() {
        for (field, expected) in [
            (&b"0000755\0"[..], 0o755),
            (b"   12 \0 ", 0o12),
            (b"777", 0o777),
            (b"\0\0\0", 0),
            (b"    ", 0),
            (b"\x80\0\0\x01\0", 256),
            (b"\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field).expect("a number"), expected, "{field:?}");
        }
        for field in [&b"8"[..], b"x\0", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(number(field).is_err(), "{field:?}");
        }
    }
}
