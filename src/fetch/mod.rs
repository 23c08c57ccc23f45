//! Blobs on their way to one sequential writer: fetched over several connections, handed over in order, and
//! hashed beside the writing.
//!
//! Promises that memory is bounded whatever the blobs' sizes, and that nothing is put on disk. What the writer
//! makes of the pieces is its own matter: a payload, or an archive of images.

mod check;
mod hedge;
mod ordered;
mod pace;
mod piece;

pub(crate) use check::{Checker, Parts};
pub(crate) use ordered::{Download, KeptBytes, Source, fetch_in_order};
pub(crate) use piece::{NewEntry, Piece};

/// How many pieces may wait for the writer: enough to keep it busy, little enough to stay small.
pub(crate) const PIECES_WAITING_MAX: usize = 8;
