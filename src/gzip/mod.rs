//! Exact reproduction of gzip streams: a *recipe* that rebuilds one gzip stream from its plain bytes, bit for bit.
//!
//! This module owns the recipe format (`docs/deltas.md`) and the encoder models behind it. It has no I/O of its own. It promises
//! that a recipe which [`analyse`] has written makes [`rebuild`] write exactly the bytes that were analysed, in bounded memory,
//! and that neither hostile gzip streams nor hostile recipes make it panic or go on without end. It refuses
//! streams that RFC 1951 or RFC 1952 forbid, and those whose recipe would not pay.

#![expect(
    clippy::cast_possible_truncation,
    reason = "codes, places in hash tables and positions modulo 2^32 are cut on purpose; lengths are checked where they come in"
)]

mod analyse;
mod bits;
mod choose;
mod code;
mod describe;
mod error;
mod feed;
mod foresight;
mod header;
mod huffman;
mod inflate;
mod member;
mod miss;
mod model;
#[cfg(test)]
mod odd;
mod plain;
mod range;
mod rebuild;
mod supply;
mod token;

pub use analyse::{Analysis, Limits, analyse};
pub use error::Error;
pub use rebuild::{rebuild, rebuild_on};

/// What a recipe begins with: three letters and the version.
const RECIPE_MAGIC: [u8; 4] = *b"KGR\x01";
