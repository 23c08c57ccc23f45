//! Docker's manifests of before 2016 (image manifest version 2, schema 1): read, and made into schema 2.
//!
//! Pure. A manifest of schema 1 names no config: what a container is run with stands in the history, and of its layers
//! neither the sizes nor the digests of the plain bytes are given. Whoever has read the layers gets a config and a manifest here,
//! byte for byte those that containers/image (skopeo, podman) makes, so that the image's ID is the same. What it does is
//! read off its `manifest/docker_schema1.go`; the format is that of distribution's "Image Manifest Version 2, Schema 1".
//! Signatures are taken off and not verified: their keys are nobody's.

mod config;
mod converted;
mod created;
mod document;
mod error;
mod fields;
mod history;
mod json;
mod old_config;
mod signed;

#[cfg(test)]
mod tests;

pub use converted::{Converted, ReadLayer};
pub use document::Schema1;
pub use error::InvalidSchema1;
