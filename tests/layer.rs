//! What is proved of a layer delta before it travels.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use kharon::delta::{Baseline, Effort, OldBlob, Options, Spool};
use kharon::digest::Digest;
use kharon::layer::{Apart, LayerDelta, LayerError, MadeLayer, make};

/// Noise: only a copy saves anything.
fn old() -> Vec<u8> {
    let mut state = 1_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..90_000).map(|_| noise()).collect()
}

/// Text that gzip makes smaller.
fn content() -> Vec<u8> {
    (0..4_000).flat_map(|line| format!("line {line} of a file\n").into_bytes()).collect()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::new(6));
    writer.write_all(plain).expect("packs");
    writer.finish().expect("packs")
}

fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("written");
    Arc::new(file)
}

fn apart(blob: &[u8]) -> Apart {
    Apart::new(&file(blob), blob.len() as u64, &std::env::temp_dir()).expect("taken apart")
}

fn made(apart: &Apart, old: &[u8]) -> MadeLayer {
    let mut baseline = Baseline::new();
    let size = old.len() as u64;
    let plain = file(old).try_clone().expect("a handle");
    let old = OldBlob { digest: Digest::of(old), plain, plain_bytes: size, blob_bytes: size };
    baseline.add(old).expect("a baseline");
    let options =
        Options { effort: Effort::Fast, threads: NonZeroUsize::MIN, workdir: std::env::temp_dir() };
    make(apart, &baseline, &options).expect("a delta")
}

fn prove(made: &MadeLayer, blob: &[u8], old: &[u8]) -> Result<(), LayerError> {
    let workdir: &Path = &std::env::temp_dir();
    made.prove(&Digest::of(blob), blob.len() as u64, |_| Ok(old), workdir)
}

/// What the far side makes of `made`.
fn layer_of(made: &MadeLayer, blob: &[u8], old: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut entry = Vec::new();
    let mut file: &File = &made.entry;
    file.rewind().and_then(|()| file.read_to_end(&mut entry)).expect("an entry");
    let open = move |at: u64| -> Box<dyn Read + Send> {
        let mut entry = Cursor::new(entry.clone());
        entry.set_position(at);
        Box::new(entry)
    };
    let (digest, size) = (Digest::of(blob), blob.len() as u64);
    let layer = LayerDelta::new(open, made.entry_bytes, digest, size)?;
    let workdir: &Path = &std::env::temp_dir();
    let mut spool = Spool::new(layer.needs()?, workdir);
    for baseline in &made.baselines {
        spool.fill(baseline, &mut &old[..])?;
    }
    let mut rebuilt = Vec::new();
    layer.rebuild(&spool, workdir, &mut rebuilt).map(|()| rebuilt)
}

#[test]
fn a_recipe_gives_its_own_blob_and_no_other() {
    let blob = gzip(&content());
    let apart = apart(&blob);
    let size = blob.len() as u64;
    let (file, workdir) = (file(&blob), std::env::temp_dir());
    let prove = |digest, size, is_wanted| {
        apart.prove(&file, &digest, size, &workdir, || is_wanted).map(|_| ())
    };
    prove(Digest::of(&blob), size, true).expect("the blob itself");
    let other = prove(Digest::of(b"another"), size, true);
    assert!(matches!(other, Err(LayerError::Rebuilt(_))), "{other:?}");
    assert!(prove(Digest::of(&blob), size - 1, true).is_err());
    assert!(prove(Digest::of(&blob), size, false).is_err(), "went on in vain");
}

#[test]
fn a_writer_that_is_not_what_it_seemed_at_first_is_found_out_by_the_proof() {
    // Its model makes a few mistakes.
    let name = "fixtures/gzip/klauspost1.11.3-level5.gz";
    let blob = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a stream");
    let mut plain = Vec::new();
    GzDecoder::new(&blob[..]).read_to_end(&mut plain).expect("unpacks");

    let old = [&old()[..], &plain].concat();
    let workdir: &Path = &std::env::temp_dir();
    let (digest, size) = (Digest::of(&blob), blob.len() as u64);
    let apart = Apart::believing(&file(&blob), size, 0, workdir).expect("taken apart");
    let hasty = made(&apart, &old);
    let recipe = apart.prove(&file(&blob), &digest, size, workdir, || true).expect("proved");
    let whole = hasty.with_recipe(&recipe, workdir).expect("put together");
    assert_ne!(whole.entry_digest, hasty.entry_digest);
    assert_eq!(whole.baselines, hasty.baselines);
    prove(&whole, &blob, &old).expect("the delta and its recipe");
    assert!(layer_of(&whole, &blob, &old).expect("rebuilt") == blob);
    assert!(layer_of(&hasty, &blob, &old).is_err(), "a wrong recipe passes for right");
}

#[test]
fn a_delta_gives_the_blobs_plain_bytes_from_the_right_old_ones_only() {
    let plain = [&old()[..], &content()].concat();
    let blob = gzip(&plain);
    let made = made(&apart(&blob), &old());
    assert_eq!(made.baselines, [Digest::of(&old())]);
    prove(&made, &blob, &old()).expect("the right baseline");
    assert!(prove(&made, &blob, &[8; 900]).is_err(), "another baseline");
    assert!(prove(&made, &blob, &old()[..50]).is_err(), "a short baseline");
}

#[test]
fn an_entry_that_changed_on_the_disk_is_noticed() {
    let blob = gzip(&[&old()[..], &content()].concat());
    let made = made(&apart(&blob), &old());
    let mut entry = vec![0; usize::try_from(made.entry_bytes).expect("small")];
    (&*made.entry).rewind().and_then(|()| (&*made.entry).read_exact(&mut entry)).expect("read");
    let put = |at: usize, byte: u8| {
        let mut file = &*made.entry;
        file.seek(SeekFrom::Start(at as u64))
            .and_then(|_| file.write_all(&[byte]))
            .expect("written");
    };
    // A byte of the recipe, which begins behind a head of 17 bytes, and the last byte of the delta.
    for at in [17 + 10, entry.len() - 1] {
        put(at, entry[at] ^ 1);
        assert!(prove(&made, &blob, &old()).is_err(), "byte {at}");
        put(at, entry[at]);
    }
    prove(&made, &blob, &old()).expect("as it was");
}
