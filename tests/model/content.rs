//! What images are made of: a small pool of layers, so that images share them and change them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use flate2::Compression;
use kharon::digest::Digest;

use crate::random::Random;
use crate::support::images::{Blob, Image, layer, layer_at, random_bytes, random_layer};

/// Each family is one layer and what became of it, large enough for deltas.
const FAMILIES: u64 = 2;
const VERSIONS: u64 = 5;
const SMALL_LAYERS: u64 = 6;
const LARGE_BYTES: usize = 40_000;

static LARGE: LazyLock<Vec<Blob>> = LazyLock::new(|| {
    let versions = |family| (0..VERSIONS).map(move |version| stored(family, version));
    (0..FAMILIES).flat_map(versions).collect()
});
/// To take these apart takes most of the time, so there are few, and they are seldom taken.
static DEFLATED: LazyLock<Vec<Blob>> = LazyLock::new(|| (0..VERSIONS).map(deflated).collect());
static SMALL: LazyLock<Vec<Blob>> = LazyLock::new(|| {
    (1..=SMALL_LAYERS).zip(1..).map(|(n, size)| random_layer(100 + n, 300 * size)).collect()
});

/// `content` with one place changed, in each version but the first.
fn changed(mut content: Vec<u8>, family: u64, version: u64) -> Vec<u8> {
    if version > 0 {
        let middle = content.len() / 2;
        content.splice(middle..middle + 10, random_bytes(1000 + 10 * family + version, 400));
    }
    content
}

/// Noise, in a gzip stream of stored blocks.
fn stored(family: u64, version: u64) -> Blob {
    let content = changed(random_bytes(family + 1, LARGE_BYTES), family, version);
    let stored = layer_at(Compression::none(), &[("usr/changed", &content)]);
    assert!(stored.bytes.len() > 32 * 1024, "large enough for a delta");
    stored
}

/// Text that packs to about a third, as layers are packed.
fn deflated(version: u64) -> Blob {
    let text = random_bytes(50, 3 * LARGE_BYTES).iter().map(|byte| b'a' + byte % 7).collect();
    let deflated = layer(&[("usr/changed", &changed(text, 9, version))]);
    assert!(deflated.bytes.len() > 32 * 1024, "large enough for a delta");
    deflated
}

fn large(random: &mut Random) -> Blob {
    if random.chance(8) { random.of(&DEFLATED).clone() } else { random.of(&LARGE).clone() }
}

fn layers(random: &mut Random) -> Vec<Blob> {
    let mut layers = vec![large(random)];
    if random.chance(30) {
        layers.push(large(random));
    }
    layers.extend(random.some(SMALL.iter(), 30).into_iter().cloned());
    layers.dedup_by(|a, b| a.digest() == b.digest());
    layers
}

/// An image of layers of the pool: OCI's, Docker's, or an index of two platforms that share one.
pub fn image(random: &mut Random) -> Image {
    let layers = layers(random);
    match random.below(4) {
        0 => Image::docker(&layers),
        1 => {
            let more = [layers.as_slice(), &[random.of(&SMALL).clone()]].concat();
            Image::index(&[
                Image::oci_for("linux/amd64", &layers),
                Image::oci_for("linux/arm64", &more),
            ])
        }
        _ => Image::oci(&layers),
    }
}

pub fn blobs(image: &Image) -> BTreeSet<Digest> {
    image.all_blobs().iter().map(|blob| blob.digest().clone()).collect()
}
