//! kharon's own format: reads `kharon.json` and checks that the zip holds what it lists.

use std::collections::HashSet;

use serde::Deserialize;

use super::directory::{Directory, ZipEntry};
use super::fault::Fault;
use super::index::{self, INDEX_MAX_BYTES, Index, Travels, VERSION};
use super::manifests::{Manifests, Promise};
use super::reader::{Contents, HeldContents, Promised};
use super::signed::{SIGNATURE_NAME, Seal};
use super::volumes;
use crate::digest::Digest;

/// The OCI image-layout's marker.
pub const LAYOUT_NAME: &str = "oci-layout";
/// The OCI image-layout's index.
pub const LAYOUT_INDEX_NAME: &str = "index.json";
/// The folders of the layout, of deltas and of parts, which zip tools may write as entries of their own.
const FOLDERS: [&str; 9] = [
    "blobs/",
    "blobs/sha256/",
    "blobs/sha512/",
    "deltas/",
    "deltas/sha256/",
    "deltas/sha512/",
    "parts/",
    "parts/sha256/",
    "parts/sha512/",
];

/// Reads and checks everything but whether the images hang together.
pub(super) fn read(directory: &Directory, entry: &ZipEntry) -> Result<Contents, Fault> {
    check_names(directory)?;
    if entry.extent.size_bytes > INDEX_MAX_BYTES {
        return Err(Fault::IndexTooLarge {
            name: entry.name.clone(),
            limit: INDEX_MAX_BYTES,
            found: entry.extent.size_bytes,
        });
    }
    let json = directory.read_checked(entry)?;
    let index = parse(&json)?;
    let seal = Seal::read(directory, &json)?;
    drop(json);
    check_lists(&index)?;
    volumes::check(&index)?;
    let own = volumes::own_contents(&index);
    let promised = check_entries(directory, &index)?;
    let mut manifests = Manifests::default();
    let mut used = HashSet::new();
    for listed in &index.manifests {
        let (position, entry) = sized(directory, &listed.digest, listed.size)?;
        let promise = Promise::Content(&listed.digest, &listed.media_type);
        let manifest = manifests.read(directory, entry, promise)?;
        if manifest.descriptor.media_type != listed.media_type {
            return Err(Fault::ManifestMediaType {
                digest: listed.digest.clone(),
                expected: listed.media_type.clone(),
                found: manifest.descriptor.media_type.clone(),
            });
        }
        used.insert(position);
    }
    let mut held = HeldContents::default();
    let listed: HashSet<&Digest> =
        index.manifests.iter().map(|manifest| &manifest.digest).collect();
    for blob in &index.blobs {
        let (name, size, whole) = match blob.travels {
            Travels::Carried => (blob.digest.blob_path(), Some(blob.size), &mut held.blobs),
            Travels::Delta { .. } => (delta_entry_name(&blob.digest), None, &mut held.deltas),
            Travels::Expected { .. } | Travels::LeftOut { .. } => continue,
        };
        // Whoever has only one volume has only what is listed for it, and every manifest.
        let is_here = own.as_ref().is_none_or(|own| own.contains_key(name.as_str()));
        if is_here || listed.contains(&blob.digest) {
            let size = size.or_else(|| own.as_ref()?.get(name.as_str()).copied());
            let position = find(directory, name, size)?;
            whole.insert(blob.digest.clone(), position);
            used.insert(position);
        }
    }
    for (name, size) in own.into_iter().flatten() {
        if let Some((digest, number)) = volumes::read_part_name(name) {
            let position = find(directory, name.to_owned(), Some(size))?;
            held.parts.insert((digest, number), position);
            used.insert(position);
        }
    }
    for (position, promised) in promised.iter().enumerate() {
        let name = &directory.entries[position].name;
        let is_content = ["deltas/", "parts/"].iter().any(|folder| name.starts_with(folder));
        let is_idle = promised.digest.is_some() || is_content;
        if is_idle && promised.sha256.is_some() && !used.contains(&position) {
            return Err(Fault::EntryIdle { name: name.clone() });
        }
    }
    Ok(Contents { index, seal, manifests, held, promised })
}

/// What kind of entry a name stands for.
enum Name {
    Layout,
    Index,
    Signature,
    Content(Digest),
    /// A delta or a part: it is known by no digest of its own.
    Packed,
    Folder,
}

