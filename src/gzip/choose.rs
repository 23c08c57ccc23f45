//! Finds the model that fits a member best, by trying some on its beginning.

use std::io::{self, Read, Write};

use super::analyse::Parsed;
use super::describe::Describer;
use super::error::Error;
use super::feed::{Block, BlockKind, Feed};
use super::huffman::CodeStyle;
use super::model::{Boundary, Chunks, Kind, Parameters};
use super::plain::Plain;
use super::range::{Coder, Encoder};
use super::token::MIN_MATCH;

/// How many plain bytes of a member are parsed before a model is chosen. With 1 MiB the writers that work in chunks of
/// that size begin their second one.
const SAMPLE_BYTES: u64 = (1 << 20) + (512 << 10);
/// How many of them the encoders and levels are tried on.
const SHORT_SAMPLE_BYTES: u64 = 64 << 10;
/// A member's own bytes in a recipe: what even a perfect model costs.
const PERFECT_BYTES: u64 = 24;

/// The modification time that klauspost's pgzip and gzip write for none: Go's zero time, cut to 32 bits.
const GO_ZERO_TIME: [u8; 4] = [0x00, 0x09, 0x6e, 0x88];

/// Units of Go's and klauspost's fast encoders.
const UNITS: Boundary = Boundary::Units(65_535);

/// Chooses a model for the member whose header was just read; `former` is that of the member before.
///
/// # Errors
/// What parsing runs into.
pub fn choose<R: Read, P: Write>(
    side: &mut Parsed<R, P>,
    plain: &mut Plain,
    header: &[u8],
    former: Option<Parameters>,
) -> Result<Parameters, Error> {
    let start = plain.end();
    while !side.feed().is_whole && plain.end() < start + SAMPLE_BYTES {
        side.more(plain)?;
    }
    let evidence = Evidence::new(side.feed(), header, start);
    let short = start + SHORT_SAMPLE_BYTES;
    let mut trial = Trial { side, plain, start, end: short, best: None };
    let mut best_of_all: Option<(Cost, Parameters)> = None;
    for parameters in former.into_iter().chain(evidence.candidates()) {
        trial.consider(parameters)?;
        if trial.is_perfect() {
            let found = evidence.refine(&mut trial)?;
            if trial.is_perfect() {
                return Ok(found);
            }
            if best_of_all.is_none_or(|(least, _)| trial.costs_less_than(least)) {
                best_of_all = trial.best;
            }
            trial.end = short;
            trial.best = None;
        }
    }
    if best_of_all.is_none() {
        if trial.best.is_none() {
            return Ok(evidence.without_matches());
        }
        evidence.refine(&mut trial)?;
        best_of_all = trial.best;
    }
    Ok(best_of_all.map_or_else(|| evidence.without_matches(), |(_, parameters)| parameters))
}

/// What a member's beginning tells without trying.
struct Evidence {
    matches: Matches,
    writer: Writer,
    /// How many tokens its first block has, if another one follows.
    block_tokens: Option<u64>,
    /// Whether blocks end where the units of fast encoders end.
    has_units: bool,
    /// After how many plain bytes the input is flushed for the first time.
    chunk_bytes: Option<u32>,
}

/// Which matches there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matches {
    None,
    /// None of three bytes: Go's and klauspost's encoders never make any.
    NoShortest,
    Any,
}

/// What a member's header says of its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Klauspost,
    /// Any, at its fastest level.
    Fastest,
    Any,
}

