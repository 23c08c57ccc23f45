//! Images as typed, and what they mean.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::failure::Usage;
use crate::reference::{Reference, RegistryHost};

use super::repositories::SourceRepository;

/// An image as typed, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// The name as typed, blanks around it removed.
    pub name: String,
    /// What it means.
    pub reference: Reference,
}

/// Reads comma-separated lists of images; blanks are trimmed, empty parts are left out, and an image
/// that is named twice counts once.
///
/// # Errors
/// [`Usage`] names the image that breaks the grammar.
pub fn parse_images<S: AsRef<str>>(
    lists: &[S],
    default_registry: &RegistryHost,
) -> Result<Vec<ImageName>, Usage> {
    let names = lists.iter().flat_map(|list| list.as_ref().split(',')).map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    let images: Vec<ImageName> =
        names.map(|name| parse_image(name, default_registry)).collect::<Result<_, _>>()?;
    Ok(each_once(images))
}

/// Reads lists as [`parse_images`] does; a name without tag and digest means a repository.
///
/// # Errors
/// [`Usage`] names what breaks the grammar.
pub fn parse_repositories<S: AsRef<str>>(
    lists: &[S],
    default_registry: &RegistryHost,
) -> Result<(Vec<ImageName>, Vec<SourceRepository>), Usage> {
    Ok(split_repositories(parse_images(lists, default_registry)?))
}

/// Takes names without tag and digest for repositories.
pub fn split_repositories(images: Vec<ImageName>) -> (Vec<ImageName>, Vec<SourceRepository>) {
    let (repositories, images): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|image| is_repository(&image.name));
    let repositories = repositories.into_iter().map(|ImageName { name, reference }| {
        SourceRepository { name, registry: reference.registry, repository: reference.repository }
    });
    (images, repositories.collect())
}

/// Whether a valid name has neither tag nor digest.
pub(crate) fn is_repository(name: &str) -> bool {
    !name.contains('@') && !name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Reads one image.
///
/// # Errors
/// [`Usage`] names the image if it breaks the grammar.
pub fn parse_image(name: &str, default_registry: &RegistryHost) -> Result<ImageName, Usage> {
    let reference = Reference::parse(name, default_registry).map_err(|error| {
        Usage::new(format!("`{name}` is no image: {error}"))
            .with_hint("write images as `[registry/]repository[:tag][@digest]`")
    })?;
    Ok(ImageName { name: name.to_owned(), reference })
}

/// The images without those that mean the same as one before. Of `app:latest` and `app` the latter name stays: it may
/// mean a repository.
pub fn each_once(images: Vec<ImageName>) -> Vec<ImageName> {
    let mut known: HashMap<Reference, usize> = HashMap::new();
    let mut each: Vec<ImageName> = Vec::new();
    for image in images {
        match known.entry(image.reference.clone()) {
            Entry::Occupied(place) if is_repository(&image.name) => {
                each[*place.get()].name = image.name;
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                place.insert(each.len());
                each.push(image);
            }
        }
    }
    each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_trimmed_and_each_image_counts_once() {
        let lists = [" a:1 , b ,", "", "c@,a:1".split(',').nth(1).expect("a part"), "b:latest"];
        let images = parse_images(&lists, &RegistryHost::docker_hub()).expect("images");
        let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["a:1", "b"]);
    }

    #[test]
    fn names_without_tag_and_digest_are_repositories() {
        let digest = format!("c@sha256:{}", "ab".repeat(32));
        let names =
            ["a:1", "localhost:5000/b", &digest, "team/d:latest", "team/d", "localhost:5000/e:2"];
        let (images, repositories) =
            parse_repositories(&names, &RegistryHost::docker_hub()).expect("names");
        let images: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(images, ["a:1", &digest, "localhost:5000/e:2"]);
        let repositories: Vec<_> = repositories
            .iter()
            .map(|source| (source.registry.as_str(), source.repository.as_str()))
            .collect();
        assert_eq!(repositories, [("localhost:5000", "b"), ("docker.io", "team/d")]);
    }

    #[test]
    fn a_bad_name_is_named() {
        let error = parse_images(&["good,Bad/Name:1"], &RegistryHost::docker_hub());
        assert!(error.expect_err("bad").to_string().contains("`Bad/Name:1`"));
    }
}
