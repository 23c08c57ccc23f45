//! One volume of a payload, made again from the plan that every other one holds.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::delta::Effort;
use crate::digest::Digest;
use crate::failure::{Hinted, Usage};
use crate::minisign::SecretKey;
use crate::payload::Payload;
use crate::payload::index::{Index, MadeDelta, Making};
use crate::plan::{DeltaEntry, ForeignLayers, HeldBlob, Plan};
use crate::progress::Reporter;
use crate::registry::{Connections, CredentialStore, Registries};
use crate::units::count;

use super::deltas::{Local, Maker, Wish};
use super::entries::Entries;
use super::output::FormerBytes;
use super::outputs::{Destination, Outputs, Shape, volume_path};
use super::request::DeltaRequest;
use super::sources::Sources;
use super::{Planned, Summary, made, store};

/// Which volume to make again, and how.
#[derive(Debug)]
pub struct VolumeRequest {
    /// Any volume of the payload.
    pub plan: PathBuf,
    /// Which one is wanted, from 1 on.
    pub number: NonZeroU32,
    /// Where it goes; without this, beside the plan under the name that it had.
    pub file: Option<PathBuf>,
    /// Signs the volume's index, if given: as it was signed before, it gets the same bytes.
    pub sign: Option<SecretKey>,
    /// Payloads that may hold old blobs which deltas are made against.
    pub against: Vec<PathBuf>,
    /// Where old blobs and temporary files are. How deltas are made is what the plan says.
    pub delta: DeltaRequest,
    /// How many blobs or parts of blobs are fetched at once.
    pub jobs: NonZeroUsize,
    /// How registries are reached.
    pub connections: Connections,
    /// Who we are to them.
    pub credentials: CredentialStore,
}

