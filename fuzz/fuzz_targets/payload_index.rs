//! Any bytes as the `kharon.json` of a payload whose other entries are sound: an error, or a payload that is looked
//! through and verified without a panic.
#![no_main]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::LazyLock;

use kharon::payload::{ENTRY_NAME, Payload, Writer};
use kharon::{inspect::inspect, progress::Silent, verify::verify};
use libfuzzer_sys::fuzz_target;

static SOUND: &[u8] = include_bytes!("../../fixtures/payloads/v1/three-images.zip");

/// The sound payload's other entries: names and bytes.
static ENTRIES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(SOUND).expect("written");
    let payload = Payload::from_file(file, "sound".to_owned()).expect("a sound payload");
    let entries = payload.entries().filter(|entry| entry.name != ENTRY_NAME);
    entries
        .map(|entry| {
            let mut bytes = Vec::new();
            entry.content.bytes_from(0).read_to_end(&mut bytes).expect("readable");
            (entry.name.to_owned(), bytes)
        })
        .collect()
});
static FILE: LazyLock<File> = LazyLock::new(|| tempfile::tempfile().expect("a file"));

fuzz_target!(|index: &[u8]| {
    let mut file = &*FILE;
    file.set_len(0).and_then(|()| file.rewind()).expect("an empty file");
    let mut writer = Writer::new(Vec::new());
    for (name, bytes) in &*ENTRIES {
        writer.add(name, bytes).expect("written");
    }
    writer.add(ENTRY_NAME, index).expect("written");
    file.write_all(&writer.finish().expect("written")).expect("written");
    let file = file.try_clone().expect("a second handle");
    if let Ok(payload) = Payload::from_file(file, "payload".to_owned()) {
        inspect(&payload);
        verify(&payload, &Silent);
    }
});
