//! `kharon inventory`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use kharon::failure::{ExitCode, Usage};
use kharon::inventory::{InventoryRequest, inventory};
use kharon::make::DEFAULT_JOBS;
use kharon::receipt::{Receipt, Repository};
use kharon::reference::{RegistryHost, RepositoryName};
use kharon::replace::Replacement;
use kharon::terminal::Terminal;
use kharon::units::{count, format_bytes};

use super::access::{AccessArgs, Stdin};
use super::{config, named};

#[derive(Debug, Args)]
pub(crate) struct InventoryArgs {
    /// Repositories to list; all that the registry lists if not given
    #[arg(value_name = "REPOSITORY")]
    repositories: Vec<RepositoryName>,
    /// The registry to walk through
    #[arg(short, long, value_name = "HOST", env = "KHARON_REGISTRY")]
    registry: Option<RegistryHost>,
    /// The inventory to write, stdout if not given or `-`; a former one is replaced only by a complete one
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What payloads are pushed with: list only what is below it, and note what payloads call it
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<RepositoryName>,
    /// How many requests are under way at once
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    jobs: NonZeroUsize,
    #[command(flatten)]
    access: AccessArgs,
}

impl InventoryArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let registry = self.registry.clone().ok_or_else(|| {
            Usage::new("no registry was named")
                .with_hint("give it with `-r HOST` or KHARON_REGISTRY")
        })?;
        let file = named(self.file.as_ref());
        let replacement = file.map(|path| Replacement::begin(path)).transpose()?;
        let config = config::read()?;
        let request = InventoryRequest {
            repositories: self.repositories.clone(),
            prefix: self.prefix.clone(),
            jobs: self.jobs,
            connections: self.access.connections(&registry, &config, terminal),
            credentials: self.access.credentials(&registry, &config, Stdin::Free, terminal).await?,
            registry,
        };
        let inventory = inventory(request, terminal.reporter()).await?;
        let json = inventory.to_json()?;
        terminal.finish();
        match replacement {
            Some(replacement) => replacement.commit(&json)?,
            None => drop(terminal.write_stdout(&String::from_utf8(json)?)?),
        }
        terminal.reporter().note(summary(&inventory));
        Ok(ExitCode::Done)
    }
}

fn summary(inventory: &Receipt) -> String {
    let sum = |number: fn(&Repository) -> u64| inventory.repositories.iter().map(number).sum();
    let bytes = inventory.repositories.iter().flat_map(|repository| &repository.blobs);
    format!(
        "`{}` has {} with {}, {} and {} ({})",
        inventory.registry,
        count(inventory.repositories.len() as u64, "repository"),
        count(sum(|repository| repository.tags.len() as u64), "tag"),
        count(sum(|repository| repository.manifests.len() as u64), "manifest"),
        count(sum(|repository| repository.blobs.len() as u64), "blob"),
        format_bytes(bytes.fold(0, |sum, blob| sum.saturating_add(blob.size))),
    )
}
