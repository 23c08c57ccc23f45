//! Reads `payload_descriptor.json` and what it points to, and makes the index that the rest of kharon
//! knows from it. Sizes and media types are those that the manifests give.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::digest::{Algorithm, Digest};
use crate::manifest::Descriptor;
use crate::payload::directory::{Directory, ZipEntry};
use crate::payload::fault::Fault;
use crate::payload::index::{
    Blob, Entry, INDEX_MAX_BYTES, Image, ImageState, Index, ManifestEntry, TagTarget, Travels,
    VERSION,
};
use crate::payload::manifests::{Manifests, Promise};
use crate::payload::native::read_object;
use crate::payload::reader::{Contents, HeldContents, Promised};
use crate::payload::signed::Seal;
use crate::reference::{RepositoryName, Tag};

/// What the index of such a payload names as its tool.
const TOOL: &str = "docker-charon";

#[derive(Deserialize)]
struct PayloadDescriptor {
    manifests_paths: Ordered<Option<String>>,
    blobs_paths: Ordered<Location>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Location {
    InZip { zip_path: String },
    AtFarSide { repository: String },
}

/// A JSON object in the order of its members, each of them once.
struct Ordered<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(std::marker::PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                let mut names = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{name}` stands there twice")));
                    }
                    members.push((name, value));
                }
                Ok(Ordered(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

/// Reads the descriptor in `entry` and everything that it points to.
pub(in crate::payload) fn read(directory: &Directory, entry: &ZipEntry) -> Result<Contents, Fault> {
    let (limit, found) = (INDEX_MAX_BYTES, entry.extent.size_bytes);
    if found > limit {
        return Err(Fault::IndexTooLarge { name: entry.name.clone(), limit, found });
    }
    let shape = |source| Fault::IndexShape { name: entry.name.clone(), source };
    let json = directory.read_checked(entry)?;
    let descriptor: PayloadDescriptor = read_object(&json).map_err(shape)?;
    let seal = Seal::unsigned(&json);
    let mut reading = Reading::new(directory, seal, &descriptor.blobs_paths);
    for (name, path) in &descriptor.manifests_paths.0 {
        reading.image(name, path.as_deref())?;
    }
    Ok(reading.finish())
}

/// The index of a docker-charon payload while it is made.
struct Reading<'a> {
    directory: &'a Directory,
    locations: HashMap<&'a str, &'a Location>,
    /// How many images had their manifest at a path so far.
    images_at: BTreeMap<&'a str, usize>,
    listed: HashSet<Digest>,
    contents: Contents,
}

impl<'a> Reading<'a> {
    fn new(directory: &'a Directory, seal: Seal, locations: &'a Ordered<Location>) -> Self {
        let index = Index {
            version: VERSION,
            tool: TOOL.to_owned(),
            images: Vec::new(),
            manifests: Vec::new(),
            blobs: Vec::new(),
            baselines: Vec::new(),
            plan: None,
            volume: None,
            volumes: Vec::new(),
            making: None,
            entries: Vec::new(),
        };
        let locations = locations.0.iter().map(|(digest, location)| (digest.as_str(), location));
        Self {
            directory,
            locations: locations.collect(),
            images_at: BTreeMap::new(),
            listed: HashSet::new(),
            contents: Contents {
                index,
                seal,
                manifests: Manifests::default(),
                held: HeldContents::default(),
                promised: vec![Promised::default(); directory.entries.len()],
            },
        }
    }

    fn image(&mut self, name: &str, path: Option<&'a str>) -> Result<(), Fault> {
        let untagged = || Fault::ImageUntagged { image: name.to_owned() };
        let invalid = |source| Fault::ImageName { image: name.to_owned(), source };
        let (repository, tag) = name.split_once(':').ok_or_else(untagged)?;
        let repository: RepositoryName = repository.parse().map_err(invalid)?;
        let tag: Tag = tag.parse().map_err(invalid)?;
        let resolved = path.map(|path| self.manifest(path)).transpose()?;
        let digest = resolved.as_ref().map(|resolved| resolved.digest.clone());
        self.contents.index.images.push(Image {
            name: name.to_owned(),
            reference: name.to_owned(),
            repository,
            state: if resolved.is_some() { ImageState::Carried } else { ImageState::Skipped },
            resolved,
            platforms: Vec::new(),
            manifests: digest.iter().cloned().collect(),
            tags: vec![TagTarget { tag, digest, former: Vec::new() }],
            absent: Vec::new(),
            referrers: Vec::new(),
            converted_from: None,
        });
        Ok(())
    }

    fn manifest(&mut self, path: &'a str) -> Result<ManifestEntry, Fault> {
        let n = self.images_at.entry(path).or_default();
        let found = self.directory.nth(path, *n);
        *n += 1;
        let (position, entry) =
            found.ok_or_else(|| Fault::EntryMissing { name: path.to_owned() })?;
        let manifest =
            self.contents.manifests.read(self.directory, entry, Promise::Nothing)?.clone();
        let resolved = ManifestEntry::from(&manifest.descriptor);
        self.promise(position, &resolved.digest);
        if self.listed.insert(resolved.digest.clone()) {
            self.contents.index.manifests.push(resolved.clone());
            for blob in manifest.blobs() {
                if self.listed.insert(blob.digest.clone()) {
                    self.blob(blob)?;
                }
            }
        }
        Ok(resolved)
    }

    /// A blob without a location is left to the check of the structure.
    fn blob(&mut self, blob: &Descriptor) -> Result<(), Fault> {
        let travels = match self.locations.get(blob.digest.to_string().as_str()) {
            None => return Ok(()),
            Some(Location::AtFarSide { repository }) => {
                let digest = || blob.digest.clone();
                let invalid = |source| Fault::FarRepository { digest: digest(), source };
                Travels::Expected { repositories: vec![repository.parse().map_err(invalid)?] }
            }
            Some(Location::InZip { zip_path }) => {
                let name = || zip_path.clone();
                let found = self.directory.get(zip_path);
                let (position, entry) =
                    found.ok_or_else(|| Fault::EntryMissing { name: name() })?;
                if entry.extent.size_bytes != blob.size {
                    let (expected, found) = (blob.size, entry.extent.size_bytes);
                    return Err(Fault::EntrySize { name: name(), expected, found });
                }
                self.promise(position, &blob.digest);
                self.contents.held.blobs.insert(blob.digest.clone(), position);
                Travels::Carried
            }
        };
        self.contents.index.blobs.push(Blob {
            media_type: blob.media_type.clone(),
            digest: blob.digest.clone(),
            size: blob.size,
            travels,
        });
        Ok(())
    }

    fn promise(&mut self, position: usize, digest: &Digest) {
        let sha256 = match digest.algorithm() {
            Algorithm::Sha256 => Some(digest.hex().to_owned()),
            Algorithm::Sha512 => None,
        };
        self.contents.promised[position] = Promised { sha256, digest: Some(digest.clone()) };
    }

    fn finish(mut self) -> Contents {
        let entries = self.directory.entries.iter().zip(&self.contents.promised);
        let entries = entries.filter_map(|(entry, promised)| {
            let (name, size) = (entry.name.clone(), entry.extent.size_bytes);
            promised.sha256.clone().map(|sha256| Entry { name, size, sha256 })
        });
        self.contents.index.entries = entries.collect();
        self.contents
    }
}
