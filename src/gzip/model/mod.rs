//! Encoder models: what an encoder would do next.
//!
//! A model's predictions are part of the recipe format. A model that is released is never changed again; a mended one is a new
//! kind with a new number.

mod chain;
mod chains;
mod go_fast;
mod go_lazy;
mod klauspost_fast;
mod klauspost_lazy;
mod literals;
mod zlib;

use self::klauspost_fast::{KlauspostFast, Version};
use super::error::Error;
use super::huffman::CodeStyle;
use super::plain::Plain;
use super::range::{Coder, Number};
use super::token::{MIN_MATCH, Token};

/// The plain bytes as an encoder sees them.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Everything that is held in memory.
    pub bytes: &'a [u8],
    /// The position of the first of these bytes.
    pub start: u64,
    /// Where the encoder's input ends for now: at a flush or at its end.
    pub limit: u64,
}

impl<'a> View<'a> {
    /// What is held in `plain`, with the encoder's input ending at `limit`.
    pub fn new(plain: &'a Plain, limit: u64) -> Self {
        Self { bytes: plain.bytes(), start: plain.start(), limit: limit.min(plain.end()) }
    }

    /// Where `position` is in `bytes`.
    #[inline]
    pub fn index(&self, position: u64) -> usize {
        (position - self.start) as usize
    }

    /// How many bytes of the input are left at `position`.
    #[inline]
    pub fn rest(&self, position: u64) -> usize {
        self.limit.saturating_sub(position) as usize
    }
}

/// What a model expects next.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// The next token.
    pub token: Token,
    /// How sure that is: an index below [`SURETIES`]. Predictions of one surety share their odds. A model of one encoder is
    /// equally sure of all that it says, so that what it says need not be known to pass that it is right.
    pub surety: u8,
    /// What it is most likely if not that.
    pub alternative: Option<Token>,
}

impl Prediction {
    /// What a model of one encoder says.
    #[inline]
    pub fn new(token: Token) -> Self {
        Self { token, surety: 0, alternative: None }
    }
}

/// How many degrees of surety there are.
pub const SURETIES: usize = 128;

/// An encoder's decisions, one after the other.
pub trait Model {
    /// How many bytes beyond the current position the model looks at.
    fn lookahead(&self) -> usize;

    /// A new input begins at `position`, with the `dictionary_bytes` bytes before it as dictionary.
    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize);

    /// The input was flushed at `position`; `view` still ends there.
    fn flush(&mut self, view: &View<'_>, position: u64);

    /// The token that the encoder would say at `position`, which is before the end of the input.
    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction;

    /// What the encoder really said at `position`.
    fn commit(&mut self, view: &View<'_>, position: u64, token: Token);

    /// Goes on at `position` as if it had come there from `origin` without a flush. Only where
    /// [`Parameters::depends_on_plain_alone`] says so; `view` holds the 32 KiB before.
    fn resume(&mut self, _view: &View<'_>, _origin: u64, _position: u64) {}

    /// How many nearer places hold at least `length` bytes of what is at `position`, where the model can tell.
    fn rank(
        &self,
        _view: &View<'_>,
        _position: u64,
        _length: usize,
        _distance: usize,
    ) -> Option<usize> {
        None
    }

    /// The distance that has this rank.
    fn ranked(
        &self,
        _view: &View<'_>,
        _position: u64,
        _length: usize,
        _rank: usize,
    ) -> Option<usize> {
        None
    }
}

/// Where an encoder ends its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// After this many tokens.
    Tokens(u32),
    /// It may end one after every so many plain bytes.
    Units(u32),
}

/// Whether and how an encoder starts anew within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// After how many plain bytes.
    pub bytes: u32,
    /// How many of the bytes before it then knows.
    pub dictionary_bytes: u32,
}

/// A family of encoders, or one encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No matches at all.
    Literals,
    /// Go's compress/flate up to 1.26, levels 2 to 9.
    GoLazy,
    /// Go's compress/flate up to 1.26, level 1.
    GoFast,
    /// klauspost/compress 1.18 and later and Go from 1.27 on, levels 1 to 6.
    KlauspostFast,
    /// klauspost/compress 1.15 to 1.17, levels 1 to 6.
    KlauspostFast115,
    /// klauspost/compress 1.13 and 1.14, levels 1 to 6.
    KlauspostFast113,
    /// klauspost/compress 1.11 and 1.12, levels 1 to 6.
    KlauspostFast111,
    /// klauspost/compress 1.15, levels 7 to 9.
    KlauspostLazy115,
    /// klauspost/compress 1.20, levels 7 to 9.
    KlauspostLazy120,
    /// Go from 1.27 on, levels 7 to 9.
    GoLazy127,
    /// zlib, levels 1 to 9.
    Zlib,
    /// No encoder in particular: the longest match, near ones first, with lazy matching.
    Chain,
}

