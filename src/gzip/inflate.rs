//! Takes a gzip stream apart: blocks, tokens and plain bytes, nothing interpreted away.

use std::io::{Read, Write};

use super::bits::BitReader;
use super::code::{
    CodeHeader, DecodeTable, FIXED_DISTANCES, FIXED_LITERALS, LENGTH_ORDER, LengthStep,
    Oversubscribed,
};
use super::error::Error;
use super::feed::{Block, BlockKind, Feed};
use super::member::{self, begins_member};
use super::plain::Plain;
use super::token::{
    DISTANCE_BASE, DISTANCE_EXTRA, DISTANCE_SYMBOLS, END_OF_BLOCK, LENGTH_BASE, LENGTH_EXTRA,
    LITERAL_SYMBOLS, MAX_DISTANCE, Token,
};

/// What follows a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another member.
    Member,
    /// The end of the stream.
    End,
    /// Bytes that are no member.
    Garbage,
}

/// Reads a gzip stream.
#[derive(Debug)]
pub struct Parser<R, W> {
    bits: BitReader<R>,
    plain_writer: W,
    literals: DecodeTable,
    distances: DecodeTable,
    state: State,
    checksum: crc32fast::Hasher,
    member_start: u64,
    plain_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BetweenBlocks,
    Stored { rest: usize },
    Coded,
    Done,
}

/// How many blocks may wait. Only blocks without any content can make so many.
const MAX_WAITING_BLOCKS: usize = 64 << 10;
/// How many tokens one step parses at most, and how many bytes of a stored block.
const STEP_TOKENS: usize = 8 << 10;
const STEP_STORED_BYTES: usize = 64 << 10;
/// One step's plain bytes are all from one block, and at most these.
const _: () = assert!(STEP_TOKENS * 258 < 4 << 20);

impl<R: Read, W: Write> Parser<R, W> {
    /// Reads `gzip`, writes its plain bytes to `plain_writer`.
    pub fn new(gzip: R, plain_writer: W) -> Self {
        Self {
            bits: BitReader::new(gzip),
            plain_writer,
            literals: DecodeTable::new(10),
            distances: DecodeTable::new(9),
            state: State::Done,
            checksum: crc32fast::Hasher::new(),
            member_start: 0,
            plain_bytes: 0,
        }
    }

    /// How many bytes of the gzip stream were used up.
    pub fn gzip_bytes(&self) -> u64 {
        self.bits.used_bytes()
    }

    /// How many plain bytes came out of it.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Reads a member's header.
    ///
    /// # Errors
    /// Those of [`member::read_header`].
    pub fn begin_member(&mut self) -> Result<Vec<u8>, Error> {
        let header = member::read_header(&mut self.bits, self.plain_bytes)?;
        self.state = State::BetweenBlocks;
        self.checksum = crc32fast::Hasher::new();
        self.member_start = self.plain_bytes;
        Ok(header)
    }

    /// Reads a member's trailer; says which bits fill its last byte and what follows.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where checksum or size are not those of the plain bytes, [`Error::Truncated`].
    pub fn end_member(&mut self) -> Result<(u8, Next), Error> {
        let padding = self.need_bits((8 - u32::from(self.bits.phase())) % 8)? as u8;
        let checksum = self.need_bits(32)?;
        let size = self.need_bits(32)?;
        if checksum != self.checksum.clone().finalize() {
            return Err(self.corrupt("another checksum than that of the plain bytes"));
        }
        if u64::from(size) != (self.plain_bytes - self.member_start) & 0xffff_ffff {
            return Err(self.corrupt("another size than that of the plain bytes"));
        }
        let (bytes, found) = self.bits.peek_bytes()?;
        let next = match found {
            0 => Next::End,
            _ if begins_member(&bytes[..found]) => Next::Member,
            _ => Next::Garbage,
        };
        Ok((padding, next))
    }

    /// The next byte of what follows the last member.
    ///
    /// # Errors
    /// [`Error::ReadGzip`].
    pub fn garbage(&mut self) -> Result<Option<u8>, Error> {
        self.bits.byte()
    }

