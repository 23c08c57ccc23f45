//! Which children of an index travel when platforms were chosen.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::platform::Platform;
use crate::reference::{InvalidReference, Tag};

/// The chosen children of an index.
#[derive(Debug)]
pub(super) struct Selection {
    /// For each platform that was found, the child that serves it.
    pub(super) chosen: Vec<(Platform, Digest)>,
    /// Everything that travels, in the order of the index: the chosen children, their
    /// attestations, and children that belong to no platform.
    pub(super) children: Vec<Descriptor>,
    /// The platforms that the index does not have.
    pub(super) missing: Vec<Platform>,
    /// The platforms that the index has for several versions of the operating system.
    pub(super) versions: Vec<Versions>,
}

/// Of which version of its operating system a platform was taken, and of which it was not.
#[derive(Debug)]
pub(super) struct Versions {
    pub(super) platform: Platform,
    pub(super) taken: String,
    pub(super) left: Vec<String>,
}

impl Versions {
    /// None where `children` have no other version of `platform` than `taken` has.
    fn of(children: &[Descriptor], platform: &Platform, taken: &Descriptor) -> Option<Self> {
        let version = |child: &Descriptor| {
            let offered = child.platform.as_ref().filter(|it| platform.distance(it).is_some())?;
            Some(offered.os_version.clone().unwrap_or_else(|| "unknown".to_owned()))
        };
        let taken = version(taken)?;
        let mut left: Vec<String> = Vec::new();
        for other in children.iter().filter_map(version) {
            if other != taken && !left.contains(&other) {
                left.push(other);
            }
        }
        (!left.is_empty()).then(|| Self { platform: platform.clone(), taken, left })
    }
}

/// Chooses among `children` for each of `wanted` the nearest, the first of the index among equals.
pub(super) fn select(children: &[Descriptor], wanted: &[Platform]) -> Selection {
    let mut chosen: Vec<(Platform, Digest)> = Vec::new();
    let (mut missing, mut versions) = (Vec::new(), Vec::new());
    for platform in wanted {
        let distance = |child: &&Descriptor| {
            child.platform.as_ref().and_then(|offered| platform.distance(offered))
        };
        match children
            .iter()
            .filter(|child| distance(child).is_some())
            .min_by_key(|child| distance(child))
        {
            Some(child) => {
                versions.extend(Versions::of(children, platform, child));
                chosen.push((platform.clone(), child.digest.clone()));
            }
            None => missing.push(platform.clone()),
        }
    }
    let digests: BTreeSet<&Digest> = chosen.iter().map(|(_, digest)| digest).collect();
    let texts: BTreeSet<String> = digests.iter().map(ToString::to_string).collect();
    let travels = |child: &&Descriptor| match child.attests_to() {
        Some(subject) => texts.contains(subject),
        None => digests.contains(&child.digest) || child.platform.is_none(),
    };
    let children = children.iter().filter(travels).cloned().collect();
    Selection { chosen, children, missing, versions }
}

/// The tags of an index of which some platforms were chosen. For one platform the tag names that
/// manifest; for several it names the index, and each manifest has a tag of its own besides.
///
/// # Errors
/// [`InvalidReference`] where a tag with its platform would be too long.
pub(super) fn tags(
    tag: Option<&Tag>,
    root: &Manifest,
    wanted: &[Platform],
    selection: &Selection,
) -> Result<Vec<(Tag, Digest)>, InvalidReference> {
    let Some(tag) = tag else { return Ok(Vec::new()) };
    if wanted.len() == 1 {
        let chosen = selection.chosen.iter().map(|(_, digest)| (tag.clone(), digest.clone()));
        return Ok(chosen.collect());
    }
    let mut tags = vec![(tag.clone(), root.digest().clone())];
    for (platform, digest) in &selection.chosen {
        tags.push((format!("{tag}-{}", platform.tag_form()).parse()?, digest.clone()));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MediaType;
    use bytes::Bytes;

    fn child(seed: &str, platform: Option<&str>, attests_to: Option<&str>) -> Descriptor {
        let digest = Digest::of(seed.as_bytes());
        let mut child = Descriptor::new(MediaType::new(MediaType::OCI_MANIFEST), digest, 1);
        child.platform = platform.map(|text| text.parse().expect(text));
        if let Some(subject) = attests_to {
            let subject = Digest::of(subject.as_bytes()).to_string();
            child.annotations = [
                ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
                ("vnd.docker.reference.digest".to_owned(), subject),
            ]
            .into();
        }
        child
    }

    fn index() -> Vec<Descriptor> {
        vec![
            child("amd64", Some("linux/amd64"), None),
            child("v6", Some("linux/arm/v6"), None),
            child("v7", Some("linux/arm/v7"), None),
            child("amd64 attestation", Some("unknown/unknown"), Some("amd64")),
            child("v7 attestation", Some("unknown/unknown"), Some("v7")),
            child("note", None, None),
        ]
    }

    fn choose(wanted: &[&str]) -> Selection {
        let wanted: Vec<Platform> = wanted.iter().map(|text| text.parse().expect(text)).collect();
        select(&index(), &wanted)
    }

    #[test]
    fn chosen_children_bring_their_attestations() {
        let selection = choose(&["linux/arm"]);
        let seeds = ["v7", "v7 attestation", "note"].map(|seed| Digest::of(seed.as_bytes()));
        let found: Vec<_> = selection.children.iter().map(|child| child.digest.clone()).collect();
        assert_eq!(found, seeds);
        assert!(selection.missing.is_empty());
    }

    #[test]
    fn a_platform_that_is_not_there_is_named() {
        let selection = choose(&["linux/s390x", "linux/amd64"]);
        assert_eq!(selection.missing.len(), 1);
        assert_eq!(selection.missing[0].to_string(), "linux/s390x");
        assert_eq!(selection.chosen.len(), 1);
    }

    #[test]
    fn tags_name_one_manifest_or_the_index_and_each_of_several() {
        let root =
            Manifest::parse(Bytes::from_static(br#"{"manifests":[]}"#), None).expect("valid");
        let tag: Tag = "3.9".parse().expect("valid");
        for (wanted, expected) in [
            (vec!["linux/arm"], vec!["3.9"]),
            (vec!["linux/arm", "linux/amd64"], vec!["3.9", "3.9-linux-arm", "3.9-linux-amd64"]),
        ] {
            let platforms: Vec<Platform> =
                wanted.iter().map(|text| text.parse().expect(text)).collect();
            let selection = choose(&wanted);
            let tags = tags(Some(&tag), &root, &platforms, &selection).expect("tags");
            let names: Vec<&str> = tags.iter().map(|(tag, _)| tag.as_str()).collect();
            assert_eq!(names, expected);
            assert_eq!(tags[0].1 == *root.digest(), wanted.len() > 1);
        }
    }
}
