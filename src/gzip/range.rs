//! An adaptive binary range coder: what a recipe is written with.
//!
//! One trait serves both directions. Code that describes a stream calls [`Coder::bit`] with the value that it
//! knows; writing, that value is kept and comes back; reading, it is ignored and the true one comes back. So the
//! description is written once and cannot differ between the two sides.

use std::io::{self, Read, Write};

use super::error::Error;

/// One adaptive probability.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    /// How likely `false` is, of 2^32.
    probability: u32,
    /// How many bits were seen, up to `limit`.
    seen: u16,
    /// Where the averaging stops and becomes forgetting.
    limit: u16,
}

/// 2^16 / (n + 1.5): how far the n-th bit moves a probability.
const STEP: [u16; 1024] = {
    let mut table = [0; 1024];
    let mut n = 0;
    while n < 1024 {
        table[n] = ((2 << 16) / (2 * n as u32 + 3)) as u16;
        n += 1;
    }
    table
};

impl Bit {
    /// For choices that change along the stream.
    pub const QUICK: Self = Self { probability: 1 << 31, seen: 0, limit: 60 };
    /// For choices that are nearly always the same.
    pub const STEADY: Self = Self { probability: 1 << 31, seen: 0, limit: 1023 };

    fn learn(&mut self, value: bool) {
        let step = u64::from(STEP[usize::from(self.seen)]);
        let moved = |distance: u32| ((u64::from(distance) * step) >> 16) as u32;
        if value {
            self.probability -= moved(self.probability);
        } else {
            self.probability += moved(u32::MAX - self.probability);
        }
        if self.seen < self.limit {
            self.seen += 1;
        }
        self.probability = self.probability.clamp(1 << 10, u32::MAX - (1 << 10));
    }
}

impl Default for Bit {
    fn default() -> Self {
        Self::QUICK
    }
}

/// A number of up to 64 bits, small ones cheaper (Elias gamma with adaptive bits).
#[derive(Clone, Debug)]
pub struct Number {
    magnitude: [Bit; 64],
    top: [[Bit; 2]; 64],
}

impl Default for Number {
    fn default() -> Self {
        Self { magnitude: [Bit::QUICK; 64], top: [[Bit::QUICK; 2]; 64] }
    }
}

/// A symbol of `BITS` bits whose bits are learned along their tree.
#[derive(Clone, Debug)]
pub struct Tree<const BITS: usize> {
    nodes: Vec<Bit>,
}

impl<const BITS: usize> Default for Tree<BITS> {
    fn default() -> Self {
        Self { nodes: vec![Bit::QUICK; 1 << BITS] }
    }
}

/// Writes or reads the bits of a recipe.
pub trait Coder {
    /// Passes one bit through: the value given (writing) or the value found (reading).
    ///
    /// # Errors
    /// [`Error::WriteRecipe`], [`Error::ReadRecipe`] or [`Error::Recipe`] where the recipe ends early.
    fn bit(&mut self, bit: &mut Bit, value: bool) -> Result<bool, Error>;

    /// How many bytes of recipe were written or read.
    fn recipe_bytes(&self) -> u64;

    /// Passes `count` bits through that are as likely as not.
    ///
    /// # Errors
    /// Those of [`Coder::bit`].
    fn even_bits(&mut self, count: u32, value: u64) -> Result<u64, Error> {
        let mut found = 0;
        for index in (0..count).rev() {
            let mut even = Bit::QUICK;
            found = found << 1 | u64::from(self.bit(&mut even, value >> index & 1 == 1)?);
        }
        Ok(found)
    }

