//! Images that their registry has as Docker's schema 1 only.

use std::sync::atomic::Ordering;

use crate::convert::OldImage;
use crate::digest::Digest;
use crate::failure::Unusable;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::schema1::{Converted, Schema1};
use crate::units::count;

use super::resolve::{Resolver, Source};
use super::walk::Walk;

impl Source {
    fn old_image<'a>(&'a self, reference: &Reference, document: &'a Schema1) -> OldImage<'a> {
        let Self { registry, repository } = self;
        OldImage { registry, repository, name: reference.to_string(), document }
    }
}

impl Resolver<'_> {
    /// The image in schema 2, which is to travel.
    pub(super) async fn convert(
        &self,
        source: &Source,
        reference: &Reference,
        document: &Schema1,
    ) -> anyhow::Result<Converted> {
        let converted = self.converter.convert(&source.old_image(reference, document)).await?;
        let bytes = converted.manifest.descriptor.size + converted.config.len() as u64;
        self.manifest_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.refuse_too_much()?;
        Ok(converted)
    }

    /// The layers of an image that was transferred before, which need not be read for that. The config that was
    /// made for it then is not among them: it is small, and travels again where it is needed.
    pub(super) async fn layers_of(
        &self,
        source: &Source,
        reference: &Reference,
        document: &Schema1,
    ) -> anyhow::Result<Option<Vec<Descriptor>>> {
        match source.old_image(reference, document).layers(|_| true).await {
            Ok(layers) => Ok(Some(layers)),
            Err(error) if error.is::<Unusable>() => {
                self.reporter.warn(format!(
                    "`{reference}` was named as already transferred, but {error}: its blobs are not taken as present"
                ));
                Ok(None)
            }
            Err(error) => Err(error.context(format!("cannot read image `{reference}`"))),
        }
    }

    /// Says how many manifests refer to the manifest of schema 1, which does not travel.
    pub(super) async fn warn_of_referrers(&self, walk: &Walk<'_>, former: &Digest) {
        let behind = self.count_leads(walk, std::slice::from_ref(former)).await;
        if behind > 0 {
            let (refer, stay) = if behind == 1 { ("refers", "stays") } else { ("refer", "stay") };
            self.reporter.warn(format!(
                "{} {refer} to `{}` by `{former}`, the digest before it was converted, and {stay} behind",
                count(behind as u64, "manifest"),
                walk.reference
            ));
        }
    }
}