impl Kind {
    /// Whether it is one encoder, with decisions that take long to find out and are always the same.
    pub fn is_one_encoder(self) -> bool {
        !matches!(self, Self::Literals | Self::Chain)
    }

    const ALL: [(u8, Self); 12] = [
        (0, Self::Literals),
        (1, Self::GoLazy),
        (2, Self::GoFast),
        (3, Self::KlauspostFast),
        (4, Self::KlauspostLazy115),
        (5, Self::KlauspostLazy120),
        (6, Self::GoLazy127),
        (7, Self::Zlib),
        (8, Self::Chain),
        (9, Self::KlauspostFast115),
        (10, Self::KlauspostFast113),
        (11, Self::KlauspostFast111),
    ];
}

/// Everything that decides what a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Which encoder.
    pub kind: Kind,
    /// Its compression level, 0 to 15.
    pub level: u8,
    /// zlib's memory level (hash table size), 1 to 9.
    pub memory_level: u8,
    /// How it makes its codes.
    pub style: CodeStyle,
    /// Where its blocks end.
    pub boundary: Boundary,
    /// Whether it starts anew within the stream.
    pub chunks: Option<Chunks>,
}

/// The most tokens that one span may have: what bounds the memory of a span.
pub const MAX_SPAN_TOKENS: u32 = 1 << 16;
/// The longest unit of a model that works on units.
pub const MAX_UNIT_BYTES: u32 = 1 << 16;

impl Parameters {
    /// Parameters without chunks and with `boundary` and `style` as given.
    pub const fn new(kind: Kind, level: u8, style: CodeStyle, boundary: Boundary) -> Self {
        Self { kind, level, memory_level: 8, style, boundary, chunks: None }
    }

    /// The model that they describe.
    pub fn model(&self) -> Box<dyn Model> {
        let level = self.level;
        match self.kind {
            Kind::Literals => Box::new(literals::Literals),
            Kind::GoLazy => Box::new(go_lazy::GoLazy::new(level)),
            Kind::GoFast => Box::new(go_fast::GoFast::new()),
            Kind::KlauspostFast => Box::new(KlauspostFast::new(level, Version::V18)),
            Kind::KlauspostFast115 => Box::new(KlauspostFast::new(level, Version::V15)),
            Kind::KlauspostFast113 => Box::new(KlauspostFast::new(level, Version::V13)),
            Kind::KlauspostFast111 => Box::new(KlauspostFast::new(level, Version::V11)),
            Kind::KlauspostLazy115 => Box::new(klauspost_lazy::KlauspostLazy::version_115(level)),
            Kind::KlauspostLazy120 => Box::new(klauspost_lazy::KlauspostLazy::version_120(level)),
            Kind::GoLazy127 => Box::new(klauspost_lazy::KlauspostLazy::go_127(level)),
            Kind::Zlib => Box::new(zlib::Zlib::new(level, self.memory_level)),
            Kind::Chain => Box::new(chain::Chain::new(level)),
        }
    }

    /// Whether what the model says at a position depends on the plain bytes around it alone, as far as there is no flush: not
    /// on which tokens came before.
    pub fn depends_on_plain_alone(&self) -> bool {
        self.kind == Kind::GoLazy && self.level >= go_lazy::FIRST_LAZY && self.chunks.is_none()
    }

