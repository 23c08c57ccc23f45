//! Any bytes as a delta against one small baseline: an error, or the bytes that it promises, and never more.
#![no_main]

use std::io::Write;
use std::sync::LazyLock;

use kharon::delta::{DeltaError, Spool, apply, read_needs};
use kharon::digest::Digest;
use kharon_fuzz::{assemble, baseline, split};
use libfuzzer_sys::fuzz_target;

/// A caller knows how large a layer is, and refuses a delta that promises more.
const LIMIT_BYTES: u64 = 1 << 20;

static BASELINE: LazyLock<Vec<u8>> = LazyLock::new(baseline);

fn follow(delta: &[u8]) -> Result<(), DeltaError> {
    let needs = read_needs(&mut &delta[..])?;
    if needs.output_bytes > LIMIT_BYTES {
        return Ok(());
    }
    let workdir = std::env::temp_dir();
    let mut spool = Spool::new(needs.clone(), &workdir);
    for blob in &needs.blobs {
        spool.fill(&blob.digest, &mut &BASELINE[..])?;
    }
    let mut out = Bounded(Vec::new(), needs.output_bytes);
    apply(&mut &delta[..], &spool, &workdir, &mut out)?;
    assert!(Digest::of(&out.0) == needs.output_digest);
    Ok(())
}

/// Panics where more is written than promised.
struct Bounded(Vec<u8>, u64);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        assert!(self.0.len() as u64 <= self.1, "more than promised");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let Some((head, tables)) = input.split_first_chunk() else { return };
    let delta = if how.is_multiple_of(2) {
        input.to_vec()
    } else {
        let (needs, rest) = split(tables);
        let (frame_table, rest) = split(rest);
        let (pieces, frames) = split(rest);
        assemble(head, [needs, frame_table, pieces], frames)
    };
    let _ = follow(&delta);
});
