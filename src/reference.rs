//! Names of images: `[registry/]repository[:tag][@digest]`.
//!
//! The grammar is the distribution-spec's (section "Pulling manifests"), the rule that tells a
//! registry from a repository is the one that Docker made common: the first part is a registry if it
//! holds a dot or a colon, is `localhost`, or has an upper-case letter.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, InvalidDigest};

/// The longest repository name that registries take, in characters.
const REPOSITORY_MAX_CHARS: usize = 255;
/// The longest tag of the distribution-spec, in characters.
const TAG_MAX_CHARS: usize = 128;
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A text that names no image, repository, tag or registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Nothing stands where a name is needed.
    #[error("expected an image such as `python:3.9`, found nothing")]
    Empty,
    /// The registry is not `host`, `host:port` or `[ipv6]:port`.
    #[error("expected a registry such as `registry.example:5000`, found `{0}`")]
    Registry(String),
    /// The repository breaks the grammar.
    #[error(
        "expected a repository of lower-case letters, digits and single separators, found `{0}`"
    )]
    Repository(String),
    /// The tag breaks the grammar.
    #[error("expected a tag of at most 128 letters, digits, `.`, `_` and `-`, found `{0}`")]
    Tag(String),
    /// The digest behind the `@` breaks the grammar.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

/// A registry as people name it: `docker.io`, `localhost:5000`, `[::1]:5000`. Lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RegistryHost(String);

impl RegistryHost {
    /// Docker Hub, whatever address it has.
    pub fn docker_hub() -> Self {
        Self(DOCKER_HUB.to_owned())
    }

    /// Whether this is Docker Hub, which has rules of its own.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }

    /// `host[:port]` of the registry's API, which for Docker Hub is not its name.
    pub fn api_authority(&self) -> &str {
        if self.is_docker_hub() { DOCKER_HUB_API } else { &self.0 }
    }

    /// The name as people write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its port and without the brackets of an IPv6 address.
    pub fn name(&self) -> &str {
        if let Some(rest) = self.0.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.0.split(':').next().unwrap_or(&self.0)
    }

    /// Whether the registry runs on this machine.
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for RegistryHost {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference::Registry(text.to_owned());
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or_else(invalid)?;
            address.parse::<Ipv6Addr>().map_err(|_| invalid())?;
            (None, port)
        } else {
            let at = text.find(':').unwrap_or(text.len());
            (Some(&text[..at]), &text[at..])
        };
        let label = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        if name.is_some_and(|name| !name.split('.').all(label)) {
            return Err(invalid());
        }
        if let Some(port) = port.strip_prefix(':') {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            if !digits || port.parse::<u16>().map_or(true, |port| port == 0) {
                return Err(invalid());
            }
        } else if !port.is_empty() {
            return Err(invalid());
        }
        let text = text.to_ascii_lowercase();
        Ok(match text.as_str() {
            DOCKER_HUB_API | "index.docker.io" => Self::docker_hub(),
            _ => Self(text),
        })
    }
}

/// A repository's name inside its registry: `library/python`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The name with its parts between slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name with `prefix` and a slash in front.
    ///
    /// # Errors
    /// [`InvalidReference::Repository`] if the result is too long or the prefix breaks the grammar.
    pub fn under(&self, prefix: &str) -> Result<Self, InvalidReference> {
        format!("{}/{}", prefix.trim_matches('/'), self.0).parse()
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.len() <= REPOSITORY_MAX_CHARS && text.split('/').all(is_path_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReference::Repository(text.to_owned()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_in_words =
        part.bytes().next().is_some_and(is_word) && part.bytes().last().is_some_and(is_word);
    ends_in_words
        && part.bytes().all(|b| is_word(b) || b"._-".contains(&b))
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || is_dashes(separator))
}

fn is_dashes(separator: &str) -> bool {
    separator.bytes().all(|b| b == b'-')
}

/// A tag: `3.9`, `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Tag(String);

impl Tag {
    /// `latest`, the tag that is meant where none is named.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if text.len() <= TAG_MAX_CHARS
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReference::Tag(text.to_owned()))
        }
    }
}

