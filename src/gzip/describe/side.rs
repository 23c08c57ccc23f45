//! What the description is drawn from or told to: a stream that was parsed, or one that is written.

use crate::gzip::code::CodeHeader;
use crate::gzip::error::Error;
use crate::gzip::feed::{Block, BlockKind};
use crate::gzip::plain::Plain;
use crate::gzip::token::Token;

/// What follows in the stream, or what has to be written next.
///
/// The methods that answer are only asked while analysing; rebuilding, any answer will do, as the recipe has the true one.
pub trait Side {
    /// Makes the plain bytes up to `position` available.
    fn reach(&mut self, plain: &mut Plain, position: u64) -> Result<(), Error>;

    /// The first place from `from` up to `to` where the encoder's input was cut without being on the grid, and whether the
    /// member ends there.
    fn next_cut(
        &mut self,
        plain: &mut Plain,
        from: u64,
        to: u64,
        grid: Grid,
    ) -> Result<Option<Cut>, Error>;

    /// The block that comes next or is going on; no answer where the member is over.
    fn block(&mut self, plain: &mut Plain) -> Result<Option<&Block>, Error>;

    /// How many tokens the current block still has, where it ends neither with `span` nor at a cut, but before.
    fn ends_early(
        &mut self,
        plain: &mut Plain,
        span: Span,
        grid: Grid,
    ) -> Result<Option<u64>, Error>;

    /// How many bits of the current byte are taken.
    fn phase(&mut self, plain: &mut Plain) -> Result<u8, Error>;

    /// Whether no match begins in the current block between `from` and `to`.
    fn has_only_literals(&mut self, from: u64, to: u64) -> bool;

    /// The token that comes `index` tokens behind the next one.
    fn token(&self, index: usize) -> Option<Token>;

    /// Whether the current block is over behind `used` tokens more.
    fn is_over(&mut self, plain: &mut Plain, used: usize) -> Result<bool, Error>;

    /// A stored block with these plain bytes.
    fn put_stored(&mut self, start: BlockStart, plain: &[u8]) -> Result<(), Error>;

    /// A block with codes begins; its header is final now.
    fn begin_block(&mut self, start: BlockStart, header: Option<&CodeHeader>) -> Result<(), Error>;

    /// These tokens are final; perhaps the block ends behind them.
    fn put_tokens(&mut self, tokens: &[Token], ends: EndsBlock) -> Result<(), Error>;

    /// Whether a model that was right for `bytes` plain bytes of a member is believed for the rest of it.
    fn believes_after(&self, bytes: u64) -> bool;

    /// At `position` the recipe has grown to `recipe_bytes`: does it still pay?
    fn weigh(&mut self, position: u64, recipe_bytes: u64) -> Result<(), Error>;
}

/// Whether a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndsBlock {
    /// It does.
    Yes,
    /// It goes on.
    No,
}

/// Where an encoder that works in chunks is cut without a flush: at every multiple of `bytes` behind `origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Where chunks are counted from.
    pub origin: u64,
    /// How many plain bytes a chunk has; 0 where there are no chunks.
    pub bytes: u64,
}

impl Grid {
    /// Whether a chunk ends at `position`.
    pub fn has(self, position: u64) -> bool {
        self.bytes != 0
            && position > self.origin
            && (position - self.origin).is_multiple_of(self.bytes)
    }
}

/// Where an encoder's input was cut by a flush or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The position.
    pub position: u64,
    /// Whether the member ends there.
    pub is_end: bool,
}

/// A stretch of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// This many tokens, or up to a cut.
    Tokens(u64),
    /// Up to the first token that ends at this position or behind it.
    Until(u64),
}

/// The first bits of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStart {
    /// How it is coded.
    pub kind: BlockKind,
    /// Whether it is the last.
    pub is_last: bool,
    /// What fills the byte in front of a stored block's length.
    pub padding: u8,
}
