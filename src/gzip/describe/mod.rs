//! The one description of a gzip stream that both directions follow.
//!
//! [`Describer`] walks through a stream member by member, block by block, token by token, and passes every decision through a
//! [`Coder`]. While a stream is analysed the decisions come from the parsed stream; while it is rebuilt they come from
//! the recipe. Which of both is the business of a [`Side`].

mod side;
mod span;

pub use self::side::{BlockStart, Cut, EndsBlock, Grid, Side, Span};
use super::error::Error;
use super::feed::{Block, BlockKind};
use super::header::HeaderCoder;
use super::huffman::CodeStyle;
use super::miss::MissCoder;
use super::model::{Boundary, Model, Parameters, SURETIES, View};
use super::plain::Plain;
use super::range::{Bit, Coder, Number, Tree};
use super::token::Token;

/// How far ahead it is known at once whether the input is cut.
const STRIDE: u64 = 64 << 10;
/// More blocks without content in one place are refused.
const MAX_EMPTY_BLOCKS: usize = 60 << 10;
/// The contexts of how many empty blocks there were in a place.
const EMPTY_CONTEXTS: usize = 12;

/// Everything that adapts along a recipe.
struct Contexts {
    kind: [[Bit; 2]; 4],
    is_last: [Bit; 2],
    is_padded: Bit,
    stored_same: Bit,
    stored_size: Tree<16>,
    cut: Bit,
    cut_end: Bit,
    empty: Vec<[Bit; 8]>,
    early: [Bit; 2],
    early_count: Number,
    ends: Bit,
    only_literals: [Bit; 2],
    miss: Vec<Bit>,
    misses: MissCoder,
    headers: HeaderCoder,
}

impl Contexts {
    fn new() -> Self {
        Self {
            kind: [[Bit::QUICK; 2]; 4],
            is_last: [Bit::STEADY; 2],
            is_padded: Bit::STEADY,
            stored_same: Bit::QUICK,
            stored_size: Tree::default(),
            cut: Bit::STEADY,
            cut_end: Bit::QUICK,
            empty: vec![[Bit::QUICK; 8]; EMPTY_CONTEXTS],
            early: [Bit::QUICK; 2],
            early_count: Number::default(),
            ends: Bit::QUICK,
            only_literals: [Bit::QUICK; 2],
            miss: vec![Bit::STEADY; SURETIES],
            misses: MissCoder::default(),
            headers: HeaderCoder::default(),
        }
    }
}

/// Walks through members.
pub struct Describer<C, S> {
    /// Passes the decisions through.
    pub coder: C,
    /// Where they come from or go to.
    pub side: S,
    /// The plain bytes that are held.
    pub plain: Plain,
    contexts: Box<Contexts>,
    position: u64,
    former_kind: usize,
    former_stored: u64,
    /// Whether no model was believed.
    is_certain: bool,
    /// The tokens of the current span.
    span: Vec<Token>,
}

/// What is known of one member while it is walked through.
struct Walk<'m> {
    model: &'m mut dyn Model,
    parameters: Parameters,
    grid: Grid,
    /// Where the encoder's current input began.
    segment: u64,
    /// Before this it is known where the input is cut.
    known: u64,
    cut: Option<Cut>,
    lookahead: u64,
    /// Up to this position nothing has to be prepared.
    ready: u64,
    /// Where the member began.
    origin: u64,
    /// Whether the model was right so far.
    is_right: bool,
    /// Whether the model is not asked any more, but taken to say what is in the stream.
    is_believed: bool,
}

impl Walk<'_> {
    /// Where the encoder's input ends, as far as known.
    fn end(&self) -> u64 {
        let cut = self.cut.map_or(u64::MAX, |cut| cut.position);
        if self.grid.bytes == 0 {
            return cut;
        }
        let chunks = (self.segment - self.grid.origin) / self.grid.bytes + 1;
        cut.min(self.grid.origin + chunks * self.grid.bytes)
    }

    fn is_at_end(&self, position: u64) -> bool {
        self.cut == Some(Cut { position, is_end: true })
    }
}

impl<C: Coder, S: Side> Describer<C, S> {
    /// Begins at `position`.
    pub fn new(coder: C, side: S, plain: Plain, position: u64) -> Self {
        Self {
            coder,
            side,
            plain,
            contexts: Box::new(Contexts::new()),
            position,
            former_kind: 3,
            former_stored: 0,
            is_certain: true,
            span: Vec::new(),
        }
    }

