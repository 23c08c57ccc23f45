//! What a repository is called at the far side.
//!
//! The rule is one for both commands: the repository as typed, without its registry. make-payload
//! writes that name into the payload, push-payload may put a prefix in front or rename it once more.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::reference::{InvalidReference, Reference, RegistryHost, RepositoryName};

/// One `--rename OLD=NEW`: `OLD` is a whole repository or the leading parts of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    old: String,
    new: RepositoryName,
}

/// A text that is no `OLD=NEW`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRename {
    /// One of the two sides is missing.
    #[error("expected `OLD=NEW`, found `{0}`")]
    Shape(String),
    /// The new name breaks the grammar of repositories.
    #[error(transparent)]
    Name(#[from] InvalidReference),
}

impl FromStr for Rename {
    type Err = InvalidRename;

    fn from_str(text: &str) -> Result<Self, InvalidRename> {
        match text.split_once('=') {
            Some((old, new)) if !old.is_empty() => Ok(Self {
                old: old.trim_end_matches('/').to_owned(),
                new: new.trim_end_matches('/').parse()?,
            }),
            _ => Err(InvalidRename::Shape(text.to_owned())),
        }
    }
}

impl Rename {
    fn apply(&self, name: &str) -> Option<Result<RepositoryName, InvalidReference>> {
        let rest = name.strip_prefix(&self.old)?;
        if rest.is_empty() {
            return Some(Ok(self.new.clone()));
        }
        let rest = rest.strip_prefix('/')?;
        Some(format!("{}/{rest}", self.new).parse())
    }
}

/// Whether the registry's name becomes a part of the far repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepRegistry {
    /// `ghcr.io/a/b` becomes `a/b`.
    #[default]
    Drop,
    /// `ghcr.io/a/b` becomes `ghcr.io/a/b`; what a repository cannot hold (`:`, `[`) becomes `-`.
    Keep,
}

/// How make-payload names repositories for the far side.
#[derive(Clone, Debug, Default)]
pub struct FarNames {
    /// Whether registries stay in the name.
    pub keep_registry: KeepRegistry,
    /// Renames; the first that fits counts. `OLD` is compared with `registry/repository` first,
    /// then with the repository alone.
    pub renames: Vec<Rename>,
}

impl FarNames {
    /// The far repository of `reference`.
    ///
    /// # Errors
    /// [`InvalidReference`] if a renamed or lengthened name breaks the grammar.
    pub fn of(&self, reference: &Reference) -> Result<RepositoryName, InvalidReference> {
        let short = reference.repository.as_str();
        let full = format!("{}/{short}", reference.registry);
        let in_hub = format!("{}/{}", reference.registry, reference.api_repository());
        for rename in &self.renames {
            for name in [full.as_str(), in_hub.as_str(), short] {
                if let Some(renamed) = rename.apply(name) {
                    return renamed;
                }
            }
        }
        match self.keep_registry {
            KeepRegistry::Drop => Ok(reference.repository.clone()),
            KeepRegistry::Keep => reference.repository.under(&as_component(&reference.registry)),
        }
    }
}

fn as_component(registry: &RegistryHost) -> String {
    let text: String = registry
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    text.trim_matches('-').replace("-.", "-").replace(".-", "-")
}

/// How push-payload changes the names that a payload holds.
#[derive(Clone, Debug, Default)]
pub struct TargetNames {
    /// Put in front of every repository, with a slash.
    pub prefix: Option<RepositoryName>,
    /// Renames, before the prefix; the first that fits counts.
    pub renames: Vec<Rename>,
}

impl TargetNames {
    /// The repository at the registry that is pushed to.
    ///
    /// # Errors
    /// [`InvalidReference`] if the new name breaks the grammar.
    pub fn of(&self, far: &RepositoryName) -> Result<RepositoryName, InvalidReference> {
        let renamed = self.renames.iter().find_map(|rename| rename.apply(far.as_str()));
        let name = renamed.unwrap_or_else(|| Ok(far.clone()))?;
        match &self.prefix {
            Some(prefix) => name.under(prefix.as_str()),
            None => Ok(name),
        }
    }
}

/// Two sources that would become one repository at the far side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Collision {
    /// The far repository.
    pub far: RepositoryName,
    /// The sources, as they are called.
    pub sources: [String; 2],
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.sources;
        write!(f, "`{one}` and `{other}` would both be `{}` at the far side", self.far)
    }
}

/// Refuses names under which two sources would meet.
///
/// # Errors
/// The first [`Collision`] in the order of `names`.
pub fn refuse_collisions<'a>(
    names: impl IntoIterator<Item = (&'a RepositoryName, String)>,
) -> Result<(), Collision> {
    let mut sources: BTreeMap<&RepositoryName, String> = BTreeMap::new();
    for (far, source) in names {
        match sources.get(far) {
            Some(former) if *former != source => {
                return Err(Collision { far: far.clone(), sources: [former.clone(), source] });
            }
            _ => drop(sources.insert(far, source)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        Reference::parse(text, &RegistryHost::docker_hub()).expect(text)
    }

    #[test]
    fn far_names_are_as_typed_unless_asked_otherwise() {
        let renames = ["ghcr.io/a=team", "docker.io/library/redis=cache/redis", "x/y=z"];
        let names = FarNames {
            keep_registry: KeepRegistry::Drop,
            renames: renames.iter().map(|text| text.parse().expect(text)).collect(),
        };
        for (typed, far) in [
            ("python:3.9", "python"),
            ("library/python", "library/python"),
            ("ghcr.io/a/b", "team/b"),
            ("ghcr.io/ab/b", "ab/b"),
            ("redis", "cache/redis"),
            ("x/y", "z"),
            ("x/y/q", "z/q"),
            ("x/yz", "x/yz"),
        ] {
            assert_eq!(names.of(&reference(typed)).expect(typed).as_str(), far, "{typed}");
        }
    }

    #[test]
    fn a_kept_registry_becomes_a_valid_part_of_the_name() {
        let names = FarNames { keep_registry: KeepRegistry::Keep, renames: Vec::new() };
        for (typed, far) in [
            ("python", "docker.io/python"),
            ("localhost:5000/x", "localhost-5000/x"),
            ("[::1]:5000/x", "1--5000/x"),
            ("host_a.example:1/x", "host-a.example-1/x"),
        ] {
            assert_eq!(names.of(&reference(typed)).expect(typed).as_str(), far, "{typed}");
        }
    }

    #[test]
    fn a_prefix_stands_before_the_renamed_repository() {
        let names = TargetNames {
            prefix: Some("mirror/hub".parse().expect("valid")),
            renames: vec!["python=py".parse().expect("valid")],
        };
        let far: RepositoryName = "python".parse().expect("valid");
        assert_eq!(names.of(&far).expect("valid").as_str(), "mirror/hub/py");
    }

    #[test]
    fn renames_that_say_nothing_are_refused() {
        for text in ["", "a", "=b", "a=", "a=B", "a=b:c"] {
            assert!(text.parse::<Rename>().is_err(), "`{text}` was taken");
        }
    }

    #[test]
    fn two_sources_with_one_far_name_collide() {
        let far: RepositoryName = "app".parse().expect("valid");
        let pairs = |other: &str| {
            refuse_collisions([(&far, "docker.io/app".to_owned()), (&far, other.to_owned())])
        };
        assert!(pairs("docker.io/app").is_ok());
        let collision = pairs("ghcr.io/app").expect_err("two sources");
        assert_eq!(
            collision.to_string(),
            "`docker.io/app` and `ghcr.io/app` would both be `app` at the far side"
        );
    }
}
