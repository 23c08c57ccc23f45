//! Any bytes as a payload: an error, or one that is looked through and verified without a panic.
#![no_main]

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::LazyLock;

use kharon::{inspect::inspect, payload::Payload, progress::Silent, verify::verify};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<File> = LazyLock::new(|| tempfile::tempfile().expect("a file"));

fuzz_target!(|input: &[u8]| {
    let mut file = &*FILE;
    file.set_len(0).and_then(|()| file.rewind()).expect("an empty file");
    file.write_all(input).expect("written");
    let file = file.try_clone().expect("a second handle");
    if let Ok(payload) = Payload::from_file(file, "payload".to_owned()) {
        inspect(&payload);
        verify(&payload, &Silent);
    }
});
