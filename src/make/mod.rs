//! `make-payload`: from names of images to one payload with what the far side lacks.
//!
//! Resolve, plan, pack. Nothing is written before the plan stands, and the plan follows from the
//! registries' answers and the baseline alone.

mod against;
mod baseline;
mod check;
mod deltas;
mod entries;
mod fetch;
mod hedge;
mod list;
mod old;
mod output;
mod pace;
mod pack;
mod platforms;
mod proof;
mod referrers;
mod request;
mod resolve;
mod sources;
mod store;
mod summary;
mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use tokio::sync::mpsc;

use crate::failure::Usage;
use crate::names;
use crate::plan::{Baseline, Choice, Contradiction, ForeignLayers, Plan, Wanted};
use crate::platform::Platform;
use crate::progress::{Event, Reporter};
use crate::reference::RegistryHost;
use crate::registry::Registries;
use crate::units::{count, format_bytes};

pub use list::{ImageName, lines_of_list, parse_images};
pub use output::Destination;
pub use referrers::Referrers;
pub use request::{DEFAULT_JOBS, DeltaRequest, Deltas, Format, MakeRequest, Recompress};
pub use summary::{Cost, ImageSummary, PlatformSummary, Quota, Summary};

use deltas::{Local, Maker};
use entries::Entries;
use pack::{Abandoned, Piece};
use referrers::Fate;
use resolve::Resolver;
use sources::Sources;

/// How many pieces may wait for the writer: enough to keep it busy, little enough to stay small.
const PIECES_WAITING_MAX: usize = 8;
/// How many requests for manifests are under way at once, whatever the number of blob streams.
const REQUESTS_AT_ONCE: usize = 16;

/// A plan that stands, ready to be carried out.
pub struct Planned {
    plan: Plan,
    entries: Entries,
    summary: Summary,
    registries: Registries,
    local: Local,
    jobs: usize,
    foreign_layers: ForeignLayers,
    reporter: Arc<dyn Reporter>,
}

