//! What refers to an image: signatures, attestations, lists of contents.
//!
//! Three ways are in use: the referrers API of the OCI distribution-spec 1.1, its fallback tag
//! (`sha256-<hex>`), and the tags of cosign (`sha256-<hex>.sig`, `.att`, `.sbom`).

use std::collections::BTreeSet;

use anyhow::Context as _;
use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::payload::index::Referrer;
use crate::reference::{Reference, Tag, TagOrDigest};
use crate::registry;

use super::resolve::{Resolver, Source};

/// The suffixes of cosign's tags.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];
/// How many manifests may refer to one image, directly or through others.
const REFERRERS_MAX: usize = 10_000;

/// Whether what refers to an image travels with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Referrers {
    /// It comes along.
    #[default]
    Include,
    /// It stays, and a note says how much.
    Leave,
}

/// What refers to an image.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The referring manifests, in an order in which each may be pushed.
    pub(super) referrers: Vec<(Referrer, Manifest)>,
    /// Manifests under a referrer that is an index.
    pub(super) children: Vec<Manifest>,
}

/// A manifest that is said to refer to another one.
struct Lead {
    which: TagOrDigest,
    subject: Digest,
}

impl Resolver<'_> {
    /// Finds what refers to `subjects`, and what refers to that, and so on. Referrers of `left`,
    /// which do not travel, are only counted.
    pub(super) async fn find_referrers(
        &self,
        source: &Source,
        reference: &Reference,
        subjects: &BTreeSet<Digest>,
        left: &[Digest],
    ) -> anyhow::Result<Found> {
        let context = || format!("cannot find what refers to `{reference}`");
        let behind = self.leads(source, left).await.with_context(context)?;
        if !behind.is_empty() {
            self.reporter.warn(format!(
                "{} manifests refer to the index of `{reference}`, which stays behind with them: \
                 one platform was chosen",
                behind.len()
            ));
        }
        let first: Vec<Digest> = subjects.iter().cloned().collect();
        let mut leads = self.leads(source, &first).await.with_context(context)?;
        if self.referrers == Referrers::Leave {
            if !leads.is_empty() {
                self.reporter.note(format!(
                    "{} manifests that refer to `{reference}` are left, as asked",
                    leads.len()
                ));
            }
            return Ok(Found::default());
        }
        let mut found = Found::default();
        let mut seen: BTreeSet<Digest> = subjects.clone();
        while !leads.is_empty() {
            let manifests = try_join_all(leads.iter().map(|lead| self.follow(source, lead)))
                .await
                .with_context(context)?;
            let mut next = Vec::new();
            for (lead, manifest) in leads.iter().zip(manifests) {
                let Some(manifest) = manifest else { continue };
                let tag = match &lead.which {
                    TagOrDigest::Tag(tag) => Some(tag.clone()),
                    TagOrDigest::Digest(_) => None,
                };
                let digest = manifest.digest().clone();
                let is_new = seen.insert(digest.clone());
                if !is_new && tag.is_none() {
                    continue;
                }
                if is_new {
                    next.push(digest.clone());
                    let mut under = self.descend(source, reference, manifest.clone(), 0).await?;
                    under.pop();
                    found.children.extend(under);
                }
                let referrer = Referrer { digest, subject: lead.subject.clone(), tag };
                found.referrers.push((referrer, manifest));
            }
            anyhow::ensure!(
                seen.len() <= REFERRERS_MAX,
                "more than {REFERRERS_MAX} manifests refer to `{reference}`"
            );
            leads = self.leads(source, &next).await.with_context(context)?;
        }
        Ok(found)
    }

    async fn leads(&self, source: &Source, subjects: &[Digest]) -> anyhow::Result<Vec<Lead>> {
        let leads = try_join_all(subjects.iter().map(|subject| self.leads_to(source, subject)));
        Ok(leads.await?.into_iter().flatten().collect())
    }

    async fn leads_to(&self, source: &Source, subject: &Digest) -> anyhow::Result<Vec<Lead>> {
        let turn = self.turn().await?;
        let listed = match source.registry.referrers(&source.repository, subject).await? {
            registry::Referrers::Listed(listed) => listed,
            registry::Referrers::NoApi => {
                let fallback = TagOrDigest::Tag(subject.tag_form().parse()?);
                let index = source.registry.find_manifest(&source.repository, &fallback).await?;
                index.map_or_else(Vec::new, |index| index.children().to_vec())
            }
        };
        drop(turn);
        let mut leads: Vec<Lead> = listed
            .into_iter()
            .map(|descriptor| Lead {
                which: TagOrDigest::Digest(descriptor.digest),
                subject: subject.clone(),
            })
            .collect();
        let cosign = COSIGN_SUFFIXES.map(|suffix| self.cosign_tag(source, subject, suffix));
        leads.extend(try_join_all(cosign).await?.into_iter().flatten());
        Ok(leads)
    }

    async fn cosign_tag(
        &self,
        source: &Source,
        subject: &Digest,
        suffix: &str,
    ) -> anyhow::Result<Option<Lead>> {
        let tag: Tag = format!("{}.{suffix}", subject.tag_form()).parse()?;
        let which = TagOrDigest::Tag(tag);
        let turn = self.turn().await?;
        let head = source.registry.head_manifest(&source.repository, &which).await?;
        drop(turn);
        Ok(head.map(|_| Lead { which, subject: subject.clone() }))
    }

    /// The manifest behind a lead, unless it is gone or refers to something else.
    async fn follow(&self, source: &Source, lead: &Lead) -> anyhow::Result<Option<Manifest>> {
        let manifest = match self.manifest(source, &lead.which).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => {
                self.reporter.warn(format!(
                    "`{}` is listed as referring to `{}`, but is not in `{}`",
                    lead.which, lead.subject, source.repository
                ));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let by_tag = matches!(lead.which, TagOrDigest::Tag(_));
        let refers = manifest.subject.as_ref().map(|subject| &subject.digest);
        if by_tag || refers == Some(&lead.subject) {
            return Ok(Some(manifest));
        }
        self.reporter.warn(format!(
            "`{}` is listed as referring to `{}`, but does not: it is left",
            lead.which, lead.subject
        ));
        Ok(None)
    }
}
