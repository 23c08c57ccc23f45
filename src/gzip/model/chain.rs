//! No encoder in particular.

use super::zlib::Zlib;
use super::{Model, Prediction, View};
use crate::gzip::token::Token;

/// The model.
pub struct Chain(Zlib);

impl Chain {
    /// The model.
    pub fn new() -> Self {
        Self(Zlib::new(9, 8))
    }
}

impl Model for Chain {
    fn lookahead(&self) -> usize {
        self.0.lookahead()
    }
    fn restart(&mut self, view: &View<'_>, position: u64, dictionary_bytes: usize) {
        self.0.restart(view, position, dictionary_bytes);
    }
    fn flush(&mut self, view: &View<'_>, position: u64) {
        self.0.flush(view, position);
    }
    fn predict(&mut self, view: &View<'_>, position: u64) -> Prediction {
        self.0.predict(view, position)
    }
    fn commit(&mut self, view: &View<'_>, position: u64, token: Token) {
        self.0.commit(view, position, token);
    }
}
