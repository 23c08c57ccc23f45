//! What a DEFLATE block is made of: literals and matches (RFC 1951, section 3.2.5).

/// The shortest match that DEFLATE can say.
pub const MIN_MATCH: usize = 3;
/// The longest match that DEFLATE can say.
pub const MAX_MATCH: usize = 258;
/// How far back a match may reach.
pub const MAX_DISTANCE: usize = 32_768;
/// The symbol that ends a block.
pub const END_OF_BLOCK: usize = 256;
/// Literal and length symbols that a header can give a code to, the two that mean nothing included.
pub const LITERAL_SYMBOLS: usize = 288;
/// Distance symbols that a header can give a code to, the two that mean nothing included.
pub const DISTANCE_SYMBOLS: usize = 32;

/// The length field of a match of 258 bytes that was written as symbol 284 with 31 in its extra bits.
///
/// The usual way is symbol 285. Both are legal, so the difference has to survive.
const LONG_WAY_258: u32 = 259;

/// One literal or one match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u32);

impl Token {
    /// One byte as it is.
    pub const fn literal(byte: u8) -> Self {
        Self(byte as u32)
    }

    /// `length` bytes (3 to 258) from `distance` bytes (1 to 32,768) ago.
    #[expect(clippy::cast_possible_truncation, reason = "both are small by contract")]
    pub const fn matched(length: usize, distance: usize) -> Self {
        Self((length as u32) << 16 | distance as u32)
    }

    /// 258 bytes from `distance` bytes ago, written as symbol 284.
    #[expect(clippy::cast_possible_truncation, reason = "small by contract")]
    pub const fn matched_long_way(distance: usize) -> Self {
        Self(LONG_WAY_258 << 16 | distance as u32)
    }

    /// Whether this is a literal.
    pub const fn is_literal(self) -> bool {
        self.0 < 1 << 16
    }

    /// Whether this is a match of 258 bytes written as symbol 284.
    pub const fn is_long_way(self) -> bool {
        self.0 >> 16 == LONG_WAY_258
    }

    /// The length of a match, 0 for a literal.
    pub const fn length(self) -> usize {
        let length = (self.0 >> 16) as usize;
        if length > MAX_MATCH { MAX_MATCH } else { length }
    }

    /// The distance of a match.
    pub const fn distance(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// How many plain bytes it stands for.
    pub const fn plain_bytes(self) -> usize {
        if self.is_literal() { 1 } else { self.length() }
    }

    /// The literal or length symbol that says it.
    pub const fn symbol(self) -> usize {
        if self.is_literal() {
            self.0 as usize
        } else if self.is_long_way() {
            284
        } else {
            257 + LENGTH_CODE[self.length() - MIN_MATCH] as usize
        }
    }

    /// The distance symbol of a match.
    pub const fn distance_symbol(self) -> usize {
        distance_code(self.distance())
    }
}

/// The first length of each length code (symbol 257 is code 0).
pub const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
/// How many extra bits each length code has.
pub const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// The first distance of each distance code.
pub const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
/// How many extra bits each distance code has.
pub const DISTANCE_EXTRA: [u8; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];

/// The length code of each length from 3 on.
const LENGTH_CODE: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 29 {
        let mut length = LENGTH_BASE[code] as usize;
        let end = if code < 28 { LENGTH_BASE[code + 1] as usize } else { 259 };
        while length < end {
            table[length - MIN_MATCH] = code as u8;
            length += 1;
        }
        code += 1;
    }
    table
};

/// The distance code of `distance`.
pub const fn distance_code(distance: usize) -> usize {
    let below = distance - 1;
    if below < 4 {
        return below;
    }
    let bits = (usize::BITS - 1 - below.leading_zeros()) as usize;
    bits * 2 + ((below >> (bits - 1)) & 1)
}

/// How often each symbol occurs in some tokens.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Literal and length symbols.
    pub literals: [u32; LITERAL_SYMBOLS],
    /// Distance symbols.
    pub distances: [u32; DISTANCE_SYMBOLS],
}

impl Histogram {
    /// Counts `tokens` and one end of block.
    pub fn of(tokens: &[Token]) -> Self {
        let mut histogram =
            Self { literals: [0; LITERAL_SYMBOLS], distances: [0; DISTANCE_SYMBOLS] };
        for token in tokens {
            histogram.literals[token.symbol()] += 1;
            if !token.is_literal() {
                histogram.distances[token.distance_symbol()] += 1;
            }
        }
        histogram.literals[END_OF_BLOCK] += 1;
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_falls_into_its_code() {
        for distance in 1..=MAX_DISTANCE {
            let code = distance_code(distance);
            let base = usize::from(DISTANCE_BASE[code]);
            let extra = distance.checked_sub(base).expect("not below its base");
            assert!(extra < 1 << DISTANCE_EXTRA[code], "distance {distance} in code {code}");
        }
    }

    #[test]
    fn every_length_falls_into_its_code() {
        for length in MIN_MATCH..=MAX_MATCH {
            let code = Token::matched(length, 1).symbol() - 257;
            let extra = length - usize::from(LENGTH_BASE[code]);
            assert!(extra < 1 << LENGTH_EXTRA[code], "length {length} in code {code}");
        }
        assert_eq!(Token::matched(258, 1).symbol(), 285);
        assert_eq!(Token::matched_long_way(1).symbol(), 284);
        assert_eq!(Token::matched_long_way(1).length(), 258);
    }
}
