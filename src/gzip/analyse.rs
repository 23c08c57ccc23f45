//! From a gzip stream to its plain bytes and its recipe.

use std::io::{Read, Write};

use super::RECIPE_MAGIC;
use super::choose::choose;
use super::code::CodeHeader;
use super::describe::{BlockStart, Cut, Describer, EndsBlock, Grid, Side, Span};
use super::error::Error;
use super::feed::{Block, Feed};
use super::inflate::{Next, Parser};
use super::model::{Model, Parameters};
use super::plain::Plain;
use super::range::{Bit, Coder, Encoder, Number, Tree};
use super::token::Token;

/// When a recipe does not pay, and how closely a stream is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest recipe that pays, in thousandths of the gzip stream.
    pub recipe_permille: u64,
    /// A recipe of up to this many bytes always pays.
    pub free_bytes: u64,
    /// After how many plain bytes of a member a model that was right in every decision is believed for the rest of it, which
    /// takes a fraction of the time. Such a recipe is right only if [`rebuild`](super::rebuild) gives the stream from it:
    /// see [`Analysis::is_certain`].
    pub compared_bytes: u64,
}

impl Default for Limits {
    /// 12 %, and no refusal below 512 bytes; everything is compared.
    fn default() -> Self {
        Self { recipe_permille: 120, free_bytes: 512, compared_bytes: u64::MAX }
    }
}

/// Nothing is given up before this much of the gzip stream was seen: the beginning costs most.
const FAIR_TRIAL_BYTES: u64 = 1 << 20;

/// What was found out about a gzip stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// How many plain bytes it holds.
    pub plain_bytes: u64,
    /// How long it is.
    pub gzip_bytes: u64,
    /// How long its recipe is.
    pub recipe_bytes: u64,
    /// Whether the recipe was compared with the whole stream. If not, it may be wrong.
    pub is_certain: bool,
}

/// Writes the plain bytes of `gzip` to `plain` and what rebuilds `gzip` from them to `recipe`.
///
/// Both outputs are written while `gzip` is read, and are worth nothing after an error.
///
/// # Errors
/// [`Error::NotGzip`], [`Error::Truncated`] and [`Error::Corrupt`] for streams that are not valid gzip;
/// [`Error::NotWorthIt`] where the recipe passes `limits`; what reading and writing run into.
pub fn analyse<R: Read, P: Write, W: Write>(
    gzip: R,
    plain: P,
    mut recipe: W,
    limits: &Limits,
) -> Result<Analysis, Error> {
    recipe.write_all(&RECIPE_MAGIC).map_err(Error::WriteRecipe)?;
    let side = Parsed::new(gzip, plain, limits);
    let mut describer = Describer::new(Encoder::new(recipe), side, Plain::default(), 0);
    let mut contexts = StreamContexts::default();
    let mut former: Option<(Parameters, Box<dyn Model>)> = None;
    let mut header = Vec::new();
    loop {
        let actual = describer.side.parser()?.begin_member()?;
        header = contexts.header(&mut describer.coder, &header, &actual)?;
        describer.side.feed = Feed::default();
        let parameters = choose(
            &mut describer.side,
            &mut describer.plain,
            &header,
            former.as_ref().map(|f| f.0),
        )?;
        let mut model = match former {
            Some((same, model)) if same == parameters => model,
            _ => parameters.model(),
        };
        contexts.parameters(&mut describer.coder, parameters)?;
        describer.member(&parameters, &mut *model)?;
        former = Some((parameters, model));
        let (padding, next) = describer.side.parser()?.end_member()?;
        contexts.padding(&mut describer.coder, padding)?;
        let is_over = describer.coder.bit(&mut contexts.is_last, next != Next::Member)?;
        let (position, recipe_bytes) = (describer.position(), describer.coder.recipe_bytes());
        describer.side.weigh(position, recipe_bytes)?;
        if is_over {
            break;
        }
    }
    let mut parser = describer.side.take_parser()?;
    while let Some(byte) = parser.garbage()? {
        contexts.garbage(&mut describer.coder, Some(byte))?;
    }
    contexts.garbage(&mut describer.coder, None)?;
    let is_certain = describer.is_certain();
    let (plain_bytes, gzip_bytes) = (parser.plain_bytes(), parser.gzip_bytes());
    parser.finish()?;
    let (mut recipe, coded_bytes) = describer.coder.finish()?;
    recipe.flush().map_err(Error::WriteRecipe)?;
    let recipe_bytes = coded_bytes + RECIPE_MAGIC.len() as u64;
    if recipe_bytes > limits.most(gzip_bytes) {
        return Err(Error::NotWorthIt { recipe_bytes, gzip_bytes });
    }
    Ok(Analysis { plain_bytes, gzip_bytes, recipe_bytes, is_certain })
}

impl Limits {
    fn most(&self, gzip_bytes: u64) -> u64 {
        self.free_bytes.max(gzip_bytes.saturating_mul(self.recipe_permille) / 1000)
    }
}