    /// Passes a number below 2^63 through.
    ///
    /// # Errors
    /// Those of [`Coder::bit`]; [`Error::Recipe`] for a number out of range.
    fn number(&mut self, number: &mut Number, value: u64) -> Result<u64, Error> {
        let width = 63 - (value + 1).leading_zeros() as usize;
        let mut found_width = 0;
        while self.bit(&mut number.magnitude[found_width], found_width < width)? {
            found_width += 1;
            if found_width == 63 {
                return Err(Error::Recipe { found: "a number out of range" });
            }
        }
        let mut found = 1u64;
        for index in (0..found_width).rev() {
            let wanted = (value + 1) >> index & 1 == 1;
            let bit = if index + 1 == found_width {
                self.bit(&mut number.top[found_width][0], wanted)?
            } else if index + 2 == found_width {
                self.bit(&mut number.top[found_width][1], wanted)?
            } else {
                self.even_bits(1, u64::from(wanted))? == 1
            };
            found = found << 1 | u64::from(bit);
        }
        Ok(found - 1)
    }

    /// Passes a symbol below 2^BITS through.
    ///
    /// # Errors
    /// Those of [`Coder::bit`].
    fn symbol<const BITS: usize>(
        &mut self,
        tree: &mut Tree<BITS>,
        value: usize,
    ) -> Result<usize, Error> {
        let mut node = 1;
        for index in (0..BITS).rev() {
            let bit = self.bit(&mut tree.nodes[node], value >> index & 1 == 1)?;
            node = node << 1 | usize::from(bit);
        }
        Ok(node - (1 << BITS))
    }
}

/// Below this the range is widened by one byte.
const NARROW: u64 = 1 << 48;

/// Writes a recipe.
#[derive(Debug)]
pub struct Encoder<W> {
    writer: W,
    low: u64,
    range: u64,
    /// The last byte that may still change by a carry, and the 0xff bytes behind it.
    cache: Option<u8>,
    pending: u64,
    written: u64,
}

impl<W: Write> Encoder<W> {
    /// Writes to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer, low: 0, range: u64::MAX, cache: None, pending: 0, written: 0 }
    }

    /// Writes what is left. A decoder then reads exactly the bytes that were written.
    ///
    /// # Errors
    /// [`Error::WriteRecipe`].
    pub fn finish(mut self) -> Result<(W, u64), Error> {
        for _ in 0..8 {
            self.shift().map_err(Error::WriteRecipe)?;
        }
        self.settle().map_err(Error::WriteRecipe)?;
        Ok((self.writer, self.written))
    }

    fn put(&mut self, byte: u8) -> io::Result<()> {
        self.written += 1;
        self.writer.write_all(&[byte])
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(byte) = self.cache.take() {
            self.put(byte)?;
        }
        while self.pending > 0 {
            self.pending -= 1;
            self.put(0xff)?;
        }
        Ok(())
    }

    fn shift(&mut self) -> io::Result<()> {
        let byte = (self.low >> 56) as u8;
        self.low <<= 8;
        if byte == 0xff {
            self.pending += 1;
            return Ok(());
        }
        self.settle()?;
        self.cache = Some(byte);
        Ok(())
    }

    fn carry(&mut self) -> io::Result<()> {
        // The total stays below one, so a carry always finds a byte that can take it.
        let byte = self.cache.take().unwrap_or(0).wrapping_add(1);
        if self.pending == 0 {
            self.cache = Some(byte);
            return Ok(());
        }
        self.put(byte)?;
        while self.pending > 1 {
            self.pending -= 1;
            self.put(0)?;
        }
        self.pending = 0;
        self.cache = Some(0);
        Ok(())
    }
}

impl<W: Write> Coder for Encoder<W> {
    fn bit(&mut self, bit: &mut Bit, value: bool) -> Result<bool, Error> {
        let split = (self.range >> 32) * u64::from(bit.probability);
        if value {
            let (low, carried) = self.low.overflowing_add(split);
            self.low = low;
            self.range -= split;
            if carried {
                self.carry().map_err(Error::WriteRecipe)?;
            }
        } else {
            self.range = split;
        }
        bit.learn(value);
        while self.range < NARROW {
            self.shift().map_err(Error::WriteRecipe)?;
            self.range <<= 8;
        }
        Ok(value)
    }

    fn recipe_bytes(&self) -> u64 {
        self.written + self.pending + 8
    }
}

/// Reads a recipe.
#[derive(Debug)]
pub struct Decoder<R> {
    reader: R,
    code: u64,
    range: u64,
    read: u64,
}

