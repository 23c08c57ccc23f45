//! Copies of registries that are read in their place: which ones there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::reference::{RegistryHost, RepositoryName};

/// Where the repositories of a registry stand too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry that has them.
    pub host: RegistryHost,
    /// What is in front of their names there.
    pub prefix: Option<RepositoryName>,
}

/// Whether a registry that has mirrors is asked itself for what they do not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Original {
    /// It is asked last.
    #[default]
    Ask,
    /// It is never asked.
    Leave,
}

/// The mirrors of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// In the order in which they are asked.
    pub mirrors: Vec<Mirror>,
    /// Whether the registry itself is asked behind them.
    pub original: Original,
}

/// A mirror and whose it is: `docker.io=mirror.local/hub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorOf {
    /// The registry in whose place it is read.
    pub source: RegistryHost,
    /// The mirror.
    pub mirror: Mirror,
}

/// A text that names no mirror.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMirror {
    /// It is no host, or what is behind its slash is no repository.
    #[error("expected a mirror such as `mirror.local/hub`, found `{0}`")]
    Mirror(String),
    /// It does not say whose mirror it is.
    #[error("expected a registry and its mirror such as `docker.io=mirror.local/hub`, found `{0}`")]
    Source(String),
}

/// Mirrors that lead back to the registry that they are for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mirrors go in a circle: {}", Arrows(.0))]
pub struct MirrorLoop(Vec<RegistryHost>);

struct Arrows<'a>(&'a [RegistryHost]);

impl fmt::Display for Arrows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.0.iter().map(|host| format!("`{host}`")).collect();
        f.write_str(&hosts.join(" → "))
    }
}

impl FromStr for Mirror {
    type Err = InvalidMirror;

    fn from_str(text: &str) -> Result<Self, InvalidMirror> {
        let invalid = || InvalidMirror::Mirror(text.to_owned());
        let (host, prefix) = match text.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (text, None),
        };
        let prefix = prefix.map(str::parse).transpose().map_err(|_| invalid())?;
        Ok(Self { host: host.parse().map_err(|_| invalid())?, prefix })
    }
}

impl FromStr for MirrorOf {
    type Err = InvalidMirror;

    fn from_str(text: &str) -> Result<Self, InvalidMirror> {
        let invalid = || InvalidMirror::Source(text.to_owned());
        let (source, mirror) = text.split_once('=').ok_or_else(invalid)?;
        Ok(Self { source: source.parse().map_err(|_| invalid())?, mirror: mirror.parse()? })
    }
}

/// Refuses mirrors of mirrors that lead back to where they began.
///
/// # Errors
/// [`MirrorLoop`] names the registries of the circle.
pub fn refuse_loops(mirrors: &BTreeMap<RegistryHost, Mirrors>) -> Result<(), MirrorLoop> {
    let mut done = BTreeSet::new();
    for host in mirrors.keys() {
        follow(host, mirrors, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}

fn follow<'a>(
    host: &'a RegistryHost,
    mirrors: &'a BTreeMap<RegistryHost, Mirrors>,
    way: &mut Vec<&'a RegistryHost>,
    done: &mut BTreeSet<&'a RegistryHost>,
) -> Result<(), MirrorLoop> {
    if let Some(start) = way.iter().position(|passed| *passed == host) {
        let circle = way[start..].iter().copied().chain([host]);
        return Err(MirrorLoop(circle.cloned().collect()));
    }
    if done.contains(host) {
        return Ok(());
    }
    way.push(host);
    for mirror in mirrors.get(host).into_iter().flat_map(|of| &of.mirrors) {
        follow(&mirror.host, mirrors, way, done)?;
    }
    way.pop();
    done.insert(host);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_read_or_refused() {
        for (text, expected) in [
            ("docker.io=mirror.local/hub", Some(("docker.io", "mirror.local", Some("hub")))),
            ("index.docker.io=m.local", Some(("docker.io", "m.local", None))),
            ("a:5000=[::1]:5000/a/b", Some(("a:5000", "[::1]:5000", Some("a/b")))),
            ("docker.io", None),
            ("=mirror.local", None),
            ("docker.io=", None),
            ("docker.io=mirror.local/", None),
            ("docker.io=mirror.local/Hub", None),
            ("docker.io=https://mirror.local", None),
            ("docker.io/library=mirror.local", None),
        ] {
            let found = text.parse::<MirrorOf>().ok();
            let found = found.as_ref().map(|of| {
                let prefix = of.mirror.prefix.as_ref().map(RepositoryName::as_str);
                (of.source.as_str(), of.mirror.host.as_str(), prefix)
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_circle_is_named() {
        for (given, expected) in [
            (&["a.x=b.x", "b.x=c.x", "d.x=c.x"][..], None),
            (&["a.x=a.x"], Some("`a.x` → `a.x`")),
            (&["a.x=b.x/p", "b.x=a.x"], Some("`a.x` → `b.x` → `a.x`")),
            (&["a.x=b.x", "b.x=c.x", "b.x=d.x", "d.x=b.x"], Some("`b.x` → `d.x` → `b.x`")),
        ] {
            let mut mirrors: BTreeMap<RegistryHost, Mirrors> = BTreeMap::new();
            for text in given {
                let MirrorOf { source, mirror } = text.parse().expect("a mirror");
                mirrors.entry(source).or_default().mirrors.push(mirror);
            }
            let found = refuse_loops(&mirrors).err().map(|circle| circle.to_string());
            let expected = expected.map(|circle| format!("mirrors go in a circle: {circle}"));
            assert_eq!(found, expected, "{given:?}");
        }
    }
}
