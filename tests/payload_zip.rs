//! The writer, judged by the `zip` crate and by every zip tool that is installed; and the reader on
//! payloads that were packed again by such a tool.

#[expect(dead_code, reason = "other tests use the rest")]
mod payload_kit;

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use kharon::digest::Digest;
use kharon::payload::{Blob, Index, Kind, Payload, PlannedEntry, Travels, Writer, payload_length};
use kharon::progress::Silent;
use kharon::verify::verify;
use payload_kit::{Parts, file, open, parts, sample};
use zip::ZipArchive;

#[test]
fn a_written_payload_opens_and_verifies() {
    let payload = open(&parts().write()).expect("a good payload opens");
    let report = verify(&payload, &Silent);
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.entries, 11);
}

#[test]
fn the_first_version_is_written_and_read_as_it_always_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/payloads/v1/three-images.zip");
    assert!(parts().write() == fs::read(&path).expect("the fixture is there"), "other bytes");
    let payload = Payload::open(&path).expect("the fixture opens");
    assert_eq!(payload.index().images.len(), 3);
    assert!(verify(&payload, &Silent).is_sound());
}

#[test]
fn the_zip_crate_finds_every_entry_whole_and_in_order() {
    let parts = parts();
    let bytes = parts.write();
    let mut archive = ZipArchive::new(Cursor::new(&bytes)).expect("a zip");
    archive.validate_header_consistency().expect("headers that agree");
    assert_eq!((archive.len(), archive.offset()), (parts.entries.len() + 1, 0));
    for (position, (name, kind, content)) in parts.entries.iter().enumerate() {
        let mut entry = archive.by_index(position).expect("an entry");
        assert_eq!(entry.name().expect("a name"), name.as_str());
        assert_eq!(entry.flags().is_using_data_descriptor(), *kind == Kind::Streamed, "{name}");
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored, "{name}");
        assert_eq!(entry.unix_mode(), Some(0o100_644), "{name}");
        assert_eq!(entry.last_modified(), Some(zip::DateTime::default()), "{name}");
        let mut found = Vec::new();
        entry.read_to_end(&mut found).expect("its CRC-32 is right");
        assert_eq!(&found, content, "{name}");
    }
}

/// Runs a judge that reads the zip from its standard input or from the path in its arguments.
/// `None` and a line on stderr where it is not installed.
fn judge(program: &str, arguments: &[&str], folder: &Path, zip: &Path) -> Option<String> {
    let input = File::open(zip).expect("the zip is there");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(io::stderr(), "not judged by {program}: it is not installed").expect("stderr");
            return None;
        }
        Err(error) => panic!("{program} {error}"),
    };
    let mut pipe = child.stdin.take().expect("a pipe");
    // Judges that read the file by its path do not take the pipe. Those that do may talk meanwhile.
    let feeder = std::thread::spawn(move || io::copy(&mut { input }, &mut pipe));
    let output = child.wait_with_output().expect("the judge ends");
    let _broken_pipe = feeder.join().expect("no panic");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{complaint}");
    assert!(complaint.trim().is_empty(), "{program} {arguments:?}: {complaint}");
    Some(text)
}

fn assert_extracted(parts: &Parts, folder: &Path) {
    for (name, _, content) in &parts.entries {
        let found = fs::read(folder.join(name)).expect(name);
        assert_eq!(&found, content, "{name}");
    }
}

#[test]
fn every_installed_zip_tool_extracts_a_payload_whole() {
    let parts = parts();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("payload.zip");
    fs::write(&path, parts.write()).expect("written");
    let zip = path.to_str().expect("UTF-8");
    for (number, (program, arguments)) in [
        ("unzip", vec!["-q", zip]),
        ("busybox", vec!["unzip", "-q", zip]),
        ("python3", vec!["-m", "zipfile", "-e", zip, "."]),
        ("bsdtar", vec!["-xf", zip]),
        ("bsdtar", vec!["-xf", "-"]), // from a pipe: it trusts the local headers
        ("jar", vec!["-xf", zip]),
    ]
    .into_iter()
    .enumerate()
    {
        let target = folder.path().join(number.to_string());
        fs::create_dir(&target).expect("a folder");
        if judge(program, &arguments, &target, &path).is_some() {
            assert_extracted(&parts, &target);
        }
    }
    for (program, arguments) in [
        ("unzip", vec!["-tqq", zip]),
        ("python3", vec!["-m", "zipfile", "-t", zip]),
        ("zip", vec!["-Tq", zip]),
        ("zipinfo", vec!["-v", zip]),
    ] {
        judge(program, &arguments, folder.path(), &path);
    }
}

