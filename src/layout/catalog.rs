//! `index.json` in memory: its entries in order, and who they make findable.
//!
//! No I/O here. Entries and fields that are not understood are kept. Where two entries give one
//! tag, the later one has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::entry::{Entry, RefName};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MediaType};
use crate::reference::{RepositoryName, Tag};

/// Where an entry stands: entries are written in the order of their places.
type Place = u64;

/// Everything that `index.json` says.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    entries: BTreeMap<Place, Entry>,
    next_place: Place,
    /// What else stands in `index.json`.
    rest: Map<String, Value>,
    repositories: BTreeMap<RepositoryName, Repository>,
    /// How many entries have each `org.opencontainers.image.ref.name`.
    ref_names: HashMap<String, usize>,
    /// Counts the changes of what would be written.
    version: u64,
}

#[derive(Debug, Default)]
struct Repository {
    tags: BTreeMap<Tag, Place>,
    manifests: BTreeMap<Digest, Member>,
    /// Who refers to a manifest, which need not be here itself.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
}

#[derive(Debug)]
struct Member {
    media_type: MediaType,
    size_bytes: u64,
    /// Whether an entry names it, so that it will be a member again when `index.json` is read.
    is_named: bool,
    /// An entry of our own that does so without a tag.
    untagged: Option<Place>,
}

impl Catalog {
    /// Reads `index.json`. Nothing is a member of a repository before [`Self::admit`] said so.
    pub(super) fn read(bytes: &[u8], folder: &RepositoryName) -> Result<Self, serde_json::Error> {
        let mut rest: Map<String, Value> = serde_json::from_slice(bytes)?;
        let manifests = rest.remove("manifests").unwrap_or_else(|| json!([]));
        let manifests: Vec<Value> = serde_json::from_value(manifests)?;
        let mut catalog = Self { rest, ..Self::default() };
        for value in &manifests {
            catalog.append(Entry::read(value, folder));
        }
        Ok(catalog)
    }

    /// `index.json` as it is to be written.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut rest = self.rest.clone();
        rest.entry("schemaVersion").or_insert_with(|| 2.into());
        rest.entry("mediaType").or_insert_with(|| MediaType::OCI_INDEX.into());
        let size: usize = self.entries.values().map(|entry| entry.text().len() + 2).sum();
        let head = Value::Object(rest).to_string();
        let mut bytes = Vec::with_capacity(size + head.len() + 32);
        bytes.extend_from_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
        bytes.extend_from_slice(b",\"manifests\":[");
        for (nth, entry) in self.entries.values().enumerate() {
            bytes.extend_from_slice(if nth == 0 { b"\n" } else { b",\n" });
            bytes.extend_from_slice(entry.text().as_bytes());
        }
        bytes.extend_from_slice(b"\n]}\n");
        bytes
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What each entry describes, and for which repositories.
    pub(super) fn described(&self) -> Vec<(Descriptor, Vec<RepositoryName>)> {
        let described = |entry: &Entry| {
            let repositories = entry.names.iter().map(|name| name.repository.clone()).collect();
            Some((entry.descriptor.clone()?, repositories))
        };
        self.entries.values().filter_map(described).collect()
    }

    /// Makes a manifest a member of a repository.
    pub(super) fn admit(
        &mut self,
        repository: &RepositoryName,
        manifest: &Descriptor,
        subject: Option<&Digest>,
    ) {
        let repository = self.repositories.entry(repository.clone()).or_default();
        repository.manifests.entry(manifest.digest.clone()).or_insert_with(|| Member {
            media_type: manifest.media_type.clone(),
            size_bytes: manifest.size,
            is_named: false,
            untagged: None,
        });
        if let Some(subject) = subject {
            let referrers = repository.referrers.entry(subject.clone()).or_default();
            referrers.insert(manifest.digest.clone());
        }
    }

    /// Lets the names of all entries count whose manifests have become members.
    pub(super) fn link(&mut self) {
        for (place, entry) in &self.entries {
            let Some(descriptor) = &entry.descriptor else { continue };
            let is_own = entry.is_own();
            for name in &entry.names {
                let Some(repository) = self.repositories.get_mut(&name.repository) else {
                    continue;
                };
                let Some(member) = repository.manifests.get_mut(&descriptor.digest) else {
                    continue;
                };
                member.is_named = true;
                match &name.tag {
                    Some(tag) => drop(repository.tags.insert(tag.clone(), *place)),
                    None if is_own => member.untagged = Some(*place),
                    None => {}
                }
            }
        }
        for (place, entry) in &mut self.entries {
            for name in &mut entry.names {
                let tags = self.repositories.get(&name.repository).map(|found| &found.tags);
                let holder = tags.zip(name.tag.as_ref()).and_then(|(tags, tag)| tags.get(tag));
                if holder.is_some_and(|holder| holder != place) {
                    name.tag = None;
                }
            }
        }
    }

