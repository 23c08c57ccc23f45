//! One entry of `index.json`, kept as it stands but for its two names.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::name::{FULL_NAME, Name, OWN_REGISTRY, REF_NAME, names_of, own_name, without_tag};
use crate::manifest::Descriptor;
use crate::reference::{RepositoryName, Tag};

/// An entry: what it describes, what it is called, and its JSON text.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What it describes; `None` for an entry that is nothing this code knows, which is kept and
    /// not served.
    pub(super) descriptor: Option<Descriptor>,
    /// What it is called. A name loses its tag when a later entry takes the tag.
    pub(super) names: Vec<Name>,
    /// `io.containerd.image.name`
    full_name: Option<String>,
    /// `org.opencontainers.image.ref.name`
    ref_name: Option<String>,
    text: String,
}

/// How tools that read `org.opencontainers.image.ref.name` find an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefName {
    /// By its tag, which no other entry has.
    Tag,
    /// By its full name.
    Full,
}

impl Entry {
    /// Reads an entry as it stands in `index.json`.
    pub(super) fn read(value: &Value, folder: &RepositoryName) -> Self {
        let mut entry = Self {
            descriptor: None,
            names: Vec::new(),
            full_name: None,
            ref_name: None,
            text: value.to_string(),
        };
        if let Ok(mut descriptor) = Descriptor::deserialize(value) {
            entry.names = names_of(&descriptor.annotations, folder);
            entry.full_name = descriptor.annotations.remove(FULL_NAME);
            entry.ref_name = descriptor.annotations.remove(REF_NAME);
            descriptor.annotations.clear();
            entry.descriptor = Some(descriptor);
        }
        entry
    }

    /// A new entry for a manifest without a tag.
    pub(super) fn untagged(repository: &RepositoryName, of: &Descriptor) -> Self {
        let value = json!({ "mediaType": of.media_type, "digest": of.digest, "size": of.size });
        let mut entry = Self {
            descriptor: Some(Descriptor::new(of.media_type.clone(), of.digest.clone(), of.size)),
            names: vec![Name { repository: repository.clone(), tag: None }],
            full_name: Some(own_name(repository, None, &of.digest)),
            ref_name: None,
            text: String::new(),
        };
        entry.write_names_into(value);
        entry
    }

    /// Whether this code gave it its name.
    pub(super) fn is_own(&self) -> bool {
        self.full_name.as_ref().is_some_and(|name| name.starts_with(OWN_REGISTRY))
    }

    /// `org.opencontainers.image.ref.name`
    pub(super) fn ref_name(&self) -> Option<&str> {
        self.ref_name.as_deref()
    }

    /// The JSON text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Gives an entry of one repository this tag.
    pub(super) fn take_tag(&mut self, repository: &RepositoryName, tag: &Tag, found_by: RefName) {
        let Some(descriptor) = &self.descriptor else { return };
        let full_name = own_name(repository, Some(tag), &descriptor.digest);
        self.ref_name = Some(match found_by {
            RefName::Tag => tag.to_string(),
            RefName::Full => full_name.clone(),
        });
        self.full_name = Some(full_name);
        self.names = vec![Name { repository: repository.clone(), tag: Some(tag.clone()) }];
        self.write_names();
    }

    /// Takes the tag out of the names; the repositories and everything else stay.
    pub(super) fn drop_tag(&mut self) {
        let Some(descriptor) = &self.descriptor else { return };
        let digest = descriptor.digest.clone();
        let long_ref_name = self.ref_name.take().filter(|name| name.parse::<Tag>().is_err());
        let former = self.full_name.take().or(long_ref_name);
        self.full_name = former.and_then(|name| without_tag(&name, &digest));
        self.names.iter_mut().for_each(|name| name.tag = None);
        self.write_names();
    }

    fn write_names(&mut self) {
        let value = serde_json::from_str(&self.text).unwrap_or_default();
        self.write_names_into(value);
    }

    fn write_names_into(&mut self, mut value: Value) {
        if let Some(object) = value.as_object_mut() {
            let annotations = object.entry("annotations").or_insert_with(|| Map::new().into());
            if let Some(annotations) = annotations.as_object_mut() {
                for (key, name) in [(FULL_NAME, &self.full_name), (REF_NAME, &self.ref_name)] {
                    match name {
                        Some(name) => annotations.insert(key.to_owned(), name.as_str().into()),
                        None => annotations.remove(key),
                    };
                }
            }
        }
        self.text = value.to_string();
    }
}
