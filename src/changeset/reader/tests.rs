use super::super::entry::{Kind, Moment};
use super::*;

type Read1 = (Entry, Vec<u8>);

fn read(tar: &[u8]) -> Result<Vec<Read1>, Flaw> {
    let mut changeset = Changeset::new(tar);
    let mut entries = Vec::new();
    while let Some(entry) = changeset.next()? {
        let mut content = Vec::new();
        changeset.read_to_end(&mut content)?;
        entries.push((entry, content));
    }
    Ok(entries)
}

fn header(name: &str, kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(name).expect("a name");
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(9);
    header.set_size(size as u64);
    header
}

fn put(tar: &mut Vec<u8>, mut header: Header, content: &[u8]) {
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK_BYTES), 0);
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = rest + (rest + 2).to_string().len();
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

#[test]
fn what_stands_in_front_of_an_entry_counts_for_it_alone() {
    let mut tar = Vec::new();
    let long = "d/".repeat(150) + "file";
    let records = [
        record("path", long.as_bytes()),
        record("SCHILY.xattr.security.capability", b"\x01\n\0"),
        record("mtime", b"5.25"),
        record("uid", b"3000000"),
    ]
    .concat();
    put(&mut tar, header("global", EntryType::XGlobalHeader, 600), &[b'x'; 600]);
    put(&mut tar, header("pax", EntryType::XHeader, records.len()), &records);
    put(&mut tar, header("short", EntryType::Regular, 3), b"abc");
    let mut old = header("old/", EntryType::Regular, 0);
    old.as_old_mut().linkflag = [0];
    put(&mut tar, old, b"");
    // Of a link, no size counts.
    put(&mut tar, header("link", EntryType::Link, 999), b"");
    put(&mut tar, header("././@LongLink", EntryType::GNULongName, long.len()), long.as_bytes());
    put(&mut tar, header("short", EntryType::Regular, 0), b"");
    tar.extend([0; 1024]);
    let behind = header("behind", EntryType::Regular, 0);
    put(&mut tar, behind, b"");
    let entries = read(&tar).expect("a tar");
    let names: Vec<_> =
        entries.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.name)).collect();
    assert_eq!(names, [long.as_str(), "old/", "link", long.as_str()]);
    let (first, content) = &entries[0];
    assert_eq!(content, b"abc");
    assert_eq!(first.attributes, [(b"security.capability".to_vec(), b"\x01\n\0".to_vec())]);
    assert_eq!(first.modified, Moment { seconds: 5, nanoseconds: 250_000_000 });
    assert_eq!((first.mode, first.owner), (0o4755, (3_000_000, 8)));
    let (second, _) = &entries[1];
    assert_eq!((second.kind, second.owner, second.attributes.len()), (Kind::Folder, (7, 8), 0));
}

#[test]
fn sparse_files_of_every_kind_have_their_zeros() {
    let mut tar = Vec::new();
    let mut old = header("old", EntryType::GNUSparse, 5);
    let gnu = old.as_gnu_mut().expect("GNU's header");
    gnu.sparse[0].offset[..4].copy_from_slice(b"0002");
    gnu.sparse[0].numbytes[..4].copy_from_slice(b"0003");
    gnu.sparse[1].offset[..4].copy_from_slice(b"0007");
    gnu.sparse[1].numbytes[..4].copy_from_slice(b"0002");
    gnu.realsize[..4].copy_from_slice(b"0012");
    put(&mut tar, old, b"abcde");
    for (version, records) in [
        (0, [record("GNU.sparse.map", b"2,3,7,2"), record("GNU.sparse.size", b"10")].concat()),
        (1, [record("GNU.sparse.major", b"1"), record("GNU.sparse.realsize", b"10")].concat()),
    ] {
        let records = [records, record("GNU.sparse.name", b"pax")].concat();
        put(&mut tar, header("x", EntryType::XHeader, records.len()), &records);
        let mut content = if version == 1 { b"2\n2\n3\n7\n2\n".to_vec() } else { Vec::new() };
        content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
        content.extend_from_slice(b"abcde");
        put(&mut tar, header("x", EntryType::Regular, content.len()), &content);
    }
    put(&mut tar, header("after", EntryType::Regular, 1), b"x");
    let entries = read(&tar).expect("a tar");
    let names: Vec<_> =
        entries.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.name)).collect();
    assert_eq!(names, ["old", "pax", "pax", "after"]);
    for (entry, content) in &entries[..3] {
        assert_eq!(content, b"\0\0abc\0\0de\0", "{entry:?}");
    }
}

#[test]
fn what_is_no_tar_or_breaks_off_is_told_apart() {
    let mut tar = Vec::new();
    put(&mut tar, header("file", EntryType::Regular, 600), &[1; 600]);
    let whole = tar.clone();
    assert_eq!(read(&whole).expect("a tar without an end").len(), 1);
    for cut in [100, 512, 700, 1535] {
        assert!(read(&whole[..cut]).is_err(), "{cut}");
    }
    for no_tar in [&b""[..], &[7; 512], b"<html>"] {
        let error = read(no_tar).expect_err("an error");
        assert!(matches!(error, Flaw::NoTar) || no_tar.len() == 6, "{error}");
    }
    assert!(read(&[0; 1024]).expect("an empty tar").is_empty());
    let mut wrong = whole.clone();
    wrong.extend([7; 512]);
    assert!(matches!(read(&wrong), Err(Flaw::Broken(_))));
    let mut huge = Vec::new();
    put(&mut huge, header("x", EntryType::XHeader, 5 << 20), b"");
    assert!(read(&huge).expect_err("an error").to_string().contains("more than"));
}
