//! The records of a pax header (POSIX.1-2008, pax: "length key=value\n"). Pure.

use std::io;

use super::entry::Moment;

/// GNU's and libarchive's key for an extended attribute, before its name.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What a pax header says that counts here. As in Go, a later record of a key replaces an earlier one, and an empty
/// value leaves what the header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) user: Option<u64>,
    pub(super) group: Option<u64>,
    pub(super) modified: Option<Moment>,
    pub(super) accessed: Option<Moment>,
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// What GNU tar says of a sparse file in its versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    /// Where data is, in decimal numbers: offset, length, offset, …
    pub(super) map: Vec<u64>,
    pub(super) is_in_content: bool,
    pub(super) real_size: Option<u64>,
}

impl Pax {
    pub(super) fn parse(mut records: &[u8]) -> io::Result<Self> {
        let mut pax = Self::default();
        let mut sparse_name = None;
        let mut has_version_1 = false;
        while !records.is_empty() {
            let (key, value, rest) = split(records).ok_or_else(malformed)?;
            records = rest;
            if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                pax.attributes.retain(|(known, _)| known != name);
                pax.attributes.push((name.to_vec(), value.to_vec()));
                continue;
            }
            if value.is_empty() {
                continue;
            }
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.link_path = Some(value.to_vec()),
                b"size" => pax.size = Some(number(value)?),
                b"uid" => pax.user = Some(number(value)?),
                b"gid" => pax.group = Some(number(value)?),
                b"mtime" => pax.modified = Some(moment(value)?),
                b"atime" => pax.accessed = Some(moment(value)?),
                b"GNU.sparse.name" => sparse_name = Some(value.to_vec()),
                b"GNU.sparse.major" => has_version_1 = number(value)? == 1,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    pax.sparse.real_size = Some(number(value)?);
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    pax.sparse.map.push(number(value)?);
                }
                b"GNU.sparse.map" => {
                    let numbers = value.split(|byte| *byte == b',').map(number);
                    pax.sparse.map = numbers.collect::<io::Result<_>>()?;
                }
                _ => {}
            }
        }
        pax.sparse.is_in_content = has_version_1;
        // Where the file has another name for the readers that know nothing of sparse files.
        pax.path = sparse_name.or(pax.path);
        Ok(pax)
    }
}

/// The first record, and what follows it.
fn split(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&records[..space]).ok()?).ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn malformed() -> io::Error {
    io::Error::other("a pax header that is none")
}

pub(super) fn number(text: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    text.parse().map_err(|_| malformed())
}

/// `-1.5` is one and a half second before 1970.
fn moment(text: &[u8]) -> io::Result<Moment> {
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| malformed())?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| malformed())?;
    if whole.starts_with('-') && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).ok_or_else(malformed)?;
        return Ok(Moment { seconds, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Ok(Moment { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_any_bytes_and_the_last_of_a_key_counts() {
        let records = b"12 path=old\n12 path=new\n28 SCHILY.xattr.user.x=\n9 \0\n\
            13 linkpath=\n22 mtime=-1.250000000\n10 size=9\n";
        // The third record has a newline in its value.
        let pax = Pax::parse(records).expect("records");
        assert_eq!(pax.path.as_deref(), Some(&b"new"[..]));
        assert_eq!(pax.link_path, None);
        assert_eq!(pax.attributes, [(b"user.x".to_vec(), b"\n9 \0".to_vec())]);
        let modified = Moment { seconds: -2, nanoseconds: 750_000_000 };
        assert_eq!((pax.modified, pax.size), (Some(modified), Some(9)));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for records in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"0 a=b\n",
            b"3 a=b\n",
            b"4 a\n\n",
            b"9 size=x\n",
            b"10 mtime=\n \n",
        ] {
            assert!(Pax::parse(records).is_err(), "{records:?}");
        }
    }
}
