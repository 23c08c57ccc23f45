//! Whether the images of a payload hang together: what manifests, tags and referrers name is there.
//! The same for both formats; knows no zip.

use std::collections::{HashMap, HashSet};

use super::fault::Fault;
use super::index::{Image, ImageState, Index};
use super::manifests::Manifests;
use super::native;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::printable::steers;

/// Checks everything that a push relies on.
pub(super) fn check(index: &Index, manifests: &Manifests) -> Result<(), Fault> {
    check_texts(index)?;
    let listed = Listed::new(index, manifests);
    for entry in &index.manifests {
        if let Some(manifest) = manifests.get(&entry.digest) {
            listed.check_names_of(manifest)?;
        }
    }
    let mut tags = HashMap::new();
    for image in &index.images {
        match image.state {
            ImageState::Carried => listed.check_carried(image)?,
            ImageState::Skipped => check_skipped(image)?,
        }
        for target in &image.tags {
            let far_name = (&image.repository, &target.tag);
            if tags.insert(far_name, &target.digest).is_some_and(|other| *other != target.digest) {
                let (repository, tag) = (image.repository.clone(), target.tag.clone());
                return Err(Fault::TagTwice { repository, tag });
            }
        }
    }
    Ok(())
}

/// Whether a payload of kharon's format may be written: what its reader would check of `index`, which
/// lists no entries yet, and of `manifests`.
///
/// # Errors
/// What the reader would say.
pub(crate) fn check_planned(index: &Index, manifests: &[Manifest]) -> Result<(), Fault> {
    let manifests = Manifests::of(manifests)?;
    native::check_lists(index)?;
    check(index, &manifests)
}

/// These texts are printed as they are: with a line break, one image would look like two.
fn check_texts(index: &Index) -> Result<(), Fault> {
    let named = index.images.iter().flat_map(|image| [&image.name, &image.reference]);
    match std::iter::once(&index.tool).chain(named).find(|text| text.contains(steers)) {
        None => Ok(()),
        Some(text) => Err(Fault::Control { text: text.clone() }),
    }
}

/// What the index lists, by digest.
struct Listed<'a> {
    manifests: &'a Manifests,
    blob_sizes: HashMap<&'a Digest, u64>,
    /// Manifests of images whose platforms were chosen: their indexes may lack children.
    sparse: HashSet<&'a Digest>,
    /// Children that were lost before the payload was made.
    absent: HashSet<&'a Digest>,
}

impl<'a> Listed<'a> {
    fn new(index: &'a Index, manifests: &'a Manifests) -> Self {
        let chosen = index.images.iter().filter(|image| !image.platforms.is_empty());
        Self {
            manifests,
            blob_sizes: index.blobs.iter().map(|blob| (&blob.digest, blob.size)).collect(),
            sparse: chosen.flat_map(|image| &image.manifests).collect(),
            absent: index.images.iter().flat_map(|image| &image.absent).collect(),
        }
    }

    fn check_names_of(&self, manifest: &Manifest) -> Result<(), Fault> {
        for blob in manifest.blobs() {
            let Some(&size) = self.blob_sizes.get(&blob.digest) else {
                let manifest = manifest.digest().clone();
                return Err(Fault::BlobUnlisted { manifest, blob: blob.digest.clone() });
            };
            check_size(blob, size)?;
        }
        for child in manifest.children() {
            match (self.manifests.get(&child.digest), self.blob_sizes.get(&child.digest)) {
                (Some(present), _) => check_size(child, present.descriptor.size)?,
                (None, Some(&size)) => check_size(child, size)?,
                (None, None)
                    if self.sparse.contains(manifest.digest())
                        || self.absent.contains(&child.digest) => {}
                (None, None) => {
                    let index = manifest.digest().clone();
                    return Err(Fault::ChildMissing { index, child: child.digest.clone() });
                }
            }
        }
        Ok(())
    }

    fn check_carried(&self, image: &Image) -> Result<(), Fault> {
        let unresolved = || Fault::ImageUnresolved { image: image.name.clone() };
        let resolved = image.resolved.as_ref().ok_or_else(unresolved)?;
        let own: HashSet<&Digest> = image.manifests.iter().collect();
        let referring = image.referrers.iter().map(|referrer| &referrer.digest);
        let all: HashSet<&Digest> = own.iter().copied().chain(referring).collect();
        self.check_families(image, &own, &all)?;
        if !own.contains(&resolved.digest) {
            return Err(missing(image, &resolved.digest));
        }
        for target in &image.tags {
            let digest = target.digest.as_ref().ok_or_else(unresolved)?;
            self.check_among(&own, image, digest)?;
        }
        for referrer in &image.referrers {
            self.check_among(&all, image, &referrer.subject)?;
        }
        Ok(())
    }

    /// The manifests of an image are there, and the children of its indexes are its own and in front
    /// of them. Each image goes to a repository of its own, so another image's are of no use to it.
    fn check_families(
        &self,
        image: &Image,
        own: &HashSet<&Digest>,
        all: &HashSet<&Digest>,
    ) -> Result<(), Fault> {
        let absent: HashSet<&Digest> = image.absent.iter().collect();
        let chosen = !image.platforms.is_empty();
        let mut passed = HashSet::new();
        let referring = image.referrers.iter().map(|referrer| &referrer.digest);
        for digest in image.manifests.iter().chain(referring) {
            let is_sparse = chosen && own.contains(digest);
            for child in self.manifest_of(image, digest)?.children() {
                let child = &child.digest;
                if all.contains(child) {
                    if !passed.contains(child) {
                        let (index, child) = (digest.clone(), child.clone());
                        return Err(Fault::ChildLate { index, child });
                    }
                } else if !is_sparse
                    && !absent.contains(child)
                    && !self.blob_sizes.contains_key(child)
                {
                    return Err(self.stranger(image, child));
                }
            }
            passed.insert(digest);
        }
        Ok(())
    }

    /// Whether `digest` is one of `manifests`, which are those of `image`.
    fn check_among(
        &self,
        manifests: &HashSet<&Digest>,
        image: &Image,
        digest: &Digest,
    ) -> Result<(), Fault> {
        if manifests.contains(digest) { Ok(()) } else { Err(self.stranger(image, digest)) }
    }

    /// A manifest that is not the image's own, be it in the payload or not.
    fn stranger(&self, image: &Image, digest: &Digest) -> Fault {
        if self.manifests.get(digest).is_none() {
            return missing(image, digest);
        }
        Fault::ImageStranger { image: image.name.clone(), digest: digest.clone() }
    }

    fn manifest_of(&self, image: &Image, digest: &Digest) -> Result<&'a Manifest, Fault> {
        self.manifests.get(digest).ok_or_else(|| missing(image, digest))
    }
}

fn check_skipped(image: &Image) -> Result<(), Fault> {
    if image.manifests.is_empty() && image.referrers.is_empty() {
        return Ok(());
    }
    Err(Fault::ImageNotSkipped { image: image.name.clone() })
}

fn check_size(named: &Descriptor, found: u64) -> Result<(), Fault> {
    if named.size == found {
        return Ok(());
    }
    Err(Fault::SizeDiffers { digest: named.digest.clone(), expected: named.size, found })
}

fn missing(image: &Image, digest: &Digest) -> Fault {
    Fault::ImageManifest { image: image.name.clone(), digest: digest.clone() }
}
