//! The options of rebuilding layers.

use std::path::PathBuf;

use clap::Args;
use kharon::baselines::Baselines;
use kharon::reference::RepositoryName;

/// Where old blobs are looked for, and where temporary files lie.
#[derive(Debug, Args)]
pub(super) struct BaselineArgs {
    /// Also look for old blobs that deltas need in this repository of the registry (repeatable)
    #[arg(long, value_name = "REPOSITORY")]
    baseline_repository: Vec<RepositoryName>,
    /// An OCI image layout that has old blobs which deltas need (repeatable)
    #[arg(long, value_name = "FOLDER")]
    baseline_dir: Vec<PathBuf>,
    /// Where temporary files lie; the system's folder for temporary files if not given
    #[arg(long, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
}

impl BaselineArgs {
    pub(super) fn baselines(&self) -> Baselines {
        Baselines {
            repositories: self.baseline_repository.clone(),
            folders: self.baseline_dir.clone(),
            workdir: self.workdir(),
        }
    }

    pub(super) fn workdir(&self) -> PathBuf {
        self.workdir.clone().unwrap_or_else(std::env::temp_dir)
    }
}