/// Takes bytes into a sparse file: chunks of this length hold only zeros, and become holes.
struct Sparse(File);
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() == ZEROS.len() {
            self.0.seek(SeekFrom::Current(1 << 20))?;
            return Ok(bytes.len());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes the sample with one more blob of so many zeros in front of the others.
fn with_zeros(output: File, size_bytes: u64) -> (File, Digest) {
    let Parts { mut index, entries } = parts();
    // Nobody hashes four gigabytes here: any digest will do.
    let digest = Digest::of(b"not its digest");
    let mut writer = Writer::new(Sparse(output));
    Parts { index: index.clone(), entries: entries[..6].to_vec() }.write_entries(&mut writer);
    writer.begin(&digest.blob_path(), size_bytes).expect("begun");
    let mut left = size_bytes;
    while left > 0 {
        let count = left.min(ZEROS.len() as u64);
        writer.write(&ZEROS[..usize::try_from(count).expect("small")]).expect("written");
        left -= count;
    }
    writer.end(digest.hex().to_owned()).expect("ended");
    Parts { index: index.clone(), entries: entries[6..].to_vec() }.write_entries(&mut writer);
    let mut blob = sample().layer.blob(Travels::Carried);
    (blob.digest, blob.size) = (digest.clone(), size_bytes);
    index.blobs.insert(0, blob);
    index.entries = writer.entries().to_vec();
    writer.add("kharon.json", &index.to_json().expect("JSON")).expect("written");
    let written_bytes = writer.written_bytes();
    let Sparse(output) = writer.finish().expect("finished");
    assert!(output.metadata().expect("a file").len() > written_bytes);
    (output, digest)
}

fn planned(index: &Index, json_bytes: u64) -> Vec<PlannedEntry<'_>> {
    let blobs: Vec<String> = index.blobs.iter().map(|blob| blob.digest.blob_path()).collect();
    let entries = index.entries.iter().map(|entry| {
        let kind = if blobs.contains(&entry.name) { Kind::Streamed } else { Kind::Small };
        PlannedEntry { name: &entry.name, size_bytes: entry.size, kind }
    });
    let last = PlannedEntry { name: "kharon.json", size_bytes: json_bytes, kind: Kind::Small };
    entries.chain([last]).collect()
}

#[test]
fn zip64_is_used_where_it_is_needed_and_the_length_is_known_before() {
    for size_bytes in [0, 1 << 20, 0xFFFF_FFFE - (1 << 20), 0xFFFF_FFFE, 0xFFFF_FFFF, 5 << 30] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payload.zip");
        let (file, digest) = with_zeros(File::create_new(&path).expect("new"), size_bytes);
        let payload = Payload::open(&path).expect("opens");
        let blob = payload.blob(&digest).expect("carried");
        assert_eq!(blob.size_bytes(), size_bytes);
        if size_bytes > 0 {
            let mut end = [1; 8];
            assert_eq!(blob.read_at(size_bytes - 3, &mut end).expect("readable"), 3);
            assert_eq!(end[..4], [0, 0, 0, 1]);
        }
        let length_bytes = file.metadata().expect("a file").len();
        let json_bytes = payload.entries().last().expect("the index").content.size_bytes();
        let entries = planned(payload.index(), json_bytes);
        assert_eq!(payload_length(entries), length_bytes, "{size_bytes}");
        let zip = path.to_str().expect("UTF-8");
        for (program, arguments) in [
            ("python3", vec!["-m", "zipfile", "-l", zip]),
            ("bsdtar", vec!["-tf", zip]),
            ("zipinfo", vec!["-1", zip]),
            ("unzip", vec!["-l", zip]),
        ] {
            // Info-ZIP 6.00 stumbles over an entry of exactly this size, whoever wrote it.
            if size_bytes == 0xFFFF_FFFF && ["zipinfo", "unzip"].contains(&program) {
                continue;
            }
            if let Some(list) = judge(program, &arguments, folder.path(), Path::new("/dev/null")) {
                assert!(list.contains(&digest.blob_path()), "{program} {size_bytes}: {list}");
            }
        }
        let is_large = size_bytes >= 0xFFFF_FFFF;
        let archive = ZipArchive::new(&file).expect("a zip");
        let entry = archive.by_index_data(6).expect("the blob");
        assert_eq!(entry.version_needed() == 45, is_large, "{size_bytes}");
    }
}

