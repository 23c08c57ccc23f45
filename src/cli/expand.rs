//! `kharon expand`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kharon::expand::{ExpandReport, ExpandRequest, expand};
use kharon::failure::ExitCode;
use kharon::make::DEFAULT_JOBS;
use kharon::payload::Payload;
use kharon::progress::Reporter;
use kharon::reference::RegistryHost;
use kharon::terminal::Terminal;

use super::access::AccessArgs;
use super::baselines::BaselineArgs;
use super::{print_json, print_line};

#[derive(Debug, Args)]
#[command(mut_arg("baseline_repository", |argument| argument.requires("registry")))]
pub(crate) struct ExpandArgs {
    /// The payload, of kharon or docker-charon; several are expanded into one folder, volumes as the payload
    /// that they are
    #[arg(required = true, value_name = "PAYLOAD")]
    payloads: Vec<PathBuf>,
    /// The folder to expand into, which must be empty or not there
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Read old blobs from this registry, to rebuild layers that travel as deltas
    #[arg(short, long, value_name = "HOST")]
    registry: Option<RegistryHost>,
    #[command(flatten)]
    baselines: BaselineArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
}

impl ExpandArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let paths = self.payloads.clone();
        let open = move || Payload::open_each(&paths);
        let payloads = tokio::task::spawn_blocking(open).await??;
        let request = ExpandRequest {
            payloads: payloads.into_iter().map(Arc::new).collect(),
            folder: self.to.clone(),
            registry: self.access.registry(self.registry.as_ref(), terminal).await?,
            baselines: self.baselines.baselines(),
            jobs: DEFAULT_JOBS.get(),
        };
        let report = expand(request, terminal.reporter()).await?;
        terminal.finish();
        tell(&report, terminal.reporter().as_ref());
        if self.json {
            print_json(terminal, &report)?;
        } else {
            print_line(
                terminal,
                &report.folder.join(kharon::expand::EXPANDED_NAME).display().to_string(),
            )?;
        }
        Ok(report.exit_code())
    }
}

/// Says what a scanner will not see, on stderr.
fn tell(report: &ExpandReport, reporter: &dyn Reporter) {
    for damaged in &report.damaged {
        reporter.warn(format!("damaged, and not there: {damaged}"));
    }
    for lost in &report.not_rebuilt {
        reporter.warn(format!("not rebuilt: {lost}; give it with `-r` or `--baseline-dir`"));
    }
    for packed in &report.packed {
        reporter.warn(format!("there as one packed file only: {packed}"));
    }
    reporter.note(report.to_string());
}
