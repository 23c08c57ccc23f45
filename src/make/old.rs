//! Which old blobs are read to make deltas against. Pure.
//!
//! Whoever has transferred for years names a baseline of a hundred images; to read all of it for one
//! new layer would cost more than the layer. What went to the same repository is the likeliest to be
//! alike, and of that what was named last.

use std::collections::{BTreeSet, HashMap};

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::plan::{HeldBlob, Plan};
use crate::reference::RepositoryName;

use super::deltas::BLOB_MIN_BYTES;

/// So much is read however little is new, in bytes.
const OLD_MIN_BYTES: u64 = 64 << 20;
/// At most so many times what is new is read, if that is more.
const OLD_TIMES: u64 = 8;

/// The old blobs to read, and what is left.
#[derive(Debug, Default)]
pub(super) struct Old<'a> {
    /// In the order in which they were named.
    pub(super) chosen: Vec<&'a HeldBlob>,
    pub(super) left_blobs: u64,
    pub(super) left_bytes: u64,
}

/// Chooses among the old blobs that are at hand, for what `plan` carries.
pub(super) fn choose<'a>(held: &[&'a HeldBlob], plan: &Plan) -> Old<'a> {
    let sizes = plan.packed().map(|planned| planned.descriptor.size);
    let new_bytes: u64 = sizes.filter(|size| *size >= BLOB_MIN_BYTES).sum();
    let limit = OLD_MIN_BYTES.max(new_bytes.saturating_mul(OLD_TIMES));
    choose_within(held, &changed_repositories(plan), limit)
}

/// The far repositories of images that bring something new.
fn changed_repositories(plan: &Plan) -> BTreeSet<&RepositoryName> {
    let new: BTreeSet<&Digest> = plan.packed().map(|planned| &planned.descriptor.digest).collect();
    let manifests: HashMap<&Digest, &Manifest> =
        plan.manifests.iter().map(|manifest| (manifest.digest(), manifest)).collect();
    let brings = |digest: &Digest| {
        let manifest = manifests.get(digest);
        manifest.is_some_and(|manifest| manifest.blobs().any(|blob| new.contains(&blob.digest)))
    };
    let changed = plan.images.iter().filter(|image| image.manifests.iter().any(brings));
    changed.map(|image| &image.repository).collect()
}

fn choose_within<'a>(
    held: &[&'a HeldBlob],
    changed: &BTreeSet<&RepositoryName>,
    limit: u64,
) -> Old<'a> {
    let large = held.iter().copied().enumerate();
    let large = large.filter(|(_, held)| held.descriptor.size >= BLOB_MIN_BYTES).rev();
    let (near, far): (Vec<_>, Vec<_>) = large.partition(|(_, held)| {
        held.repositories.iter().any(|repository| changed.contains(repository))
    });
    let mut old = Old::default();
    let (mut chosen, mut bytes) = (Vec::new(), 0_u64);
    for (place, held) in near.into_iter().chain(far) {
        let size = held.descriptor.size;
        if bytes.saturating_add(size) <= limit {
            bytes += size;
            chosen.push((place, held));
        } else {
            old.left_blobs += 1;
            old.left_bytes = old.left_bytes.saturating_add(size);
        }
    }
    chosen.sort_unstable_by_key(|(place, _)| *place);
    old.chosen = chosen.into_iter().map(|(_, held)| held).collect();
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Descriptor, MediaType};

    fn held(seed: u8, repository: &str, size: u64) -> HeldBlob {
        let media_type = MediaType::new("x/y");
        HeldBlob {
            descriptor: Descriptor::new(media_type, Digest::of(&[seed]), size),
            repositories: vec![repository.parse().expect("valid")],
            sources: Vec::new(),
        }
    }

    #[test]
    fn the_same_repository_comes_first_and_of_it_what_was_named_last() {
        let all = [
            held(1, "app", 60_000),
            held(2, "other", 50_000),
            held(3, "app", 70_000),
            held(4, "app", 100),
            held(5, "other", 40_000),
        ];
        let app: RepositoryName = "app".parse().expect("valid");
        let changed = BTreeSet::from([&app]);
        for (limit, expected) in [
            (300_000, &[0_usize, 1, 2, 4][..]),
            (175_000, &[0, 2, 4]),
            (130_000, &[0, 2]),
            (115_000, &[2, 4]),
            (10, &[]),
        ] {
            let held: Vec<&HeldBlob> = all.iter().collect();
            let old = choose_within(&held, &changed, limit);
            let expected: Vec<_> = expected.iter().map(|place| &all[*place].descriptor).collect();
            let chosen: Vec<_> = old.chosen.iter().map(|held| &held.descriptor).collect();
            assert_eq!(chosen, expected, "within {limit} bytes");
            assert_eq!(old.left_blobs, 4 - chosen.len() as u64, "within {limit} bytes");
        }
    }
}
