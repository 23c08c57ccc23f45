//! docker-charon's format: `payload_descriptor.json` and the entries it points to, as
//! docs/payload-format.md describes (section "docker-charon's format").
//!
//! Reads what docker-charon 0.4 writes, and makes from it the index that the rest of kharon knows.
//! For writing, gives names and the descriptor's bytes, and refuses what docker-charon cannot
//! deliver.

mod reading;

use std::collections::HashMap;
use std::fmt::Write as _;

use super::index::{Blob, ImageState, Travels};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{Content, Manifest, MediaType};
use crate::reference::{RepositoryName, Tag};

pub(super) use reading::read;

/// The entry that says what is where; the last one.
pub const ENTRY_NAME: &str = "payload_descriptor.json";
/// The folder of the manifests.
pub(super) const MANIFESTS_FOLDER: &str = "manifests/";

/// The entry of a blob.
pub fn blob_entry_name(digest: &Digest) -> String {
    format!("blobs/{digest}")
}

/// The entry of an image's manifest. Images that differ only in `/` and `_` have the same.
pub fn manifest_entry_name(image: &str) -> String {
    format!("{MANIFESTS_FOLDER}{}", image.replace('/', "_"))
}

/// The name by which docker-charon delivers an image: it takes what stands in front of the first
/// `:` for the far repository, so there is no registry in it.
pub fn image_name(repository: &RepositoryName, tag: &Tag) -> String {
    format!("{repository}:{tag}")
}

/// Something that docker-charon cannot deliver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCarriable {
    /// Anything but a Docker schema 2 image.
    #[error("expected a Docker schema 2 image for docker-charon, found `{image}` as `{found}`")]
    MediaType {
        /// The image.
        image: String,
        /// What it is.
        found: MediaType,
    },
    /// An image that was asked for by digest alone.
    #[error("expected a tag on the image `{image}` for docker-charon, found none")]
    Untagged {
        /// The image.
        image: String,
    },
    /// A digest of another algorithm than SHA-256.
    #[error("expected only sha256 digests in `{image}` for docker-charon, found `{digest}`")]
    Algorithm {
        /// The image.
        image: String,
        /// The digest.
        digest: Digest,
    },
    /// A layer that is neither carried nor expected: the format has no place for it.
    #[error("expected all layers of `{image}` for docker-charon, found `{digest}` left out")]
    LeftOut {
        /// The image.
        image: String,
        /// The layer.
        digest: Digest,
    },
    /// Two images with one entry name, of which docker-charon would push one manifest twice.
    #[error(
        "expected images that differ in more than `/` and `_` for docker-charon, found `{first}` and `{second}`"
    )]
    SameEntry {
        /// The image that came first.
        first: String,
        /// The other one.
        second: String,
    },
}

impl NotCarriable {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Untagged { .. } => "name the image by a tag, or leave out `--format charon`",
                Self::SameEntry { .. } => {
                    "make a payload for each of them, or leave out `--format charon`"
                }
                Self::LeftOut { .. } => {
                    "carry it with `--foreign-layers`, or leave out `--format charon`"
                }
                Self::MediaType { .. } | Self::Algorithm { .. } => {
                    "leave out `--format charon`, and push with kharon at the far side"
                }
            }
            .to_owned(),
        )
    }
}

/// Whether docker-charon can deliver `manifest` as the far `tag` of what was asked for as `image`.
///
/// # Errors
/// [`NotCarriable`] says why not.
pub fn check_carriable(
    image: &str,
    tag: Option<&Tag>,
    manifest: &Manifest,
) -> Result<(), NotCarriable> {
    let image = || image.to_owned();
    if tag.is_none() {
        return Err(NotCarriable::Untagged { image: image() });
    }
    let found = &manifest.descriptor.media_type;
    let is_image = matches!(manifest.content, Content::Image { config: Some(_), .. });
    if !is_image || found.as_str() != MediaType::DOCKER_MANIFEST {
        return Err(NotCarriable::MediaType { image: image(), found: found.clone() });
    }
    match manifest.blobs().find(|blob| blob.digest.algorithm() != Algorithm::Sha256) {
        Some(blob) => Err(NotCarriable::Algorithm { image: image(), digest: blob.digest.clone() }),
        None => Ok(()),
    }
}