impl Evidence {
    fn new(feed: &Feed, header: &[u8], start: u64) -> Self {
        let mut matches = feed.tokens().iter().filter(|token| !token.is_literal());
        let has_matches = matches.clone().next().is_some();
        let has_shortest = matches.any(|token| token.length() == MIN_MATCH);
        let is_whole = |block: &&Block| block.is_complete && block.plain_bytes > 0;
        let coded = |block: &&Block| is_whole(block) && block.kind != BlockKind::Stored;
        let block_tokens = feed.blocks.iter().find(coded).filter(|block| !block.is_last);
        let ends = |block: &Block| block.start + block.plain_bytes - start;
        let is_unit = |block: &Block| ends(block).is_multiple_of(65_535);
        let flush = feed.blocks.iter().find(|block| {
            block.is_complete && !block.is_last && block.plain_bytes == 0 && block.start > start
        });
        let first_chunk = flush.map(|block| (block.start - start) as u32);
        // pigz sometimes needs no empty block, so its first one may stand after several chunks.
        let chunk_bytes = first_chunk.map(|bytes| match bytes {
            1_048_576 => bytes,
            _ if bytes.is_multiple_of(131_072) => 131_072,
            _ => bytes,
        });
        let matches = match (has_matches, has_shortest) {
            (false, _) => Matches::None,
            (true, false) => Matches::NoShortest,
            (true, true) => Matches::Any,
        };
        let writer = if header.get(4..8) == Some(&GO_ZERO_TIME[..]) {
            Writer::Klauspost
        } else if header.get(8) == Some(&4) {
            Writer::Fastest
        } else {
            Writer::Any
        };
        Self {
            matches,
            writer,
            block_tokens: block_tokens.map(|block| block.tokens),
            has_units: feed.blocks.iter().filter(is_whole).any(is_unit),
            chunk_bytes: chunk_bytes.filter(|&bytes| bytes >= 1 << 10),
        }
    }

    /// How codes are named and where chunks begin shows in the whole sample: tries what there is around the best model.
    fn refine<R: Read, P: Write>(&self, trial: &mut Trial<'_, R, P>) -> Result<Parameters, Error> {
        let Some((_, best)) = trial.best.take() else { return Ok(self.without_matches()) };
        trial.end = u64::MAX;
        trial.consider(best)?;
        for dictionary_bytes in [16 << 10, 32 << 10, 0] {
            if let (Some(bytes), false) = (self.chunk_bytes, trial.is_perfect()) {
                let chunks = Some(Chunks { bytes, dictionary_bytes });
                trial.consider(Parameters { chunks, ..best })?;
            }
        }
        let best = trial.best.map_or(best, |(_, parameters)| parameters);
        let is_klauspost = !matches!(best.kind, Kind::GoLazy | Kind::GoFast);
        if best.style == CodeStyle::Go && is_klauspost {
            trial.consider(Parameters { style: CodeStyle::GoAll, ..best })?;
        }
        Ok(trial.best.map_or(best, |(_, parameters)| parameters))
    }

    fn without_matches(&self) -> Parameters {
        let count = self.block_tokens.filter(|&count| count <= 1 << 16).unwrap_or(1 << 14);
        Parameters::new(Kind::Literals, 0, CodeStyle::Go, Boundary::Tokens(count.max(1) as u32))
    }

    /// What to try, the likeliest first.
    fn candidates(&self) -> Vec<Parameters> {
        if self.matches == Matches::None {
            return Vec::new();
        }
        let mut list = Vec::new();
        if self.matches == Matches::NoShortest {
            self.go_family(&mut list);
        }
        self.zlib_family(&mut list);
        if self.matches == Matches::Any {
            list.truncate(9);
        }
        let boundary = self.boundary(1 << 16);
        list.extend(
            [0, 1, 2].map(|level| Parameters::new(Kind::Chain, level, CodeStyle::Zlib, boundary)),
        );
        list
    }

    fn boundary(&self, usual: u32) -> Boundary {
        let count = self.block_tokens.unwrap_or(0);
        let is_full = [4095, 8191, 16_383, 32_767].contains(&count);
        Boundary::Tokens(if is_full { count as u32 } else { usual })
    }

