//! Any bytes as a gzip stream: an error, or they come back. What zlib takes may not be an error.
#![no_main]

use flate2::{Crc, Decompress, FlushDecompress, Status};
use kharon::gzip::{Limits, analyse, rebuild};
use libfuzzer_sys::fuzz_target;

/// How many plain bytes are looked at.
const LIMIT_BYTES: usize = 1 << 20;

fn comes_back(gzip: &[u8]) -> bool {
    let limits = Limits { recipe_permille: 100_000, free_bytes: 1 << 20, ..Limits::default() };
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    if analyse(gzip, &mut plain, &mut recipe, &limits).is_err() {
        return false;
    }
    let mut again = Vec::new();
    rebuild(&recipe[..], &plain[..], &mut again, gzip.len() as u64).expect("its own recipe");
    assert!(again == gzip);
    true
}

/// One member around `deflate`, where zlib finds an end in it: a checksum that is right is nothing that mutations find.
fn member(deflate: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(LIMIT_BYTES);
    let mut inflater = Decompress::new(false);
    let status = inflater.decompress_vec(deflate, &mut plain, FlushDecompress::Finish);
    if !matches!(status, Ok(Status::StreamEnd)) {
        return None;
    }
    let mut crc = Crc::new();
    crc.update(&plain);
    let end = usize::try_from(inflater.total_in()).ok()?;
    let (body, mut behind) = deflate.split_at(end);
    if behind.starts_with(&[0x1f]) {
        // It may look like another member, and be none.
        behind = &[];
    }
    let header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff";
    Some([header, body, &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes(), behind].concat())
}

fuzz_target!(|input: &[u8]| {
    comes_back(input);
    if let Some(gzip) = member(input) {
        assert!(comes_back(&gzip), "zlib takes it");
    }
});
