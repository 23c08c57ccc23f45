//! What fuzz targets and the maker of their seeds share.

/// Two byte strings in one input, the first preceded by its length in two bytes.
pub fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return (input, &[]) };
    rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()))
}

/// The opposite of [`split`]; nothing where `first` is too long.
pub fn join(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(first.len()).ok()?;
    Some([&length.to_le_bytes(), first, second].concat())
}

/// The baseline of all deltas: text and noise.
pub fn baseline() -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let mut bytes = Vec::new();
    for number in 0..2_000 {
        bytes.extend_from_slice(format!("line {number} of a file\n").as_bytes());
        bytes.extend((0..10).map(|_| noise()));
    }
    bytes
}

/// A delta's first bytes: magic and version.
pub const DELTA_START: [u8; 8] = *b"\x89KDELTA\x01";

/// A delta out of its output's size and digest and its three tables, which are packed here, and frames.
///
/// Fuzzing packed tables would test little more than zstd.
pub fn assemble(head: &[u8; 36], tables: [&[u8]; 3], frames: &[u8]) -> Vec<u8> {
    let (size, digest) = head.split_at(4);
    let mut delta = DELTA_START.to_vec();
    let size = size.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    put(&mut delta, size);
    delta.extend_from_slice(digest);
    for table in tables {
        let packed = zstd::bulk::compress(table, 1).expect("packs");
        put(&mut delta, table.len());
        put(&mut delta, packed.len());
        delta.extend_from_slice(&packed);
    }
    delta.extend_from_slice(frames);
    delta
}

/// The opposite of [`assemble`] for a sound delta: head, tables, frames.
pub fn dismantle(delta: &[u8]) -> ([u8; 36], [Vec<u8>; 3], Vec<u8>) {
    let mut rest = &delta[DELTA_START.len()..];
    let mut head = [0; 36];
    head[..4].copy_from_slice(&take(&mut rest).to_le_bytes()[..4]);
    head[4..].copy_from_slice(&rest[..32]);
    rest = &rest[32..];
    let tables = std::array::from_fn(|_| {
        let (size, packed) = (take(&mut rest), take(&mut rest));
        let (table, behind) = rest.split_at(packed);
        rest = behind;
        zstd::bulk::decompress(table, size).expect("unpacks")
    });
    (head, tables, rest.to_vec())
}

fn put(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}
