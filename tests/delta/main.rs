//! Deltas of plain bytes, made and applied through the public functions.

mod hostile;
mod kit;
mod round_trip;
