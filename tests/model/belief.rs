//! The model: plain maps that say what each side holds, and what a push must make of it.

use std::collections::{BTreeMap, BTreeSet};

use kharon::digest::Digest;
use kharon::push::TagPolicy;

use crate::content;
use crate::support::images::Image;

/// `repository:tag`, apart.
pub type Name = (String, String);

/// An image with the signatures that it had when it was looked at.
#[derive(Clone)]
pub struct Signed {
    pub image: Image,
    pub signatures: Vec<(String, Image)>,
}

impl Signed {
    pub fn digest(&self) -> &Digest {
        self.image.digest()
    }

    pub fn blobs(&self) -> BTreeSet<Digest> {
        let signatures = self.signatures.iter().flat_map(|(_, image)| content::blobs(image));
        content::blobs(&self.image).into_iter().chain(signatures).collect()
    }

    fn tags(&self, tag: &str) -> Vec<(String, Image)> {
        let own = (tag.to_owned(), self.image.clone());
        [vec![own], self.signatures.clone()].concat()
    }
}

/// What a registry holds.
#[derive(Clone, Default)]
pub struct Held {
    pub tags: BTreeMap<Name, Image>,
    pub blobs: BTreeMap<String, BTreeSet<Digest>>,
}

impl Held {
    pub fn has(&self, repository: &str, digest: &Digest) -> bool {
        self.blobs.get(repository).is_some_and(|blobs| blobs.contains(digest))
    }

    pub fn put(&mut self, repository: &str, tag: &str, image: &Image) {
        self.add(repository, content::blobs(image));
        self.tags.insert((repository.to_owned(), tag.to_owned()), image.clone());
    }

    pub fn add(&mut self, repository: &str, blobs: impl IntoIterator<Item = Digest>) {
        self.blobs.entry(repository.to_owned()).or_default().extend(blobs);
    }

    pub fn forget(&mut self, repository: &str, digest: &Digest) {
        self.blobs.entry(repository.to_owned()).or_default().remove(digest);
    }

    /// What tags lead to and somebody took away, as the walk of the kit says it.
    pub fn dangling(&self) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        for ((repository, tag), image) in &self.tags {
            for digest in content::blobs(image) {
                if !self.has(repository, &digest) {
                    missing.insert(format!("{repository}:{tag}: blob `{digest}`"));
                }
            }
        }
        missing
    }

    /// What an inventory lists: blobs that a tag leads to and that are there.
    pub fn inventory(&self) -> Known {
        let mut known = Known::default();
        for ((repository, tag), image) in &self.tags {
            known.add_tag(repository, tag, image.digest());
            for digest in content::blobs(image) {
                if self.has(repository, &digest) {
                    known.add_blob(repository, &digest);
                }
            }
        }
        known
    }
}

/// What a baseline says of the far side, in the repositories' names in payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub blobs: BTreeMap<Digest, BTreeSet<String>>,
    pub tags: BTreeMap<Name, BTreeSet<Digest>>,
}

impl Known {
    pub fn add_blob(&mut self, repository: &str, digest: &Digest) {
        self.blobs.entry(digest.clone()).or_default().insert(repository.to_owned());
    }

    pub fn add_tag(&mut self, repository: &str, tag: &str, digest: &Digest) {
        let name = (repository.to_owned(), tag.to_owned());
        self.tags.entry(name).or_default().insert(digest.clone());
    }

    pub fn add(&mut self, other: &Self) {
        for (digest, repositories) in &other.blobs {
            self.blobs.entry(digest.clone()).or_default().extend(repositories.clone());
        }
        for (name, digests) in &other.tags {
            self.tags.entry(name.clone()).or_default().extend(digests.clone());
        }
    }
}

/// How a blob of a payload gets to the far side. The repositories are those that should hold it.
#[derive(Clone, Debug)]
pub enum Travels {
    Carried,
    Expected(BTreeSet<String>),
    Delta(Vec<Digest>),
}

/// An image of a payload.
#[derive(Clone)]
pub struct Packed {
    pub name: Name,
    /// None where it was also named as already transferred.
    pub carried: Option<Signed>,
    /// What baselines said that the tag may name.
    pub former: BTreeSet<Digest>,
}

/// A payload that was made.
#[derive(Clone)]
pub struct Payload {
    pub file: String,
    pub images: Vec<Packed>,
    pub blobs: BTreeMap<Digest, Travels>,
    /// Where what only deltas need should be.
    pub baselines: BTreeMap<Digest, BTreeSet<String>>,
}

