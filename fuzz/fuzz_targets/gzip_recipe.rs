//! Any bytes as a recipe and as plain bytes: an error, or at most as many bytes as allowed.
#![no_main]

use kharon::gzip::rebuild;
use kharon_fuzz::split;
use libfuzzer_sys::fuzz_target;

const LIMIT_BYTES: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let (recipe, plain) = split(input);
    let recipe = [&b"KGR\x01"[..], recipe].concat();
    let mut gzip = Vec::new();
    let _ = rebuild(&recipe[..], plain, &mut gzip, LIMIT_BYTES);
    assert!(gzip.len() as u64 <= LIMIT_BYTES);
});
