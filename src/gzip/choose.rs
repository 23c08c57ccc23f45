//! Finds the model that fits a member best, by trying some on its beginning.

use std::io::{self, Read, Write};

use super::analyse::Parsed;
use super::describe::Describer;
use super::error::Error;
use super::huffman::CodeStyle;
use super::inflate::BlockKind;
use super::model::{Boundary, Chunks, Kind, Parameters};
use super::plain::Plain;
use super::range::{Coder, Encoder};

/// How many plain bytes of a member are looked at. Two chunks of the writers that work in chunks of 1 MiB begin within.
const SAMPLE_BYTES: u64 = (1 << 20) + (256 << 10);

/// Chooses a model for the member whose header was just read; `former` is that of the member before.
///
/// # Errors
/// What parsing runs into.
pub fn choose<R: Read, P: Write>(
    side: &mut Parsed<R, P>,
    plain: &mut Plain,
    _header: &[u8],
    former: Option<Parameters>,
) -> Result<Parameters, Error> {
    let start = plain.end();
    while !side.feed().is_whole && plain.end() < start + SAMPLE_BYTES {
        side.more(plain)?;
    }
    let mut best: Option<(u64, Parameters)> = None;
    for parameters in former.into_iter().chain(candidates(side)) {
        let cost = try_out(side, plain, start, &parameters)?;
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, parameters));
        }
    }
    Ok(best.map_or(
        Parameters::new(Kind::Literals, 0, CodeStyle::Go, Boundary::Tokens(1 << 14)),
        |(_, parameters)| parameters,
    ))
}

fn candidates<R: Read, P: Write>(side: &Parsed<R, P>) -> Vec<Parameters> {
    let mut list = Vec::new();
    let go = |level| Parameters::new(Kind::GoLazy, level, CodeStyle::Go, Boundary::Tokens(1 << 14));
    list.extend([6, 9, 5, 7, 8, 4, 3, 2].map(go));
    let _ = side.feed().blocks.iter().all(|block| block.kind == BlockKind::Stored);
    let units = Boundary::Units(65_535);
    list.push(Parameters::new(Kind::GoFast, 1, CodeStyle::Go, units));
    for style in [CodeStyle::Go, CodeStyle::GoAll] {
        for level in 1..=6 {
            let parameters = Parameters::new(Kind::KlauspostFast, level, style, units);
            list.push(parameters);
            let chunks = Chunks { bytes: 1 << 20, dictionary_bytes: 16 << 10 };
            list.push(Parameters { chunks: Some(chunks), ..parameters });
        }
    }
    for level in 1..=9 {
        list.push(Parameters::new(Kind::Zlib, level, CodeStyle::Zlib, Boundary::Tokens(16_383)));
    }
    list.push(Parameters::new(Kind::Chain, 6, CodeStyle::Zlib, Boundary::Tokens(1 << 16)));
    list
}

/// What the sample would cost with these parameters: thousandths of a byte for each KiB.
fn try_out<R: Read, P: Write>(
    side: &Parsed<R, P>,
    plain: &Plain,
    start: u64,
    parameters: &Parameters,
) -> Result<u64, Error> {
    let mut describer =
        Describer::new(Encoder::new(io::sink()), side.sample(), plain.clone(), start);
    let mut model = parameters.model();
    match describer.member(parameters, &mut *model) {
        Ok(()) | Err(Error::SampleEnd) => {}
        Err(error) => return Err(error),
    }
    let plain_bytes = describer.position() - start;
    let recipe_bytes = describer.coder.recipe_bytes();
    Ok(recipe_bytes * 1000 * 1024 / plain_bytes.max(1))
}