impl<R: Read> Decoder<R> {
    /// Reads from `reader`, byte by byte and never further than the recipe goes.
    ///
    /// # Errors
    /// [`Error::ReadRecipe`], or [`Error::Recipe`] where the recipe ends early.
    pub fn new(reader: R) -> Result<Self, Error> {
        let mut decoder = Self { reader, code: 0, range: u64::MAX, read: 0 };
        for _ in 0..8 {
            decoder.shift()?;
        }
        Ok(decoder)
    }

    fn shift(&mut self) -> Result<(), Error> {
        let mut byte = [0];
        match self.reader.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Recipe { found: "its end in the middle" });
            }
            Err(error) => return Err(Error::ReadRecipe(error)),
        }
        self.read += 1;
        self.code = self.code << 8 | u64::from(byte[0]);
        Ok(())
    }
}

impl<R: Read> Coder for Decoder<R> {
    fn bit(&mut self, bit: &mut Bit, _value: bool) -> Result<bool, Error> {
        let split = (self.range >> 32) * u64::from(bit.probability);
        let value = self.code >= split;
        if value {
            self.code -= split;
            self.range -= split;
        } else {
            self.range = split;
        }
        bit.learn(value);
        while self.range < NARROW {
            self.shift()?;
            self.range <<= 8;
        }
        Ok(value)
    }

    fn recipe_bytes(&self) -> u64 {
        self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small linear congruential generator: the tests need noise, not quality.
    fn noise(seed: &mut u64) -> u64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    fn pass<C: Coder>(coder: &mut C, values: &[(u64, bool)], reads: bool) -> Vec<(u64, bool)> {
        let (mut number, mut bit, mut tree) =
            (Number::default(), Bit::STEADY, Tree::<8>::default());
        let mut found = Vec::new();
        for &(value, flag) in values {
            let (value, flag) = if reads { (0, false) } else { (value, flag) };
            let flag = coder.bit(&mut bit, flag).expect("codes");
            let byte = coder.symbol(&mut tree, (value & 0xff) as usize).expect("codes");
            let value = coder.number(&mut number, value).expect("codes");
            assert_eq!(byte as u64, value & 0xff);
            found.push((value, flag));
        }
        found
    }

    #[test]
    fn what_was_written_is_read_and_no_byte_more() {
        for (seed, rarity) in [(1, 2), (2, 1000), (3, 100_000)] {
            let mut seed = seed;
            let values: Vec<_> = (0..20_000)
                .map(|_| {
                    let width = noise(&mut seed) % 62;
                    (noise(&mut seed) & ((1 << width) - 1), noise(&mut seed).is_multiple_of(rarity))
                })
                .collect();
            let mut encoder = Encoder::new(Vec::new());
            pass(&mut encoder, &values, false);
            let (mut bytes, written) = encoder.finish().expect("writes");
            assert_eq!(bytes.len() as u64, written);
            bytes.extend_from_slice(b"what follows");
            let mut rest = bytes.as_slice();
            let mut decoder = Decoder::new(&mut rest).expect("reads");
            assert_eq!(pass(&mut decoder, &values, true), values);
            assert_eq!(rest, b"what follows");
        }
    }

    #[test]
    fn a_choice_that_is_always_the_same_costs_next_to_nothing() {
        let mut encoder = Encoder::new(Vec::new());
        let mut bit = Bit::STEADY;
        for _ in 0..10_000_000 {
            encoder.bit(&mut bit, false).expect("codes");
        }
        let (bytes, _) = encoder.finish().expect("writes");
        assert!(bytes.len() < 24, "{} bytes", bytes.len());
    }

    #[test]
    fn a_recipe_that_ends_early_is_an_error() {
        let mut encoder = Encoder::new(Vec::new());
        encoder.even_bits(60, 12345).expect("codes");
        let (bytes, _) = encoder.finish().expect("writes");
        assert!(Decoder::new(&bytes[..7]).is_err());
        let mut decoder = Decoder::new(&bytes[..8]).expect("enough to begin");
        assert!(decoder.even_bits(60, 0).is_err());
    }
}
