//! `kharon inspect` and `kharon verify`.

use std::path::PathBuf;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::payload::Payload;
use kharon::terminal::Terminal;
use kharon::units::format_bytes;
use kharon::verify::verify_file;

use super::{print_json, print_line};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The payload, of kharon or docker-charon
    payload: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl InspectArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let inspection = Payload::open(&self.payload)?.index().clone();
        if self.json {
            print_json(terminal, &inspection)?;
        } else {
            print_json(terminal, &inspection)?;
        }
        Ok(ExitCode::Done)
    }
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The payload, of kharon or docker-charon
    payload: PathBuf,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let (path, reporter) = (self.payload.clone(), terminal.reporter());
        let report =
            tokio::task::spawn_blocking(move || verify_file(&path, reporter.as_ref())).await?;
        terminal.finish();
        if self.json {
            print_json(terminal, &report)?;
        } else {
            for problem in &report.problems {
                print_line(terminal, &problem.to_string())?;
            }
        }
        if report.is_sound() {
            let (entries, bytes) = (report.entries, format_bytes(report.bytes));
            terminal.reporter().note(format!("all {entries} entries are sound ({bytes})"));
            return Ok(ExitCode::Done);
        }
        let mut hints: Vec<String> =
            report.problems.iter().filter_map(kharon::verify::Problem::hint).collect();
        hints.dedup();
        let found = anyhow::anyhow!(
            "`{}` is damaged: {} problems",
            self.payload.display(),
            report.problems.len()
        );
        terminal.print_error(&found, &hints);
        Ok(ExitCode::PayloadDamaged)
    }
}
