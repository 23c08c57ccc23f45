//! A manifest of schema 1 as it is read.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;

use super::error::InvalidSchema1;
use super::history::Entry;
use super::signed::{self, Signature};

/// How long an ID is, in hexadecimal digits.
const ID_DIGITS: usize = 64;

/// A manifest of schema 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema1 {
    pub(super) digest: Digest,
    /// Of all bytes, signatures included.
    pub(super) raw_digest: Digest,
    /// The oldest first.
    pub(super) steps: Vec<Step>,
    /// What the newest step says of itself, and of the image.
    pub(super) newest: String,
}

/// A step of the build and the layer that it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) layer: Digest,
    pub(super) entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<serde_json::Value>,
    fs_layers: Option<Vec<FsLayer>>,
    history: Option<Vec<HistoryItem>>,
    signatures: Option<Vec<Signature>>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryItem {
    v1_compatibility: String,
}

impl Schema1 {
    /// Whether `raw` says of itself that it is one.
    pub fn is_one(raw: &[u8]) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            schema_version: Option<u32>,
        }
        let version = serde_json::from_slice::<Version>(raw).ok();
        version.and_then(|version| version.schema_version) == Some(1)
    }

    /// Reads `raw`. Where it is signed, what is signed counts and nothing else.
    ///
    /// # Errors
    /// [`InvalidSchema1`] says what is wrong with it.
    pub fn parse(raw: &[u8]) -> Result<Self, InvalidSchema1> {
        let outer = read(raw)?;
        let raw_digest = Digest::of(raw);
        let (shape, digest) = match outer.signatures {
            Some(signatures) => {
                let payload = signed::payload(raw, &signatures)?;
                (read(&payload)?, Digest::of(&payload))
            }
            None => (outer, raw_digest.clone()),
        };
        let (layers, history) =
            (shape.fs_layers.unwrap_or_default(), shape.history.unwrap_or_default());
        if layers.len() != history.len() {
            let (layers, history) = (layers.len(), history.len());
            return Err(InvalidSchema1::Lengths { layers, history });
        }
        let mut steps = Vec::with_capacity(layers.len());
        for (place, (layer, item)) in layers.into_iter().zip(&history).enumerate() {
            let entry = Entry::read(&item.v1_compatibility)
                .map_err(|source| InvalidSchema1::History { place: place + 1, source })?;
            steps.push((item, Step { layer: layer.blob_sum, entry }));
        }
        check_ids(steps.iter().map(|(_, step)| &step.entry))?;
        // Of neighbours with one ID, the older one counts.
        steps.reverse();
        steps.dedup_by(|newer, older| newer.1.entry.id == older.1.entry.id);
        check_parents(steps.iter().map(|(_, step)| &step.entry))?;
        let newest = steps.last().map(|(item, _)| item.v1_compatibility.clone());
        let newest = newest.ok_or(InvalidSchema1::NoLayers)?;
        let steps = steps.into_iter().map(|(_, step)| step).collect();
        Ok(Self { digest, raw_digest, steps, newest })
    }

    /// The digest that it is known by: that of what is signed.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether `digest` is its own. Some registries give that of all bytes, with the signatures.
    pub fn is(&self, digest: &Digest) -> bool {
        *digest == self.digest || *digest == self.raw_digest
    }

    /// The layers that its image is made of, the oldest first, each as often as it is used.
    pub fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.steps.iter().filter(|step| !step.entry.is_throwaway).map(|step| &step.layer)
    }
}

fn read(raw: &[u8]) -> Result<Shape, InvalidSchema1> {
    if !raw.trim_ascii_start().starts_with(b"{") {
        // serde would take a list of the fields' values too.
        return Err(InvalidSchema1::Json(serde::de::Error::custom("expected an object")));
    }
    let shape: Shape = serde_json::from_slice(raw).map_err(InvalidSchema1::Json)?;
    match &shape.schema_version {
        Some(version) if *version == 1 => {}
        Some(version) => return Err(InvalidSchema1::Version(version.to_string())),
        None => return Err(InvalidSchema1::Version("none".to_owned())),
    }
    let others = [
        ("config", shape.config.is_some()),
        ("layers", shape.layers.is_some()),
        ("manifests", shape.manifests.is_some()),
    ];
    match others.into_iter().find(|(_, is_there)| *is_there) {
        Some((name, _)) => Err(InvalidSchema1::Ambiguous(name)),
        None => Ok(shape),
    }
}

/// Entries with one ID stand side by side, or nobody knows which is made from which.
fn check_ids<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<(), InvalidSchema1> {
    let (mut seen, mut last) = (BTreeSet::new(), "");
    for (place, Entry { id, .. }) in entries.enumerate() {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != ID_DIGITS || !id.bytes().all(is_digit) {
            return Err(InvalidSchema1::Id { place: place + 1, found: id.clone() });
        }
        if !seen.insert(id) && id != last {
            return Err(InvalidSchema1::TwiceThere(id.clone()));
        }
        last = id;
    }
    Ok(())
}

/// Every entry is made from the one before it; the oldest one from nothing.
fn check_parents<'a>(
    entries: impl ExactSizeIterator<Item = &'a Entry>,
) -> Result<(), InvalidSchema1> {
    let number = entries.len();
    let mut expected = "";
    for (age, Entry { id, parent, .. }) in entries.enumerate() {
        if parent != expected {
            return Err(InvalidSchema1::Parent {
                place: number - age,
                expected: expected.to_owned(),
                found: parent.clone(),
            });
        }
        expected = id;
    }
    Ok(())
}
