//! What an entry of `index.json` is called: its repositories and its tag.
//!
//! Rules, first match wins:
//! 1. `io.containerd.image.name` is a full reference: the repository is its name without the
//!    registry. Docker Hub's own images have two: `library/python` and `python`.
//! 2. `org.opencontainers.image.ref.name` is a tag: the repository is the folder's own name.
//! 3. It is a longer name (`registry.example/python:3.9`): as in rule 1.
//! 4. Neither says anything: the folder's own name, without a tag.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::Digest;
use crate::reference::{Reference, RegistryHost, RepositoryName, Tag};

/// containerd's annotation: the full reference.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// The OCI image-spec's annotation: the tag, or the full reference where the tag is not unique.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The registry in the names that are written here.
pub(super) const OWN_REGISTRY: &str = "localhost/";

/// One name of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
}

/// All names that an entry's annotations give it, at least one.
pub(super) fn names_of(
    annotations: &BTreeMap<String, String>,
    folder: &RepositoryName,
) -> Vec<Name> {
    let ref_name = annotations.get(REF_NAME);
    if let Some(reference) = annotations.get(FULL_NAME).and_then(|text| parse(text)) {
        return of_reference(&reference);
    }
    let of_folder = |tag| vec![Name { repository: folder.clone(), tag }];
    match ref_name {
        None => of_folder(None),
        Some(text) => match text.parse::<Tag>() {
            Ok(tag) => of_folder(Some(tag)),
            Err(_) => match parse(text) {
                Some(reference) => of_reference(&reference),
                None => of_folder(None),
            },
        },
    }
}

fn parse(text: &str) -> Option<Reference> {
    Reference::parse(text, &RegistryHost::docker_hub()).ok()
}

fn of_reference(reference: &Reference) -> Vec<Name> {
    let mut repositories = vec![reference.repository.clone()];
    if reference.registry.is_docker_hub() {
        let short = reference.repository.as_str().strip_prefix("library/");
        let short = short.filter(|short| !short.contains('/'));
        repositories.extend(short.and_then(|short| short.parse().ok()));
        repositories.push(reference.api_repository());
    }
    repositories.sort();
    repositories.dedup();
    let name = |repository| Name { repository, tag: reference.tag.clone() };
    repositories.into_iter().map(name).collect()
}

/// The name that this code writes for a manifest: `localhost/REPOSITORY:TAG` or `localhost/REPOSITORY@DIGEST`.
pub(super) fn own_name(repository: &RepositoryName, tag: Option<&Tag>, digest: &Digest) -> String {
    match tag {
        Some(tag) => format!("{OWN_REGISTRY}{repository}:{tag}"),
        None => format!("{OWN_REGISTRY}{repository}@{digest}"),
    }
}

/// A full name with its tag replaced by the digest; `None` if it is no reference.
pub(super) fn without_tag(text: &str, digest: &Digest) -> Option<String> {
    let reference = Reference { tag: None, digest: Some(digest.clone()), ..parse(text)? };
    Some(reference.to_string())
}

/// The folder's own name as a repository: lower case, everything else as `-`.
pub(crate) fn folder_repository(folder: &Path) -> RepositoryName {
    let text = folder.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let text = text.unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
    let dashed: String = text.chars().map(plain).collect();
    let trimmed = dashed.trim_matches(['-', '.', '_']);
    let bare: String = trimmed.chars().filter(char::is_ascii_alphanumeric).collect();
    [trimmed, &bare, "image"].iter().find_map(|text| text.parse().ok()).unwrap_or_else(|| {
        unreachable!("`image` is a repository");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_entry_is_named_by_what_its_annotations_say() {
        let by_digest = format!("localhost/a/b@{DIGEST}");
        for (full, short, names) in [
            (Some("docker.io/library/python:3.9"), Some("3.9"), "library/python:3.9 python:3.9"),
            (Some("docker.io/grafana/grafana:1"), None, "grafana/grafana:1"),
            (Some("ghcr.io/library/x:1"), None, "library/x:1"),
            (Some("localhost/a/b:1"), Some("1"), "a/b:1"),
            (Some("python:3.9"), None, "library/python:3.9 python:3.9"),
            (Some(by_digest.as_str()), None, "a/b"),
            (Some("not a name"), Some("1"), "folder:1"),
            (None, Some("1"), "folder:1"),
            (None, Some("registry.example:5000/x/y:2"), "x/y:2"),
            (None, Some("not a name"), "folder"),
            (None, None, "folder"),
        ] {
            let annotations = [(FULL_NAME, full), (REF_NAME, short)]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect();
            let found: Vec<String> = names_of(&annotations, &"folder".parse().expect("valid"))
                .into_iter()
                .map(|name| match name.tag {
                    Some(tag) => format!("{}:{tag}", name.repository),
                    None => name.repository.to_string(),
                })
                .collect();
            assert_eq!(found.join(" "), names, "{full:?} {short:?}");
        }
    }

    #[test]
    fn every_folder_has_a_repository_name() {
        for (folder, name) in [
            ("/srv/payload", "payload"),
            ("/srv/My Images (2)", "my-images--2"),
            ("/srv/a..b", "ab"),
            ("/srv/.hidden", "hidden"),
            ("/srv/Ü", "image"),
            ("/", "image"),
        ] {
            assert_eq!(folder_repository(Path::new(folder)).as_str(), name, "{folder}");
        }
    }

    #[test]
    fn a_name_loses_its_tag_but_not_its_registry() {
        let digest: Digest = DIGEST.parse().expect("valid");
        let full = without_tag("docker.io/library/python:3.9", &digest);
        assert_eq!(full, Some(format!("docker.io/library/python@{DIGEST}")));
        assert_eq!(without_tag("not a name", &digest), None);
    }
}
