//! No matches: stored streams and Huffman-only writers.

use super::{Model, Prediction, View};
use crate::gzip::token::Token;

/// Expects a literal always.
#[derive(Debug)]
pub struct Literals;

impl Model for Literals {
    fn lookahead(&self) -> usize {
        1
    }

    fn restart(&mut self, _view: &View<'_>, _position: u64, _dictionary_bytes: usize) {}

    fn flush(&mut self, _view: &View<'_>, _position: u64) {}

    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        Prediction::new(Token::literal(view.bytes[view.index(position)]))
    }

    fn commit(&mut self, _view: &View<'_>, _position: u64, _token: Token) {}
}
