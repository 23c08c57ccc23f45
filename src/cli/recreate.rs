//! `kharon recreate`.

use std::path::PathBuf;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::make::{self, DEFAULT_JOBS};
use kharon::reference::RegistryHost;
use kharon::save::{Existing, Origin, Platforms, SaveRequest, save};
use kharon::terminal::Terminal;

use super::save::{tar_target, tell};

#[derive(Debug, Args)]
pub(crate) struct RecreateArgs {
    /// The folder that `kharon save --layout merged` wrote
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The image, as it was named when it was saved
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The tar to write, `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a tar that is there already, once the new one is whole
    #[arg(long)]
    force: bool,
}

impl RecreateArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let existing = if self.force { Existing::Replace } else { Existing::Refuse };
        let wanted = make::parse_images(&[&self.image], &RegistryHost::docker_hub())?;
        let (target, name) = tar_target(&self.output, existing)?;
        let request = SaveRequest {
            wanted,
            origin: Origin::Folder(self.folder.clone()),
            platforms: Platforms::All,
            rewrite: None,
            target,
            jobs: DEFAULT_JOBS,
        };
        let report = save(request, terminal.reporter()).await?;
        terminal.finish();
        tell(&report, &name, terminal.reporter().as_ref());
        Ok(ExitCode::Done)
    }
}