    /// Passes parameters through `coder`.
    ///
    /// # Errors
    /// Those of [`Coder::bit`]; [`Error::Recipe`] for parameters that no model has.
    pub fn code<C: Coder>(self, coder: &mut C) -> Result<Self, Error> {
        let wanted = Kind::ALL.iter().find(|(_, kind)| *kind == self.kind).map_or(0, |&(id, _)| id);
        let id = coder.even_bits(5, u64::from(wanted))?;
        let kind = Kind::ALL
            .iter()
            .find(|&&(known, _)| u64::from(known) == id)
            .map(|&(_, kind)| kind)
            .ok_or(Error::Recipe { found: "a model this version does not know" })?;
        let level = coder.even_bits(4, u64::from(self.level))? as u8;
        let memory_level = coder.even_bits(4, u64::from(self.memory_level))? as u8;
        if memory_level == 0 || memory_level > 9 {
            return Err(Error::Recipe { found: "a memory level out of range" });
        }
        let style = match self.style {
            CodeStyle::Go => 0,
            CodeStyle::GoAll => 1,
            CodeStyle::Zlib => 2,
        };
        let style = match coder.even_bits(2, style)? {
            0 => CodeStyle::Go,
            1 => CodeStyle::GoAll,
            2 => CodeStyle::Zlib,
            _ => return Err(Error::Recipe { found: "a way of making codes that is not known" }),
        };
        let mut number = Number::default();
        let (is_units, size) = match self.boundary {
            Boundary::Tokens(count) => (0, count),
            Boundary::Units(bytes) => (1, bytes),
        };
        let is_units = coder.even_bits(1, is_units)? == 1;
        let size = coder.number(&mut number, u64::from(size))?;
        let limit = if is_units { MAX_UNIT_BYTES } else { MAX_SPAN_TOKENS };
        if size == 0 || size > u64::from(limit) {
            return Err(Error::Recipe { found: "a block size out of range" });
        }
        let size = size as u32;
        let boundary = if is_units { Boundary::Units(size) } else { Boundary::Tokens(size) };
        let (bytes, dictionary_bytes) =
            self.chunks.map_or((0, 0), |chunks| (chunks.bytes, chunks.dictionary_bytes));
        let bytes = coder.number(&mut number, u64::from(bytes))?;
        let dictionary_bytes = coder.number(&mut number, u64::from(dictionary_bytes))?;
        if bytes > 1 << 30 || dictionary_bytes > 1 << 15 || (bytes > 0 && bytes < 1 << 10) {
            return Err(Error::Recipe { found: "a chunk size out of range" });
        }
        let chunks = (bytes > 0)
            .then_some(Chunks { bytes: bytes as u32, dictionary_bytes: dictionary_bytes as u32 });
        Ok(Self { kind, level, memory_level, style, boundary, chunks })
    }
}

/// How many bytes at `a` and `b` in `bytes` are equal, at most `limit`; `b` must have them all before the end.
#[inline]
pub fn common_length(bytes: &[u8], a: usize, b: usize, limit: usize) -> usize {
    let first = &bytes[a..a + limit];
    let second = &bytes[b..b + limit];
    let mut length = 0;
    for (left, right) in first.chunks_exact(8).zip(second.chunks_exact(8)) {
        let (left, right) = (load64(left, 0), load64(right, 0));
        let difference = left ^ right;
        if difference != 0 {
            return length + difference.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    first[length..].iter().zip(&second[length..]).take_while(|(left, right)| left == right).count()
        + length
}

/// The last bytes of what a match must be equal to, to be longer than the best one so far: most candidates fail there.
#[derive(Clone, Copy)]
pub struct Tail {
    offset: usize,
    mask: u32,
    value: u32,
}

impl Tail {
    /// For matches at `index` that are to be longer than `length` (2 or more).
    #[inline]
    pub fn new(bytes: &[u8], index: usize, length: usize) -> Self {
        let offset = length.saturating_sub(3);
        let Some(tail) = bytes.get(index + offset..index + offset + 4) else {
            return Self { offset: 0, mask: 0, value: 0 };
        };
        let mask = if length < MIN_MATCH { 0x00ff_ffff } else { u32::MAX };
        Self { offset, mask, value: load32(tail, 0) & mask }
    }

    /// Whether the match at `at` can be longer.
    #[inline]
    pub fn fits(self, bytes: &[u8], at: usize) -> bool {
        load32(bytes, at + self.offset) & self.mask == self.value
    }
}

/// The four bytes at `index`, lowest first.
#[inline]
pub fn load32(bytes: &[u8], index: usize) -> u32 {
    bytes[index..].first_chunk::<4>().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// The eight bytes at `index`, lowest first.
#[inline]
pub fn load64(bytes: &[u8], index: usize) -> u64 {
    bytes[index..].first_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
