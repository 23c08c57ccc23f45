//! What refers to the images, and the fallback tag of registries without the referrers API
//! (distribution-spec, "Referrers Tag Schema").

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::manifest::{Manifest, MediaType};
use crate::reference::{RepositoryName, Tag, TagOrDigest};
use crate::registry::Referrers;

use super::Push;
use super::report::RefusedTag;
use super::targets::Target;

/// What is to be listed as referring to one manifest, and the image that it belongs to.
struct Listing<'a> {
    image: &'a str,
    referrers: Vec<&'a Manifest>,
}

impl Push {
    /// Puts everything that refers to the images, by digest.
    pub(super) async fn send_referrers(&self, targets: &[Target<'_>]) -> anyhow::Result<()> {
        let images = targets.iter().map(|target| async move {
            for &manifest in &target.referrers {
                self.put_unless_there(&target.repository, manifest).await?;
            }
            anyhow::Ok(())
        });
        stream::iter(images).buffer_unordered(self.jobs).try_collect().await
    }

    /// Makes sure that what refers to the images can be found. Gives the fallback tags that were
    /// refused: what they should list is there, but cannot be found.
    pub(super) async fn list_all_referrers(
        &self,
        targets: &[Target<'_>],
    ) -> anyhow::Result<Vec<RefusedTag>> {
        let mut by_subject: BTreeMap<(RepositoryName, Digest), Listing<'_>> = BTreeMap::new();
        for target in targets {
            for &manifest in &target.referrers {
                if let Some(subject) = &manifest.subject {
                    let place = (target.repository.clone(), subject.digest.clone());
                    let new = || Listing { image: &target.image.name, referrers: Vec::new() };
                    by_subject.entry(place).or_insert_with(new).referrers.push(manifest);
                }
            }
        }
        let lists = by_subject.into_iter().map(|((repository, subject), listing)| async move {
            self.list_referrers(&repository, &subject, &listing).await.with_context(|| {
                format!("cannot list what refers to `{subject}` in `{repository}`")
            })
        });
        let refused: Vec<Option<RefusedTag>> =
            stream::iter(lists).buffered(self.jobs).try_collect().await?;
        Ok(refused.into_iter().flatten().collect())
    }

    async fn list_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        listing: &Listing<'_>,
    ) -> anyhow::Result<Option<RefusedTag>> {
        if let Referrers::Listed(_) = self.registry.referrers(repository, subject).await? {
            return Ok(None);
        }
        let tag: Tag = subject.tag_form().parse()?;
        let which = TagOrDigest::Tag(tag.clone());
        let there = self.registry.find_manifest(repository, &which).await?;
        if there.as_ref().is_some_and(|there| !there.descriptor.media_type.is_index()) {
            self.reporter.warn(format!(
                "`{repository}:{which}` should list what refers to `{subject}`, but is no index: it is left alone"
            ));
            return Ok(None);
        }
        let Some(merged) = merge(there.as_ref(), &listing.referrers)? else { return Ok(None) };
        match self.registry.put_manifest(repository, &which, &merged).await {
            Ok(_) => Ok(None),
            Err(error) if error.is_refusal() => Ok(Some(RefusedTag {
                name: listing.image.to_owned(),
                repository: repository.clone(),
                tag,
                reason: error.to_string(),
            })),
            Err(error) => Err(error.into()),
        }
    }
}

/// The fallback index with `referrers` added; `None` where it has them all.
fn merge(there: Option<&Manifest>, referrers: &[&Manifest]) -> anyhow::Result<Option<Manifest>> {
    let known: BTreeSet<&Digest> =
        there.iter().flat_map(|there| there.children()).map(|child| &child.digest).collect();
    let new: Vec<&Manifest> =
        referrers.iter().copied().filter(|manifest| !known.contains(manifest.digest())).collect();
    if new.is_empty() {
        return Ok(None);
    }
    let mut index = match there {
        Some(there) => serde_json::from_slice(&there.raw)?,
        None => json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }),
    };
    let list = index
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .context("the fallback index has no list of manifests")?;
    for manifest in new {
        list.push(descriptor_of(manifest)?);
    }
    let raw = Bytes::from(serde_json::to_vec(&index)?);
    Ok(Some(Manifest::parse(raw, None)?))
}

/// The descriptor that the specification wants in a list of referrers: with the artifact's type and
/// the manifest's annotations.
fn descriptor_of(manifest: &Manifest) -> anyhow::Result<Value> {
    let body: Value = serde_json::from_slice(&manifest.raw)?;
    let mut descriptor = serde_json::to_value(&manifest.descriptor)?;
    let own_type = body.get("artifactType").filter(|text| text.as_str() != Some(""));
    let artifact_type = own_type.or_else(|| body.get("config")?.get("mediaType"));
    let members = [("artifactType", artifact_type), ("annotations", body.get("annotations"))];
    if let Some(descriptor) = descriptor.as_object_mut() {
        for (name, value) in members {
            if let Some(value) = value {
                descriptor.insert(name.to_owned(), value.clone());
            }
        }
    }
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(artifact_type: &str) -> Manifest {
        let digest = Digest::of(b"config");
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}",{artifact_type}"config":{{"mediaType":"config/type","digest":"{digest}","size":6}},"layers":[],"annotations":{{"k":"v"}}}}"#,
            MediaType::OCI_MANIFEST
        );
        Manifest::parse(Bytes::from(json), None).expect("a manifest")
    }

    #[test]
    fn the_fallback_index_grows_and_never_loses_what_it_had() {
        let (one, other) = (referrer(r#""artifactType":"sig","#), referrer(""));
        let first = merge(None, &[&one]).expect("merged").expect("new");
        assert!(first.descriptor.media_type.is_index());
        let second = merge(Some(&first), &[&one, &other]).expect("merged").expect("new");
        let digests: Vec<_> = second.children().iter().map(|child| &child.digest).collect();
        assert_eq!(digests, [one.digest(), other.digest()]);
        assert_eq!(second.children()[0].artifact_type.as_deref(), Some("sig"));
        assert_eq!(second.children()[1].artifact_type.as_deref(), Some("config/type"));
        assert_eq!(second.children()[0].annotations["k"], "v");
        assert!(merge(Some(&second), &[&other]).expect("merged").is_none());
    }
}
