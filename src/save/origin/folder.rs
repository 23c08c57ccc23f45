//! A folder of images: an OCI image layout, or what `--layout merged` wrote. It is only read.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;

use crate::failure::Usage;
use crate::fetch::Source;
use crate::layout;
use crate::make::ImageName;
use crate::manifest::{Descriptor, MANIFEST_MAX_BYTES, Manifest};
use crate::payload::oci_index::{CONTAINERD_NAME, REF_NAME};
use crate::payload::{LAYOUT_INDEX_NAME, LAYOUT_NAME};
use crate::reference::{Reference, RegistryHost, Tag};

use super::super::catalog::{CATALOG_NAME, Catalog};
use super::super::damaged::DamagedFolder;
use super::Blame;

/// The largest `index.json` that is read, in bytes.
const INDEX_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// How many images are named in a message.
const NAMED_MAX: usize = 8;

/// The folder and what its index or catalog names.
pub(crate) struct Folder {
    root: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    reference: Reference,
    /// Whether the folder says only the tag.
    is_tag_alone: bool,
    descriptor: Descriptor,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl Folder {
    pub(super) fn open(root: PathBuf) -> anyhow::Result<Self> {
        let is_layout = root.join(LAYOUT_NAME).is_file();
        let entries = match Catalog::read(&root)? {
            Some(catalog) => of_catalog(&root, catalog)?,
            None if is_layout => of_index(&root)?,
            None => {
                let message = format!(
                    "expected a folder with `{LAYOUT_NAME}` or `{CATALOG_NAME}`, found `{}` without",
                    root.display()
                );
                let hint = "name an OCI image layout, or a folder of `kharon save --layout merged`";
                return Err(Usage::new(message).with_hint(hint).into());
            }
        };
        Ok(Self { root, entries })
    }

    pub(super) fn all(&self) -> Vec<ImageName> {
        let mut names: Vec<ImageName> = Vec::new();
        for Entry { reference, .. } in &self.entries {
            if names.iter().all(|known| known.reference != *reference) {
                names.push(ImageName { name: reference.to_string(), reference: reference.clone() });
            }
        }
        names
    }

    fn find(&self, image: &ImageName) -> Option<&Entry> {
        let wanted = &image.reference;
        let plain = Reference { digest: None, ..wanted.clone() };
        let is_meant = |entry: &&Entry| {
            let digest_fits =
                wanted.digest.as_ref().is_none_or(|digest| *digest == entry.descriptor.digest);
            let name_fits = entry.reference == *wanted
                || entry.reference == plain
                || (wanted.tag.is_none()
                    && entry.reference.registry == wanted.registry
                    && entry.reference.api_repository() == wanted.api_repository())
                || (entry.is_tag_alone && entry.reference.tag == wanted.tag);
            digest_fits && name_fits
        };
        self.entries.iter().find(is_meant).or_else(|| self.find_anywhere(wanted))
    }

    /// The one image of this repository and tag, whatever registry it came from, where none was named.
    fn find_anywhere(&self, wanted: &Reference) -> Option<&Entry> {
        let is_meant = |entry: &&Entry| {
            wanted.registry.is_docker_hub()
                && wanted.digest.is_none()
                && entry.reference.repository == wanted.repository
                && entry.reference.tag == wanted.tag
        };
        let mut found = self.entries.iter().filter(is_meant);
        let first = found.next()?;
        found.all(|other| other.reference == first.reference).then_some(first)
    }

    pub(super) fn reference(&self, image: &ImageName) -> Reference {
        let found = self.find(image).filter(|entry| !entry.is_tag_alone);
        let found = found.filter(|entry| entry.reference.tag == image.reference.tag);
        found.map_or_else(|| image.reference.clone(), |entry| entry.reference.clone())
    }

    pub(super) fn root(&self, image: &ImageName) -> anyhow::Result<Manifest> {
        let Some(entry) = self.find(image) else {
            let has: Vec<String> =
                self.all().iter().take(NAMED_MAX).map(|known| known.name.clone()).collect();
            let more = if self.entries.len() > NAMED_MAX { " and more" } else { "" };
            let message = format!("`{}` is not in `{}`", image.name, self.root.display());
            let hint = match has.as_slice() {
                [] => "it holds no image".to_owned(),
                has => format!("it has {}{more}", has.join(", ")),
            };
            return Err(Usage::new(message).with_hint(hint).into());
        };
        self.manifest(&entry.descriptor)
    }

    pub(super) fn manifest(&self, descriptor: &Descriptor) -> anyhow::Result<Manifest> {
        let digest = &descriptor.digest;
        let path = self.root.join(digest.blob_path());
        let damaged = |why: String| DamagedFolder::new(path.clone(), why);
        let file = self.open_blob(descriptor)?;
        let mut raw = Vec::new();
        let read = file.take(MANIFEST_MAX_BYTES + 1).read_to_end(&mut raw);
        read.with_context(|| format!("cannot read `{}`", path.display()))?;
        if raw.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(damaged(format!("it has more than {MANIFEST_MAX_BYTES} bytes")).into());
        }
        let manifest = Manifest::parse(raw.into(), Some(&descriptor.media_type));
        let manifest = manifest.map_err(|error| damaged(error.to_string()))?;
        Ok(manifest.verified_as(digest).map_err(|mismatch| damaged(mismatch.to_string()))?)
    }

