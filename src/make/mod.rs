//! `make-payload`: from names of images to one payload with what the far side lacks.
//!
//! Resolve, plan, pack. Nothing is written before the plan stands, and the plan follows from the
//! registries' answers and the baseline alone.

mod again;
mod against;
mod baseline;
mod converted;
mod cut;
mod deltas;
mod entries;
mod key;
mod list;
mod made;
mod old;
mod output;
mod outputs;
mod pack;
mod platforms;
mod proof;
mod referrers;
mod repositories;
mod request;
mod resolve;
mod session;
mod shares;
mod sources;
mod summary;
mod walk;
mod wanted;
mod work;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::convert::Converter;
use crate::digest::Digest;
use crate::failure::Usage;
use crate::fetch::{PIECES_WAITING_MAX, Piece, fetch_in_order};
use crate::payload::Payload;
use crate::plan::{Baseline, Contradiction, ForeignLayers, HeldBlob, Plan};
use crate::platform::Platform;
use crate::progress::{Event, Reporter};
use crate::reference::RegistryHost;
use crate::registry::{CredentialStore, Registries};
use crate::store::Store;
use crate::units::{count, format_bytes};

pub use crate::convert::ReadLayers;
pub use crate::registry::Resume;
pub use again::{VolumeRequest, make_volume};
pub(crate) use list::is_repository;
pub use list::{
    ImageName, each_once, parse_image, parse_images, parse_repositories, split_repositories,
};
pub use outputs::Destination;
pub use referrers::Referrers;
pub use repositories::{Repositories, SourceRepository, TagFilter};
pub use request::{DEFAULT_JOBS, DeltaRequest, Deltas, Format, MakeRequest, Recompress};
pub use summary::{Cost, ImageSummary, PlatformSummary, Quota, Summary};

use deltas::{Local, Maker};
use entries::{Entries, Split};
use output::{FormerBytes, Written};
use outputs::{Outputs, Shape};
use pack::{Abandoned, DamagedKept};
use referrers::Fate;
use resolve::Resolver;
use session::Session;
use sources::Sources;
use wanted::Asked;
use work::WorkFolder;

/// How many requests for manifests are under way at once, whatever the number of blob streams.
const REQUESTS_AT_ONCE: usize = 16;

/// What travels and what deltas may be made against, before any are made.
struct Ground {
    plan: Plan,
    /// The old blobs that are looked at.
    old: Vec<HeldBlob>,
    manifest_requests: u64,
}

/// A plan that stands, ready to be carried out.
pub struct Planned {
    plan: Plan,
    entries: Arc<Entries>,
    summary: Summary,
    registries: Registries,
    local: Local,
    jobs: usize,
    foreign_layers: ForeignLayers,
    reporter: Arc<dyn Reporter>,
}

/// A request, with the registries and files that it names opened.
struct Job {
    request: MakeRequest,
    registries: Registries,
    baseline: Baseline,
    payloads: Vec<Payload>,
    /// What the files of the baseline say.
    against: Vec<Digest>,
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
    let mut job = Job::begin(request, reporter)?;
    let ground = job.resolve().await?;
    job.plan(ground, None).await
}