/// Resolves the images of `request` and decides what travels. Nothing is written.
///
/// # Errors
/// When an image cannot be read, when the request contradicts itself
/// ([`Usage`]), or when a former payload, a receipt or an inventory is damaged.
pub async fn plan_payload(
    request: MakeRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Planned> {
    refuse_nonsense(&request)?;
    let mut baseline = Baseline::default();
    let payloads = against::add_files(&mut baseline, &request, reporter.as_ref())?;
    let MakeRequest { connections, credentials, .. } = request;
    let registries = Registries::new(connections, credentials, Arc::clone(&reporter));
    let referrers = match (request.referrers, request.format) {
        (Referrers::Leave, _) => Fate::LeftAsAsked,
        (Referrers::Include, Format::Charon) => Fate::NotInFormat,
        (Referrers::Include, Format::Kharon) => Fate::Travel,
    };
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in request.platforms {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    let resolver =
        Resolver::new(&registries, reporter.as_ref(), &platforms, referrers, REQUESTS_AT_ONCE);
    reporter.phase(format!("resolving {}", count(request.wanted.len() as u64, "image")));
    baseline::add_images(&mut baseline, &resolver, &request.already_transferred, &request.names)
        .await?;
    let skipped: BTreeSet<_> =
        request.already_transferred.iter().map(|image| &image.reference).collect();
    let wanted = try_join_all(request.wanted.iter().map(|image| async {
        let choice = if skipped.contains(&image.reference) {
            Choice::Skip
        } else {
            Choice::Carry(Box::new(resolver.resolve(&image.reference).await?))
        };
        anyhow::Ok(Wanted {
            name: image.name.clone(),
            reference: image.reference.clone(),
            repository: request.names.of(&image.reference)?,
            choice,
        })
    }))
    .await?;
    let requests = resolver.manifest_requests();
    let mut plan = Plan::new(wanted, &baseline, request.foreign_layers).map_err(explain)?;
    report_left_out(&plan, reporter.as_ref());
    let sources = Sources { registries: &registries, foreign_layers: request.foreign_layers };
    let mut local = Local::default();
    if request.format == Format::Kharon && wants_deltas(&request.delta, &baseline) {
        let at_hand = sources::at_hand(&baseline, &payloads, &request.delta);
        let old = old::choose(&at_hand, &plan);
        if old.left_blobs > 0 {
            reporter.note(format!(
                "{} of the baseline ({}) are not looked at for deltas: reading them would take longer than they save",
                count(old.left_blobs, "blob"),
                format_bytes(old.left_bytes)
            ));
        }
        let (held, new) = (sources.held(&old.chosen), sources.new_blobs(&plan)?);
        let is_of_use = !old.chosen.is_empty() || request.delta.recompress == Recompress::Yes;
        if is_of_use
            && let Some(maker) = Maker::new(request.delta, payloads, Arc::clone(&reporter))?
        {
            (plan, local) = maker.run(plan, baseline, held, new).await?;
        }
    }
    let entries = Entries::new(&plan, request.format, request.sign)?;
    let summary = Summary::new(
        &plan,
        entries.payload_bytes(),
        requests,
        quotas(&request.wanted, &registries),
    );
    Ok(Planned {
        plan,
        entries,
        summary,
        registries,
        local,
        jobs: request.jobs.get(),
        foreign_layers: request.foreign_layers,
        reporter,
    })
}

/// Makes the payload of `request` and writes it to `destination`.
///
/// # Errors
/// As [`plan_payload`] and [`Planned::write`].
pub async fn make_payload(
    request: MakeRequest,
    destination: Destination,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Summary> {
    plan_payload(request, reporter).await?.write(destination).await
}

impl Planned {
    /// What the plan costs.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The plan itself.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Fetches what the plan carries and writes the payload.
    ///
    /// # Errors
    /// When a registry fails or sends content that is not what its digest says, or when the
    /// destination cannot be written. A file at the destination is then what it was before.
    pub async fn write(self, destination: Destination) -> anyhow::Result<Summary> {
        let Self { plan, entries, summary, registries, local, jobs, foreign_layers, reporter } =
            self;
        let output = output::Output::open(destination, entries.payload_bytes())?;
        let sources = Sources { registries: &registries, foreign_layers };
        let downloads = sources.downloads(&plan, &entries, &local)?;
        reporter.report(Event::Total {
            blobs: downloads.len() as u64,
            bytes: downloads.iter().map(|download| download.entry.size_bytes).sum(),
        });
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
        let entries = Arc::new(entries);
        let (for_writer, events) = (Arc::clone(&entries), Arc::clone(&reporter));
        let writer = tokio::task::spawn_blocking(move || {
            pack::write_payload(output, waiting, &for_writer, &events)
        });
        let sent = async {
            send_small(&pieces, entries.before()).await?;
            fetch::fetch_in_order(downloads, jobs, &pieces, reporter).await?;
            send_small(&pieces, entries.after()).await?;
            pieces.send(Piece::Complete).await?;
            anyhow::Ok(())
        }
        .await;
        drop(pieces);
        let written = writer.await.context("the payload's writer broke off")?;
        match (sent, written) {
            (Ok(()), Ok(())) => Ok(summary),
            // Where the writer failed, the senders only noticed that it was gone.
            (_, Err(error)) if !error.is::<Abandoned>() => Err(error),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        }
    }
}

async fn send_small(
    pieces: &mpsc::Sender<Piece>,
    entries: &[(String, bytes::Bytes)],
) -> anyhow::Result<()> {
    for (entry, bytes) in entries {
        pieces.send(Piece::Small { entry: entry.clone(), bytes: bytes.clone() }).await?;
    }
    Ok(())
}

fn refuse_nonsense(request: &MakeRequest) -> anyhow::Result<()> {
    if request.wanted.is_empty() {
        return Err(Usage::new("no image was named")
            .with_hint("name images as arguments or with `--images-from FILE`")
            .into());
    }
    if request.sign.is_some() && request.format == Format::Charon {
        return Err(Usage::new("docker-charon's format has no signatures")
            .with_hint("leave `--sign`, or write kharon's own format")
            .into());
    }
    let names: Vec<_> = request
        .wanted
        .iter()
        .map(|image| {
            let source =
                format!("{}/{}", image.reference.registry, image.reference.api_repository());
            Ok((request.names.of(&image.reference)?, source))
        })
        .collect::<anyhow::Result<_>>()?;
    names::refuse_collisions(names.iter().map(|(far, source)| (far, source.clone()))).map_err(
        |collision| {
            Usage::new(collision.to_string())
                .with_hint("use `--keep-registry`, or `--rename SOURCE=NAME` for one of them")
        },
    )?;
    Ok(())
}

fn report_left_out(plan: &Plan, reporter: &dyn Reporter) {
    use crate::payload::index::Travels;
    for blob in &plan.blobs {
        if let Travels::LeftOut { urls } = &blob.travels {
            reporter.warn(format!(
                "foreign layer `{}` of `{}` is left out; clients fetch it from {}, `--foreign-layers` carries it",
                blob.descriptor.digest,
                blob.source,
                urls.join(", ")
            ));
        }
    }
}

/// Two images for one tag are a matter of the command line; two sizes of one blob are not.
fn explain(contradiction: Contradiction) -> anyhow::Error {
    match contradiction {
        Contradiction::Tag { .. } => {
            Usage::new(contradiction.to_string()).with_hint("name only one of them").into()
        }
        Contradiction::Size { .. } | Contradiction::TooLarge { .. } => contradiction.into(),
    }
}

/// What the registries of the wanted images said of their quotas.
fn quotas(images: &[ImageName], registries: &Registries) -> Vec<Quota> {
    let hosts: BTreeSet<RegistryHost> =
        images.iter().map(|image| image.reference.registry.clone()).collect();
    let quota = |host: RegistryHost| {
        let quota = registries.registry(&host).ok()?.pull_quota()?;
        Some(Quota::new(host.to_string(), &quota))
    };
    hosts.into_iter().filter_map(quota).collect()
}

/// Whether there is anything to make deltas against, or layers are to be packed better anyhow.
fn wants_deltas(request: &DeltaRequest, baseline: &Baseline) -> bool {
    request.deltas == Deltas::Auto
        && (request.recompress == Recompress::Yes || !baseline.blobs().is_empty())
}