/// What a push must come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub pushed: Vec<String>,
    pub incomplete: BTreeSet<String>,
    pub skipped_and_missing: Vec<String>,
    pub kept: BTreeSet<String>,
}

impl Payload {
    /// What it proves once it was pushed.
    pub fn known(&self) -> Known {
        let mut known = Known::default();
        for image in &self.images {
            let (repository, tag) = &image.name;
            let Some(carried) = &image.carried else { continue };
            known.add_tag(repository, tag, carried.digest());
            for digest in carried.blobs() {
                known.add_blob(repository, &digest);
            }
        }
        for (digest, repositories) in self.expected() {
            for repository in repositories {
                known.add_blob(repository, digest);
            }
        }
        known
    }

    fn expected(&self) -> impl Iterator<Item = (&Digest, &BTreeSet<String>)> {
        let named = self.blobs.iter().filter_map(|(digest, travels)| match travels {
            Travels::Expected(repositories) => Some((digest, repositories)),
            _ => None,
        });
        named.chain(&self.baselines)
    }

    /// The blobs that cannot get to the far side as it is.
    fn missing(&self, far: &Held, place: &dyn Fn(&str) -> String) -> BTreeSet<Digest> {
        let expected: BTreeMap<&Digest, &BTreeSet<String>> = self.expected().collect();
        let is_at = |digest: &Digest, others: Vec<String>| {
            let named = expected.get(digest).into_iter().copied().flatten();
            named.map(|name| place(name)).chain(others).any(|name| far.has(&name, digest))
        };
        let is_held =
            |digest: &Digest| self.needing(digest, place).iter().any(|name| far.has(name, digest));
        let can_be_read = |baseline: &Digest| {
            // A baseline is also looked for wherever a delta against it has to go.
            let deltas = self.blobs.iter().filter(|(digest, travels)| {
                matches!(travels, Travels::Delta(all) if all.contains(baseline)) && !is_held(digest)
            });
            let others = deltas.flat_map(|(digest, _)| self.needing(digest, place)).collect();
            matches!(self.blobs.get(baseline), Some(Travels::Carried)) || is_at(baseline, others)
        };
        let is_missing = |(digest, travels): &(&Digest, &Travels)| match travels {
            Travels::Carried => false,
            Travels::Expected(_) => !is_at(digest, self.needing(digest, place)),
            Travels::Delta(baselines) => !is_held(digest) && !baselines.iter().all(can_be_read),
        };
        self.blobs.iter().filter(is_missing).map(|(digest, _)| digest.clone()).collect()
    }

    /// The far repositories that need a blob.
    fn needing(&self, digest: &Digest, place: &dyn Fn(&str) -> String) -> Vec<String> {
        let needs = self.images.iter().filter(|image| {
            image.carried.as_ref().is_some_and(|carried| carried.blobs().contains(digest))
        });
        needs.map(|image| place(&image.name.0)).collect()
    }

    /// What a push that leaves out what lacks something does to `far`.
    pub fn push(
        &self,
        far: &mut Held,
        place: &dyn Fn(&str) -> String,
        policy: TagPolicy,
    ) -> Outcome {
        let missing = self.missing(far, place);
        let before = far.tags.clone();
        let mut outcome = Outcome::default();
        for image in &self.images {
            let (repository, tag) = (place(&image.name.0), &image.name.1);
            let name = format!("{}:{}", image.name.0, image.name.1);
            let Some(carried) = &image.carried else {
                if before.contains_key(&(repository, tag.clone())) {
                    outcome.pushed.push(name);
                } else {
                    outcome.skipped_and_missing.push(name);
                }
                continue;
            };
            if carried.blobs().iter().any(|digest| missing.contains(digest)) {
                outcome.incomplete.insert(name);
                continue;
            }
            far.add(&repository, carried.blobs());
            let now = far.tags.get(&(repository.clone(), tag.clone())).map(Image::digest);
            let is_known = |now: &Digest| {
                image.former.is_empty() || image.former.contains(now) || now == carried.digest()
            };
            if policy == TagPolicy::Protect && now.is_some_and(|now| !is_known(now)) {
                outcome.kept.insert(name);
                // Its signatures belong to the digest, and are set all the same.
                for (tag, signature) in &carried.signatures {
                    far.put(&repository, tag, signature);
                }
                continue;
            }
            for (tag, image) in carried.tags(tag) {
                far.put(&repository, &tag, &image);
            }
            outcome.pushed.push(name);
        }
        outcome
    }
}
