//! Passes the tokens of one stretch of a block, and the block's header behind its first one.

use super::side::{BlockStart, EndsBlock, Side, Span};
use super::{Describer, Walk};
use crate::gzip::error::Error;
use crate::gzip::feed::BlockKind;
use crate::gzip::huffman::CodeStyle;
use crate::gzip::miss::Miss;
use crate::gzip::model::{Boundary, MAX_SPAN_TOKENS, Prediction, View};
use crate::gzip::range::Coder;
use crate::gzip::token::{Histogram, MIN_MATCH, Token};

/// What a cut of the input does to a run of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CutIs {
    /// It ends the run.
    TheEnd,
    /// The run goes on in the next input.
    PassedOver,
}

impl<C: Coder, S: Side> Describer<C, S> {
    /// Lets the model go on to `end` (or the segment's end) without comparing: what it says is dropped, or said in
    /// literals.
    pub(super) fn run_silently(
        &mut self,
        walk: &mut Walk<'_>,
        end: u64,
        mut literals: Option<&mut Vec<Token>>,
    ) -> Result<(), Error> {
        while self.position < end {
            if self.position >= walk.ready {
                self.prepare(walk)?;
                if self.position >= walk.end() {
                    return Ok(());
                }
            }
            let limit = walk.end();
            let view = View::new(&self.plain, limit);
            let rest = end.min(limit) - self.position;
            let index = view.index(self.position);
            if walk.is_believed {
                let bytes = rest.min(walk.ready.saturating_sub(self.position).max(1));
                if let Some(literals) = &mut literals {
                    let bytes = &view.bytes[index..index + bytes as usize];
                    literals.extend(bytes.iter().map(|&byte| Token::literal(byte)));
                }
                self.position += bytes;
                continue;
            }
            let Prediction { token, .. } = walk.model.predict(&view, self.position);
            let bytes = (token.plain_bytes() as u64).min(rest);
            let said = if bytes == token.plain_bytes() as u64 {
                token
            } else if bytes >= MIN_MATCH as u64 {
                Token::matched(bytes as usize, token.distance())
            } else {
                Token::literal(view.bytes[index])
            };
            let bytes = said.plain_bytes();
            if let Some(literals) = &mut literals {
                literals.extend(
                    view.bytes[index..index + bytes].iter().map(|&byte| Token::literal(byte)),
                );
            }
            walk.model.commit(&view, self.position, said);
            self.position += bytes as u64;
        }
        Ok(())
    }

    /// One span of a block with codes.
    pub(super) fn span(
        &mut self,
        walk: &mut Walk<'_>,
        start: BlockStart,
        is_first: bool,
    ) -> Result<EndsBlock, Error> {
        let span = match walk.parameters.boundary {
            Boundary::Tokens(count) => Span::Tokens(u64::from(count)),
            Boundary::Units(bytes) => Span::Until(self.unit_end(walk, bytes)),
        };
        self.span.clear();
        walk.is_believed = walk.is_right && self.side.believes_after(self.position - walk.origin);
        self.is_certain &= !walk.is_believed;
        let early = self.side.ends_early(&mut self.plain, span, walk.grid)?;
        let context = &mut self.contexts.early[usize::from(is_first)];
        let mut style = walk.parameters.style;
        let is_early = self.coder.bit(context, early.is_some())?;
        if is_early {
            let count = early.unwrap_or(1).max(1) - 1;
            let count = self.coder.number(&mut self.contexts.early_count, count)? + 1;
            if count > u64::from(MAX_SPAN_TOKENS) {
                return Err(Error::Recipe { found: "a span of too many tokens" });
            }
            self.run(walk, count, u64::MAX, CutIs::PassedOver)?;
        } else {
            match span {
                Span::Tokens(count) => self.run(walk, count, u64::MAX, CutIs::TheEnd)?,
                Span::Until(end) => {
                    if self.unit(walk, end, is_first)? {
                        style = CodeStyle::Go;
                    }
                }
            }
        }
        if is_first {
            if walk.end() == self.position && style == CodeStyle::GoAll {
                style = CodeStyle::Go;
            }
            self.begin_block(start, style)?;
        }
        let is_over = self.side.is_over(&mut self.plain, self.span.len())?;
        let ends = if is_early || self.coder.bit(&mut self.contexts.ends, is_over)? {
            EndsBlock::Yes
        } else {
            EndsBlock::No
        };
        self.side.put_tokens(&self.span, ends)?;
        self.side.weigh(self.position, self.coder.recipe_bytes())?;
        Ok(ends)
    }

    /// One unit up to `end`. Says whether it was said in literals without matches.
    fn unit(&mut self, walk: &mut Walk<'_>, end: u64, is_first: bool) -> Result<bool, Error> {
        let actual = self.side.has_only_literals(self.position, end);
        let context = &mut self.contexts.only_literals[usize::from(is_first)];
        let has_only_literals = self.coder.bit(context, actual)?;
        if has_only_literals {
            let mut literals = std::mem::take(&mut self.span);
            let done = self.run_silently(walk, end, Some(&mut literals));
            self.span = literals;
            done?;
        } else {
            self.run(walk, u64::MAX, end, CutIs::TheEnd)?;
        }
        Ok(has_only_literals)
    }

    /// Passes up to `count` tokens through, or those up to `end`.
    fn run(&mut self, walk: &mut Walk<'_>, count: u64, end: u64, cut: CutIs) -> Result<(), Error> {
        let mut limit = walk.end();
        for _ in 0..count {
            if self.position >= end {
                break;
            }
            if self.position >= walk.ready {
                self.prepare(walk)?;
                if self.position >= walk.end() {
                    if cut == CutIs::TheEnd {
                        break;
                    }
                    self.next_segment(walk)?;
                    self.prepare(walk)?;
                }
                limit = walk.end();
                if self.position >= limit {
                    return Err(Error::Recipe { found: "a block beyond the end" });
                }
            }
            let view = View::new(&self.plain, limit);
            let actual = self.side.token(self.span.len());
            let prediction = match actual {
                Some(actual) if walk.is_believed => Prediction::new(actual),
                _ => walk.model.predict(&view, self.position),
            };
            let predicted = prediction.token;
            let actual = actual.unwrap_or(predicted);
            let context = &mut self.contexts.miss[usize::from(prediction.surety)];
            let token = if self.coder.bit(context, actual != predicted)? {
                let miss = Miss {
                    view,
                    position: self.position,
                    model: &*walk.model,
                    bound: walk.cut.map_or(self.plain.end(), |cut| cut.position),
                };
                walk.is_right = false;
                self.contexts.misses.pass(&mut self.coder, &miss, prediction, actual)?
            } else {
                predicted
            };
            if !walk.is_believed {
                let view = View::new(&self.plain, limit);
                walk.model.commit(&view, self.position, token);
            }
            self.position += token.plain_bytes() as u64;
            self.span.push(token);
        }
        Ok(())
    }

    pub(super) fn begin_block(&mut self, start: BlockStart, style: CodeStyle) -> Result<(), Error> {
        if start.kind != BlockKind::Dynamic {
            return self.side.begin_block(start, None);
        }
        let histogram = Histogram::of(&self.span);
        let actual = self.side.block(&mut self.plain)?.and_then(|block| block.header.as_deref());
        let header = self.contexts.headers.pass(&mut self.coder, style, &histogram, actual)?;
        self.side.begin_block(start, Some(&header))
    }
}