fn read_name(name: &str) -> Option<Name> {
    match name {
        LAYOUT_NAME | LAYOUT_INDEX_NAME => return Some(Name::Layout),
        index::ENTRY_NAME => return Some(Name::Index),
        SIGNATURE_NAME => return Some(Name::Signature),
        _ if FOLDERS.contains(&name) => return Some(Name::Folder),
        _ if volumes::read_part_name(name).is_some() => return Some(Name::Packed),
        // Zip tools may write the folder of a blob's parts too.
        _ => {
            let part = name.strip_suffix('/').map(|folder| format!("{folder}/1"));
            if part.is_some_and(|part| volumes::read_part_name(&part).is_some()) {
                return Some(Name::Folder);
            }
        }
    }
    let (folder, rest) = name.split_once('/')?;
    let (algorithm, hex) = rest.split_once('/')?;
    let digest = format!("{algorithm}:{hex}").parse().ok()?;
    match folder {
        "blobs" => Some(Name::Content(digest)),
        "deltas" => Some(Name::Packed),
        _ => None,
    }
}

/// The entry that rebuilds a blob.
pub fn delta_entry_name(blob: &Digest) -> String {
    format!("deltas/{}/{}", blob.algorithm().name(), blob.hex())
}

/// The entry that holds the part `number`, from 1 on, of what brings a blob.
pub fn part_entry_name(blob: &Digest, number: usize) -> String {
    format!("parts/{}/{}/{number}", blob.algorithm().name(), blob.hex())
}

fn check_names(directory: &Directory) -> Result<(), Fault> {
    for entry in &directory.entries {
        match read_name(&entry.name) {
            Some(Name::Folder) if entry.extent.size_bytes > 0 => {}
            Some(_) => continue,
            None => {}
        }
        return Err(Fault::UnknownName { name: entry.name.clone() });
    }
    Ok(())
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

/// What is looked at when the index does not parse, for a better answer.
#[derive(Deserialize)]
struct TravelsOnly {
    blobs: Vec<BlobTravels>,
}

#[derive(Deserialize)]
struct BlobTravels {
    digest: Digest,
    travels: String,
}

fn parse(json: &[u8]) -> Result<Index, Fault> {
    let shape = |source| Fault::IndexShape { name: index::ENTRY_NAME.to_owned(), source };
    let VersionOnly { version } = read_object(json).map_err(shape)?;
    if version != u64::from(VERSION) {
        return Err(Fault::Version { found: version });
    }
    serde_json::from_slice(json).map_err(|error| {
        let known = |blob: &BlobTravels| {
            matches!(blob.travels.as_str(), "carried" | "expected" | "left-out" | "delta")
        };
        let Ok(TravelsOnly { blobs }) = serde_json::from_slice(json) else {
            return shape(error);
        };
        match blobs.into_iter().find(|blob| !known(blob)) {
            Some(BlobTravels { digest, travels }) => Fault::Travels { digest, found: travels },
            None => shape(error),
        }
    })
}

/// Reads a JSON object. serde takes a list for a struct too, which no other reader would.
pub(super) fn read_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    match json.trim_ascii_start().first() {
        Some(b'{') | None => serde_json::from_slice(json),
        Some(_) => Err(serde::de::Error::custom("expected an object")),
    }
}

/// Each list of the index names each thing once, and says what it must.
pub(super) fn check_lists(index: &Index) -> Result<(), Fault> {
    let mut entries = HashSet::new();
    for entry in &index.entries {
        let is_hash = format!("sha256:{}", entry.sha256).parse::<Digest>().is_ok();
        if !is_hash {
            let (name, found) = (entry.name.clone(), entry.sha256.clone());
            return Err(Fault::Hash { name, found });
        }
        if !entries.insert(&entry.name) {
            return Err(Fault::ListedTwice { name: entry.name.clone() });
        }
    }
    let twice = |digest: &Digest| Fault::ListedTwice { name: digest.to_string() };
    let mut manifests = HashSet::new();
    for manifest in &index.manifests {
        if !manifests.insert(&manifest.digest) {
            return Err(twice(&manifest.digest));
        }
    }
    let mut blobs = HashSet::new();
    for blob in &index.blobs {
        if !blobs.insert(&blob.digest) {
            return Err(twice(&blob.digest));
        }
        if matches!(&blob.travels, Travels::Expected { repositories } if repositories.is_empty()) {
            return Err(Fault::NoRepository { digest: blob.digest.clone() });
        }
    }
    check_baselines(index, blobs)
}