/// What adapts along a stream, between its members.
#[derive(Default)]
pub struct StreamContexts {
    is_other_header: Bit,
    header_length: Number,
    header_byte: Tree<8>,
    is_other_model: Bit,
    parameters: Option<Parameters>,
    is_padded: Bit,
    is_last: Bit,
    has_garbage: Bit,
    garbage_byte: Tree<8>,
}

impl StreamContexts {
    /// Passes a member's header.
    pub fn header<C: Coder>(
        &mut self,
        coder: &mut C,
        former: &[u8],
        actual: &[u8],
    ) -> Result<Vec<u8>, Error> {
        if !coder.bit(&mut self.is_other_header, former != actual)? {
            return Ok(former.to_vec());
        }
        let length = coder.number(&mut self.header_length, actual.len() as u64)?;
        if length > super::member::MAX_HEADER_BYTES as u64 + (64 << 10) + 16 {
            return Err(Error::Recipe { found: "a header without end" });
        }
        let mut header = Vec::with_capacity(length as usize);
        for index in 0..length as usize {
            let byte = actual.get(index).copied().unwrap_or(0);
            header.push(coder.symbol(&mut self.header_byte, usize::from(byte))? as u8);
        }
        Ok(header)
    }

    /// Passes the model of a member.
    pub fn parameters<C: Coder>(
        &mut self,
        coder: &mut C,
        actual: Parameters,
    ) -> Result<Parameters, Error> {
        let differs = self.parameters != Some(actual);
        let is_other = coder.bit(&mut self.is_other_model, differs)?;
        let parameters = match self.parameters {
            Some(former) if !is_other => former,
            _ => actual.code(coder)?,
        };
        self.parameters = Some(parameters);
        Ok(parameters)
    }

    /// Passes the bits behind the last block.
    pub fn padding<C: Coder>(&mut self, coder: &mut C, actual: u8) -> Result<u8, Error> {
        if coder.bit(&mut self.is_padded, actual != 0)? {
            return Ok(coder.even_bits(7, u64::from(actual))? as u8);
        }
        Ok(0)
    }

    /// Passes whether another member follows.
    pub fn is_last<C: Coder>(&mut self, coder: &mut C) -> Result<bool, Error> {
        coder.bit(&mut self.is_last, false)
    }

    /// Passes one byte behind the last member, or their end.
    pub fn garbage<C: Coder>(
        &mut self,
        coder: &mut C,
        actual: Option<u8>,
    ) -> Result<Option<u8>, Error> {
        if !coder.bit(&mut self.has_garbage, actual.is_some())? {
            return Ok(None);
        }
        let byte = coder.symbol(&mut self.garbage_byte, usize::from(actual.unwrap_or(0)))?;
        Ok(Some(byte as u8))
    }
}

/// The side that knows what comes: a stream that is being parsed, or a sample of one.
pub struct Parsed<R, P> {
    /// What more comes from; nothing for a sample.
    parser: Option<Parser<R, P>>,
    feed: Feed,
    limits: Limits,
    /// Where a sample ends, and when it is too expensive to go on.
    sample_end: u64,
    sample_bytes: u64,
}

impl<R: Read, P: Write> Parsed<R, P> {
    fn new(gzip: R, plain: P, limits: &Limits) -> Self {
        Self {
            parser: Some(Parser::new(gzip, plain)),
            feed: Feed::default(),
            limits: *limits,
            sample_end: 0,
            sample_bytes: 0,
        }
    }

    fn parser(&mut self) -> Result<&mut Parser<R, P>, Error> {
        self.parser.as_mut().ok_or(Error::SampleEnd)
    }

    fn take_parser(&mut self) -> Result<Parser<R, P>, Error> {
        self.parser.take().ok_or(Error::SampleEnd)
    }

    /// What waits to be described.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What was parsed so far, to try models on up to `end`, as long as their recipe is below `bytes`.
    pub fn sample(&self, end: u64, bytes: u64) -> Self {
        Self {
            parser: None,
            feed: self.feed.clone(),
            limits: self.limits,
            sample_end: end,
            sample_bytes: bytes,
        }
    }

    /// Parses one step further.
    pub fn more(&mut self, plain: &mut Plain) -> Result<(), Error> {
        let parser = self.parser.as_mut().ok_or(Error::SampleEnd)?;
        parser.step(&mut self.feed, plain)
    }

    /// Parses until the first block has this much, or is whole.
    fn more_of_block(
        &mut self,
        plain: &mut Plain,
        is_enough: impl Fn(&Block) -> bool,
    ) -> Result<(), Error> {
        loop {
            match self.feed.blocks.front() {
                Some(block) if block.is_complete || is_enough(block) => return Ok(()),
                None if self.feed.is_whole => return Ok(()),
                _ => self.more(plain)?,
            }
        }
    }

