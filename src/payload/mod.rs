//! The written format, as docs/payload-format.md lays it down.

pub mod index;
