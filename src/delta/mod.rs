//! Deltas: what rebuilds plain bytes from the plain bytes of baseline blobs.
//!
//! `docs/deltas.md` is the authority on the format; it knows ranges and operations, and nothing of
//! tar. This module owns the format, the maker ([`make()`], which understands tars to find what is like
//! what) and the far side: [`read_needs`] says what is needed of which blob, a [`Spool`] keeps that while
//! each blob streams by once, and [`apply()`] rebuilds.
//!
//! It promises that a delta applies to the very bytes it was made from or fails; that memory is
//! bounded whatever a delta claims; and that the same input gives the same delta on any number of
//! threads. It knows no registry, no gzip and no path but the work directory that it is given, for
//! temporary files without names.
//!
//! ```no_run
//! use kharon::delta::{Spool, apply, read_needs};
//! # fn plain_of(digest: &kharon::digest::Digest) -> std::io::Result<std::fs::File> {
//! #     std::fs::File::open(digest.hex())
//! # }
//! # fn rebuild() -> Result<(), Box<dyn std::error::Error>> {
//! # let workdir = std::path::Path::new("work");
//! let needs = read_needs(&mut std::fs::File::open("layer.delta")?)?;
//! let mut spool = Spool::new(needs.clone(), workdir);
//! for blob in &needs.blobs {
//!     spool.fill(&blob.digest, &mut plain_of(&blob.digest)?)?;
//! }
//! let mut out = std::fs::File::create("layer.tar")?;
//! apply(&mut std::fs::File::open("layer.delta")?, &spool, workdir, &mut out)?;
//! # Ok(())
//! # }
//! ```

mod apply;
mod baseline;
mod chunk;
mod codec;
mod diff;
mod error;
mod like;
mod make;
mod needs;
mod plain;
mod plan;
mod runs;
mod spool;
mod table;
mod tar;
mod varint;

pub use apply::{apply, read_needs};
pub use baseline::{Baseline, OldBlob};
pub(crate) use codec::zstd_reader;
pub use error::DeltaError;
pub use make::{Effort, Made, Options, make};
pub use needs::{BlobNeeds, MAX_BLOBS, MAX_PLAIN_BYTES, MAX_RANGES, Needs};
pub use spool::{Intake, Spool};
pub use table::{
    MAX_FRAME_BYTES, MAX_FRAMES, MAX_PREFIX_BYTES, MAX_PREFIX_RANGES, MAX_TABLE_BYTES, VERSION,
};