    /// The position in the plain bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether everything was compared with what a model says.
    pub fn is_certain(&self) -> bool {
        self.is_certain
    }

    /// Walks through one member's blocks.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a recipe that describes no stream, and what the two sides can run into.
    pub fn member(&mut self, parameters: &Parameters, model: &mut dyn Model) -> Result<(), Error> {
        let origin = self.position;
        let lookahead = model.lookahead() as u64;
        let bytes = parameters.chunks.map_or(0, |chunks| u64::from(chunks.bytes));
        let mut walk = Walk {
            model,
            parameters: *parameters,
            grid: Grid { origin, bytes },
            segment: origin,
            known: origin,
            cut: None,
            lookahead,
            ready: origin,
            origin,
            is_right: parameters.kind.is_one_encoder(),
            is_believed: false,
        };
        self.prepare(&mut walk)?;
        let view = View::new(&self.plain, walk.end());
        walk.model.restart(&view, origin, 0);
        loop {
            self.prepare(&mut walk)?;
            let is_between = self.position >= walk.end();
            let is_last = if is_between { self.empty_blocks()? } else { self.block(&mut walk)? };
            match (is_last, walk.is_at_end(self.position)) {
                (true, true) => return Ok(()),
                (true, false) => {
                    return Err(Error::Recipe { found: "a last block before the end" });
                }
                (false, true) if is_between => {
                    return Err(Error::Recipe { found: "an end without a last block" });
                }
                _ if is_between => self.next_segment(&mut walk)?,
                _ => {}
            }
        }
    }

    /// Finds out where the input is cut as far ahead as the model looks, and has the plain bytes up to there at hand.
    fn prepare(&mut self, walk: &mut Walk<'_>) -> Result<(), Error> {
        while walk.cut.is_none() && walk.known <= self.position + walk.lookahead {
            let (from, to) = (walk.known, walk.known + STRIDE);
            let actual = self.side.next_cut(&mut self.plain, from, to, walk.grid)?;
            let contexts = &mut self.contexts;
            walk.known = to;
            if self.coder.bit(&mut contexts.cut, actual.is_some())? {
                let actual = actual.unwrap_or(Cut { position: from, is_end: false });
                let offset = self.coder.even_bits(16, actual.position - from)?;
                let is_end = self.coder.bit(&mut contexts.cut_end, actual.is_end)?;
                let position = from + offset;
                walk.cut = Some(Cut { position, is_end });
                walk.known = position + 1;
            }
            let reach = walk.cut.map_or(walk.known, |cut| cut.position);
            self.side.reach(&mut self.plain, reach)?;
        }
        walk.ready = match walk.cut {
            // Another chunk or the cut itself ends what is prepared.
            Some(_) => walk.end(),
            None => walk.end().min(walk.known - walk.lookahead),
        };
        self.plain.forget_before(self.position);
        Ok(())
    }

    /// The input was cut at the current position: a new one begins.
    fn next_segment(&mut self, walk: &mut Walk<'_>) -> Result<(), Error> {
        let position = self.position;
        let view = View::new(&self.plain, position);
        let is_flush = walk.cut.is_some_and(|cut| cut.position <= position);
        if is_flush {
            if walk.cut != Some(Cut { position, is_end: false }) {
                return Err(Error::Recipe { found: "a token across a flush" });
            }
            walk.cut = None;
            walk.grid.origin = position;
        }
        let chunks = walk.parameters.chunks;
        let dictionary = chunks.map_or(0, |chunks| u64::from(chunks.dictionary_bytes));
        let dictionary =
            dictionary.min(position - walk.segment).min(position - view.start) as usize;
        walk.segment = position;
        walk.ready = position;
        if chunks.is_none() {
            if !walk.is_believed {
                walk.model.flush(&view, position);
            }
            return Ok(());
        }
        self.prepare(walk)?;
        if !walk.is_believed {
            let view = View::new(&self.plain, walk.end());
            walk.model.restart(&view, position, dictionary);
        }
        Ok(())
    }