    /// Whether the input was cut behind the first block, which is complete.
    fn is_cut_behind(&mut self, plain: &mut Plain) -> Result<bool, Error> {
        loop {
            match self.feed.blocks.get(1) {
                Some(next) if next.plain_bytes > 0 => return Ok(false),
                Some(next) if next.is_complete => return Ok(true),
                None if self.feed.is_whole => return Ok(true),
                _ => self.more(plain)?,
            }
        }
    }
}

impl<R: Read, P: Write> Side for Parsed<R, P> {
    fn reach(&mut self, plain: &mut Plain, position: u64) -> Result<(), Error> {
        while plain.end() < position && !self.feed.is_whole {
            self.more(plain)?;
        }
        Ok(())
    }

    fn next_cut(
        &mut self,
        plain: &mut Plain,
        from: u64,
        to: u64,
        grid: Grid,
    ) -> Result<Option<Cut>, Error> {
        self.reach(plain, to)?;
        let end = self.feed.is_whole.then_some(plain.end());
        let is_empty = |block: &&Block| block.is_complete && block.plain_bytes == 0;
        let flush = self
            .feed
            .blocks
            .iter()
            .filter(is_empty)
            .map(|block| block.start)
            .find(|&start| start >= from && (end == Some(start) || !grid.has(start)));
        let position = match (flush, end) {
            (Some(flush), Some(end)) => flush.min(end),
            (Some(position), None) | (None, Some(position)) => position,
            (None, None) => return Ok(None),
        };
        let cut = Cut { position, is_end: end == Some(position) };
        Ok((position >= from && position < to).then_some(cut))
    }

    fn block(&mut self, plain: &mut Plain) -> Result<Option<&Block>, Error> {
        self.more_of_block(plain, |block| block.plain_bytes > 0)?;
        Ok(self.feed.blocks.front())
    }

    fn ends_early(
        &mut self,
        plain: &mut Plain,
        span: Span,
        grid: Grid,
    ) -> Result<Option<u64>, Error> {
        match span {
            Span::Tokens(count) => {
                self.more_of_block(plain, |block| block.tokens >= count)?;
                let Some(block) = self.feed.blocks.front() else { return Ok(None) };
                let (rest, end) = (block.tokens, block.start + block.plain_bytes);
                let is_regular = !block.is_complete || rest >= count || grid.has(end);
                Ok((!is_regular && !self.is_cut_behind(plain)?).then_some(rest))
            }
            Span::Until(position) => {
                self.more_of_block(plain, |block| block.start + block.plain_bytes >= position)?;
                let Some(block) = self.feed.blocks.front() else { return Ok(None) };
                let ends = block.is_complete && block.start + block.plain_bytes < position;
                Ok(ends.then_some(block.tokens))
            }
        }
    }

    fn phase(&mut self, plain: &mut Plain) -> Result<u8, Error> {
        Ok(self.block(plain)?.map_or(0, |block| block.phase))
    }

    fn has_only_literals(&mut self, from: u64, to: u64) -> bool {
        let tokens = self.feed.tokens();
        tokens.iter().take((to - from) as usize).all(|token| token.is_literal())
    }

    fn token(&self, index: usize) -> Option<Token> {
        self.feed.tokens().get(index).copied()
    }

    fn is_over(&mut self, plain: &mut Plain, used: usize) -> Result<bool, Error> {
        let used = used as u64;
        self.more_of_block(plain, |block| block.tokens > used)?;
        Ok(self.feed.blocks.front().is_some_and(|block| block.is_complete && block.tokens == used))
    }

    fn put_stored(&mut self, _start: BlockStart, _plain: &[u8]) -> Result<(), Error> {
        self.feed.blocks.pop_front();
        Ok(())
    }

    fn begin_block(
        &mut self,
        _start: BlockStart,
        _header: Option<&CodeHeader>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn put_tokens(&mut self, tokens: &[Token], ends: EndsBlock) -> Result<(), Error> {
        self.feed.use_tokens(tokens.len());
        if ends == EndsBlock::Yes {
            self.feed.blocks.pop_front();
        } else if let Some(block) = self.feed.blocks.front_mut() {
            block.tokens -= tokens.len() as u64;
        }
        Ok(())
    }

    fn believes_after(&self, bytes: u64) -> bool {
        self.parser.is_some() && bytes >= self.limits.compared_bytes
    }

    fn weigh(&mut self, position: u64, recipe_bytes: u64) -> Result<(), Error> {
        let Some(parser) = &self.parser else {
            let is_enough = position >= self.sample_end || recipe_bytes > self.sample_bytes;
            return if is_enough { Err(Error::SampleEnd) } else { Ok(()) };
        };
        let gzip_bytes = parser.gzip_bytes();
        if gzip_bytes > FAIR_TRIAL_BYTES && recipe_bytes > self.limits.most(gzip_bytes) {
            return Err(Error::NotWorthIt { recipe_bytes, gzip_bytes });
        }
        Ok(())
    }
}