#[test]
fn seventy_thousand_blobs_fit_in_one_payload() {
    let Parts { mut index, entries } = parts();
    let layer = sample().layer.blob(Travels::Carried);
    let mut writer = Writer::new(Vec::new());
    Parts { index: index.clone(), entries }.write_entries(&mut writer);
    for number in 0..70_000_u32 {
        let bytes = number.to_le_bytes();
        let digest = Digest::of(&bytes);
        writer.begin(&digest.blob_path(), 4).expect("begun");
        writer.write(&bytes).expect("written");
        writer.end(digest.hex().to_owned()).expect("ended");
        index.blobs.push(Blob { digest, size: 4, ..layer.clone() });
    }
    index.entries = writer.entries().to_vec();
    let json = index.to_json().expect("JSON");
    writer.add("kharon.json", &json).expect("written");
    let bytes = writer.finish().expect("finished");
    let payload = open(&bytes).expect("opens");
    assert_eq!(payload.entries().count(), 70_011);
    let streamed = |entry: &kharon::payload::Entry| entry.size == 4;
    let lengths = index.entries.iter().map(|entry| PlannedEntry {
        name: &entry.name,
        size_bytes: entry.size,
        kind: if streamed(entry) { Kind::Streamed } else { Kind::Small },
    });
    let small: u64 =
        parts().entries.iter().filter(|entry| entry.1 == Kind::Streamed).count() as u64;
    let last =
        PlannedEntry { name: "kharon.json", size_bytes: json.len() as u64, kind: Kind::Small };
    assert_eq!(payload_length(lengths.chain([last])) + small * 16, bytes.len() as u64);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("payload.zip");
    fs::write(&path, &bytes).expect("written");
    let zip = path.to_str().expect("UTF-8");
    for (program, arguments) in [
        ("unzip", vec!["-tqq", zip]),
        ("python3", vec!["-m", "zipfile", "-t", zip]),
        ("bsdtar", vec!["-tf", "-"]),
    ] {
        judge(program, &arguments, folder.path(), &path);
    }
}

#[test]
fn the_same_entries_give_the_same_bytes_however_they_come() {
    let bytes = parts().write();
    let mut writer = Writer::new(Vec::new());
    for (name, kind, content) in &parts().entries {
        if *kind == Kind::Small {
            writer.add(name, content).expect("added");
            continue;
        }
        writer.begin(name, content.len() as u64).expect("begun");
        for byte in content {
            writer.write(&[*byte]).expect("written");
        }
        writer.write(&[]).expect("written");
        writer.end(Digest::of(content).hex().to_owned()).expect("ended");
    }
    let index = Index { entries: writer.entries().to_vec(), ..parts().index };
    writer.add("kharon.json", &index.to_json().expect("JSON")).expect("added");
    assert!(writer.finish().expect("finished") == bytes, "other bytes");
}

#[test]
fn without_finish_there_is_no_zip() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    parts().write_entries(&mut writer);
    drop(writer);
    assert!(ZipArchive::new(Cursor::new(bytes)).is_err());
}

