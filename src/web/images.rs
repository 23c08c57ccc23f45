//! Images: what they are, and their tar.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::{Method, Response};
use serde::Serialize;

use crate::digest::Digest;
use crate::listen::Body;
use crate::manifest::{Descriptor, MediaType};
use crate::platform::Platform;
use crate::printable::escaped;
use crate::registry::Registries;
use crate::save::{Origin, PlannedTar, SavedImage, plan_tar};

use super::answer::{self, Refusal};
use super::downloads::Attachment;
use super::query::{Query, Wanted};
use super::{Shared, details};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    tar_bytes: u64,
    file_name: String,
    download: String,
    images: Vec<Image>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    name: String,
    root: Blob,
    manifest: Option<Blob>,
    config: Option<Blob>,
    layers: Vec<Blob>,
    platform: Option<String>,
    platforms: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    digest: Digest,
    media_type: MediaType,
    size: u64,
}

impl From<Descriptor> for Blob {
    fn from(blob: Descriptor) -> Self {
        Self { digest: blob.digest, media_type: blob.media_type, size: blob.size }
    }
}

impl From<SavedImage> for Image {
    fn from(image: SavedImage) -> Self {
        let mut platforms: Vec<String> = image.platforms.iter().map(Platform::to_string).collect();
        platforms.sort();
        platforms.dedup();
        Self {
            name: image.name,
            root: image.root.into(),
            manifest: image.manifest.map(Blob::from),
            config: image.config.map(Blob::from),
            layers: image.layers.into_iter().map(Blob::from).collect(),
            platform: image.platform.as_ref().map(Platform::to_string),
            platforms,
        }
    }
}

/// What images are, and how long their tar is.
pub(super) async fn describe(
    shared: &Arc<Shared>,
    query: Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = shared.wanted(query)?;
    let planning = planning(shared, &wanted);
    let describing = async move {
        let planned = planning.await?;
        Ok((planned.length_bytes(), planned.images().await?))
    };
    let (tar_bytes, images) = shared.look(describing.boxed()).await?;
    let found = Found {
        tar_bytes,
        file_name: wanted.file_name("tar"),
        download: wanted.address("/api/v1/tar", &images),
        images: images.into_iter().map(Image::from).collect(),
    };
    Ok(answer::document(&found))
}

/// The tar itself.
pub(super) async fn download(
    shared: &Arc<Shared>,
    method: &Method,
    query: Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = shared.wanted(query)?;
    let turn = shared.downloads.turn_for(method)?;
    let planned = shared.look(planning(shared, &wanted)).await?;
    let attachment = Attachment {
        media_type: "application/x-tar",
        file_name: wanted.file_name("tar"),
        length_bytes: planned.length_bytes(),
        what: escaped(&wanted.names()),
    };
    let jobs = shared.settings.jobs;
    Ok(attachment.answer(turn, shared.reporter(), move |pipe| {
        async move { planned.write(Box::new(pipe), jobs).await.map(drop) }.boxed()
    }))
}

/// What it takes to plan the tar.
fn planning(
    shared: &Arc<Shared>,
    wanted: &Wanted,
) -> BoxFuture<'static, anyhow::Result<PlannedTar>> {
    let settings = &shared.settings;
    let reporter = details(shared.reporter());
    let registries = Registries::new(
        settings.connections.clone(),
        settings.credentials.clone(),
        Arc::clone(&reporter),
    );
    let (images, platforms) = (wanted.images.clone(), wanted.platforms());
    let origin = Origin::Registries(registries, shared.read_layers.clone());
    let jobs = settings.jobs;
    async move { plan_tar(images, origin, &platforms, jobs, reporter).await }.boxed()
}
