//! Whole repositories and registries: which images their tags stand for, as docs/repositories.md lays it down.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::bail;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use regex_lite::Regex;

use crate::digest::Digest;
use crate::failure::{Hinted, Unusable};
use crate::progress::Reporter;
use crate::reference::{Reference, RegistryHost, RepositoryName, Tag};
use crate::registry::{Registries, Registry};
use crate::units::count;

use super::list::ImageName;
use super::referrers::COSIGN_SUFFIXES;

/// How many lists of tags are asked for at once.
const LISTS_AT_ONCE: usize = 16;

/// Repositories of which all tags are wanted.
#[derive(Clone, Debug, Default)]
pub struct Repositories {
    /// Those that were named.
    pub named: Vec<SourceRepository>,
    /// All that these registries list.
    pub registries: Vec<RegistryHost>,
    /// Which of their tags; all if not given.
    pub tags: Option<TagFilter>,
}

/// A repository at its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRepository {
    /// The name as typed.
    pub name: String,
    /// Its registry.
    pub registry: RegistryHost,
    /// Its name there.
    pub repository: RepositoryName,
}

/// Chooses tags in which a regular expression is found.
#[derive(Clone, Debug)]
pub struct TagFilter(Regex);

impl FromStr for TagFilter {
    type Err = regex_lite::Error;

    fn from_str(text: &str) -> Result<Self, regex_lite::Error> {
        Ok(Self(Regex::new(text)?))
    }
}

impl Repositories {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.registries.is_empty()
    }

    /// What tells one request from another.
    pub(super) fn key(&self) -> impl std::fmt::Debug {
        let named: Vec<_> =
            self.named.iter().map(|named| (&named.registry, &named.repository)).collect();
        (named, &self.registries, self.tags.as_ref().map(|filter| filter.0.as_str()))
    }

    fn takes(&self, tag: &Tag) -> bool {
        self.tags.as_ref().is_none_or(|filter| filter.0.is_match(tag.as_str()))
    }
}

/// What repositories list.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Their images.
    pub(super) images: Vec<ImageName>,
    /// Tags that attach something to an image.
    pub(super) attached: Vec<Attached>,
}

/// A tag that attaches something to `subject`.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) image: ImageName,
    pub(super) subject: Digest,
}

/// What to do about a repository that has nothing to give.
#[derive(Clone, Copy)]
enum Empty {
    Fails,
    IsLeft,
}

/// Lists the images of `wanted`, by name.
///
/// # Errors
/// When a list cannot be had, and when a repository that was named has no tag to give.
pub(super) async fn list(
    wanted: &Repositories,
    registries: &Registries,
    reporter: &dyn Reporter,
) -> anyhow::Result<Listing> {
    let mut repositories: BTreeSet<(RegistryHost, RepositoryName)> = BTreeSet::new();
    let mut sources = Vec::new();
    for named in &wanted.named {
        if repositories.insert((named.registry.clone(), named.repository.clone())) {
            sources.push((named.clone(), Empty::Fails));
        }
    }
    for host in &wanted.registries {
        reporter.phase(format!("listing repositories of `{host}`"));
        let mut names = catalog(&registries.registry(host)?).await?;
        names.sort();
        for repository in names {
            if repositories.insert((host.clone(), repository.clone())) {
                let name = repository.to_string();
                let source = SourceRepository { name, registry: host.clone(), repository };
                sources.push((source, Empty::IsLeft));
            }
        }
    }
    reporter.phase(format!("listing tags of {}", count(sources.len() as u64, "repository")));
    let lists = sources.into_iter().map(|(source, empty)| async move {
        let tags = tags(wanted, &source, empty, registries, reporter).await?;
        anyhow::Ok((source, tags))
    });
    let lists: Vec<_> = stream::iter(lists).buffered(LISTS_AT_ONCE).try_collect().await?;
    let mut listing = Listing::default();
    for (source, tags) in lists {
        for tag in tags {
            let subject = subject_of(&tag);
            let image = source.image(tag);
            match subject {
                Some(subject) => listing.attached.push(Attached { image, subject }),
                None => listing.images.push(image),
            }
        }
    }
    if listing.images.is_empty() && listing.attached.is_empty() {
        bail!(
            Unusable::new("the registry lists nothing that was asked for")
                .with_hint("name repositories with `--all-tags`, or another `--tag-regex`")
        );
    }
    Ok(listing)
}