/// Makes a volume again, the same bytes as before.
///
/// # Errors
/// When the plan is none or has no such volume, when a registry no longer has what it needs, and when a delta
/// does not come out as it was.
pub async fn make_volume(
    request: VolumeRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Summary> {
    let payload = Payload::open(&request.plan)?;
    let index = payload.index();
    if payload.signature().is_some() && request.sign.is_none() {
        let message =
            format!("`{}` is signed, and the new volume would not be", request.plan.display());
        return Err(Usage::new(message).with_hint("give the same key with `--sign`").into());
    }
    if let Some(key) = &request.sign {
        payload.check_signature(&key.public_key())?;
    }
    let volume = request.number.get() as usize - 1;
    let file = file_of(&request, index)?;
    let deltas = listed_deltas(index);
    let manifests = index.manifests.iter().map(|listed| {
        let manifest = payload.manifest(&listed.digest).cloned();
        manifest.with_context(|| format!("`{}` is not in the plan", listed.digest))
    });
    let manifests = manifests.collect::<anyhow::Result<Vec<_>>>()?;
    let mut plan = Plan::of_index(index, manifests, |digest| deltas.get(digest).cloned())
        .with_context(|| format!("cannot take `{}` as plan", request.plan.display()))?;
    let VolumeRequest { connections, credentials, .. } = request;
    let registries = Registries::new(connections, credentials, Arc::clone(&reporter));
    // A plan says of each foreign layer whether it is carried.
    let foreign_layers = ForeignLayers::Fetch;
    let sources = Sources { registries: &registries, foreign_layers };
    let entries = Entries::of_index(index, &plan, request.sign)?;
    let store = store(&request.delta, &reporter);
    plan.made = made::again(&registries, store, &plan, |blob| entries.is_in(blob, volume)).await?;
    let wanted = wanted_deltas(&entries, &deltas, volume);
    let mut local = Local::default();
    if let (false, Some(making)) = (wanted.is_empty(), &index.making) {
        refuse_other_tool(index)?;
        let payloads = request.against.iter().map(|path| Payload::open(path));
        let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
        let delta = as_made(request.delta, making)?;
        let old: Result<Vec<_>, _> = making.against.iter().map(HeldBlob::of_old_blob).collect();
        let (held, new) = (sources.held(&old?), sources.new_blobs(&plan)?);
        let wish =
            |digest: &Digest| match (deltas.contains_key(digest), wanted.contains_key(digest)) {
                (_, true) => Wish::Delta,
                (true, false) => Wish::Nothing,
                (false, false) => Wish::Raw,
            };
        let maker = Maker::new(delta, payloads, None, Arc::clone(&reporter))?;
        let maker = maker.context("there is no folder for temporary files")?;
        local = maker.run_as(held, new, wish).await?;
        refuse_other_deltas(&wanted, &local)?;
    }
    let mut summary = Summary::new(&plan, &entries, 0, Vec::new());
    summary.payload_bytes = entries.lengths()[volume];
    reporter.phase(format!("making volume {} of {}", volume + 1, count_volumes(index)));
    let outputs = Outputs::new(
        Destination::File(file),
        entries.lengths(),
        Shape::Only(volume),
        FormerBytes::Discard,
    )?;
    let jobs = request.jobs.get();
    let entries = Arc::new(entries);
    let planned =
        Planned { plan, entries, summary, registries, local, jobs, foreign_layers, reporter };
    planned.write_to(outputs, None).await
}

fn count_volumes(index: &Index) -> String {
    count(index.volumes.len() as u64, "volume")
}

/// Where the volume goes.
fn file_of(request: &VolumeRequest, index: &Index) -> anyhow::Result<PathBuf> {
    let plan = request.plan.display();
    if index.volumes.is_empty() {
        return Err(Usage::new(format!(
            "expected a volume as plan, found the whole payload `{plan}`"
        ))
        .with_hint("name any volume of the payload with `--plan`")
        .into());
    }
    let (number, last) = (request.number.get() as usize, index.volumes.len());
    if number > last {
        return Err(Usage::new(format!(
            "expected a volume from 1 to {last} as `{plan}` has them, found {number}"
        ))
        .into());
    }
    if let Some(file) = &request.file {
        return Ok(file.clone());
    }
    let own = index.volume.unwrap_or_default();
    let name = request.plan.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(&format!(".{own:03}.zip")) else {
        return Err(Usage::new(format!("`{plan}` is not called as volume {own} was"))
            .with_hint("name the file to write with `-f`")
            .into());
    };
    let folder = request.plan.parent().unwrap_or(Path::new(""));
    Ok(volume_path(&folder.join(format!("{stem}.zip")), number - 1))
}

/// The entries of deltas, by the blob that they rebuild.
fn listed_deltas(index: &Index) -> HashMap<Digest, DeltaEntry> {
    let made = index.making.iter().flat_map(|making| &making.deltas);
    let entry =
        |made: &MadeDelta| DeltaEntry { size_bytes: made.size, sha256: made.sha256.clone() };
    made.map(|made| (made.blob.clone(), entry(made))).collect()
}

/// The deltas of which the volume holds something.
fn wanted_deltas<'a>(
    entries: &Entries,
    deltas: &'a HashMap<Digest, DeltaEntry>,
    volume: usize,
) -> HashMap<Digest, &'a DeltaEntry> {
    let contents = entries.contents().iter();
    let contents =
        contents.filter(|content| content.parts.iter().any(|part| part.volume == volume));
    contents
        .filter_map(|content| Some((content.blob.clone(), deltas.get(&content.blob)?)))
        .collect()
}

/// The request, with everything that decides the bytes of a delta as it was.
fn as_made(request: DeltaRequest, making: &Making) -> anyhow::Result<DeltaRequest> {
    let effort = Effort::ALL.into_iter().find(|effort| effort.name() == making.effort);
    let effort = effort.with_context(|| format!("no effort is called `{}`", making.effort))?;
    Ok(DeltaRequest { effort, ..request })
}

fn refuse_other_tool(index: &Index) -> anyhow::Result<()> {
    let tool = concat!("kharon ", env!("CARGO_PKG_VERSION"));
    if index.tool != tool {
        let (made, hint) = (&index.tool, "use that version, or make the payload anew");
        return Err(Hinted::new(
            format!("the volume has deltas that `{made}` made, and `{tool}` may make others"),
            hint,
        )
        .into());
    }
    Ok(())
}

fn refuse_other_deltas(wanted: &HashMap<Digest, &DeltaEntry>, local: &Local) -> anyhow::Result<()> {
    for (digest, listed) in wanted {
        let made = local.deltas.get(digest);
        let is_same = made.is_some_and(|made| {
            made.entry_bytes == listed.size_bytes && listed.sha256 == made.entry_digest.hex()
        });
        if !is_same {
            bail!(Hinted::new(
                format!("the delta of blob `{digest}` does not come out as it was"),
                "an old blob that it was made against cannot be read any more: name where it is with `--against` or \
                 `--baseline-dir`, or make the payload anew",
            ));
        }
    }
    Ok(())
}
