//! stub
use super::zlib::Zlib;
use super::{Model, Prediction, View};
use crate::gzip::token::Token;
/// The model.
pub struct KlauspostLazy(Zlib);
impl KlauspostLazy {
    /// a
    pub fn version_115(l: u8) -> Self {
        Self(Zlib::new(l, 8))
    }
    /// a
    pub fn version_120(l: u8) -> Self {
        Self(Zlib::new(l, 8))
    }
    /// a
    pub fn go_127(l: u8) -> Self {
        Self(Zlib::new(l, 8))
    }
}
impl Model for KlauspostLazy {
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