/// What deltas need is there, raw or at the far side, and what is only there for deltas serves one.
fn check_baselines<'a>(index: &'a Index, mut listed: HashSet<&'a Digest>) -> Result<(), Fault> {
    for blob in &index.baselines {
        if !listed.insert(&blob.digest) {
            return Err(Fault::ListedTwice { name: blob.digest.to_string() });
        }
        if blob.repositories.is_empty() {
            return Err(Fault::NoRepository { digest: blob.digest.clone() });
        }
    }
    let whole = index
        .blobs
        .iter()
        .filter(|blob| matches!(blob.travels, Travels::Carried | Travels::Expected { .. }));
    let only_baselines = || index.baselines.iter().map(|blob| &blob.digest);
    let usable: HashSet<&Digest> = whole.map(|blob| &blob.digest).chain(only_baselines()).collect();
    let mut idle: HashSet<&Digest> = only_baselines().collect();
    for blob in &index.blobs {
        let Travels::Delta { baselines } = &blob.travels else { continue };
        let mut seen = HashSet::new();
        for baseline in baselines {
            if !usable.contains(baseline) || !seen.insert(baseline) {
                let (digest, baseline) = (blob.digest.clone(), baseline.clone());
                return Err(Fault::BaselineUnusable { digest, baseline });
            }
            idle.remove(baseline);
        }
    }
    match index.baselines.iter().find(|blob| idle.contains(&blob.digest)) {
        None => Ok(()),
        Some(blob) => Err(Fault::BaselineIdle { digest: blob.digest.clone() }),
    }
}

/// The entries of the zip are those that the index lists. Gives what is promised of each.
fn check_entries(directory: &Directory, index: &Index) -> Result<Vec<Promised>, Fault> {
    for required in [LAYOUT_NAME, LAYOUT_INDEX_NAME] {
        if directory.get(required).is_none() {
            return Err(Fault::EntryMissing { name: required.to_owned() });
        }
    }
    let mut promised = vec![None; directory.entries.len()];
    for listed in &index.entries {
        let name = || listed.name.clone();
        let (position, entry) =
            directory.get(&listed.name).ok_or_else(|| Fault::EntryMissing { name: name() })?;
        if entry.extent.size_bytes != listed.size {
            let (expected, found) = (listed.size, entry.extent.size_bytes);
            return Err(Fault::EntrySize { name: name(), expected, found });
        }
        promised[position] = Some(listed.sha256.clone());
    }
    let entries = directory.entries.iter().zip(promised);
    entries
        .map(|(entry, sha256)| match (read_name(&entry.name), sha256) {
            (Some(Name::Content(digest)), Some(sha256)) => {
                Ok(Promised { sha256: Some(sha256), digest: Some(digest) })
            }
            (Some(Name::Layout | Name::Packed), Some(sha256)) => {
                Ok(Promised { sha256: Some(sha256), digest: None })
            }
            (Some(Name::Index | Name::Signature | Name::Folder), None) => Ok(Promised::default()),
            _ => Err(Fault::EntryUnlisted { name: entry.name.clone() }),
        })
        .collect()
}

/// The entry of a manifest or blob, which must have this size.
fn sized<'a>(
    directory: &'a Directory,
    digest: &Digest,
    size_bytes: u64,
) -> Result<(usize, &'a ZipEntry), Fault> {
    let position = find(directory, digest.blob_path(), Some(size_bytes))?;
    Ok((position, &directory.entries[position]))
}

/// The position of an entry, which must have this size if that is known.
fn find(directory: &Directory, name: String, size_bytes: Option<u64>) -> Result<usize, Fault> {
    let Some((position, entry)) = directory.get(&name) else {
        return Err(Fault::EntryMissing { name });
    };
    let found = entry.extent.size_bytes;
    match size_bytes.filter(|expected| *expected != found) {
        Some(expected) => Err(Fault::EntrySize { name, expected, found }),
        None => Ok(position),
    }
}