macro_rules! text_conversions {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidReference;

            fn try_from(text: String) -> Result<Self, InvalidReference> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_conversions!(RegistryHost, RepositoryName, Tag);

/// What the distribution-spec calls `<reference>` in its URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagOrDigest {
    /// Whatever the tag names now.
    Tag(Tag),
    /// Exactly this content.
    Digest(Digest),
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An image as asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry that holds it.
    pub registry: RegistryHost,
    /// The repository as typed: on Docker Hub without the `library/` that its URLs need.
    pub repository: RepositoryName,
    /// The tag, `latest` where neither tag nor digest was typed.
    pub tag: Option<Tag>,
    /// The digest, which wins over the tag when the image is fetched.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads `text`; a name without a registry belongs to `default_registry`.
    ///
    /// # Errors
    /// [`InvalidReference`] names the part that breaks the grammar.
    pub fn parse(text: &str, default_registry: &RegistryHost) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Empty);
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if names_a_registry(first) => (first.parse()?, rest),
            _ => (default_registry.clone(), name),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.parse::<Tag>()?)),
            None => (rest, None),
        };
        let tag = tag.or_else(|| digest.is_none().then(Tag::latest));
        Ok(Self { registry, repository: repository.parse()?, tag, digest })
    }

    /// What to ask the registry for: the digest where there is one.
    ///
    /// A parsed reference has a tag or a digest; `latest` stands in for one built without either.
    pub fn tag_or_digest(&self) -> TagOrDigest {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest.clone()),
            (None, Some(tag)) => TagOrDigest::Tag(tag.clone()),
            (None, None) => TagOrDigest::Tag(Tag::latest()),
        }
    }

    /// The repository as the registry's URLs name it: Docker Hub keeps its own images in `library/`.
    pub fn api_repository(&self) -> RepositoryName {
        if self.registry.is_docker_hub() && !self.repository.0.contains('/') {
            RepositoryName(format!("library/{}", self.repository))
        } else {
            self.repository.clone()
        }
    }
}

fn names_a_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// The full name: registry, repository as its URLs name it, tag and digest.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.api_repository())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Reference, InvalidReference> {
        Reference::parse(text, &RegistryHost::docker_hub())
    }

    #[test]
    fn references_read_as_docker_reads_them() {
        for (text, full, far) in [
            ("python", "docker.io/library/python:latest", "python"),
            ("python:3.9", "docker.io/library/python:3.9", "python"),
            ("library/python:3.9", "docker.io/library/python:3.9", "library/python"),
            ("docker.io/python:3.9", "docker.io/library/python:3.9", "python"),
            ("registry-1.docker.io/a/b", "docker.io/a/b:latest", "a/b"),
            ("ghcr.io/a/b/c:1", "ghcr.io/a/b/c:1", "a/b/c"),
            ("localhost/x", "localhost/x:latest", "x"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "x"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1", "x"),
            ("Registry/x", "registry/x:latest", "x"),
            ("a/b__c/d--e.f", "docker.io/a/b__c/d--e.f:latest", "a/b__c/d--e.f"),
        ] {
            let reference = parse(text).expect(text);
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.repository.as_str(), far, "{text}");
        }
    }

    #[test]
    fn a_digest_wins_over_the_tag_and_needs_none() {
        let both = parse(&format!("python:3.9@{DIGEST}")).expect("valid");
        assert_eq!(both.tag, Some("3.9".parse().expect("valid")));
        assert_eq!(both.tag_or_digest().to_string(), DIGEST);
        let only = parse(&format!("python@{DIGEST}")).expect("valid");
        assert_eq!(only.tag, None);
        assert_eq!(only.to_string(), format!("docker.io/library/python@{DIGEST}"));
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for text in [
            "",
            ":tag",
            "Python",
            "a//b",
            "a/",
            "/a",
            "a:",
            "a:b:c",
            "a:-b",
            "a b",
            "a@sha256:12",
            "a@",
            "-a",
            "a..b",
            "a___b",
            "host:port/x",
            "host:0/x",
            "host:70000/x",
            "[::1/x",
            "[zz]:5/x",
            "a.-b/x",
            "../x",
            "http://host/x",
            &format!("a:{}", "t".repeat(129)),
            &"a".repeat(256),
        ] {
            assert!(parse(text).is_err(), "`{text}` was taken");
        }
    }

    #[test]
    fn the_default_registry_serves_names_without_one() {
        let registry: RegistryHost = "registry.example:5000".parse().expect("valid");
        let reference = Reference::parse("python", &registry).expect("valid");
        assert_eq!(reference.to_string(), "registry.example:5000/python:latest");
    }

    #[test]
    fn loopback_is_told_by_name_and_address() {
        for (text, loopback) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]", true),
            ("x.localhost", true),
            ("registry.example", false),
            ("10.0.0.1:5000", false),
        ] {
            let host: RegistryHost = text.parse().expect(text);
            assert_eq!(host.is_loopback(), loopback, "{text}");
        }
    }
}
