//! Passes a token that is not the predicted one.

use super::error::Error;
use super::model::{Model, Prediction, SURETIES, View};
use super::range::{Bit, Coder, Number, Tree};
use super::token::{
    DISTANCE_BASE, DISTANCE_EXTRA, MAX_DISTANCE, MAX_MATCH, MIN_MATCH, Token, distance_code,
};

/// Where a prediction missed.
pub struct Miss<'a> {
    /// The plain bytes.
    pub view: View<'a>,
    /// Where the token begins.
    pub position: u64,
    /// What predicted it.
    pub model: &'a dyn Model,
    /// No token may go beyond this.
    pub bound: u64,
}

/// What adapts along the misses of a recipe.
pub struct MissCoder {
    /// By surety: whether it is not the alternative either.
    is_other: Vec<Bit>,
    /// Where a match was expected: a literal, another length, another distance, another match.
    kind: Tree<2>,
    is_shorter: Bit,
    difference: Number,
    length: Tree<8>,
    long_way: Bit,
    /// By kind: whether the distance is said by its rank, and which one.
    is_unranked: [Bit; 4],
    rank: [Number; 4],
    distance_code: Tree<5>,
}

impl Default for MissCoder {
    fn default() -> Self {
        Self {
            is_other: vec![Bit::QUICK; SURETIES],
            kind: Tree::default(),
            is_shorter: Bit::QUICK,
            difference: Number::default(),
            length: Tree::default(),
            long_way: Bit::QUICK,
            is_unranked: [Bit::QUICK; 4],
            rank: Default::default(),
            distance_code: Tree::default(),
        }
    }
}

const LITERAL: usize = 0;
const OTHER_LENGTH: usize = 1;
const OTHER_DISTANCE: usize = 2;
const OTHER_MATCH: usize = 3;

const BROKEN: Error = Error::Recipe { found: "a match that cannot be" };

impl MissCoder {
    /// Passes `actual`, which is not what was predicted.
    ///
    /// # Errors
    /// Those of [`Coder::bit`]; [`Error::Recipe`] for a match that the plain bytes have no room for.
    pub fn pass<C: Coder>(
        &mut self,
        coder: &mut C,
        miss: &Miss<'_>,
        prediction: Prediction,
        actual: Token,
    ) -> Result<Token, Error> {
        let mut expected = prediction.token;
        if let Some(alternative) = prediction.alternative {
            let is_other = &mut self.is_other[usize::from(prediction.surety)];
            if !coder.bit(is_other, actual != alternative)? {
                return Ok(alternative);
            }
            if expected.is_literal() {
                expected = alternative;
            }
        }
        let kind = if expected.is_literal() {
            OTHER_MATCH
        } else {
            coder.symbol(&mut self.kind, kind_of(expected, actual))?
        };
        if kind == LITERAL {
            return Ok(Token::literal(miss.view.bytes[miss.view.index(miss.position)]));
        }
        let length = match kind {
            OTHER_LENGTH => self.other_length(coder, expected, actual)?,
            OTHER_DISTANCE => expected.length(),
            _ if expected.is_literal() => {
                let length = actual.length().max(MIN_MATCH) - MIN_MATCH;
                coder.symbol(&mut self.length, length)? + MIN_MATCH
            }
            _ => self.other_length(coder, expected, actual)?,
        };
        if length as u64 > miss.bound.saturating_sub(miss.position) || length > MAX_MATCH {
            return Err(BROKEN);
        }
        let is_long_way =
            length == MAX_MATCH && coder.bit(&mut self.long_way, actual.is_long_way())?;
        let distance = match kind {
            OTHER_LENGTH => expected.distance(),
            _ => self.distance(coder, miss, kind, length, actual.distance())?,
        };
        Ok(if is_long_way {
            Token::matched_long_way(distance)
        } else {
            Token::matched(length, distance)
        })
    }

    fn other_length<C: Coder>(
        &mut self,
        coder: &mut C,
        predicted: Token,
        actual: Token,
    ) -> Result<usize, Error> {
        let (predicted, actual) = (predicted.length(), actual.length());
        let is_shorter = coder.bit(&mut self.is_shorter, actual < predicted)?;
        let difference = coder.number(&mut self.difference, predicted.abs_diff(actual) as u64)?;
        let difference = usize::try_from(difference).map_err(|_| BROKEN)?;
        let length = if is_shorter {
            predicted.checked_sub(difference)
        } else {
            predicted.checked_add(difference)
        };
        length.filter(|length| (MIN_MATCH..=MAX_MATCH).contains(length)).ok_or(BROKEN)
    }

    fn distance<C: Coder>(
        &mut self,
        coder: &mut C,
        miss: &Miss<'_>,
        kind: usize,
        length: usize,
        actual: usize,
    ) -> Result<usize, Error> {
        let (view, position) = (&miss.view, miss.position);
        let rank = miss.model.rank(view, position, length, actual);
        let is_unranked = coder.bit(&mut self.is_unranked[kind], rank.is_none())?;
        let distance = if is_unranked {
            self.plain_distance(coder, actual)?
        } else {
            let rank = coder.number(&mut self.rank[kind], rank.unwrap_or(0) as u64)?;
            let rank = usize::try_from(rank).map_err(|_| BROKEN)?;
            miss.model.ranked(view, position, length, rank).ok_or(BROKEN)?
        };
        if distance > MAX_DISTANCE || distance as u64 > position - view.start {
            return Err(BROKEN);
        }
        Ok(distance)
    }

    fn plain_distance<C: Coder>(&mut self, coder: &mut C, actual: usize) -> Result<usize, Error> {
        let actual = actual.max(1);
        let code = coder.symbol(&mut self.distance_code, distance_code(actual))?;
        if code >= DISTANCE_BASE.len() {
            return Err(BROKEN);
        }
        let base = usize::from(DISTANCE_BASE[code]);
        let extra = actual.saturating_sub(base) as u64;
        Ok(base + coder.even_bits(u32::from(DISTANCE_EXTRA[code]), extra)? as usize)
    }
}

fn kind_of(predicted: Token, actual: Token) -> usize {
    if actual.is_literal() {
        LITERAL
    } else if actual.distance() == predicted.distance() {
        OTHER_LENGTH
    } else if actual.length() == predicted.length() {
        OTHER_DISTANCE
    } else {
        OTHER_MATCH
    }
}
