//! Another reader of deflate streams agrees with ours, and its recipes are not much smaller.

use std::fs;
use std::path::{Path, PathBuf};

use kharon::gzip::{Limits, analyse};
use preflate_rs::{PreflateConfig, preflate_whole_deflate_stream};

/// Header and trailer of a gzip member without optional fields (RFC 1952), in bytes.
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// What preflate-rs does not count: header, trailer and length of a gzip member.
const FRAME_BYTES: usize = 40;

fn streams() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gzip");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    paths.sort();
    paths
}

#[test]
fn plain_bytes_are_those_of_preflate_and_recipes_about_as_large() {
    let mut compared = 0;
    for path in streams() {
        let gzip = fs::read(&path).expect("a stream");
        // It reads one bare deflate stream.
        if gzip[3] != 0 || path.to_string_lossy().contains("members") {
            continue;
        }
        let deflate = &gzip[HEADER_BYTES..gzip.len() - TRAILER_BYTES];
        let config = PreflateConfig { verify_compression: false, ..PreflateConfig::default() };
        let Ok((oracle, text)) = preflate_whole_deflate_stream(deflate, &config) else { continue };
        if oracle.compressed_size != deflate.len() {
            continue;
        }
        let (mut plain, mut recipe) = (Vec::new(), Vec::new());
        let limits = Limits { recipe_permille: 1_000, free_bytes: 4096, ..Limits::default() };
        analyse(&gzip[..], &mut plain, &mut recipe, &limits).expect("a sound stream");
        assert!(text.text() == plain, "{}: other plain bytes", path.display());
        let (ours, theirs) = (recipe.len(), oracle.corrections.len() + FRAME_BYTES);
        let most = 2 * theirs + gzip.len() / 40;
        assert!(ours <= most, "{}: {ours} bytes, preflate-rs needs {theirs}", path.display());
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} streams compared");
}
