//! Writes what fuzzing begins with to `corpus/`: gzip streams given as arguments and some made here, their recipes, payloads, a delta.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use kharon::delta::{Baseline, Effort, OldBlob, Options, make};
use kharon::digest::Digest;
use kharon::gzip::{Limits, analyse};
use kharon::payload::{ENTRY_NAME, Payload};
use kharon_fuzz::{baseline, dismantle, join};

fn main() {
    let plain = baseline();
    let mut streams: Vec<Vec<u8>> =
        std::env::args().skip(1).map(|path| fs::read(path).expect("a gzip stream")).collect();
    for (level, size) in (0..=9).flat_map(|level| [0, 10, 700, 5_000].map(|size| (level, size))) {
        let mut writer = GzEncoder::new(Vec::new(), Compression::new(level));
        writer.write_all(&plain[..size / 2]).expect("packs");
        writer.flush().expect("packs");
        writer.write_all(&plain[size / 2..size]).expect("packs");
        streams.push(writer.finish().expect("packs"));
    }
    for stream in &streams {
        put("gzip_stream", stream);
        put("gzip_stream", &stream[10..]);
        let (mut plain, mut recipe) = (Vec::new(), Vec::new());
        let limits = Limits { recipe_permille: 1000, free_bytes: 4096, ..Limits::default() };
        analyse(&stream[..], &mut plain, &mut recipe, &limits).expect("a sound stream");
        if let Some(seed) = join(&recipe[4..], &plain) {
            put("gzip_recipe", &seed);
        }
    }
    for path in ["v1/three-images.zip", "charon-0.4.3/piped.zip", "charon-0.4.3/seekable.zip"] {
        let payload = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/payloads").join(path);
        put("payload", &fs::read(&payload).expect("a payload"));
        if let Some(index) = index(&payload) {
            put("payload_index", &index);
        }
    }
    let delta = delta(&plain);
    let (head, tables, frames) = dismantle(&delta);
    put("delta_apply", &[&[0], &delta[..]].concat());
    let seed = tables.iter().rev().fold(frames, |rest, table| join(table, &rest).expect("short"));
    put("delta_apply", &[&[1], &head[..], &seed].concat());
}

/// The bytes of a payload's `kharon.json`, if it has one.
fn index(path: &Path) -> Option<Vec<u8>> {
    let payload = Payload::open(path).expect("a sound payload");
    let entry = payload.entries().find(|entry| entry.name == ENTRY_NAME)?;
    let mut bytes = Vec::new();
    entry.content.bytes_from(0).read_to_end(&mut bytes).expect("readable");
    Some(bytes)
}

fn delta(old: &[u8]) -> Vec<u8> {
    let file_of = |bytes: &[u8]| {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(std::env::temp_dir().join(format!("kharon-seed-{}", bytes.len())))
            .expect("a file");
        file.write_all(bytes).expect("writes");
        file
    };
    let size = old.len() as u64;
    let blob = OldBlob {
        digest: Digest::of(old),
        plain: file_of(old),
        plain_bytes: size,
        blob_bytes: size / 3,
    };
    let mut baseline = Baseline::new();
    baseline.add(blob).expect("a readable baseline");
    let mut new = old.to_vec();
    new.truncate(60_000);
    (20_000..30_000).step_by(41).for_each(|place| new[place] ^= 5);
    new.extend_from_slice(b"and something new");
    let options = Options {
        effort: Effort::Fast,
        threads: NonZeroUsize::MIN,
        workdir: std::env::temp_dir(),
    };
    let mut delta = Vec::new();
    make(&file_of(&new), new.len() as u64, &baseline, &options, &mut delta).expect("a delta");
    delta
}

fn put(target: &str, seed: &[u8]) {
    let folder = format!("corpus/{target}");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(format!("{folder}/{}", Digest::of(seed).hex()), seed).expect("writes");
}