    /// Blocks without content where the input was cut. Says whether the last of them is the member's last block.
    fn empty_blocks(&mut self) -> Result<bool, Error> {
        for count in 0..MAX_EMPTY_BLOCKS {
            let phase = usize::from(self.side.phase(&mut self.plain)?);
            let is_empty = |block: &Block| block.is_complete && block.plain_bytes == 0;
            let actual = self.side.block(&mut self.plain)?.is_some_and(is_empty);
            let context = &mut self.contexts.empty[count.min(EMPTY_CONTEXTS - 1)][phase];
            if !self.coder.bit(context, actual)? {
                return Ok(false);
            }
            let start = self.block_start(true)?;
            if start.kind == BlockKind::Stored {
                self.side.put_stored(start, &[])?;
            } else {
                self.span.clear();
                self.begin_block(start, CodeStyle::Go)?;
                self.side.put_tokens(&[], EndsBlock::Yes)?;
            }
            if start.is_last {
                return Ok(true);
            }
        }
        Err(Error::Recipe { found: "too many blocks without content" })
    }

    fn block_start(&mut self, is_empty: bool) -> Result<BlockStart, Error> {
        let actual = self
            .side
            .block(&mut self.plain)?
            .map(|block| (block.kind, block.is_last, block.padding));
        let (kind, is_last, padding) = actual.unwrap_or((BlockKind::Stored, false, 0));
        let contexts = &mut self.contexts;
        let bits = &mut contexts.kind[if is_empty { 3 } else { self.former_kind.min(2) }];
        let kind = if self.coder.bit(&mut bits[0], kind != BlockKind::Dynamic)? {
            let is_stored = kind == BlockKind::Stored;
            if self.coder.bit(&mut bits[1], is_stored)? {
                BlockKind::Stored
            } else {
                BlockKind::Fixed
            }
        } else {
            BlockKind::Dynamic
        };
        if !is_empty {
            self.former_kind = kind as usize;
        }
        let is_last = self.coder.bit(&mut contexts.is_last[usize::from(is_empty)], is_last)?;
        let mut start = BlockStart { kind, is_last, padding: 0 };
        if kind == BlockKind::Stored && self.coder.bit(&mut contexts.is_padded, padding != 0)? {
            start.padding = self.coder.even_bits(7, u64::from(padding))? as u8;
        }
        Ok(start)
    }

    /// One block with content. Says whether it is the member's last.
    fn block(&mut self, walk: &mut Walk<'_>) -> Result<bool, Error> {
        let start = self.block_start(false)?;
        if start.kind == BlockKind::Stored {
            self.stored(walk, start)?;
            return Ok(start.is_last);
        }
        let mut is_first = true;
        loop {
            let ends = self.span(walk, start, is_first)?;
            is_first = false;
            if ends == EndsBlock::Yes {
                return Ok(start.is_last);
            }
            self.prepare(walk)?;
            if self.position >= walk.end() {
                self.next_segment(walk)?;
                self.prepare(walk)?;
            }
        }
    }

    fn stored(&mut self, walk: &mut Walk<'_>, start: BlockStart) -> Result<(), Error> {
        let actual = self.side.block(&mut self.plain)?.map_or(0, |block| block.plain_bytes);
        let expected = match walk.parameters.boundary {
            Boundary::Units(bytes) => self.unit_end(walk, bytes) - self.position,
            Boundary::Tokens(_) => self.former_stored,
        };
        let contexts = &mut self.contexts;
        let size = if self.coder.bit(&mut contexts.stored_same, actual == expected)? {
            expected
        } else {
            self.coder.symbol(&mut contexts.stored_size, actual as usize)? as u64
        };
        if size == 0 || size > 0xffff {
            return Err(Error::Recipe { found: "a stored block of an impossible size" });
        }
        self.former_stored = size;
        let end = self.position + size;
        self.side.reach(&mut self.plain, end)?;
        self.side.put_stored(start, self.plain.range(self.position, end))?;
        while self.position < end {
            self.prepare(walk)?;
            if self.position >= walk.end() {
                self.next_segment(walk)?;
                continue;
            }
            self.run_silently(walk, end, None)?;
        }
        Ok(())
    }

    fn unit_end(&self, walk: &Walk<'_>, bytes: u32) -> u64 {
        let bytes = u64::from(bytes);
        let units = (self.position - walk.segment) / bytes + 1;
        (walk.segment + units * bytes).min(walk.end())
    }
}
