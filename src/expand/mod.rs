//! `expand`: everything that payloads bring as plain files, for a scanner to look at.
//!
//! Layers become file trees, other blobs and manifests files. Promises that nothing is written outside of
//! the folder, that no link, device or right of an image comes to be, and that what cannot be a file under its
//! own name is a file under another: docs/proof.md says all of it, and lays down what `expanded.json` holds.

mod blob;
mod contents;
mod folder;
mod meter;
mod name;
mod record;
mod report;
mod tree;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::spawn_blocking;

use crate::baselines::{Baselines, Finder};
use crate::digest::Digest;
use crate::failure::Hinted;
use crate::payload::Payload;
use crate::progress::{Event, Reporter};
use crate::prove::{Gathered, gather};
use crate::registry::Registry;
use crate::verify::Problem;

pub use record::{EXPANDED_NAME, SUMS_NAME, VERSION};
pub use report::{ExpandReport, Incomplete};

use blob::Expander;
use contents::Contents;
use folder::Folder;

/// What to expand, and where to.
#[derive(Clone)]
pub struct ExpandRequest {
    /// The payloads; what several of them bring is written once.
    pub payloads: Vec<Arc<Payload>>,
    /// The folder, which must be empty or not there.
    pub folder: PathBuf,
    /// A registry that has what deltas were made against.
    pub registry: Option<Registry>,
    /// Where else that is.
    pub baselines: Baselines,
    /// How many old blobs are read at once.
    pub jobs: usize,
}

/// Expands payloads. What is damaged, cannot be rebuilt or is no tar stands in the report, and everything else is
/// there all the same.
///
/// # Errors
/// When the folder is not empty ([`Usage`](crate::failure::Usage)) or cannot be written, and what
/// [`prove`](crate::prove::prove) ends with. What was written until then stays, without `expanded.json`.
pub async fn expand(
    request: ExpandRequest,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<ExpandReport> {
    let path = request.folder.clone();
    let folder = spawn_blocking(move || Folder::claim(&path)).await??;
    let contents = Contents::of(&request.payloads);
    folder.refuse_full(contents.bytes)?;
    let left = || {
        let folder = request.folder.display();
        Hinted::new(
            format!("not everything is in `{folder}`: it has no `{EXPANDED_NAME}`"),
            "remove the folder before the next try",
        )
    };
    expand_into(&request, folder, &contents, reporter).await.with_context(left)
}

async fn expand_into(
    request: &ExpandRequest,
    folder: Folder,
    contents: &Contents,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<ExpandReport> {
    let mut expander = Expander::begin(folder, &request.payloads, contents)?;
    for (position, payload) in request.payloads.iter().enumerate() {
        let finder = Finder {
            payload: Arc::clone(payload),
            registry: request.registry.clone(),
            baselines: request.baselines.clone(),
            reporter: Arc::clone(&reporter),
        };
        let Gathered { restorer, problems, .. } = gather(&finder, request.jobs).await?;
        let wanted = contents.of_payload(position);
        reporter.phase(format!("expanding `{}`", payload.name()));
        reporter.report(Event::Total {
            blobs: wanted.len() as u64,
            bytes: wanted.iter().map(|item| item.size).sum(),
        });
        let damaged: Vec<(Digest, String)> = problems.iter().filter_map(of_delta).collect();
        let (payload, reporter) = (Arc::clone(payload), Arc::clone(&reporter));
        expander = spawn_blocking(move || {
            for item in &wanted {
                expander.blob(item, &payload, &restorer, &damaged, &reporter)?;
            }
            anyhow::Ok(expander)
        })
        .await??;
    }
    spawn_blocking(move || expander.finish()).await?
}

/// The blob that a delta should have given, and why it does not.
fn of_delta(problem: &Problem) -> Option<(Digest, String)> {
    match problem {
        Problem::Delta(error) => Some((error.digest.clone(), problem.to_string())),
        _ => None,
    }
}
