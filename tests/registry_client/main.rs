//! The registry client against a server that answers as it is told, byte for byte.

mod auth;
mod download;
mod listing;
mod manifests;
mod server;
mod tls;
mod upload;

use std::error::Error as _;

use kharon::digest::Digest;
use kharon::manifest::{Descriptor, MediaType};
use kharon::reference::{RepositoryName, TagOrDigest};

fn repository() -> RepositoryName {
    "a/b".parse().expect("valid")
}

fn tag(text: &str) -> TagOrDigest {
    TagOrDigest::Tag(text.parse().expect("valid"))
}

fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new(
        MediaType::new("application/octet-stream"),
        Digest::of(content),
        content.len() as u64,
    )
}

/// Bytes without a pattern that a shift would keep.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24).to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A message with all its causes.
fn chain(error: &kharon::registry::Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