/// Whether all `images` (see [`image_name`]) have entries of their own.
///
/// # Errors
/// [`NotCarriable::SameEntry`] for the first two that do not.
pub fn check_entry_names<'a>(
    images: impl IntoIterator<Item = &'a str>,
) -> Result<(), NotCarriable> {
    let mut seen = HashMap::new();
    for image in images {
        if let Some(first) = seen.insert(manifest_entry_name(image), image)
            && first != image
        {
            let (first, second) = (first.to_owned(), image.to_owned());
            return Err(NotCarriable::SameEntry { first, second });
        }
    }
    Ok(())
}

/// Where docker-charon finds a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the payload.
    Payload,
    /// In this far repository.
    FarSide(&'a RepositoryName),
}

/// Where docker-charon finds `blob` of `image`.
///
/// # Errors
/// [`NotCarriable::LeftOut`] for a foreign layer that does not travel.
pub fn place<'a>(image: &str, blob: &'a Blob) -> Result<Place<'a>, NotCarriable> {
    let left_out =
        || NotCarriable::LeftOut { image: image.to_owned(), digest: blob.digest.clone() };
    match &blob.travels {
        Travels::Carried => Ok(Place::Payload),
        Travels::Expected { repositories } => {
            repositories.first().map(Place::FarSide).ok_or_else(left_out)
        }
        Travels::LeftOut { .. } | Travels::Delta { .. } => Err(left_out()),
    }
}

/// The bytes of `payload_descriptor.json`: `images` by their [`image_name`], and `blobs`, each once,
/// config before layers. Laid out as Python's `json.dumps(…, indent=4)` does.
pub fn descriptor_json<'a>(
    images: impl IntoIterator<Item = (&'a str, ImageState)>,
    blobs: impl IntoIterator<Item = (&'a Digest, Place<'a>)>,
) -> Vec<u8> {
    let images = images.into_iter().map(|(name, state)| {
        let path = match state {
            ImageState::Carried => quoted(&manifest_entry_name(name)),
            ImageState::Skipped => "null".to_owned(),
        };
        format!("{}: {path}", quoted(name))
    });
    let blobs = blobs.into_iter().map(|(digest, place)| {
        let member = match place {
            Place::Payload => format!("\"zip_path\": {}", quoted(&blob_entry_name(digest))),
            Place::FarSide(repository) => {
                format!("\"repository\": {}", quoted(repository.as_str()))
            }
        };
        format!("\"{digest}\": {}", object([member], 2))
    });
    let members = [
        format!("\"manifests_paths\": {}", object(images, 1)),
        format!("\"blobs_paths\": {}", object(blobs, 1)),
    ];
    object(members, 0).into_bytes()
}

/// A JSON object of `members` whose braces stand `depth` levels deep.
fn object(members: impl IntoIterator<Item = String>, depth: usize) -> String {
    let members: Vec<String> = members.into_iter().collect();
    if members.is_empty() {
        return "{}".to_owned();
    }
    let (inner, outer) = ("    ".repeat(depth + 1), "    ".repeat(depth));
    format!("{{\n{inner}{}\n{outer}}}", members.join(&format!(",\n{inner}")))
}

/// A JSON string in ASCII.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'"' | b'\\')) => quoted.extend(['\\', char::from(byte)]),
            Ok(b'\n') => quoted.push_str("\\n"),
            Ok(b'\r') => quoted.push_str("\\r"),
            Ok(b'\t') => quoted.push_str("\\t"),
            Ok(0x08) => quoted.push_str("\\b"),
            Ok(0x0C) => quoted.push_str("\\f"),
            Ok(byte @ 0x20..=0x7F) => quoted.push(char::from(byte)),
            _ => {
                let _infallible = write!(quoted, "\\u{unit:04x}");
            }
        }
    }
    quoted.push('"');
    quoted
}
