//! From plain bytes and a recipe back to the gzip stream.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::RECIPE_MAGIC;
use super::analyse::StreamContexts;
use super::bits::BitWriter;
use super::code::{
    CodeHeader, FIXED_DISTANCES, FIXED_LITERALS, LENGTH_ORDER, LengthStep, assign_codes,
};
use super::describe::{BlockStart, Cut, Describer, EndsBlock, Grid, Side, Span};
use super::error::Error;
use super::feed::{Block, BlockKind};
use super::foresight::{Foreseen, Pending};
use super::huffman::CodeStyle;
use super::model::{Boundary, Kind, Model, Parameters};
use super::plain::Plain;
use super::range::Decoder;
use super::supply::{Supply, Threads};
use super::token::{
    DISTANCE_BASE, DISTANCE_EXTRA, DISTANCE_SYMBOLS, END_OF_BLOCK, LENGTH_BASE, LENGTH_EXTRA,
    LITERAL_SYMBOLS, Token,
};

/// Writes the gzip stream to `gzip` that `recipe` says of these plain bytes, at most `limit_bytes` bytes of it. Says how many
/// there were.
///
/// Of `recipe` not one byte more is read than belongs to it, and all of `plain`. What comes out for other plain bytes
/// than those of the analysis, or another recipe, is bounded by `limit_bytes` and otherwise undefined: check its digest.
///
/// # Errors
/// [`Error::Version`] and [`Error::Recipe`] for recipes that say no stream, [`Error::PlainTooShort`] and
/// [`Error::PlainTooLong`], [`Error::TooLarge`], and what reading and writing run into.
pub fn rebuild<T: Read, R: Read, W: Write>(
    recipe: T,
    plain: R,
    gzip: W,
    limit_bytes: u64,
) -> Result<u64, Error> {
    let (_, nothing) = mpsc::channel();
    rebuild_from(recipe, Supply::new(plain, None), &nothing, gzip, limit_bytes)
}

/// As [`rebuild`], with up to `threads` other threads that work ahead. What comes out is the same.
///
/// # Errors
/// As [`rebuild`].
pub fn rebuild_on<T: Read, R: Read, W: Write>(
    threads: NonZeroUsize,
    recipe: T,
    plain: R,
    gzip: W,
    limit_bytes: u64,
) -> Result<u64, Error> {
    if threads.get() == 1 {
        return rebuild(recipe, plain, gzip, limit_bytes);
    }
    thread::scope(|scope| {
        let (pending, foreseen) = mpsc::channel();
        let supply = Supply::new(plain, Some(Threads { scope, count: threads, pending }));
        rebuild_from(recipe, supply, &foreseen, gzip, limit_bytes)
    })
}

fn rebuild_from<T: Read, R: Read, W: Write>(
    mut recipe: T,
    supply: Supply<'_, '_, R>,
    pending: &Receiver<Pending<'_>>,
    gzip: W,
    limit_bytes: u64,
) -> Result<u64, Error> {
    read_magic(&mut recipe)?;
    let mut decoder = Decoder::new(recipe)?;
    let mut contexts = StreamContexts::default();
    let side = Rebuilt::new(supply, BitWriter::new(gzip, limit_bytes));
    let mut header = contexts.header(&mut decoder, &[], &[])?;
    let mut describer = Describer::new(decoder, side, Plain::default(), 0);
    let mut former: Option<(Parameters, Box<dyn Model>)> = None;
    let nothing = Parameters::new(Kind::Literals, 0, CodeStyle::Go, Boundary::Tokens(1));
    loop {
        describer.side.begin_member(&header)?;
        let parameters = contexts.parameters(&mut describer.coder, nothing)?;
        let mut model = match former {
            Some((same, model)) if same == parameters => model,
            _ => parameters.model(),
        };
        let origin = describer.position();
        describer.side.supply.begin_member(parameters, origin);
        describer.member(&parameters, &mut Foreseen::new(&mut *model, pending))?;
        former = Some((parameters, model));
        let padding = contexts.padding(&mut describer.coder, 0)?;
        describer.side.end_member(padding)?;
        if contexts.is_last(&mut describer.coder)? {
            break;
        }
        header = contexts.header(&mut describer.coder, &header, &[])?;
    }
    while let Some(byte) = contexts.garbage(&mut describer.coder, None)? {
        describer.side.gzip.bytes(&[byte])?;
    }
    describer.side.finish()
}

