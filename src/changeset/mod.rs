//! A layer's tar as the OCI's layer.md has it, a *changeset*: entries with all that they say, and their content.
//!
//! Reads what engines read, and as they do (Go's `archive/tar`): ustar, pax (POSIX.1-2008), GNU's long names and
//! sparse files, and extended attributes with any bytes in them, which the tar crate takes for the ends of lines.
//! Bounded: what stands between two contents has a limit. Does no I/O of its own.

mod entry;
mod pax;
mod reader;
mod sparse;

pub(crate) use entry::{Entry, Kind, Moment};
pub(crate) use reader::{Changeset, Flaw};
