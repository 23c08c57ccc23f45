//! Payloads against what the far side has: uploaded receipts, and images that were transferred before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::failure::Usage;
use crate::listen::Body;
use crate::make::{Deltas, Destination, MakeRequest, Planned, plan_payload};
use crate::printable::escaped;
use crate::receipt::Receipt;
use crate::reference::RegistryHost;

use super::answer::{self, Code, Refusal};
use super::downloads::Attachment;
use super::query::{Query, Wanted};
use super::uploaded::{KEPT, counts};
use super::{Shared, details};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    payload_bytes: u64,
    file_name: String,
    download: String,
    carried_blobs: u64,
    carried_bytes: u64,
    expected_blobs: u64,
    expected_bytes: u64,
    images: Vec<Image>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    name: String,
    digest: Option<Digest>,
    carried_blobs: u64,
    carried_bytes: u64,
    expected_blobs: u64,
    expected_bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Baseline {
    id: Digest,
    registry: RegistryHost,
    time: String,
    repositories: usize,
    blobs: usize,
    kept_seconds: u64,
}

/// What a payload would carry, and how long it is.
pub(super) async fn describe(
    shared: &Arc<Shared>,
    query: Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = shared.wanted(query)?;
    let planned = plan(shared, &wanted).await?;
    let summary = planned.summary();
    let images = summary.images.iter().map(|image| Image {
        name: image.name.clone(),
        digest: image.digest.clone(),
        carried_blobs: image.cost.carried_blobs,
        carried_bytes: image.cost.carried_bytes,
        expected_blobs: image.cost.expected_blobs,
        expected_bytes: image.cost.expected_bytes,
    });
    Ok(answer::document(&Plan {
        payload_bytes: summary.payload_bytes,
        file_name: wanted.file_name("zip"),
        download: wanted.address("/api/v1/payload", &[]),
        carried_blobs: summary.total.carried_blobs,
        carried_bytes: summary.total.carried_bytes,
        expected_blobs: summary.total.expected_blobs,
        expected_bytes: summary.total.expected_bytes,
        images: images.collect(),
    }))
}

/// The payload itself.
pub(super) async fn download(
    shared: &Arc<Shared>,
    method: &Method,
    query: Query,
) -> Result<Response<Body>, Refusal> {
    let wanted = shared.wanted(query)?;
    let turn = shared.downloads.turn_for(method)?;
    let planned = plan(shared, &wanted).await?;
    let attachment = Attachment {
        media_type: "application/zip",
        file_name: wanted.file_name("zip"),
        length_bytes: planned.summary().payload_bytes,
        what: format!("a payload of {}", escaped(&wanted.names())),
    };
    Ok(attachment.answer(turn, shared.reporter(), move |pipe| {
        async move { planned.write(Destination::Stream(Box::new(pipe))).await.map(drop) }.boxed()
    }))
}

/// Keeps a receipt or inventory to make payloads against.
pub(super) async fn upload(
    shared: &Arc<Shared>,
    head: &Parts,
    bytes: Bytes,
) -> Result<Response<Body>, Refusal> {
    let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // What forms of other sites can send is no JSON.
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(
            Code::Usage,
            "expected a receipt or inventory as `application/json`, found another type",
        ));
    }
    let receipt = read(bytes.clone()).await?;
    let (repositories, blobs) = counts(&receipt);
    let id = shared.uploaded().keep(bytes, Instant::now());
    let location = format!("/api/v1/plan?baseline={id}");
    let mut response = answer::document(&Baseline {
        id,
        registry: receipt.registry,
        time: escaped(&receipt.time),
        repositories,
        blobs,
        kept_seconds: KEPT.as_secs(),
    });
    *response.status_mut() = StatusCode::CREATED;
    answer::set(&mut response, &LOCATION, &location);
    Ok(response)
}

async fn read(bytes: Bytes) -> Result<Receipt, Refusal> {
    let read = spawn_blocking(move || Receipt::parse(&bytes)).await;
    let read = read.map_err(|error| Refusal::from(&anyhow::Error::new(error)))?;
    read.map_err(|error| {
        let hint = error.hint();
        let message = format!("{:#}", anyhow::Error::new(error));
        Refusal::new(Code::BaselineInvalid, escaped(&message)).with_hint(hint)
    })
}

async fn plan(shared: &Arc<Shared>, wanted: &Wanted) -> Result<Planned, Refusal> {
    let settings = &shared.settings;
    let mut kept = Vec::new();
    for name in wanted.baselines.iter().collect::<BTreeSet<_>>() {
        let Some(bytes) = shared.uploaded().find(name, Instant::now()) else {
            return Err(Refusal::new(Code::BaselineUnknown, "the baseline is not here any more")
                .with_hint("upload the receipt or inventory again"));
        };
        kept.push(bytes);
    }
    if wanted.baselines.is_empty() && wanted.has.is_empty() {
        return Err(Refusal::from(&anyhow::Error::new(
            Usage::new("a payload needs to know what the far side has").with_hint(
                "name images that it has with `has`, or upload a receipt and name it with `baseline`",
            ),
        )));
    }
    let mut request = MakeRequest::new(wanted.images.clone());
    request.already_transferred.clone_from(&wanted.has);
    request.platforms = wanted.platforms_to_carry();
    // They would lie on this machine's disk before the length of the payload is known.
    request.delta.deltas = Deltas::Off;
    request.jobs = settings.jobs;
    request.read_layers = shared.read_layers.clone();
    request.connections = settings.connections.clone();
    request.credentials = settings.credentials.clone();
    let (baselines, reporter) = (kept.len(), details(shared.reporter()));
    let planning = async move {
        for bytes in kept {
            request.receipts.push(spawn_blocking(move || Receipt::parse(&bytes)).await??);
        }
        plan_payload(request, reporter).await
    };
    shared.look_against(baselines, planning.boxed()).await
}
