//! Passes the header of a dynamic block, mostly as "what the encoder would write".

use super::code::{
    CodeHeader, LengthStep, MAX_CODE_BITS, MAX_LENGTH_CODE_BITS, length_code_count, step_histogram,
};
use super::error::Error;
use super::huffman::{CodeStyle, predict_header, predict_length_code, predict_steps};
use super::range::{Bit, Coder, Tree};
use super::token::{DISTANCE_SYMBOLS, Histogram, LITERAL_SYMBOLS};

/// What adapts along the headers of a recipe.
pub struct HeaderCoder {
    hit: Bit,
    counts_hit: Bit,
    literal_count: Tree<5>,
    distance_count: Tree<5>,
    /// By predicted length, literals before distances.
    lengths: Vec<Tree<4>>,
    steps_hit: Bit,
    step: Tree<2>,
    step_count: Tree<8>,
    length_code_hit: Bit,
    length_code: Tree<3>,
    length_count_hit: Bit,
    length_count: Tree<4>,
}

impl Default for HeaderCoder {
    fn default() -> Self {
        Self {
            hit: Bit::QUICK,
            counts_hit: Bit::QUICK,
            literal_count: Tree::default(),
            distance_count: Tree::default(),
            lengths: vec![Tree::default(); 2 * (MAX_CODE_BITS + 1)],
            steps_hit: Bit::QUICK,
            step: Tree::default(),
            step_count: Tree::default(),
            length_code_hit: Bit::QUICK,
            length_code: Tree::default(),
            length_count_hit: Bit::QUICK,
            length_count: Tree::default(),
        }
    }
}

const BROKEN: Error = Error::Recipe { found: "a block header that cannot be" };

impl HeaderCoder {
    /// Passes one header. `actual` is asked only while analysing.
    ///
    /// # Errors
    /// Those of [`Coder::bit`]; [`Error::Recipe`] for a header that no block can have.
    pub fn pass<C: Coder>(
        &mut self,
        coder: &mut C,
        style: CodeStyle,
        histogram: &Histogram,
        actual: Option<&CodeHeader>,
    ) -> Result<CodeHeader, Error> {
        let predicted = predict_header(style, histogram);
        let actual = actual.unwrap_or(&predicted);
        if !coder.bit(&mut self.hit, *actual != predicted)? {
            return Ok(predicted);
        }
        let mut header = predicted.clone();
        self.counts(coder, &mut header, actual)?;
        self.lengths(coder, &mut header, actual)?;
        self.steps(coder, style, &mut header, actual)?;
        self.length_code(coder, style, &mut header, actual)?;
        Ok(header)
    }

    fn counts<C: Coder>(
        &mut self,
        coder: &mut C,
        header: &mut CodeHeader,
        actual: &CodeHeader,
    ) -> Result<(), Error> {
        let differ = header.literal_count != actual.literal_count
            || header.distance_count != actual.distance_count;
        if coder.bit(&mut self.counts_hit, differ)? {
            let literals = coder.symbol(&mut self.literal_count, actual.literal_count - 257)?;
            let distances = coder.symbol(&mut self.distance_count, actual.distance_count - 1)?;
            header.literal_count = literals + 257;
            header.distance_count = distances + 1;
        }
        Ok(())
    }

    fn lengths<C: Coder>(
        &mut self,
        coder: &mut C,
        header: &mut CodeHeader,
        actual: &CodeHeader,
    ) -> Result<(), Error> {
        let (literals, distances) = self.lengths.split_at_mut(MAX_CODE_BITS + 1);
        let mut pass = |trees: &mut [Tree<4>], lengths: &mut [u8], actual: &[u8], count: usize| {
            for (index, length) in lengths.iter_mut().enumerate() {
                if index < count {
                    let tree = &mut trees[usize::from(*length)];
                    *length = coder.symbol(tree, usize::from(actual[index]))? as u8;
                } else {
                    *length = 0;
                }
            }
            Ok::<(), Error>(())
        };
        pass(literals, &mut header.literals, &actual.literals, header.literal_count)?;
        pass(distances, &mut header.distances, &actual.distances, header.distance_count)
    }

    fn steps<C: Coder>(
        &mut self,
        coder: &mut C,
        style: CodeStyle,
        header: &mut CodeHeader,
        actual: &CodeHeader,
    ) -> Result<(), Error> {
        let mut lengths = [0; LITERAL_SYMBOLS + DISTANCE_SYMBOLS];
        let total = header.literal_count + header.distance_count;
        lengths[..header.literal_count].copy_from_slice(&header.literals[..header.literal_count]);
        lengths[header.literal_count..total]
            .copy_from_slice(&header.distances[..header.distance_count]);
        let lengths = &lengths[..total];
        let (literals, distances) = lengths.split_at(header.literal_count);
        header.steps = predict_steps(style, literals, distances);
        if !coder.bit(&mut self.steps_hit, header.steps != actual.steps)? {
            return Ok(());
        }
        header.steps.clear();
        let mut index = 0;
        while index < total {
            let actual = actual.steps.get(header.steps.len());
            let actual = actual.copied().unwrap_or(LengthStep { symbol: 0, count: 1 });
            let kind = coder.symbol(&mut self.step, usize::from(actual.symbol.max(15) - 15))?;
            let mut step = LengthStep { symbol: lengths[index], count: 1 };
            if kind > 0 {
                step.symbol = 15 + kind as u8;
                let (bits, least) = LengthStep::extra(step.symbol);
                let extra = usize::from(actual.count).saturating_sub(usize::from(least));
                let extra = coder.symbol(&mut self.step_count, extra)?;
                let value =
                    if kind == 1 { index.checked_sub(1).map(|i| lengths[i]) } else { Some(0) };
                let end = index + extra + usize::from(least);
                let fits = extra < 1 << bits && end <= total;
                if !fits || lengths[index..end].iter().any(|&length| Some(length) != value) {
                    return Err(BROKEN);
                }
                step.count = (end - index) as u8;
            }
            index += usize::from(step.count);
            header.steps.push(step);
        }
        Ok(())
    }

    fn length_code<C: Coder>(
        &mut self,
        coder: &mut C,
        style: CodeStyle,
        header: &mut CodeHeader,
        actual: &CodeHeader,
    ) -> Result<(), Error> {
        let weights = step_histogram(&header.steps);
        header.length_code = predict_length_code(style, &weights);
        if coder.bit(&mut self.length_code_hit, header.length_code != actual.length_code)? {
            for (length, actual) in header.length_code.iter_mut().zip(&actual.length_code) {
                *length = coder.symbol(&mut self.length_code, usize::from(*actual))? as u8;
            }
        }
        debug_assert!(
            header.length_code.iter().all(|&bits| usize::from(bits) <= MAX_LENGTH_CODE_BITS)
        );
        let needed = length_code_count(&header.length_code);
        header.length_code_count = needed;
        if coder.bit(&mut self.length_count_hit, needed != actual.length_code_count)? {
            let count = coder.symbol(&mut self.length_count, actual.length_code_count - 4)? + 4;
            if count < needed || count > 19 {
                return Err(BROKEN);
            }
            header.length_code_count = count;
        }
        let is_sayable = |(weight, bits): (&u32, &u8)| *weight == 0 || *bits != 0;
        if !weights.iter().zip(&header.length_code).all(is_sayable) {
            return Err(BROKEN);
        }
        Ok(())
    }
}
