//! Prefix codes and the header of a dynamic block (RFC 1951, sections 3.2.2 and 3.2.7).

use super::token::{DISTANCE_SYMBOLS, LITERAL_SYMBOLS};

/// In which order a header lists the lengths of its code-length code.
pub const LENGTH_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The longest prefix code for literals, lengths and distances.
pub const MAX_CODE_BITS: usize = 15;
/// The longest prefix code for code lengths.
pub const MAX_LENGTH_CODE_BITS: usize = 7;

/// One step of the run-length code that says all code lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthStep {
    /// 0 to 15: that length; 16: the last one again; 17 and 18: zeros.
    pub symbol: u8,
    /// How many lengths the step says.
    pub count: u8,
}

impl LengthStep {
    /// How many extra bits `symbol` has, and the count that 0 in them stands for.
    pub const fn extra(symbol: u8) -> (u32, u8) {
        match symbol {
            16 => (2, 3),
            17 => (3, 3),
            18 => (7, 11),
            _ => (0, 1),
        }
    }
}

/// The header of a dynamic block: everything that decides its bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeHeader {
    /// How many literal and length symbols it names (257 to 288).
    pub literal_count: usize,
    /// How many distance symbols it names (1 to 32).
    pub distance_count: usize,
    /// How many lengths of the code-length code it names (4 to 19).
    pub length_code_count: usize,
    /// The code-length code, by symbol.
    pub length_code: [u8; 19],
    /// The run-length code.
    pub steps: Vec<LengthStep>,
    /// The code lengths of literal and length symbols.
    pub literals: [u8; LITERAL_SYMBOLS],
    /// The code lengths of distance symbols.
    pub distances: [u8; DISTANCE_SYMBOLS],
}

/// The code lengths of literal and length symbols in a fixed block.
pub const FIXED_LITERALS: [u8; LITERAL_SYMBOLS] = {
    let mut lengths = [8; LITERAL_SYMBOLS];
    let mut symbol = 144;
    while symbol < 256 {
        lengths[symbol] = 9;
        symbol += 1;
    }
    while symbol < 280 {
        lengths[symbol] = 7;
        symbol += 1;
    }
    lengths
};
/// The code lengths of distance symbols in a fixed block.
pub const FIXED_DISTANCES: [u8; DISTANCE_SYMBOLS] = [5; DISTANCE_SYMBOLS];

/// How often each symbol of the code-length code occurs in `steps`.
pub fn step_histogram(steps: &[LengthStep]) -> [u32; 19] {
    let mut histogram = [0; 19];
    for step in steps {
        histogram[usize::from(step.symbol)] += 1;
    }
    histogram
}

/// How many lengths of the code-length code have to be named.
pub fn length_code_count(length_code: &[u8; 19]) -> usize {
    (4..=19)
        .rev()
        .find(|&count| count == 4 || length_code[LENGTH_ORDER[count - 1]] != 0)
        .unwrap_or(4)
}

/// The usual run-length code: the longest runs, greedily.
///
/// A run of a length is that length once, then repeats of up to six; zeros go in runs of up to 138. Rests below three
/// are written one by one.
pub fn greedy_steps(lengths: &[u8], steps: &mut Vec<LengthStep>) {
    for run in lengths.chunk_by(|a, b| a == b) {
        let symbol = run[0];
        let mut rest = run.len();
        if symbol == 0 {
            while rest >= 11 {
                let count = rest.min(138);
                steps.push(LengthStep { symbol: 18, count: count as u8 });
                rest -= count;
            }
            if rest >= 3 {
                steps.push(LengthStep { symbol: 17, count: rest as u8 });
                rest = 0;
            }
        } else {
            steps.push(LengthStep { symbol, count: 1 });
            rest -= 1;
            while rest >= 3 {
                let count = rest.min(6);
                steps.push(LengthStep { symbol: 16, count: count as u8 });
                rest -= count;
            }
        }
        steps.extend((0..rest).map(|_| LengthStep { symbol, count: 1 }));
    }
}

/// The codes that `lengths` give their symbols, in the order of the bits written: `(code, length)`.
pub fn assign_codes<const N: usize>(lengths: &[u8; N]) -> [(u16, u8); N] {
    let mut next = [0u16; MAX_CODE_BITS + 1];
    let mut counts = [0u16; MAX_CODE_BITS + 1];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    for length in 1..=MAX_CODE_BITS {
        next[length] = next[length - 1].wrapping_add(counts[length - 1]) << 1;
    }
    let mut codes = [(0, 0); N];
    for (code, &length) in codes.iter_mut().zip(lengths) {
        if length != 0 {
            let value = &mut next[usize::from(length)];
            *code = (value.reverse_bits() >> (16 - u16::from(length)), length);
            *value = value.wrapping_add(1);
        }
    }
    codes
}

