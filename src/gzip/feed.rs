//! What was taken apart of a gzip stream and is still to be described.

use std::collections::VecDeque;

use super::code::CodeHeader;
use super::token::Token;

/// How a block is coded (RFC 1951, section 3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// As it is.
    Stored,
    /// With the fixed codes.
    Fixed,
    /// With codes of its own.
    Dynamic,
}

/// One block, perhaps only begun.
#[derive(Clone, Debug)]
pub struct Block {
    /// How it is coded.
    pub kind: BlockKind,
    /// Whether it says that it is the last.
    pub is_last: bool,
    /// How many bits of its first byte belong to what is before it.
    pub phase: u8,
    /// The bits between the header of a stored block and its length.
    pub padding: u8,
    /// The header of a dynamic block.
    pub header: Option<Box<CodeHeader>>,
    /// How many of its tokens are in the feed.
    pub tokens: u64,
    /// Where its plain bytes begin.
    pub start: u64,
    /// How many of its plain bytes are in the feed.
    pub plain_bytes: u64,
    /// Whether all of it is in the feed.
    pub is_complete: bool,
}

/// What was taken apart and is still to be described.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    /// The blocks, the first one perhaps partly used up.
    pub blocks: VecDeque<Block>,
    pub(super) tokens: Vec<Token>,
    used: usize,
    /// Whether the member's last block is in the feed.
    pub is_whole: bool,
}

/// How many used tokens may pile up.
const TOKEN_SLACK: usize = 64 << 10;
impl Feed {
    /// The tokens that wait.
    #[inline]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens[self.used..]
    }

    /// Drops `count` tokens.
    #[inline]
    pub fn use_tokens(&mut self, count: usize) {
        self.used += count;
        if self.used > TOKEN_SLACK && self.used * 2 > self.tokens.len() {
            self.tokens.drain(..self.used);
            self.used = 0;
        }
    }
}
