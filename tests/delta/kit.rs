//! Plain bytes in files, deltas in memory.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;

use kharon::delta::{
    Baseline, DeltaError, Effort, OldBlob, Options, Spool, apply, make, read_needs,
};
use kharon::digest::Digest;

pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for a few bytes");
    file
}

pub(crate) fn make_delta(new: &[u8], old: &[&[u8]], effort: Effort, threads: usize) -> Vec<u8> {
    let mut baseline = Baseline::new();
    for bytes in old {
        let size = bytes.len() as u64;
        let blob = OldBlob {
            digest: Digest::of(bytes),
            plain: file_of(bytes),
            plain_bytes: size,
            blob_bytes: size / 3,
        };
        baseline.add(blob).expect("a readable baseline");
    }
    let threads = NonZeroUsize::new(threads).expect("a thread at least");
    let options = Options { effort, threads, workdir: std::env::temp_dir() };
    let mut delta = Vec::new();
    let made = make(&file_of(new), new.len() as u64, &baseline, &options, &mut delta);
    assert_eq!(made.expect("a delta").delta_bytes, delta.len() as u64);
    delta
}

pub(crate) fn apply_delta(delta: &[u8], old: &[&[u8]]) -> Result<Vec<u8>, DeltaError> {
    let needs = read_needs(&mut &delta[..])?;
    let workdir = std::env::temp_dir();
    let mut spool = Spool::new(needs.clone(), &workdir);
    for bytes in old {
        let digest = Digest::of(bytes);
        if needs.blobs.iter().any(|blob| blob.digest == digest) {
            spool.fill(&digest, &mut &bytes[..])?;
        }
    }
    let mut out = Vec::new();
    apply(&mut &delta[..], &spool, &workdir, &mut out)?;
    Ok(out)
}

/// Bytes that no compressor shrinks, the same for the same seed.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[2]
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A tar of these files, all of the same time.
pub(crate) fn tar_of(files: &[(&str, Vec<u8>)], mtime: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(mtime);
        builder.append_data(&mut header, path, &content[..]).expect("a tar in memory");
    }
    builder.into_inner().expect("a tar in memory")
}
