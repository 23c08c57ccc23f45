//! From the images and repositories of a request to what their registries say of each.

use std::collections::BTreeSet;

use anyhow::bail;
use futures_util::future::try_join_all;

use crate::convert::CannotConvert;
use crate::digest::Digest;
use crate::failure::{Unusable, Usage};
use crate::names;
use crate::plan::{Choice, Wanted};
use crate::progress::Reporter;
use crate::reference::{Reference, RegistryHost, RepositoryName};
use crate::registry::{self, Registries};
use crate::units::count;

use super::list::ImageName;
use super::referrers::Fate;
use super::repositories::{self, Attached, Listing};
use super::request::MakeRequest;
use super::resolve::Resolver;

/// The images of a request: those that were named, and those that repositories list.
pub(super) struct Asked {
    images: Vec<ImageName>,
    /// Those that nobody named.
    listed: BTreeSet<Reference>,
    attached: Vec<Attached>,
}

impl Asked {
    /// Lists the repositories of `request`.
    ///
    /// # Errors
    /// When a list cannot be had, or leaves nothing; [`Usage`] for two sources with one name at the far side.
    pub(super) async fn of(
        request: &MakeRequest,
        registries: &Registries,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        let mut images = request.wanted.clone();
        if request.repositories.is_empty() {
            return Ok(Self { images, listed: BTreeSet::new(), attached: Vec::new() });
        }
        let named: BTreeSet<&Reference> =
            request.wanted.iter().map(|image| &image.reference).collect();
        let is_new = |image: &ImageName| !named.contains(&image.reference);
        let Listing { images: mut more, mut attached } =
            repositories::list(&request.repositories, registries, reporter).await?;
        more.retain(is_new);
        attached.retain(|attached| is_new(&attached.image));
        let listed = more.iter().map(|image| image.reference.clone()).collect();
        images.extend(more);
        let asked = Self { images, listed, attached };
        let all = asked.images.iter().chain(asked.attached.iter().map(|attached| &attached.image));
        refuse_collisions(all, request)?;
        Ok(asked)
    }

    /// How many images there are.
    pub(super) fn count(&self) -> usize {
        self.images.len()
    }

    /// What the registries say of each. Listed images that cannot be read are left.
    ///
    /// # Errors
    /// As [`Resolver::resolve`], and when nothing is left.
    pub(super) async fn resolve(
        self,
        resolver: &Resolver<'_>,
        request: &MakeRequest,
    ) -> anyhow::Result<Vec<Wanted>> {
        let skipped: BTreeSet<&Reference> =
            request.already_transferred.iter().map(|image| &image.reference).collect();
        let resolve = |image: ImageName, is_listed: bool| {
            let is_skipped = skipped.contains(&image.reference);
            async move {
                let ImageName { name, reference } = image;
                let choice = if is_skipped {
                    Choice::Skip
                } else {
                    match resolver.resolve(&reference).await {
                        Ok(found) => Choice::Carry(Box::new(found)),
                        Err(error) if is_listed && cannot_be_read(&error) => {
                            resolver
                                .reporter
                                .warn(format!("`{name}` is listed, and is left: {error:#}"));
                            return Ok(None);
                        }
                        Err(error) => return Err(error),
                    }
                };
                let repository = request.names.of(&reference)?;
                anyhow::Ok(Some(Wanted { name, reference, repository, choice }))
            }
        };
        let images = self.images.into_iter().map(|image| {
            let is_listed = self.listed.contains(&image.reference);
            resolve(image, is_listed)
        });
        let mut wanted: Vec<Wanted> = try_join_all(images).await?.into_iter().flatten().collect();
        if resolver.referrers == Fate::Travel {
            let alone = without_subject(self.attached, &wanted);
            let alone = try_join_all(alone.into_iter().map(|image| resolve(image, true))).await?;
            wanted.extend(alone.into_iter().flatten());
        } else if !self.attached.is_empty() {
            let number = count(self.attached.len() as u64, "tag");
            resolver.reporter.note(format!(
                "{number} of signatures and the like are left, as what refers to images is"
            ));
        }
        if wanted.is_empty() {
            bail!(Unusable::new("nothing of what the registry lists can be packed"));
        }
        Ok(wanted)
    }
}

/// Those that attach something to what does not travel from their repository.
fn without_subject(attached: Vec<Attached>, wanted: &[Wanted]) -> Vec<ImageName> {
    let mut travelling: BTreeSet<(&RegistryHost, &RepositoryName, &Digest)> = BTreeSet::new();
    for Wanted { reference, choice, .. } in wanted {
        let Choice::Carry(resolved) = choice else { continue };
        let manifests = resolved.manifests.iter();
        let referrers = resolved.referrers.iter().map(|(_, manifest)| manifest);
        for manifest in manifests.chain(referrers) {
            travelling.insert((&reference.registry, &reference.repository, manifest.digest()));
        }
    }
    let is_alone = |Attached { image, subject }: &Attached| {
        let Reference { registry, repository, .. } = &image.reference;
        !travelling.contains(&(registry, repository, subject))
    };
    attached.into_iter().filter(is_alone).map(|attached| attached.image).collect()
}

/// Whether a registry lists what it does not have, or what kharon does not know.
fn cannot_be_read(error: &anyhow::Error) -> bool {
    let is_so = |error: &registry::Error| error.is_not_found() || error.is_unreadable_manifest();
    let is_unconvertible = error.is::<CannotConvert>() && error.is::<Unusable>();
    is_unconvertible || error.downcast_ref::<registry::Error>().is_some_and(is_so)
}

/// Refuses two sources with one name at the far side.
///
/// # Errors
/// [`Usage`] names both.
pub(super) fn refuse_collisions<'a>(
    images: impl Iterator<Item = &'a ImageName>,
    request: &MakeRequest,
) -> anyhow::Result<()> {
    let mut sources = Vec::new();
    for image in images {
        let reference = &image.reference;
        let source = format!("{}/{}", reference.registry, reference.api_repository());
        sources.push((request.names.of(reference)?, source));
    }
    names::refuse_collisions(sources.iter().map(|(far, source)| (far, source.clone()))).map_err(
        |collision| {
            Usage::new(collision.to_string())
                .with_hint("use `--keep-registry`, or `--rename SOURCE=NAME` for one of them")
        },
    )?;
    Ok(())
}
