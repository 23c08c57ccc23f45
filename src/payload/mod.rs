//! The written format, as docs/payload-format.md lays it down: one zip, its index, and
//! docker-charon's format beside it.
//!
//! [`Writer`] writes one, [`Payload`] opens one. Knows no registry and asks nobody.

pub mod charon;
mod directory;
mod doubles;
mod error;
mod fault;
mod files;
mod headers;
pub mod index;
mod manifests;
mod native;
pub mod oci_index;
mod reader;
mod signed;
mod source;
mod structure;
mod torn;
mod volumes;
mod writer;

pub use error::Error;
pub use fault::{Fault, Length};
pub use files::payload_files;
pub use headers::{Kind, PlannedEntry, entry_starts, payload_length};
pub use index::*;
pub use manifests::MANIFESTS_MAX_BYTES;
pub use native::{LAYOUT_INDEX_NAME, LAYOUT_NAME, delta_entry_name, part_entry_name};
pub use reader::{ContentReader, EntryReader, Format, Payload};
pub(crate) use signed::sign_index;
pub use signed::{NotSigned, SIGNATURE_NAME};
pub use source::BlobReader;
pub(crate) use structure::check_planned;
pub use writer::{Keep, Writer};
