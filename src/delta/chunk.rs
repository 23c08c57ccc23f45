//! Content-defined chunks: cuts that depend only on the bytes around them, so that the same content
//! gives the same chunks wherever it lies.

/// No chunk is shorter, but for the last one.
const MIN_BYTES: usize = 2 << 10;
/// No chunk is longer.
const MAX_BYTES: usize = 32 << 10;
/// Cut where these bits of the rolling hash are zero: every 8 KiB on average. The high bits, as they
/// depend on the most bytes.
const MASK: u64 = 0x1fff << 51;

/// One chunk of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Where it starts in the content.
    pub offset: u64,
    pub length: u32,
    /// A hint that two chunks are the same, never a proof.
    pub hash: u64,
}

/// Cuts a stream.
pub(super) struct Chunker {
    table: [u64; 256],
    rolling: u64,
    hash: u64,
    length: usize,
    offset: u64,
    chunks: Vec<Chunk>,
}

impl Chunker {
    pub(super) fn new() -> Self {
        let mut state = 0u64;
        let table = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(state)
        });
        Self { table, rolling: 0, hash: 0, length: 0, offset: 0, chunks: Vec::new() }
    }

    /// Takes the next bytes of the content.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.rolling = (self.rolling << 1).wrapping_add(self.table[usize::from(*byte)]);
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
            self.length += 1;
            let is_cut = self.length >= MIN_BYTES && self.rolling & MASK == 0;
            if is_cut || self.length == MAX_BYTES {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        let length = u32::try_from(self.length).unwrap_or(0);
        let hash = mix(self.hash ^ u64::from(length));
        self.chunks.push(Chunk { offset: self.offset, length, hash });
        self.offset += u64::from(length);
        (self.rolling, self.hash, self.length) = (0, 0, 0);
    }

    /// Ends this content and gives its chunks; the next content may follow.
    pub(super) fn finish(&mut self) -> Vec<Chunk> {
        if self.length > 0 {
            self.cut();
        }
        self.offset = 0;
        std::mem::take(&mut self.chunks)
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_content_keeps_most_of_its_chunks() {
        let mut state = 7u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_add(1);
            mix(state).to_le_bytes()[3]
        })
        .take(1 << 19)
        .collect();
        let cut = |bytes: &[u8]| {
            let mut chunker = Chunker::new();
            bytes.chunks(1000).for_each(|part| chunker.take(part));
            chunker.finish()
        };
        let (first, moved) = (cut(&bytes), cut(&bytes[777..]));
        assert_eq!(first.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>(), 1 << 19);
        let kept = moved.iter().filter(|new| first.iter().any(|old| old.hash == new.hash));
        assert!(kept.count() + 3 > moved.len(), "few of {} chunks were kept", moved.len());
    }
}