#[test]
fn a_writer_refuses_what_would_lie() {
    type Use = fn(&mut Writer<Vec<u8>>) -> io::Result<()>;
    let table: [(&str, Use); 8] = [
        ("expected an entry to be begun before its bytes are written", |writer| writer.write(b"a")),
        ("expected an entry to be begun before it is ended", |writer| writer.end(String::new())),
        ("expected 2 bytes for the entry `a`, found more", |writer| {
            writer.begin("a", 2)?;
            writer.write(b"abc")
        }),
        ("expected 2 bytes for the entry `a`, found only 1", |writer| {
            writer.begin("a", 2)?;
            writer.write(b"a")?;
            writer.end(String::new())
        }),
        ("expected the entry `a` to be ended first", |writer| {
            writer.begin("a", 2)?;
            writer.add("b", b"")
        }),
        ("expected each entry once, found `a` again", |writer| {
            writer.add("a", b"")?;
            writer.begin("a", 1)
        }),
        ("expected an ASCII name for an entry, found `ä`", |writer| writer.add("ä", b"")),
        ("expected a whole payload, found one that failed before", |writer| {
            writer.begin("a", 1)?;
            assert!(writer.write(b"ab").is_err());
            writer.add("b", b"")
        }),
    ];
    for (expected, misuse) in table {
        let mut writer = Writer::new(Vec::new());
        let error = misuse(&mut writer).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_full_disk_ends_the_payload_for_good() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(self.0);
            self.0 -= count;
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let length = parts().write().len();
    for room in (0..length).step_by(37) {
        let mut writer = Writer::new(Full(room));
        let mut errors = 0;
        for (name, _, content) in &parts().entries {
            errors += usize::from(writer.add(name, content).is_err());
        }
        assert!(errors == 0 || writer.finish().is_err(), "with room for {room} bytes");
    }
}

#[test]
fn text_in_front_and_behind_is_let_be() {
    let bytes = parts().write();
    let front = b"Skipping busybox as it has already been transferred\n";
    let behind = b"\nbye\n";
    for both in [
        [front.as_slice(), &bytes, b""].concat(),
        [b"", bytes.as_slice(), behind].concat(),
        [front.as_slice(), &bytes, behind].concat(),
    ] {
        let payload = open(&both).expect("opens");
        assert!(verify(&payload, &Silent).is_sound());
    }
}

#[test]
fn a_payload_that_was_unpacked_and_zipped_again_is_still_read() {
    let script = "import sys, zipfile, os\n\
        method = zipfile.ZIP_DEFLATED if sys.argv[1] == 'deflate' else zipfile.ZIP_STORED\n\
        with zipfile.ZipFile('again.zip', 'w', method) as z:\n\
        \x20   for folder, _, names in sorted(os.walk('.')):\n\
        \x20       if folder != '.': z.write(folder)\n\
        \x20       for name in sorted(names):\n\
        \x20           if name != 'again.zip': z.write(os.path.join(folder, name))\n";
    for method in ["deflate", "store"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut archive = ZipArchive::new(Cursor::new(parts().write())).expect("a zip");
        for position in 0..archive.len() {
            let mut entry = archive.by_index(position).expect("an entry");
            let path = folder.path().join(entry.name().expect("a name").as_ref());
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            io::copy(&mut entry, &mut File::create_new(path).expect("new")).expect("copied");
        }
        let nothing = Path::new("/dev/null");
        if judge("python3", &["-c", script, method], folder.path(), nothing).is_none() {
            continue;
        }
        let payload = Payload::open(&folder.path().join("again.zip")).expect(method);
        let report = verify(&payload, &Silent);
        assert!(report.is_sound(), "{method}: {:?}", report.problems);
        // Backwards, so that a compressed entry must start anew for every byte.
        let layer = sample().layer;
        let reader = payload.blob(&layer.digest).expect("carried");
        for offset in (0..layer.bytes.len()).rev() {
            let mut byte = [0];
            reader.read_at(offset as u64, &mut byte).expect("readable");
            assert_eq!(byte[0], layer.bytes[offset], "{method}");
        }
        assert_eq!(reader.read_at(reader.size_bytes(), &mut [0; 4]).expect("the end"), 0);
    }
}

#[test]
fn a_payload_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Payload>();
    shared::<kharon::payload::BlobReader>();
    shared::<kharon::payload::Error>();
}

#[test]
fn several_threads_read_one_payload() {
    let payload = open(&parts().write()).expect("opens");
    let layer = sample().layer;
    let reader = payload.blob(&layer.digest).expect("carried");
    std::thread::scope(|scope| {
        for start in 0..8 {
            let (reader, layer) = (reader.clone(), &layer);
            scope.spawn(move || {
                for offset in (start..layer.bytes.len()).cycle().take(500) {
                    let mut bytes = [0; 3];
                    let count = reader.read_at(offset as u64, &mut bytes).expect("readable");
                    assert_eq!(bytes[..count], layer.bytes[offset..offset + count]);
                }
            });
        }
    });
    // A payload that is cut while it is open gives an error, not less content.
    let cut = file(&parts().write());
    let payload = Payload::from_file(cut.try_clone().expect("a file"), "x".into()).expect("opens");
    cut.set_len(10).expect("cut");
    let reader = payload.blob(&layer.digest).expect("carried");
    let error = reader.read_at(0, &mut [0; 3]).expect_err("nothing is there");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
