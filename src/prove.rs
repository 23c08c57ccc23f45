//! Proves the deltas of a payload: rebuilds each blob of which all baselines can be had, and compares
//! its digest. What [`crate::verify`] does for bytes that are there, this does for bytes that are not.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use crate::baselines::{Baselines, Finder, Place};
use crate::digest::Digest;
use crate::payload::{Payload, Travels};
use crate::progress::{Arrival, Event, Reporter};
use crate::registry::Registry;
use crate::restore::{OpenDelta, Restorer};
use crate::verify::Problem;

/// What came of it.
#[derive(Debug, Default)]
pub struct Proof {
    /// Blobs that their deltas give.
    pub proved: Vec<Digest>,
    /// Blobs of which a baseline was not to be had.
    pub unproved: Vec<Digest>,
    /// What is wrong, in the order of the payload.
    pub problems: Vec<Problem>,
}

/// Deltas whose baselines were read, and what is known of the others.
pub(crate) struct Gathered {
    /// Gives each blob of which all baselines could be had.
    pub(crate) restorer: Arc<Restorer>,
    /// Blobs of which a baseline was not to be had.
    pub(crate) unproved: Vec<Digest>,
    /// Deltas that cannot be opened.
    pub(crate) problems: Vec<Problem>,
}

/// Looks for the baselines of all deltas of `finder`'s payload, and reads those of the deltas that can be
/// rebuilt, `jobs` at once.
pub(crate) async fn gather(finder: &Finder, jobs: usize) -> anyhow::Result<Gathered> {
    let payload = &finder.payload;
    let index = payload.index();
    let expected: HashMap<_, _> =
        index.expected().map(|blob| (blob.digest, blob.repositories)).collect();
    let (mut unproved, mut problems) = (Vec::new(), Vec::new());
    let mut places: BTreeMap<Digest, Option<Place>> = BTreeMap::new();
    let mut provable = Vec::new();
    for blob in &index.blobs {
        let Travels::Delta { baselines } = &blob.travels else { continue };
        if payload.delta(&blob.digest).is_none() && !payload.missing_volumes().is_empty() {
            unproved.push(blob.digest.clone());
            continue;
        }
        let delta = match OpenDelta::new(payload, blob) {
            Ok(delta) => delta,
            Err(error) => {
                problems.push(error.into());
                continue;
            }
        };
        let mut is_provable = true;
        for digest in baselines {
            if !places.contains_key(digest) {
                let named = expected.get(digest).copied().unwrap_or_default();
                let candidates = [named, &finder.baselines.repositories].concat();
                places.insert(digest.clone(), finder.place(digest, &candidates).await?);
            }
            is_provable &= places[digest].is_some();
        }
        if is_provable {
            provable.push(delta);
        } else {
            unproved.push(blob.digest.clone());
        }
    }
    let places = places.into_iter().filter_map(|(digest, place)| Some((digest, place?))).collect();
    let restorer = Arc::new(Restorer::new(payload, provable, &finder.baselines.workdir));
    finder.feed_all(&restorer, &places, jobs).await?;
    Ok(Gathered { restorer, unproved, problems })
}

/// Proves what can be proved with what is in `payload`, in the folders of `baselines`, and in
/// `registry`, if there is one. `jobs` baselines are read at once.
///
/// # Errors
/// When a baseline is found and turns out to be something else, when the registry does not answer, or when
/// a temporary file fails. A delta that is wrong is a [`Problem`].
pub async fn prove(
    payload: Arc<Payload>,
    registry: Option<Registry>,
    baselines: Baselines,
    jobs: usize,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Proof> {
    let finder = Finder { payload, registry, baselines, reporter };
    let Gathered { restorer, unproved, problems } = gather(&finder, jobs).await?;
    let mut proof = Proof { proved: Vec::new(), unproved, problems };
    let (blobs, bytes) = restorer.blobs().fold((0, 0), |(n, sum), (_, size)| (n + 1, sum + size));
    finder.reporter.phase("rebuilding".to_owned());
    finder.reporter.report(Event::Total { blobs, bytes });
    let reporter = finder.reporter;
    let rebuild = move || {
        for (digest, bytes) in restorer.blobs() {
            reporter.report(Event::BlobStarted { digest: digest.clone(), bytes });
            match restorer.restore(digest, io::sink()) {
                Ok(()) => {
                    reporter.report(Event::BlobAdvanced { digest: digest.clone(), bytes });
                    let how = Arrival::Verified;
                    reporter.report(Event::BlobFinished { digest: digest.clone(), how });
                    proof.proved.push(digest.clone());
                }
                Err(error) => proof.problems.push(error.into()),
            }
        }
        proof
    };
    Ok(tokio::task::spawn_blocking(rebuild).await?)
}