/// Why some code lengths are no prefix code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversubscribed;

/// Finds symbols by the bits in front of them.
///
/// Codes may be incomplete: bits that no symbol has are found out when they occur.
#[derive(Clone, Debug)]
pub struct DecodeTable {
    primary_bits: u32,
    entries: Vec<u16>,
}

/// An entry that leads into a second table: its start in units of 16 and how many more bits it takes.
const SECOND: u16 = 1 << 15;

impl DecodeTable {
    /// A table whose first look-up takes `primary_bits` bits.
    pub fn new(primary_bits: u32) -> Self {
        Self { primary_bits, entries: Vec::new() }
    }

    /// Takes the code that `lengths` say.
    ///
    /// # Errors
    /// [`Oversubscribed`] where there are more codes than bits to tell them apart.
    pub fn build<const N: usize>(&mut self, lengths: &[u8; N]) -> Result<(), Oversubscribed> {
        let mut space = 0u32;
        for &length in lengths.iter().filter(|&&length| length != 0) {
            space += 1 << (MAX_CODE_BITS - usize::from(length));
        }
        if space > 1 << MAX_CODE_BITS {
            return Err(Oversubscribed);
        }
        let primary = 1usize << self.primary_bits;
        self.entries.clear();
        self.entries.resize(primary, 0);
        let codes = assign_codes(lengths);
        for (symbol, &(code, length)) in codes.iter().enumerate() {
            let (code, bits) = (usize::from(code), u32::from(length));
            if bits == 0 {
                continue;
            }
            let entry = (symbol as u16) << 4 | u16::from(length);
            if bits <= self.primary_bits {
                for slot in self.entries[..primary].iter_mut().skip(code).step_by(1 << bits) {
                    *slot = entry;
                }
                continue;
            }
            let second_bits = MAX_CODE_BITS as u32 - self.primary_bits;
            let low = code & (primary - 1);
            if self.entries[low] == 0 {
                let start = self.entries.len();
                self.entries.resize(start + (1 << second_bits), 0);
                self.entries[low] = SECOND | ((start >> 4) as u16);
            }
            let start = usize::from(self.entries[low] & !SECOND) << 4;
            let high = code >> self.primary_bits;
            let step = 1 << (bits - self.primary_bits);
            let second = &mut self.entries[start..start + (1 << second_bits)];
            for slot in second.iter_mut().skip(high).step_by(step) {
                *slot = entry;
            }
        }
        Ok(())
    }

    /// The symbol in front of `bits` and how many bits it takes; 0 bits where there is none.
    #[inline]
    pub fn look_up(&self, bits: u64) -> (usize, u32) {
        let mut entry = self.entries[(bits as usize) & ((1 << self.primary_bits) - 1)];
        if entry & SECOND != 0 {
            let start = usize::from(entry & !SECOND) << 4;
            let second_bits = MAX_CODE_BITS as u32 - self.primary_bits;
            let index = (bits >> self.primary_bits) as usize & ((1 << second_bits) - 1);
            entry = self.entries[start + index];
        }
        (usize::from(entry >> 4), u32::from(entry & 15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_split_as_every_known_writer_splits_them() {
        let steps_of = |lengths: &[u8]| {
            let mut steps = Vec::new();
            greedy_steps(lengths, &mut steps);
            steps.iter().map(|step| (step.symbol, step.count)).collect::<Vec<_>>()
        };
        assert_eq!(steps_of(&[0; 140]), [(18, 138), (0, 1), (0, 1)]);
        assert_eq!(steps_of(&[0; 148]), [(18, 138), (17, 10)]);
        assert_eq!(steps_of(&[7; 3]), [(7, 1), (7, 1), (7, 1)]);
        assert_eq!(steps_of(&[7; 4]), [(7, 1), (16, 3)]);
        assert_eq!(steps_of(&[7; 10]), [(7, 1), (16, 6), (16, 3)]);
    }

    #[test]
    fn a_code_with_too_many_symbols_is_refused() {
        let mut table = DecodeTable::new(9);
        assert_eq!(table.build(&[1, 1, 1, 0]), Err(Oversubscribed));
        assert_eq!(table.build(&[1, 0, 0, 0]), Ok(()));
        assert_eq!(table.look_up(0), (0, 1));
        assert_eq!(table.look_up(1).1, 0, "no symbol has this code");
        let mut deep = [0; 16];
        for (length, slot) in (1..=15).zip(&mut deep) {
            *slot = length;
        }
        assert_eq!(table.build(&deep), Ok(()));
        for (symbol, &(code, length)) in assign_codes(&deep).iter().enumerate().take(15) {
            assert_eq!(table.look_up(u64::from(code)), (symbol, u32::from(length)));
        }
    }
}