    /// Ends the work: everything is read and written.
    ///
    /// # Errors
    /// [`Error::WritePlain`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.plain_writer.flush().map_err(Error::WritePlain)
    }

    /// Takes a little more of the member apart.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Corrupt`], [`Error::ReadGzip`], [`Error::WritePlain`].
    pub fn step(&mut self, feed: &mut Feed, plain: &mut Plain) -> Result<(), Error> {
        let before = plain.end();
        match self.state {
            State::BetweenBlocks => self.begin_block(feed)?,
            State::Stored { rest } => self.stored(rest, plain)?,
            State::Coded => self.coded(feed, plain)?,
            State::Done => return Ok(()),
        }
        let added = plain.range(before, plain.end());
        self.checksum.update(added);
        self.plain_writer.write_all(added).map_err(Error::WritePlain)?;
        let added_bytes = added.len() as u64;
        self.plain_bytes += added_bytes;
        let Some(block) = feed.blocks.back_mut() else { return Ok(()) };
        block.plain_bytes += added_bytes;
        if self.state == State::BetweenBlocks {
            block.is_complete = true;
            if block.is_last {
                self.state = State::Done;
                feed.is_whole = true;
            }
        }
        Ok(())
    }

    fn corrupt(&self, found: &'static str) -> Error {
        Error::Corrupt { found, plain_bytes: self.plain_bytes }
    }

    fn need_bits(&mut self, count: u32) -> Result<u32, Error> {
        self.bits.bits(count)?.ok_or(Error::Truncated { plain_bytes: self.plain_bytes })
    }

    fn begin_block(&mut self, feed: &mut Feed) -> Result<(), Error> {
        if feed.blocks.len() >= MAX_WAITING_BLOCKS {
            return Err(self.corrupt("too many blocks without content"));
        }
        let phase = self.bits.phase();
        let is_last = self.need_bits(1)? == 1;
        let mut block = Block {
            kind: BlockKind::Stored,
            is_last,
            phase,
            padding: 0,
            header: None,
            tokens: 0,
            start: self.plain_bytes,
            plain_bytes: 0,
            is_complete: false,
        };
        match self.need_bits(2)? {
            0 => {
                let padding_bits = (8 - u32::from(self.bits.phase())) % 8;
                block.padding = self.need_bits(padding_bits)? as u8;
                let rest = self.need_bits(16)?;
                if self.need_bits(16)? != rest ^ 0xffff {
                    return Err(self.corrupt("a stored block whose lengths disagree"));
                }
                self.state = match rest as usize {
                    0 => State::BetweenBlocks,
                    rest => State::Stored { rest },
                };
            }
            1 => {
                block.kind = BlockKind::Fixed;
                self.take_codes(&FIXED_LITERALS, &FIXED_DISTANCES)?;
            }
            2 => {
                block.kind = BlockKind::Dynamic;
                let header = self.read_code_header()?;
                self.take_codes(&header.literals, &header.distances)?;
                block.header = Some(Box::new(header));
            }
            _ => return Err(self.corrupt("a block of the reserved kind")),
        }
        feed.blocks.push_back(block);
        Ok(())
    }

    fn take_codes(
        &mut self,
        literals: &[u8; LITERAL_SYMBOLS],
        distances: &[u8; DISTANCE_SYMBOLS],
    ) -> Result<(), Error> {
        self.state = State::Coded;
        let built = self.literals.build(literals).and_then(|()| self.distances.build(distances));
        built.map_err(|Oversubscribed| self.corrupt("a prefix code with too many symbols"))
    }

    fn read_code_header(&mut self) -> Result<CodeHeader, Error> {
        let literal_count = self.need_bits(5)? as usize + 257;
        let distance_count = self.need_bits(5)? as usize + 1;
        let length_code_count = self.need_bits(4)? as usize + 4;
        let mut length_code = [0; 19];
        for &symbol in &LENGTH_ORDER[..length_code_count] {
            length_code[symbol] = self.need_bits(3)? as u8;
        }
        let mut table = DecodeTable::new(7);
        table
            .build(&length_code)
            .map_err(|Oversubscribed| self.corrupt("a prefix code with too many symbols"))?;
        let total = literal_count + distance_count;
        let mut lengths = Vec::with_capacity(total);
        let mut steps = Vec::with_capacity(total);
        while lengths.len() < total {
            let symbol = self.look_up(&table)? as u8;
            let (extra_bits, least) = LengthStep::extra(symbol);
            let count = least + self.need_bits(extra_bits)? as u8;
            let value = match symbol {
                16 => *lengths.last().ok_or_else(|| self.corrupt("a repeat of no length"))?,
                17 | 18 => 0,
                length => length,
            };
            steps.push(LengthStep { symbol, count });
            lengths.extend(std::iter::repeat_n(value, usize::from(count)));
        }
        if lengths.len() > total {
            return Err(self.corrupt("more code lengths than announced"));
        }
        let mut literals = [0; LITERAL_SYMBOLS];
        let mut distances = [0; DISTANCE_SYMBOLS];
        literals[..literal_count].copy_from_slice(&lengths[..literal_count]);
        distances[..distance_count].copy_from_slice(&lengths[literal_count..]);
        Ok(CodeHeader {
            literal_count,
            distance_count,
            length_code_count,
            length_code,
            steps,
            literals,
            distances,
        })
    }

    fn look_up(&mut self, table: &DecodeTable) -> Result<usize, Error> {
        self.bits.refill()?;
        let (symbol, bits) = table.look_up(self.bits.peek());
        if bits == 0 {
            return Err(self.corrupt("bits that are no code"));
        }
        if bits > self.bits.available() {
            return Err(Error::Truncated { plain_bytes: self.plain_bytes });
        }
        self.bits.consume(bits);
        Ok(symbol)
    }

    fn stored(&mut self, rest: usize, plain: &mut Plain) -> Result<(), Error> {
        let limit = rest.min(STEP_STORED_BYTES);
        let copied = self.bits.bytes(limit, plain.tail())?;
        if copied < limit {
            return Err(Error::Truncated { plain_bytes: self.plain_bytes + copied as u64 });
        }
        self.state = match rest - limit {
            0 => State::BetweenBlocks,
            rest => State::Stored { rest },
        };
        Ok(())
    }

    fn coded(&mut self, feed: &mut Feed, plain: &mut Plain) -> Result<(), Error> {
        // Where the member begins in the buffer, as far as that is still inside.
        let first = self.member_start.saturating_sub(plain.start()) as usize;
        let before = feed.tokens.len();
        let out = plain.tail();
        for _ in 0..STEP_TOKENS {
            self.bits.refill()?;
            let mut bits = self.bits.peek();
            let available = self.bits.available();
            let (symbol, mut width) = self.literals.look_up(bits);
            if width == 0 || width > available {
                return Err(self.no_code(available < 15));
            }
            if symbol < END_OF_BLOCK {
                self.bits.consume(width);
                out.push(symbol as u8);
                feed.tokens.push(Token::literal(symbol as u8));
                continue;
            }
            if symbol == END_OF_BLOCK {
                self.bits.consume(width);
                self.state = State::BetweenBlocks;
                break;
            }
            let code = symbol - 257;
            if code >= LENGTH_BASE.len() {
                return Err(self.corrupt("a length symbol without meaning"));
            }
            bits >>= width;
            let extra_bits = u32::from(LENGTH_EXTRA[code]);
            let extra = (bits & ((1 << extra_bits) - 1)) as usize;
            let length = usize::from(LENGTH_BASE[code]) + extra;
            bits >>= extra_bits;
            width += extra_bits;
            let (distance_code, distance_width) = self.distances.look_up(bits);
            if distance_width == 0 {
                return Err(self.no_code(available < 48));
            }
            if distance_code >= DISTANCE_BASE.len() {
                return Err(self.corrupt("a distance symbol without meaning"));
            }
            bits >>= distance_width;
            let extra_bits = u32::from(DISTANCE_EXTRA[distance_code]);
            let extra = (bits & ((1 << extra_bits) - 1)) as usize;
            let distance = usize::from(DISTANCE_BASE[distance_code]) + extra;
            width += distance_width + extra_bits;
            if width > available {
                return Err(self.no_code(true));
            }
            self.bits.consume(width);
            if distance > (out.len() - first).min(MAX_DISTANCE) {
                return Err(self.corrupt("a match from before the beginning"));
            }
            let token = if code == 27 && length == 258 {
                Token::matched_long_way(distance)
            } else {
                Token::matched(length, distance)
            };
            copy_match(out, length, distance);
            feed.tokens.push(token);
        }
        let added = feed.tokens.len() - before;
        if let Some(block) = feed.blocks.back_mut() {
            block.tokens += added as u64;
        }
        Ok(())
    }

    fn no_code(&self, is_end: bool) -> Error {
        if is_end {
            Error::Truncated { plain_bytes: self.plain_bytes }
        } else {
            self.corrupt("bits that are no code")
        }
    }
}

fn copy_match(out: &mut Vec<u8>, length: usize, distance: usize) {
    let from = out.len() - distance;
    if distance >= length {
        out.extend_from_within(from..from + length);
        return;
    }
    if distance == 1 {
        let byte = out[from];
        out.resize(out.len() + length, byte);
        return;
    }
    for index in from..from + length {
        out.push(out[index]);
    }
}
