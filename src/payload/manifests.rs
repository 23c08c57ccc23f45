//! The manifests of a payload, read within limits while it is opened.

use std::collections::HashMap;

use bytes::Bytes;

use super::directory::{Directory, ZipEntry};
use super::fault::Fault;
use crate::digest::{Digest, Mismatch};
use crate::manifest::{MANIFEST_MAX_BYTES, Manifest, MediaType};

/// The largest sum of manifests that is read, in bytes, as all of them are kept in memory: sixty
/// thousand of the usual size.
pub const MANIFESTS_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The manifests read so far.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    by_digest: HashMap<Digest, Manifest>,
    bytes: u64,
}

/// What is known of a manifest before it is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Promise<'a> {
    /// docker-charon says nothing.
    Nothing,
    /// The index says what it is.
    Content(&'a Digest, &'a MediaType),
}

impl Manifests {
    /// Reads the manifest in `entry` and keeps it.
    pub(super) fn read(
        &mut self,
        directory: &Directory,
        entry: &ZipEntry,
        promise: Promise<'_>,
    ) -> Result<&Manifest, Fault> {
        let name = || entry.name.clone();
        let size_bytes = entry.extent.size_bytes;
        if size_bytes > MANIFEST_MAX_BYTES {
            let (limit, found) = (MANIFEST_MAX_BYTES, size_bytes);
            return Err(Fault::ManifestTooLarge { name: name(), limit, found });
        }
        self.bytes += size_bytes;
        if self.bytes > MANIFESTS_MAX_BYTES {
            let (limit, found) = (MANIFESTS_MAX_BYTES, self.bytes);
            return Err(Fault::ManifestsTooLarge { limit, found });
        }
        let raw = Bytes::from(directory.read_checked(entry)?);
        let invalid = |source| Fault::Manifest { name: name(), source };
        let manifest = match promise {
            Promise::Nothing => Manifest::parse(raw, None).map_err(invalid)?,
            Promise::Content(digest, media_type) => {
                let found = digest.same_algorithm_of(&raw);
                if found != *digest {
                    let expected = digest.clone();
                    return Err(Fault::ManifestContent(Mismatch::Digest { expected, found }));
                }
                let manifest = Manifest::parse(raw, Some(media_type)).map_err(invalid)?;
                manifest.verified_as(digest).map_err(Fault::ManifestContent)?
            }
        };
        let digest = manifest.digest().clone();
        Ok(self.by_digest.entry(digest).or_insert(manifest))
    }

    /// Manifests that were read from elsewhere, under the same limit.
    pub(super) fn of(manifests: &[Manifest]) -> Result<Self, Fault> {
        let (limit, mut all) = (MANIFESTS_MAX_BYTES, Self::default());
        for manifest in manifests {
            all.bytes += manifest.raw.len() as u64;
            if all.bytes > limit {
                let found = all.bytes;
                return Err(Fault::ManifestsTooLarge { limit, found });
            }
            all.by_digest.insert(manifest.digest().clone(), manifest.clone());
        }
        Ok(all)
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Manifest> {
        self.by_digest.get(digest)
    }
}
