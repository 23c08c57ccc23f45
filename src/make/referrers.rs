//! What refers to an image: signatures, attestations, lists of contents.
//!
//! Three ways are in use: the referrers API of the OCI distribution-spec 1.1, its fallback tag
//! (`sha256-<hex>`), and the tags of cosign (`sha256-<hex>.sig`, `.att`, `.sbom`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::failure::Unusable;
use crate::manifest::Manifest;
use crate::payload::index::Referrer;
use crate::reference::{Tag, TagOrDigest};
use crate::registry;
use crate::units::count;

use super::resolve::{Resolver, Source};
use super::walk::Walk;

/// The suffixes of cosign's tags.
pub(super) const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];
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

/// What becomes of the referrers of a run's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They come along.
    Travel,
    /// They stay, because somebody said so.
    LeftAsAsked,
    /// They stay, because docker-charon's payloads cannot hold them.
    NotInFormat,
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
        walk: &Walk<'_>,
        subjects: &BTreeSet<Digest>,
        left: &[Digest],
    ) -> anyhow::Result<Found> {
        let Walk { source, reference, .. } = walk;
        let context = || format!("cannot find what refers to `{reference}`");
        let behind = self.count_leads(walk, left).await;
        if behind > 0 {
            let refer = if behind == 1 { "refers" } else { "refer" };
            self.reporter.warn(format!(
                "{} {refer} to the index of `{reference}`, which stays behind: one platform was chosen",
                count(behind as u64, "manifest")
            ));
        }
        let first: Vec<Digest> = subjects.iter().cloned().collect();
        if self.referrers != Fate::Travel {
            let left = self.count_leads(walk, &first).await;
            self.note_left(walk, left);
            return Ok(Found::default());
        }
        let leads_found = AtomicUsize::new(0);
        let mut leads = self.leads(walk, &first, &leads_found).await.with_context(context)?;
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
                    let mut under = self.descend(walk, manifest.clone(), 0).await?;
                    under.pop();
                    found.children.extend(under);
                }
                let referrer = Referrer { digest, subject: lead.subject.clone(), tag };
                found.referrers.push((referrer, manifest));
            }
            leads = self.leads(walk, &next, &leads_found).await.with_context(context)?;
        }
        Ok(found)
    }

    fn note_left(&self, walk: &Walk<'_>, left: usize) {
        if left == 0 {
            return;
        }
        let (refer, are) = if left == 1 { ("refers", "is") } else { ("refer", "are") };
        let why = match self.referrers {
            Fate::NotInFormat => "docker-charon's format holds none",
            Fate::LeftAsAsked | Fate::Travel => "as asked",
        };
        self.reporter.note(format!(
            "{} that {refer} to `{}` {are} left, {why}",
            count(left as u64, "manifest"),
            walk.reference
        ));
    }

    /// How many manifests refer to `subjects`, as far as that can be told: nothing hangs on it.
    pub(super) async fn count_leads(&self, walk: &Walk<'_>, subjects: &[Digest]) -> usize {
        match self.leads(walk, subjects, &AtomicUsize::new(0)).await {
            Ok(leads) => leads.len(),
            Err(error) => {
                self.reporter.warn(format!(
                    "cannot count what refers to `{}` and is left: {error:#}",
                    walk.reference
                ));
                0
            }
        }
    }

    /// What is said to refer to `subjects`; `found` counts all that were found for the image so far.
    async fn leads(
        &self,
        walk: &Walk<'_>,
        subjects: &[Digest],
        found: &AtomicUsize,
    ) -> anyhow::Result<Vec<Lead>> {
        let leads = subjects.iter().map(|subject| async move {
            let leads = self.leads_to(walk.source, subject).await?;
            if found.fetch_add(leads.len(), Ordering::Relaxed) + leads.len() > REFERRERS_MAX {
                let reference = walk.reference;
                let message = format!("more than {REFERRERS_MAX} manifests refer to `{reference}`");
                anyhow::bail!(Unusable::new(message).with_hint("leave them with `--no-referrers`"));
            }
            Ok(leads)
        });
        Ok(try_join_all(leads).await?.into_iter().flatten().collect())
    }

    async fn leads_to(&self, source: &Source, subject: &Digest) -> anyhow::Result<Vec<Lead>> {
        let turn = self.turn().await?;
        let listed = source.registry.referrers(&source.repository, subject).await?;
        drop(turn);
        let listed = match listed {
            registry::Referrers::Listed(listed) => listed,
            registry::Referrers::NoApi => {
                let fallback = TagOrDigest::Tag(subject.tag_form().parse()?);
                match self.manifest(source, &fallback).await {
                    Ok(index) => index.children().to_vec(),
                    Err(error) if error.is_not_found() => Vec::new(),
                    Err(error) => return Err(error.into()),
                }
            }
        };
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
        self.refuse_too_much()?;
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
