//! The configs of converted images, made once more: a written plan names them, and no registry has them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;

use crate::convert::{Converter, OldImage, ReadLayers};
use crate::digest::Digest;
use crate::failure::Unusable;
use crate::plan::Plan;
use crate::reference::{Reference, RegistryHost, TagOrDigest};
use crate::registry::{Pulled, Registries};
use crate::store::Store;

/// The configs among those of `plan` that are wanted.
///
/// # Errors
/// When the source no longer has what such an image was converted from.
pub(super) async fn again(
    registries: &Registries,
    store: Store,
    plan: &Plan,
    is_wanted: impl Fn(&Digest) -> bool,
) -> anyhow::Result<BTreeMap<Digest, Bytes>> {
    let converter = Converter::new(store, ReadLayers::default());
    let mut made = BTreeMap::new();
    for image in &plan.images {
        let (Some(former), Some(config)) = (&image.converted_from, plan.config_of(image)) else {
            continue;
        };
        if made.contains_key(config) || !is_wanted(config) {
            continue;
        }
        let reference = Reference::parse(&image.reference, &RegistryHost::docker_hub())?;
        let registry = registries.registry(&reference.registry)?;
        let repository = reference.api_repository();
        let pulled = registry.pull(&repository, &TagOrDigest::Digest(former.clone())).await;
        let pulled = pulled.with_context(|| format!("cannot read image `{reference}` again"))?;
        if let Pulled::Schema1(document) = pulled {
            let (registry, repository, document) = (&registry, &repository, &*document);
            let name = reference.to_string();
            converter.convert(&OldImage { registry, repository, name, document }).await?;
        }
        let bytes = converter.config(config).ok_or_else(|| {
            Unusable::new(format!(
                "`{reference}` does not give the config `{config}` again, which the plan names"
            ))
            .with_hint("make the payload anew")
        })?;
        made.insert(config.clone(), bytes);
    }
    Ok(made)
}