    /// Gives a member a tag, or without one sees to it that `index.json` names it at all.
    pub(super) fn name(
        &mut self,
        repository: &RepositoryName,
        tag: Option<&Tag>,
        manifest: &Descriptor,
    ) {
        let Some(found) = self.repositories.get_mut(repository) else { return };
        let Some(member) = found.manifests.get_mut(&manifest.digest) else { return };
        let is_named = std::mem::replace(&mut member.is_named, true);
        let Some(tag) = tag else {
            if !is_named {
                let place = self.append(Entry::untagged(repository, manifest));
                self.set_untagged(repository, &manifest.digest, place);
            }
            return;
        };
        let former = found.tags.get(tag).copied();
        let entry = former.and_then(|place| self.entries.get(&place)?.descriptor.as_ref());
        if entry.is_some_and(|entry| entry.digest == manifest.digest) {
            return;
        }
        let untagged = member.untagged.take();
        if let Some(former) = former {
            self.untag(former, repository, tag);
        }
        // It goes to the end even where it was here before: of two entries with a tag the later counts.
        let reused = untagged.and_then(|place| self.remove(place));
        let mut entry = reused.unwrap_or_else(|| Entry::untagged(repository, manifest));
        let is_taken = self.ref_names.contains_key(tag.as_str());
        entry.take_tag(repository, tag, if is_taken { RefName::Full } else { RefName::Tag });
        let place = self.append(entry);
        if let Some(repository) = self.repositories.get_mut(repository) {
            repository.tags.insert(tag.clone(), place);
        }
    }

    /// What a tag names.
    pub(super) fn tagged(&self, repository: &RepositoryName, tag: &Tag) -> Option<&Digest> {
        self.digest_at(*self.repositories.get(repository)?.tags.get(tag)?)
    }

    /// A member of a repository.
    pub(super) fn member(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<Descriptor> {
        let member = self.repositories.get(repository)?.manifests.get(digest)?;
        Some(Descriptor::new(member.media_type.clone(), digest.clone(), member.size_bytes))
    }

    /// Who refers to a manifest, in the order of their digests.
    pub(super) fn referrers(&self, repository: &RepositoryName, to: &Digest) -> Vec<Descriptor> {
        let referrers = self.repositories.get(repository).and_then(|found| found.referrers.get(to));
        let digests = referrers.into_iter().flatten();
        digests.filter_map(|digest| self.member(repository, digest)).collect()
    }

    /// All tags of a repository, sorted.
    pub(super) fn tags(&self, repository: &RepositoryName) -> Option<impl Iterator<Item = &Tag>> {
        Some(self.repositories.get(repository)?.tags.keys())
    }

    /// All repositories, sorted.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.repositories.keys()
    }

    fn digest_at(&self, place: Place) -> Option<&Digest> {
        Some(&self.entries.get(&place)?.descriptor.as_ref()?.digest)
    }

    fn append(&mut self, entry: Entry) -> Place {
        if let Some(ref_name) = entry.ref_name() {
            *self.ref_names.entry(ref_name.to_owned()).or_default() += 1;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.version += 1;
        self.entries.insert(place, entry);
        place
    }

    fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = self.entries.remove(&place)?;
        self.version += 1;
        if let Some(ref_name) = entry.ref_name()
            && let Some(count) = self.ref_names.get_mut(ref_name)
        {
            *count -= 1;
            if *count == 0 {
                self.ref_names.remove(ref_name);
            }
        }
        Some(entry)
    }

    fn set_untagged(&mut self, repository: &RepositoryName, digest: &Digest, place: Place) {
        let repository = self.repositories.get_mut(repository);
        if let Some(member) = repository.and_then(|found| found.manifests.get_mut(digest)) {
            member.untagged = Some(place);
        }
    }

    /// Takes a tag from the entry that has it. The entry stays: what it names remains a member.
    fn untag(&mut self, place: Place, repository: &RepositoryName, tag: &Tag) {
        let Some(mut entry) = self.remove(place) else { return };
        for name in &mut entry.names {
            if name.repository == *repository && name.tag.as_ref() == Some(tag) {
                name.tag = None;
            }
        }
        let digest = entry.descriptor.as_ref().map(|descriptor| descriptor.digest.clone());
        if entry.names.iter().all(|name| name.tag.is_none()) {
            entry.drop_tag();
            if let Some(digest) = digest.filter(|_| entry.is_own()) {
                let member = self.repositories.get_mut(repository);
                let member = member.and_then(|found| found.manifests.get_mut(&digest));
                match member {
                    Some(member) if member.untagged.is_none() => member.untagged = Some(place),
                    _ => return,
                }
            }
        }
        self.restore(place, entry);
    }

    fn restore(&mut self, place: Place, entry: Entry) {
        if let Some(ref_name) = entry.ref_name() {
            *self.ref_names.entry(ref_name.to_owned()).or_default() += 1;
        }
        self.entries.insert(place, entry);
    }
}
