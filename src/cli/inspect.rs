//! `kharon inspect` and `kharon verify`.

use std::path::PathBuf;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::inspect::inspect;
use kharon::payload::{self, Fault, Payload};
use kharon::terminal::Terminal;
use kharon::units::{count, format_bytes};
use kharon::verify::{Problem, Report, verify_file};

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
        let inspection = inspect(&Payload::open(&self.payload)?);
        if self.json {
            print_json(terminal, &inspection)?;
        } else {
            print_line(terminal, inspection.to_string().trim_end())?;
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
        let report = refuse_unreadable(report)?;
        if self.json {
            print_json(terminal, &report)?;
        } else {
            for problem in &report.problems {
                print_line(terminal, &problem.to_string())?;
            }
        }
        if report.is_sound() {
            let (entries, bytes) = (report.entries, format_bytes(report.bytes));
            terminal.reporter().note(format!("sound: {entries} entries, {bytes}"));
            return Ok(ExitCode::Done);
        }
        let mut hints: Vec<String> = report.problems.iter().filter_map(Problem::hint).collect();
        hints.dedup();
        let found = anyhow::anyhow!(
            "`{}` is damaged: {}",
            self.payload.display(),
            count(report.problems.len() as u64, "problem")
        );
        terminal.print_error(&found, &hints);
        Ok(ExitCode::PayloadDamaged)
    }
}

/// A file that is not there or may not be read is no damaged payload.
fn refuse_unreadable(mut report: Report) -> Result<Report, payload::Error> {
    let unreadable = |problem: &Problem| matches!(problem, Problem::Payload(error) if matches!(error.fault(), Fault::Io(_)));
    match report.problems.pop_if(|problem| unreadable(problem)) {
        Some(Problem::Payload(error)) => Err(error),
        _ => Ok(report),
    }
}
