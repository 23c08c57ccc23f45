//! zstd, in one shot: one frame in, one frame out, both in memory, both bounded by the caller.
//! This is the only home of the zstd crate.

use std::io;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound};

use super::error::DeltaError;

/// How a frame is packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// Whether matches far back in a large prefix are looked for apart; worth it at low levels only.
    pub reach: Reach,
}

/// Where zstd looks for matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Where the level looks by itself.
    Level,
    /// Everywhere in the prefix, by zstd's long-distance matcher.
    Far,
}

/// The plain bytes of a zstd stream, whoever made it; windows of up to 128 MiB, as every decoder takes them.
pub fn zstd_reader(packed: impl io::BufRead) -> io::Result<impl io::Read> {
    zstd::stream::read::Decoder::with_buffer(packed)
}

/// Packs `bytes` into one zstd frame whose decoder must be given the same `prefix`.
///
/// The window spans prefix and content, so that the whole prefix can be referred to from everywhere.
pub(super) fn pack(bytes: &[u8], prefix: &[u8], settings: Settings) -> Vec<u8> {
    // A context that cannot be had, or refuses a parameter, falls back to what always works: zstd
    // fails in one shot only on lack of memory, which Rust treats as the end as well.
    let mut context = CCtx::create();
    let window_bytes = (bytes.len() + prefix.len()).max(1024) as u64;
    let window_log = 64 - (window_bytes - 1).leading_zeros();
    let wanted = [
        CParameter::CompressionLevel(settings.level),
        CParameter::WindowLog(window_log.clamp(10, 27)),
        CParameter::EnableLongDistanceMatching(settings.reach == Reach::Far),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ];
    for parameter in wanted {
        context.set_parameter(parameter).expect("zstd knows its own parameters");
    }
    if !prefix.is_empty() {
        context.ref_prefix(prefix).expect("a new context takes a prefix");
    }
    let mut packed = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).expect("the buffer is zstd's own bound");
    packed.shrink_to_fit();
    packed
}

/// Unpacks one frame that must give exactly `size_bytes`; nothing beyond them is ever allocated.
pub(super) fn unpack(
    part: &'static str,
    packed: &[u8],
    prefix: &[u8],
    size_bytes: usize,
) -> Result<Vec<u8>, DeltaError> {
    let invalid = |expected| DeltaError::Invalid { part, expected };
    let mut context = DCtx::create();
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(|_| invalid("a usable prefix"))?;
    }
    let mut bytes = Vec::with_capacity(size_bytes);
    context.decompress(&mut bytes, packed).map_err(|_| invalid("a sound zstd frame"))?;
    if bytes.len() != size_bytes {
        return Err(invalid("a zstd frame of the size that is named"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_with_its_prefix_and_not_beyond_its_size() {
        let old: Vec<u8> = (0..40_000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let new = [&old[..70_000], b"something else", &old[60_000..]].concat();
        for reach in [Reach::Level, Reach::Far] {
            let packed = pack(&new, &old, Settings { level: 19, reach });
            assert!(packed.len() < 300, "{} bytes", packed.len());
            assert_eq!(unpack("test", &packed, &old, new.len()).expect("sound"), new);
            assert!(unpack("test", &packed, &old, new.len() - 1).is_err());
            assert!(unpack("test", &packed, &old, new.len() + 1).is_err());
            assert!(
                unpack("test", &packed, &old[..old.len() - 1], new.len()).ok().as_ref()
                    != Some(&new)
            );
        }
    }
}