fn read_magic(recipe: &mut impl Read) -> Result<(), Error> {
    let mut magic = [0; 4];
    recipe.read_exact(&mut magic).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Recipe { found: "its end in the middle" },
        _ => Error::ReadRecipe(error),
    })?;
    if magic[..3] != RECIPE_MAGIC[..3] {
        return Err(Error::Recipe { found: "other bytes" });
    }
    if magic != RECIPE_MAGIC {
        return Err(Error::Version { expected: RECIPE_MAGIC[3], found: magic[3].to_string() });
    }
    Ok(())
}

/// The side that is told what comes, and writes it.
pub struct Rebuilt<'scope, 'env, R, W> {
    supply: Supply<'scope, 'env, R>,
    gzip: BitWriter<W>,
    checksum: crc32fast::Hasher,
    member_bytes: u64,
    plain_bytes: u64,
    literals: [(u16, u8); LITERAL_SYMBOLS],
    distances: [(u16, u8); DISTANCE_SYMBOLS],
}

impl<'scope, 'env, R: Read, W: Write> Rebuilt<'scope, 'env, R, W> {
    /// Takes plain bytes from `supply` and writes to `gzip`.
    pub fn new(supply: Supply<'scope, 'env, R>, gzip: BitWriter<W>) -> Self {
        Self {
            supply,
            gzip,
            checksum: crc32fast::Hasher::new(),
            member_bytes: 0,
            plain_bytes: 0,
            literals: [(0, 0); LITERAL_SYMBOLS],
            distances: [(0, 0); DISTANCE_SYMBOLS],
        }
    }

    /// Begins a member with this header.
    pub fn begin_member(&mut self, header: &[u8]) -> Result<(), Error> {
        self.checksum = crc32fast::Hasher::new();
        self.member_bytes = 0;
        self.gzip.bytes(header)
    }

    /// Writes what fills the last block's last byte, and the trailer.
    pub fn end_member(&mut self, padding: u8) -> Result<(), Error> {
        self.gzip.align(padding)?;
        self.gzip.bytes(&self.checksum.clone().finalize().to_le_bytes())?;
        self.gzip.bytes(&(self.member_bytes as u32).to_le_bytes())
    }

    /// Ends the stream; no plain bytes may be left.
    pub fn finish(mut self) -> Result<u64, Error> {
        if self.supply.is_longer_than(self.plain_bytes)? {
            return Err(Error::PlainTooLong { plain_bytes: self.plain_bytes });
        }
        self.gzip.finish()
    }

    /// Counts plain bytes into the trailer.
    pub fn account(&mut self, plain: &[u8]) {
        self.checksum.update(plain);
        self.member_bytes += plain.len() as u64;
        self.plain_bytes += plain.len() as u64;
    }

    fn code_header(&mut self, header: &CodeHeader) -> Result<(), Error> {
        self.gzip.bits(header.literal_count as u32 - 257, 5)?;
        self.gzip.bits(header.distance_count as u32 - 1, 5)?;
        self.gzip.bits(header.length_code_count as u32 - 4, 4)?;
        for &symbol in &LENGTH_ORDER[..header.length_code_count] {
            self.gzip.bits(u32::from(header.length_code[symbol]), 3)?;
        }
        let codes = assign_codes(&header.length_code);
        for step in &header.steps {
            let (code, bits) = codes[usize::from(step.symbol)];
            self.gzip.bits(u32::from(code), u32::from(bits))?;
            let (extra_bits, least) = LengthStep::extra(step.symbol);
            self.gzip.bits(u32::from(step.count - least), extra_bits)?;
        }
        Ok(())
    }

