//! Streams that no sane writer makes but RFC 1951 allows: they come back like any other.

use super::analyse::{Limits, analyse};
use super::bits::BitWriter;
use super::code::{CodeHeader, LengthStep, length_code_count, step_histogram};
use super::describe::{BlockStart, EndsBlock, Side};
use super::feed::BlockKind;
use super::huffman::{CodeStyle, predict_header, predict_length_code};
use super::rebuild::{Rebuilt, rebuild};
use super::supply::Supply;
use super::token::{Histogram, Token};

/// Repeatable noise.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Tokens that a mad encoder might choose for what it makes up as it goes.
fn tokens(noise: &mut Noise, plain: &mut Vec<u8>, count: usize) -> Vec<Token> {
    let variety = 1 + noise.below(256);
    let mut tokens = Vec::with_capacity(count);
    for _ in 0..count {
        if plain.is_empty() || noise.one_in(2) {
            let byte = noise.below(variety) as u8;
            plain.push(byte);
            tokens.push(Token::literal(byte));
            continue;
        }
        let distance = 1 + noise.below(plain.len().min(32_768));
        let length = if noise.one_in(4) { 258 } else { 3 + noise.below(40) };
        let token = if length == 258 && noise.one_in(2) {
            Token::matched_long_way(distance)
        } else {
            Token::matched(length, distance)
        };
        for _ in 0..length {
            plain.push(plain[plain.len() - distance]);
        }
        tokens.push(token);
    }
    tokens
}

/// A header that has a code for everything in `tokens`, but not the one that any encoder would write.
fn header(noise: &mut Noise, tokens: &[Token]) -> CodeHeader {
    let mut histogram = Histogram::of(tokens);
    for _ in 0..noise.below(30) {
        histogram.literals[noise.below(286)] += 1 + noise.below(50) as u32;
    }
    let style = [CodeStyle::Go, CodeStyle::GoAll, CodeStyle::Zlib][noise.below(3)];
    let mut header = predict_header(style, &histogram);
    if noise.one_in(2) {
        header.literal_count = header.literal_count.max(257 + noise.below(30));
        header.distance_count = header.distance_count.max(1 + noise.below(30));
        let literals = &header.literals[..header.literal_count];
        let lengths = literals.iter().chain(&header.distances[..header.distance_count]);
        header.steps = lengths.map(|&symbol| LengthStep { symbol, count: 1 }).collect();
        let mut weights = step_histogram(&header.steps);
        weights[noise.below(19)] += 1;
        header.length_code = predict_length_code(style, &weights);
        header.length_code_count = length_code_count(&header.length_code);
    }
    if noise.one_in(2) {
        header.length_code_count += noise.below(20 - header.length_code_count);
    }
    header
}

fn member(noise: &mut Noise, plain: &mut Vec<u8>) -> Vec<u8> {
    let mut gzip = Vec::new();
    let begin = plain.len();
    let mut own = Vec::new();
    let mut writer =
        Rebuilt::new(Supply::new(std::io::empty(), None), BitWriter::new(&mut gzip, u64::MAX));
    writer.begin_member(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff").expect("writes");
    let blocks = 1 + noise.below(12);
    for index in 0..blocks {
        let is_last = index + 1 == blocks;
        let kind = [BlockKind::Stored, BlockKind::Fixed, BlockKind::Dynamic][noise.below(3)];
        let count = if noise.one_in(3) { 0 } else { noise.below(1_500) };
        let padding = if noise.one_in(2) { noise.below(128) as u8 } else { 0 };
        let start = BlockStart { kind, is_last, padding };
        if kind == BlockKind::Stored {
            let stored: Vec<u8> = (0..count).map(|_| noise.below(256) as u8).collect();
            writer.put_stored(start, &stored).expect("writes");
            own.extend(stored);
            continue;
        }
        let said = tokens(noise, &mut own, count);
        let header = (kind == BlockKind::Dynamic).then(|| header(noise, &said));
        writer.begin_block(start, header.as_ref()).expect("writes");
        writer.put_tokens(&said, EndsBlock::Yes).expect("has all codes");
    }
    writer.account(&own);
    writer.end_member(noise.below(128) as u8).expect("writes");
    writer.finish().expect("writes");
    plain.truncate(begin);
    plain.extend(own);
    gzip
}

#[test]
fn odd_streams_come_back_bit_for_bit() {
    let limits = Limits { recipe_permille: 10_000, free_bytes: 1 << 20, ..Limits::default() };
    // Without optimisation each takes seconds.
    let seeds = if cfg!(debug_assertions) { 6 } else { 60 };
    for seed in 0..seeds {
        let mut noise = Noise(seed);
        let (mut plain, mut gzip) = (Vec::new(), Vec::new());
        for _ in 0..=noise.below(3) {
            gzip.extend(member(&mut noise, &mut plain));
        }
        if noise.one_in(3) {
            gzip.extend((0..noise.below(40)).map(|_| 0));
        }
        let (mut found, mut recipe) = (Vec::new(), Vec::new());
        let analysis = analyse(&gzip[..], &mut found, &mut recipe, &limits);
        analysis.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(found == plain, "seed {seed}: other plain bytes");
        let mut again = Vec::new();
        rebuild(&recipe[..], &plain[..], &mut again, gzip.len() as u64)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(again == gzip, "seed {seed}: another stream");
    }
}