    pub(super) fn source(&self, blob: &Descriptor) -> anyhow::Result<(Source, Blame)> {
        let path = self.root.join(blob.digest.blob_path());
        let file = self.open_blob(blob)?;
        let found = file.metadata().with_context(|| format!("cannot read `{}`", path.display()))?;
        if found.len() != blob.size {
            let why = format!("expected {} bytes, found {}", blob.size, found.len());
            return Err(DamagedFolder::new(path, why).into());
        }
        Ok((Source::File(Arc::new(file)), Blame::Folder(self.root.clone())))
    }

    fn open_blob(&self, blob: &Descriptor) -> anyhow::Result<File> {
        let path = self.root.join(blob.digest.blob_path());
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(DamagedFolder::new(path, "it is not there").into())
            }
            file => file.with_context(|| format!("cannot open `{}`", path.display())),
        }
    }
}

fn of_catalog(root: &std::path::Path, catalog: Catalog) -> anyhow::Result<Vec<Entry>> {
    let entry = |(name, descriptor): (String, Descriptor)| {
        let reference = Reference::parse(&name, &RegistryHost::docker_hub()).map_err(|error| {
            DamagedFolder::new(root.join(CATALOG_NAME), format!("`{name}` is no image: {error}"))
        })?;
        let reference = plain(reference, &RegistryHost::docker_hub());
        Ok(Entry { reference, is_tag_alone: false, descriptor })
    };
    catalog.images.into_iter().map(entry).collect()
}

fn of_index(root: &std::path::Path) -> anyhow::Result<Vec<Entry>> {
    let path = root.join(LAYOUT_INDEX_NAME);
    let cannot_read = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    let file = File::open(&path).with_context(cannot_read)?;
    file.take(INDEX_MAX_BYTES + 1).read_to_end(&mut bytes).with_context(cannot_read)?;
    if bytes.len() as u64 > INDEX_MAX_BYTES {
        return Err(DamagedFolder::new(path, "it is too large").into());
    }
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| DamagedFolder::new(path.clone(), error.to_string()))?;
    let own = layout::folder_repository(&fs::canonicalize(root).with_context(cannot_read)?);
    let entry = |descriptor: Descriptor| {
        let of = |name| descriptor.annotations.get(name).map(String::as_str);
        let hub = RegistryHost::docker_hub();
        let full = |text: &str| Some(plain(Reference::parse(text, &hub).ok()?, &hub));
        let (reference, is_tag_alone) = match (of(CONTAINERD_NAME).and_then(full), of(REF_NAME)) {
            (Some(reference), _) => (reference, false),
            (None, ref_name) => {
                let tag = ref_name.and_then(|text| text.parse::<Tag>().ok());
                match (tag, ref_name.and_then(full)) {
                    (None, Some(reference)) => (reference, false),
                    (tag, _) => {
                        let digest = tag.is_none().then(|| descriptor.digest.clone());
                        let registry = "localhost".parse()?;
                        let repository = own.clone();
                        (Reference { registry, repository, tag, digest }, true)
                    }
                }
            }
        };
        anyhow::Ok(Entry { reference, is_tag_alone, descriptor })
    };
    let is_manifest = |descriptor: &Descriptor| descriptor.media_type.is_manifest();
    index.manifests.into_iter().filter(is_manifest).map(entry).collect()
}

/// A reference as it is typed: Docker Hub's own images without `library/`.
fn plain(reference: Reference, hub: &RegistryHost) -> Reference {
    if reference.registry != *hub {
        return reference;
    }
    let short = reference.repository.as_str().strip_prefix("library/");
    let short = short.filter(|short| !short.contains('/')).and_then(|short| short.parse().ok());
    Reference { repository: short.unwrap_or_else(|| reference.repository.clone()), ..reference }
}
