//! Deltas that lie: a clear error each, never a panic, never more memory or disk than the limits say.

use kharon::delta::{DeltaError, Effort, Spool, apply, read_needs};

use crate::kit::{apply_delta, make_delta, noise, tar_of};

/// A small delta with copies, a prefix frame, a difference, and headers; and what it was made from.
fn sample() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let library = [b"\x7fELF".to_vec(), noise(2, 70_000)].concat();
    let mut rebuilt = library.clone();
    (64..rebuilt.len()).step_by(97).for_each(|place| rebuilt[place] ^= 3);
    let text = b"one line of text\n".repeat(20);
    let old = [("lib.so", library), ("a.txt", text.clone()), ("same", noise(3, 3000))];
    let new = [("lib.so", rebuilt), ("a.txt", [&text[..], b"more"].concat()), old[2].clone()];
    let (old, new) = (tar_of(&old, 1), tar_of(&new, 2));
    let delta = make_delta(&new, &[&old], Effort::Default, 1);
    (delta, old, new)
}

#[test]
fn a_delta_that_is_cut_anywhere_is_refused() {
    let (delta, old, _) = sample();
    for length in 0..delta.len() {
        let result = apply_delta(&delta[..length], &[&old]);
        assert!(result.is_err(), "{length} of {} bytes were taken", delta.len());
    }
    let longer = [&delta[..], b"x"].concat();
    assert!(matches!(apply_delta(&longer, &[&old]), Err(DeltaError::Trailing)));
}

#[test]
fn every_changed_byte_gives_an_error_or_the_same_bytes() {
    let (delta, old, new) = sample();
    for place in 0..delta.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = delta.clone();
            damaged[place] ^= flip;
            if let Ok(bytes) = apply_delta(&damaged, &[&old]) {
                assert!(bytes == new, "byte {place} gave other bytes");
            }
        }
    }
}

#[test]
fn other_bytes_versions_and_baselines_are_named() {
    let (delta, old, _) = sample();
    let mut magic = delta.clone();
    magic[1] = b'k';
    assert!(matches!(apply_delta(&magic, &[&old]), Err(DeltaError::Magic)));
    let mut version = delta.clone();
    version[7] = 9;
    let expected = DeltaError::Version { expected: 1, found: 9 };
    assert_eq!(
        apply_delta(&version, &[&old]).expect_err("version 9").to_string(),
        expected.to_string()
    );
    assert!(expected.hint().is_some());
    assert!(matches!(apply_delta(&delta, &[]), Err(DeltaError::BaselineMissing { .. })));

    let needs = read_needs(&mut &delta[..]).expect("sound");
    let digest = needs.blobs[0].digest.clone();
    let workdir = std::env::temp_dir();
    let mut spool = Spool::new(needs.clone(), &workdir);
    let short = spool.fill(&digest, &mut &old[..1000]);
    assert!(matches!(short, Err(DeltaError::BaselineShort { found: 1000, .. })));
    spool.fill(&digest, &mut std::io::repeat(7)).expect("bytes enough, of another blob");
    let wrong = apply(&mut &delta[..], &spool, &workdir, &mut std::io::sink());
    assert!(wrong.is_err(), "bytes of another blob were taken");

    let mut other = needs;
    other.output_bytes += 1;
    let spool = Spool::new(other, &workdir);
    let refused = apply(&mut &delta[..], &spool, &workdir, &mut std::io::sink());
    assert!(matches!(refused, Err(DeltaError::OtherNeeds)));
}