/// Makes the payload of `request` and writes it to `destination`. Where that is a file, and a former run of the same
/// request was interrupted, it goes on where that one was, unless the request says otherwise.
///
/// # Errors
/// As [`plan_payload`] and [`Planned::write`].
pub async fn make_payload(
    request: MakeRequest,
    destination: Destination,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Summary> {
    let mut job = Job::begin(request, reporter)?;
    let Some(file) = destination.resumable()?.map(Path::to_owned) else {
        let ground = job.resolve().await?;
        return job.plan(ground, None).await?.write(destination).await;
    };
    let (mut session, ground) = job.open_session(&file)?;
    let ground = match ground {
        Some(ground) => ground,
        None => job.resolve().await?,
    };
    let entries = Entries::new(&ground.plan, job.request.format, None, None)?;
    session.save(&ground, entries.index())?;
    job.plan(ground, session.work()).await?.write_in(destination, Some(&session)).await
}

impl Job {
    fn begin(mut request: MakeRequest, reporter: Arc<dyn Reporter>) -> anyhow::Result<Self> {
        refuse_nonsense(&request)?;
        let mut baseline = Baseline::default();
        let (payloads, against) = against::add_files(&mut baseline, &request, reporter.as_ref())?;
        let connections = std::mem::take(&mut request.connections);
        let anonymous = CredentialStore::anonymous();
        let credentials = std::mem::replace(&mut request.credentials, anonymous);
        let registries = Registries::new(connections, credentials, Arc::clone(&reporter));
        Ok(Self { request, registries, baseline, payloads, against, reporter })
    }

    fn open_session(&self, file: &Path) -> anyhow::Result<(Session, Option<Ground>)> {
        let key = key::of(&self.request, file, &self.against);
        let workdir = self.request.delta.workdir.clone().unwrap_or_else(std::env::temp_dir);
        let resume = self.request.resume;
        Session::open(file, key, resume, Some(&workdir), self.reporter.as_ref())
    }

    /// Asks registries what travels.
    async fn resolve(&mut self) -> anyhow::Result<Ground> {
        let request = &self.request;
        let referrers = match (request.referrers, request.format) {
            (Referrers::Leave, _) => Fate::LeftAsAsked,
            (Referrers::Include, Format::Charon) => Fate::NotInFormat,
            (Referrers::Include, Format::Kharon) => Fate::Travel,
        };
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in &request.platforms {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        let reporter = self.reporter.as_ref();
        let converter =
            Converter::new(store(&request.delta, &self.reporter), request.read_layers.clone());
        let resolver = Resolver::new(
            &self.registries,
            reporter,
            &platforms,
            referrers,
            &converter,
            REQUESTS_AT_ONCE,
        );
        let asked = Asked::of(request, &self.registries, reporter).await?;
        reporter.phase(format!("resolving {}", count(asked.count() as u64, "image")));
        let already = &request.already_transferred;
        baseline::add_images(&mut self.baseline, &resolver, already, &request.names).await?;
        let wanted = asked.resolve(&resolver, request).await?;
        let plan = Plan::new(wanted, &self.baseline, request.foreign_layers).map_err(explain)?;
        report_left_out(&plan, reporter);
        let old = self.choose_old(&plan);
        Ok(Ground { plan, old, manifest_requests: resolver.manifest_requests() })
    }

    /// The old blobs that deltas of what `plan` carries are made against.
    fn choose_old(&self, plan: &Plan) -> Vec<HeldBlob> {
        if !self.may_make_deltas() {
            return Vec::new();
        }
        let at_hand = sources::at_hand(&self.baseline, &self.payloads, &self.request.delta);
        let old = old::choose(&at_hand, plan);
        if old.left_blobs > 0 {
            self.reporter.note(format!(
                "{} of the baseline ({}) are not looked at for deltas: reading them would take longer than they save",
                count(old.left_blobs, "blob"),
                format_bytes(old.left_bytes)
            ));
        }
        old.chosen.into_iter().cloned().collect()
    }

    fn may_make_deltas(&self) -> bool {
        self.request.format == Format::Kharon && self.request.delta.deltas == Deltas::Auto
    }

    fn split(&self, ground: &Ground) -> Option<Split> {
        let volume_bytes = self.request.volume_bytes?;
        let making = self.request.delta.making(&ground.old);
        Some(Split { volume_bytes, making })
    }

    /// Makes deltas where they are of use, and with that decides how every blob travels.
    async fn plan(self, ground: Ground, work: Option<&WorkFolder>) -> anyhow::Result<Planned> {
        let split = self.split(&ground);
        let may_make_deltas = self.may_make_deltas();
        let Self { request, registries, payloads, reporter, .. } = self;
        let Ground { mut plan, old, manifest_requests } = ground;
        let hosts = request.hosts();
        let sources = Sources { registries: &registries, foreign_layers: request.foreign_layers };
        let mut local = Local::default();
        let is_of_use = !old.is_empty() || request.delta.recompress == Recompress::Yes;
        if may_make_deltas && is_of_use {
            let (held, new) = (sources.held(&old), sources.new_blobs(&plan)?);
            let maker = Maker::new(request.delta, payloads, work.cloned(), Arc::clone(&reporter))?;
            if let Some(maker) = maker {
                local = maker.run(held, new).await?;
                local.note_in(&mut plan, &old);
            }
        }
        let entries = Entries::new(&plan, request.format, split.as_ref(), request.sign)?;
        let summary = Summary::new(&plan, &entries, manifest_requests, quotas(hosts, &registries));
        Ok(Planned {
            plan,
            entries: Arc::new(entries),
            summary,
            registries,
            local,
            jobs: request.jobs.get(),
            foreign_layers: request.foreign_layers,
            reporter,
        })
    }
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
        self.write_in(destination, None).await
    }

    async fn write_in(
        self,
        destination: Destination,
        session: Option<&Session>,
    ) -> anyhow::Result<Summary> {
        let shape = if self.entries.is_split() { Shape::Volumes } else { Shape::Whole };
        let former = session.map_or(FormerBytes::Discard, Session::former);
        let outputs = Outputs::new(destination, self.entries.lengths(), shape, former)?;
        self.write_to(outputs, session).await
    }

    async fn write_to(
        mut self,
        outputs: Outputs,
        session: Option<&Session>,
    ) -> anyhow::Result<Summary> {
        let outputs = Arc::new(outputs);
        let written = loop {
            let error = match self.try_to_write(&outputs).await {
                Ok(written) => break written,
                Err(error) => error,
            };
            // What a former run wrote is believed until it turns out wrong.
            let Some(damaged) = error.downcast_ref::<DamagedKept>() else { return Err(error) };
            self.reporter.warn(format!("{damaged}: it is fetched again"));
            outputs.cut(damaged.volume, damaged.header_start)?;
        };
        outputs.commit(&written, || session.into_iter().for_each(Session::end))?;
        self.summary.files = outputs.paths();
        for path in outputs.left_over() {
            self.reporter.warn(format!(
                "`{}` is a volume of a former payload and not of this one: remove it",
                path.display()
            ));
        }
        Ok(self.summary)
    }

    async fn try_to_write(&self, outputs: &Arc<Outputs>) -> anyhow::Result<Vec<Written>> {
        let Self { registries, foreign_layers, reporter, .. } = self;
        let sources = Sources { registries, foreign_layers: *foreign_layers };
        let downloads = sources.downloads(&self.plan, &self.entries, &self.local, outputs)?;
        reporter.report(Event::Total {
            blobs: downloads.len() as u64,
            bytes: downloads.iter().map(|download| download.entry.size_bytes).sum(),
        });
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
        let (outputs, entries) = (Arc::clone(outputs), Arc::clone(&self.entries));
        let events = Arc::clone(reporter);
        let writer = tokio::task::spawn_blocking(move || {
            pack::write_payload(&outputs, waiting, &entries, &events)
        });
        let sent = async {
            fetch_in_order(downloads, self.jobs, &pieces, Arc::clone(reporter)).await?;
            pieces.send(Piece::Complete).await?;
            anyhow::Ok(())
        }
        .await;
        drop(pieces);
        let written = writer.await.context("the payload's writer broke off")?;
        match (sent, written) {
            (Ok(()), Ok(written)) => Ok(written),
            // Where the writer failed, the senders only noticed that it was gone.
            (_, Err(error)) if !error.is::<Abandoned>() => Err(error),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        }
    }
}

/// Where the layers of images that are converted are read, if not at a registry.
fn store(request: &DeltaRequest, reporter: &Arc<dyn Reporter>) -> Store {
    Store {
        cache: request.cache.clone(),
        folders: request.baseline_folders.clone(),
        payloads: Vec::new(),
        reporter: Arc::clone(reporter),
        runtime: Handle::current(),
    }
}

fn refuse_nonsense(request: &MakeRequest) -> anyhow::Result<()> {
    if request.wanted.is_empty() && request.repositories.is_empty() {
        return Err(Usage::new("no image was named")
            .with_hint("name images as arguments or with `--images-from FILE`")
            .into());
    }
    if request.sign.is_some() && request.format == Format::Charon {
        return Err(Usage::new("docker-charon's format has no signatures")
            .with_hint("leave `--sign`, or write kharon's own format")
            .into());
    }
    let hub = request.repositories.registries.iter().find(|host| host.is_docker_hub());
    if hub.is_some() {
        return Err(Usage::new("Docker Hub does not list its repositories")
            .with_hint("name a registry with `-r`, or repositories with `--all-tags`")
            .into());
    }
    wanted::refuse_collisions(request.wanted.iter(), request)
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

/// What the registries of what is wanted said of their quotas.
fn quotas(hosts: BTreeSet<RegistryHost>, registries: &Registries) -> Vec<Quota> {
    let quota = |host: RegistryHost| {
        let quota = registries.registry(&host).ok()?.pull_quota()?;
        Some(Quota::new(host.to_string(), &quota))
    };
    hosts.into_iter().filter_map(quota).collect()
}