    fn put_code(&mut self, (code, bits): (u16, u8)) -> Result<(), Error> {
        if bits == 0 {
            return Err(Error::Recipe { found: "a token that its block has no code for" });
        }
        self.gzip.bits(u32::from(code), u32::from(bits))
    }

    fn put_token(&mut self, token: Token) -> Result<(), Error> {
        let symbol = token.symbol();
        self.put_code(self.literals[symbol])?;
        if token.is_literal() {
            return Ok(());
        }
        let code = symbol - 257;
        let extra = token.length() - usize::from(LENGTH_BASE[code]);
        self.gzip.bits(extra as u32, u32::from(LENGTH_EXTRA[code]))?;
        let code = token.distance_symbol();
        self.put_code(self.distances[code])?;
        let extra = token.distance() - usize::from(DISTANCE_BASE[code]);
        self.gzip.bits(extra as u32, u32::from(DISTANCE_EXTRA[code]))
    }
}

impl<R: Read, W: Write> Side for Rebuilt<'_, '_, R, W> {
    fn reach(&mut self, plain: &mut Plain, position: u64) -> Result<(), Error> {
        let from = plain.end();
        if position <= from {
            return Ok(());
        }
        self.supply.reach(plain, position)?;
        self.account(plain.range(from, position));
        Ok(())
    }

    fn next_cut(
        &mut self,
        _plain: &mut Plain,
        _from: u64,
        _to: u64,
        _grid: Grid,
    ) -> Result<Option<Cut>, Error> {
        Ok(None)
    }

    fn block(&mut self, _plain: &mut Plain) -> Result<Option<&Block>, Error> {
        Ok(None)
    }

    fn ends_early(
        &mut self,
        _plain: &mut Plain,
        _span: Span,
        _grid: Grid,
    ) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    fn phase(&mut self, _plain: &mut Plain) -> Result<u8, Error> {
        Ok(self.gzip.phase())
    }

    fn has_only_literals(&mut self, _from: u64, _to: u64) -> bool {
        false
    }

    fn token(&self, _index: usize) -> Option<Token> {
        None
    }

    fn is_over(&mut self, _plain: &mut Plain, _used: usize) -> Result<bool, Error> {
        Ok(false)
    }

    fn put_stored(&mut self, start: BlockStart, plain: &[u8]) -> Result<(), Error> {
        self.gzip.bits(u32::from(start.is_last), 3)?;
        self.gzip.align(start.padding)?;
        let length = plain.len() as u16;
        self.gzip.bytes(&length.to_le_bytes())?;
        self.gzip.bytes(&(!length).to_le_bytes())?;
        self.gzip.bytes(plain)
    }

    fn begin_block(&mut self, start: BlockStart, header: Option<&CodeHeader>) -> Result<(), Error> {
        let kind = if start.kind == BlockKind::Fixed { 1 } else { 2 };
        self.gzip.bits(u32::from(start.is_last) | kind << 1, 3)?;
        let (literals, distances) = match header {
            Some(header) => (&header.literals, &header.distances),
            None => (&FIXED_LITERALS, &FIXED_DISTANCES),
        };
        self.literals = assign_codes(literals);
        self.distances = assign_codes(distances);
        header.map_or(Ok(()), |header| self.code_header(header))
    }

    fn put_tokens(&mut self, tokens: &[Token], ends: EndsBlock) -> Result<(), Error> {
        for &token in tokens {
            self.put_token(token)?;
        }
        if ends == EndsBlock::Yes {
            self.put_code(self.literals[END_OF_BLOCK])?;
        }
        Ok(())
    }

    fn believes_after(&self, _bytes: u64) -> bool {
        false
    }

    fn weigh(&mut self, _position: u64, _recipe_bytes: u64) -> Result<(), Error> {
        Ok(())
    }
}