    fn go_family(&self, list: &mut Vec<Parameters>) {
        let lazy =
            |kind, level| Parameters::new(kind, level, CodeStyle::Go, Boundary::Tokens(1 << 15));
        let fast = |level| Parameters::new(Kind::KlauspostFast, level, CodeStyle::Go, UNITS);
        let old =
            |level| Parameters::new(Kind::GoLazy, level, CodeStyle::Go, Boundary::Tokens(1 << 14));
        let oldest = Parameters::new(Kind::GoFast, 1, CodeStyle::Go, UNITS);
        let lazy_kinds = [Kind::KlauspostLazy120, Kind::GoLazy127, Kind::KlauspostLazy115];
        if self.writer == Writer::Klauspost {
            list.extend([5, 6, 1].map(fast));
        } else if self.writer == Writer::Fastest {
            list.extend([oldest, fast(1)]);
        } else if self.block_tokens == Some(1 << 14) {
            list.extend([6, 9].map(old));
        } else if self.has_units {
            list.extend([6, 5].map(fast));
        } else {
            list.extend([old(6), fast(6), old(9)]);
        }
        list.extend(lazy_kinds.iter().map(|&kind| lazy(kind, 9)));
        list.extend([6, 9, 5, 7, 8, 4, 3, 2].map(old));
        list.push(oldest);
        list.extend([5, 6, 1, 4, 3, 2].map(fast));
        list.push(Parameters { kind: Kind::KlauspostFast115, ..fast(4) });
        let older = [Kind::KlauspostFast113, Kind::KlauspostFast111];
        list.extend(older.map(|kind| Parameters { kind, ..fast(5) }));
        for level in [7, 8] {
            list.extend(lazy_kinds.iter().map(|&kind| lazy(kind, level)));
        }
        let mut seen = Vec::new();
        list.retain(|parameters| {
            let is_new = !seen.contains(parameters);
            seen.push(*parameters);
            is_new
        });
    }

    fn zlib_family(&self, list: &mut Vec<Parameters>) {
        let boundary = self.boundary(16_383);
        let zlib = |level| Parameters::new(Kind::Zlib, level, CodeStyle::Zlib, boundary);
        list.extend([6, 9, 1, 5, 7, 8, 4, 3, 2].map(zlib));
    }
}

/// Trying models on a sample.
struct Trial<'a, R, P> {
    side: &'a Parsed<R, P>,
    plain: &'a Plain,
    start: u64,
    end: u64,
    /// The best so far, and what it costs.
    best: Option<(Cost, Parameters)>,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    recipe_bytes: u64,
    plain_bytes: u64,
}

impl Cost {
    fn is_less(self, other: Self) -> bool {
        let own = u128::from(self.recipe_bytes) * u128::from(other.plain_bytes);
        own < u128::from(other.recipe_bytes) * u128::from(self.plain_bytes)
    }
}

impl<R: Read, P: Write> Trial<'_, R, P> {
    fn is_perfect(&self) -> bool {
        self.best
            .is_some_and(|(cost, _)| cost.recipe_bytes < PERFECT_BYTES + cost.plain_bytes / 65_536)
    }

    fn costs_less_than(&self, other: Cost) -> bool {
        self.best.is_some_and(|(cost, _)| cost.is_less(other))
    }

    fn consider(&mut self, parameters: Parameters) -> Result<(), Error> {
        let most = self.best.map_or(u64::MAX, |(cost, _)| 2 * cost.recipe_bytes + 64);
        let side = self.side.sample(self.end, most);
        let mut describer =
            Describer::new(Encoder::new(io::sink()), side, self.plain.clone(), self.start);
        let mut model = parameters.model();
        match describer.member(&parameters, &mut *model) {
            Ok(()) | Err(Error::SampleEnd) => {}
            Err(error) => return Err(error),
        }
        let plain_bytes = (describer.position() - self.start).max(1);
        let cost = Cost { recipe_bytes: describer.coder.recipe_bytes(), plain_bytes };
        if self.best.is_none_or(|(best, _)| cost.is_less(best)) {
            self.best = Some((cost, parameters));
        }
        Ok(())
    }
}
