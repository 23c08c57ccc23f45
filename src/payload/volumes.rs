//! Volumes: whether an index and a zip agree about what is where, and which volumes belong together.
//! docs/payload-format.md, section "Volumes".

use std::collections::{HashMap, HashSet};

use super::fault::Fault;
use super::index::{Index, Travels};
use super::native::{delta_entry_name, part_entry_name};
use crate::digest::Digest;

/// A content as an entry of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// All of it.
    Whole,
    /// One of its parts, from 1 on.
    Part(usize),
}

/// What a volume's table says of one content.
#[derive(Debug, Default)]
struct Shared {
    size_bytes: u64,
    /// How many parts were seen; none where it is whole.
    parts: usize,
    /// The volume in which the last part was seen.
    last_volume: usize,
    is_whole: bool,
}

/// Reads `parts/<algorithm>/<hex>/<n>`.
pub(super) fn read_part_name(name: &str) -> Option<(Digest, usize)> {
    let (blob, number) = name.strip_prefix("parts/")?.rsplit_once('/')?;
    let (algorithm, hex) = blob.split_once('/')?;
    let digest = format!("{algorithm}:{hex}").parse().ok()?;
    let number: usize = number.parse().ok()?;
    // Only one spelling is right, and there is no part 0.
    (number > 0 && part_entry_name(&digest, number) == name).then_some((digest, number))
}

/// Whether a payload was split at all, and its table shares out all contents, each once.
pub(super) fn check(index: &Index) -> Result<(), Fault> {
    let is_split = !index.volumes.is_empty();
    if index.plan.is_some() != is_split || index.volume.is_some() != is_split {
        return Err(Fault::VolumeNumber { found: index.volume.unwrap_or_default(), last: 0 });
    }
    let Some(number) = index.volume else { return Ok(()) };
    let last = index.volumes.len();
    if number == 0 || number as usize > last {
        return Err(Fault::VolumeNumber { found: number, last });
    }
    let packed = packed(index);
    let mut shared: HashMap<&Digest, Shared> = HashMap::new();
    for (volume, contents) in index.volumes.iter().enumerate() {
        for content in &contents.contents {
            let unplanned = || Fault::EntryIdle { name: content.name.clone() };
            let (digest, held) = packed.find(&content.name).ok_or_else(unplanned)?;
            let shared = shared.entry(digest).or_default();
            let is_next = match held {
                Held::Whole => shared.parts == 0 && !shared.is_whole,
                Held::Part(number) => {
                    let follows = shared.parts == 0 || shared.last_volume + 1 == volume;
                    !shared.is_whole && number == shared.parts + 1 && follows && content.size > 0
                }
            };
            if !is_next {
                return Err(Fault::ListedTwice { name: content.name.clone() });
            }
            shared.size_bytes = shared.size_bytes.saturating_add(content.size);
            shared.last_volume = volume;
            match held {
                Held::Whole => shared.is_whole = true,
                Held::Part(number) => shared.parts = number,
            }
        }
    }
    for (digest, size) in &packed.sizes {
        let Some(shared) = shared.get(digest) else {
            return Err(Fault::EntryMissing { name: digest.blob_path() });
        };
        if size.is_some_and(|size| size != shared.size_bytes) {
            return Err(Fault::SizeDiffers {
                digest: (*digest).clone(),
                expected: size.unwrap_or_default(),
                found: shared.size_bytes,
            });
        }
    }
    Ok(())
}

/// The contents of a payload: what has to be in one of its volumes.
struct Packed<'a> {
    names: HashMap<String, &'a Digest>,
    /// With the size of those that are carried.
    sizes: HashMap<&'a Digest, Option<u64>>,
}

fn packed(index: &Index) -> Packed<'_> {
    let manifests: HashSet<&Digest> =
        index.manifests.iter().map(|manifest| &manifest.digest).collect();
    let mut packed = Packed { names: HashMap::new(), sizes: HashMap::new() };
    for blob in index.blobs.iter().filter(|blob| !manifests.contains(&blob.digest)) {
        let (name, size) = match blob.travels {
            Travels::Carried => (blob.digest.blob_path(), Some(blob.size)),
            Travels::Delta { .. } => (delta_entry_name(&blob.digest), None),
            Travels::Expected { .. } | Travels::LeftOut { .. } => continue,
        };
        packed.names.insert(name, &blob.digest);
        packed.sizes.insert(&blob.digest, size);
    }
    packed
}

impl<'a> Packed<'a> {
    fn find(&self, name: &str) -> Option<(&'a Digest, Held)> {
        if let Some(digest) = self.names.get(name) {
            return Some((digest, Held::Whole));
        }
        let (digest, number) = read_part_name(name)?;
        let (digest, _) = self.sizes.get_key_value(&digest)?;
        Some((digest, Held::Part(number)))
    }
}

/// What this volume holds, by name; `None` where the payload was not split.
pub(super) fn own_contents(index: &Index) -> Option<HashMap<&str, u64>> {
    let number = index.volume? as usize;
    let volume = index.volumes.get(number.checked_sub(1)?)?;
    Some(volume.contents.iter().map(|content| (content.name.as_str(), content.size)).collect())
}

/// Whether two volumes are of one payload.
pub(super) fn belong_together(one: &Index, other: &Index) -> bool {
    let common = |index: &Index| Index { volume: None, entries: Vec::new(), ..index.clone() };
    one.plan.is_some() && common(one) == common(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_one_spelling() {
        let digest = Digest::of(b"blob");
        let name = part_entry_name(&digest, 12);
        assert_eq!(read_part_name(&name), Some((digest.clone(), 12)));
        for wrong in [
            part_entry_name(&digest, 0),
            name.replace("/12", "/012"),
            name.replace("/12", "/+12"),
            name.replace("parts/", "blobs/"),
            format!("parts/sha256/{}", digest.hex()),
            "parts/sha256/1".to_owned(),
        ] {
            assert_eq!(read_part_name(&wrong), None, "{wrong}");
        }
    }
}