async fn catalog(registry: &Registry) -> anyhow::Result<Vec<RepositoryName>> {
    match registry.repositories().await {
        Err(error) if error.is_refusal() || error.status() == Some(501) => {
            let host = registry.host();
            Err(anyhow::Error::new(error).context(Hinted::new(
                format!("`{host}` does not list its repositories"),
                "name them: `--all-tags REPOSITORY…`",
            )))
        }
        listed => Ok(listed?),
    }
}

/// The tags of one repository that are wanted, by name.
async fn tags(
    wanted: &Repositories,
    source: &SourceRepository,
    empty: Empty,
    registries: &Registries,
    reporter: &dyn Reporter,
) -> anyhow::Result<Vec<Tag>> {
    let registry = registries.registry(&source.registry)?;
    let (name, host) = (&source.repository, &source.registry);
    let listed = match (registry.tags(name).await, empty) {
        (Err(error), Empty::IsLeft) if error.is_unauthorized() => {
            reporter.warn(format!("cannot look into `{name}`, which is left: {error}"));
            return Ok(Vec::new());
        }
        (listed, _) => listed?.unwrap_or_default(),
    };
    let number = listed.len();
    let mut tags: Vec<Tag> = listed.into_iter().filter(|tag| wanted.takes(tag)).collect();
    tags.sort();
    match (tags.is_empty(), empty) {
        (false, _) => {}
        (true, Empty::IsLeft) if number == 0 => {
            reporter.warn(format!("`{name}` has no tags: it is left"));
        }
        (true, Empty::IsLeft) => {
            reporter.detail(format!("`{name}` has no tag that `--tag-regex` finds"));
        }
        (true, Empty::Fails) if number == 0 => bail!(
            Unusable::new(format!("`{host}` has no repository `{name}` with tags"))
                .with_hint("look at its name, and whether these credentials may read it")
        ),
        (true, Empty::Fails) => bail!(
            Unusable::new(format!(
                "`{name}` has {}, and `--tag-regex` finds none of them",
                count(number as u64, "tag")
            ))
            .with_hint("the expression is looked for anywhere in a tag; `^` and `$` anchor it")
        ),
    }
    Ok(tags)
}

impl SourceRepository {
    fn image(&self, tag: Tag) -> ImageName {
        let Self { registry, repository, .. } = self;
        let mut name = format!("{}:{tag}", self.name);
        let reference = Reference {
            registry: registry.clone(),
            repository: repository.clone(),
            tag: Some(tag),
            digest: None,
        };
        // A repository may be called like a registry.
        if Reference::parse(&name, registry).as_ref() != Ok(&reference) {
            name = format!("{registry}/{name}");
        }
        ImageName { name, reference }
    }
}

/// What a tag attaches something to, if it is of that kind: `sha256-<hex>`, or cosign's with a suffix.
fn subject_of(tag: &Tag) -> Option<Digest> {
    let (digest, suffix) = match tag.as_str().split_once('.') {
        Some((digest, suffix)) => (digest, Some(suffix)),
        None => (tag.as_str(), None),
    };
    if suffix.is_some_and(|suffix| !COSIGN_SUFFIXES.contains(&suffix)) {
        return None;
    }
    let (algorithm, hex) = digest.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_attach_something_are_told_from_images() {
        let hex = "ab".repeat(32);
        for (tag, attaches) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}.txt"), false),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("md5-{hex}"), false),
            ("1.0-alpine".to_owned(), false),
            ("latest".to_owned(), false),
        ] {
            let subject = subject_of(&tag.parse().expect("a tag"));
            assert_eq!(subject.is_some(), attaches, "{tag}");
            assert!(subject.is_none_or(|subject| subject.hex() == hex), "{tag}");
        }
    }

    #[test]
    fn an_image_is_named_so_that_its_name_means_it() {
        let registry: RegistryHost = "registry.example".parse().expect("a host");
        for (repository, name) in
            [("team/app", "team/app:1"), ("docker.io/app", "registry.example/docker.io/app:1")]
        {
            let source = SourceRepository {
                name: repository.to_owned(),
                registry: registry.clone(),
                repository: repository.parse().expect("a repository"),
            };
            let image = source.image("1".parse().expect("a tag"));
            assert_eq!(image.name, name);
            assert_eq!(Reference::parse(name, &registry).expect("a name"), image.reference);
        }
    }
}
