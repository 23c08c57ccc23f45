//! docker-charon's format: `payload_descriptor.json` and the entries it points to, as
//! docs/payload-format.md describes (section "docker-charon's format").
//!
//! Reads what docker-charon 0.4 writes, and makes from it the index that the rest of kharon knows.
//! For writing, gives names and the descriptor's bytes, and refuses what docker-charon cannot
//! deliver.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::directory::{Directory, ZipEntry};
use super::error::Fault;
use super::index::{
    Blob, Entry, INDEX_MAX_BYTES, Image, ImageState, Index, ManifestEntry, TagTarget, Travels,
    VERSION,
};
use super::manifests::{Manifests, Promise};
use super::native::read_object;
use super::reader::{Contents, Promised};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{Content, Manifest, MediaType};
use crate::reference::{RepositoryName, Tag};

/// The entry that says what is where; the last one.
pub const ENTRY_NAME: &str = "payload_descriptor.json";
/// The folder of the manifests.
pub(super) const MANIFESTS_FOLDER: &str = "manifests/";
/// What the index of such a payload names as its tool.
const TOOL: &str = "docker-charon";

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
                Self::MediaType { .. } | Self::Algorithm { .. } => {
                    "leave out `--format charon`, and push with kharon at the far side"
                }
            }
            .to_owned(),
        )
    }
}

/// Whether docker-charon can deliver `manifest` as the far `tag` of what was asked for as `image`.
/// Foreign layers must be carried or expected: the format cannot leave them out.
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
pub(super) fn read(directory: &Directory, entry: &ZipEntry) -> Result<Contents, Fault> {
    let (limit, found) = (INDEX_MAX_BYTES, entry.extent.size_bytes);
    if found > limit {
        return Err(Fault::IndexTooLarge { name: entry.name.clone(), limit, found });
    }
    let shape = |source| Fault::IndexShape { name: entry.name.clone(), source };
    let json = directory.read_checked(entry)?;
    let descriptor: PayloadDescriptor = read_object(&json).map_err(shape)?;
    let mut reading = Reading::new(directory, &descriptor.blobs_paths);
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
    fn new(directory: &'a Directory, locations: &'a Ordered<Location>) -> Self {
        let index = Index {
            version: VERSION,
            tool: TOOL.to_owned(),
            images: Vec::new(),
            manifests: Vec::new(),
            blobs: Vec::new(),
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
                manifests: Manifests::default(),
                blobs: HashMap::new(),
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
            tags: vec![TagTarget { tag, digest, former: None }],
            absent: Vec::new(),
            referrers: Vec::new(),
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
    fn blob(&mut self, blob: &crate::manifest::Descriptor) -> Result<(), Fault> {
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
                self.contents.blobs.insert(blob.digest.clone(), position);
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
