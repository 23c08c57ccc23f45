//! What the images of the payloads lack here.

use std::collections::{BTreeSet, HashMap};

use super::{Absent, Shelf};
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::payload::{Image, ImageState, Payload, Travels};

impl Shelf {
    /// For each image that cannot be pulled whole, what it lacks and why. Blocks.
    pub fn lacking(&self) -> Vec<String> {
        let mut looked: HashMap<&Digest, Option<Absent>> = HashMap::new();
        let mut lines = Vec::new();
        for payload in &self.payloads {
            let left_out: BTreeSet<&Digest> = payload
                .index()
                .blobs
                .iter()
                .filter(|blob| matches!(blob.travels, Travels::LeftOut { .. }))
                .map(|blob| &blob.digest)
                .collect();
            let images = payload.index().images.iter();
            for image in images.filter(|image| image.state == ImageState::Carried) {
                let mut seen = BTreeSet::new();
                let blobs = manifests(payload, image).flat_map(Manifest::blobs);
                let needed = blobs.map(|blob| &blob.digest).filter(|blob| !left_out.contains(blob));
                for digest in needed.filter(|blob| seen.insert(*blob)) {
                    let absent = looked.entry(digest).or_insert_with(|| self.look_for(digest));
                    if let Some(absent) = absent {
                        lines.push(format!("{}: {absent}", image.name));
                    }
                }
            }
        }
        lines
    }

    fn look_for(&self, digest: &Digest) -> Option<Absent> {
        if self.at_hand(digest).is_some() || self.cache.has(digest) {
            return None;
        }
        self.plan(digest).err()
    }
}

fn manifests<'a>(payload: &'a Payload, image: &'a Image) -> impl Iterator<Item = &'a Manifest> {
    let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
    let digests = image.manifests.iter().chain(referrers);
    digests.filter_map(|digest| payload.manifest(digest))
}
