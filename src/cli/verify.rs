//! `kharon verify`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::make::DEFAULT_JOBS;
use kharon::minisign::KeyId;
use kharon::payload::{self, Fault, Payload};
use kharon::prove::{Proof, prove};
use kharon::reference::RegistryHost;
use kharon::terminal::Terminal;
use kharon::units::{count, format_bytes};
use kharon::verify::{Problem, Report, verify_files};
use serde::Serialize;

use super::access::AccessArgs;
use super::baselines::BaselineArgs;
use super::{key, print_json, print_line};

#[derive(Debug, Args)]
#[command(mut_arg("baseline_repository", |argument| argument.requires("registry")))]
pub(crate) struct VerifyArgs {
    /// The payload, of kharon or docker-charon; of one that was split, its volumes or the folder with them
    #[arg(value_name = "PAYLOAD", required = true)]
    payloads: Vec<PathBuf>,
    /// Refuse a payload that this key did not sign; KEY is a `.pub` file of `kharon keygen` or minisign, or
    /// its second line
    #[arg(long, value_name = "KEY")]
    verify_key: Option<String>,
    /// Read old blobs from this registry, to prove that deltas give what they should
    #[arg(short, long, value_name = "HOST")]
    registry: Option<RegistryHost>,
    #[command(flatten)]
    baselines: BaselineArgs,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// How many deltas were rebuilt and found right.
    deltas_proved: usize,
    /// How many were not, as a baseline was not to be had.
    deltas_unproved: usize,
}

impl VerifyArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let key = self.verify_key.as_deref().map(key::read_public).transpose()?;
        let (paths, reporter) = (self.payloads.clone(), terminal.reporter());
        let verify = move || verify_files(&paths, reporter.as_ref());
        let (report, payload) = tokio::task::spawn_blocking(verify).await?;
        if let (Some(key), Some(payload)) = (&key, &payload) {
            payload.check_signature(key)?;
        }
        let signed_by: Option<KeyId> = key.map(|key| key.id());
        let mut report = refuse_unreadable(report)?;
        let missing = payload.as_ref().map(Payload::missing_volumes).unwrap_or_default();
        let proof = match payload.filter(|_| report.is_sound()) {
            Some(payload) => self.prove(payload, terminal).await?,
            None => Proof::default(),
        };
        terminal.finish();
        let (proved, unproved) = (proof.proved.len(), proof.unproved.len());
        report.problems.extend(proof.problems);
        if self.json {
            let document =
                Document { report: &report, deltas_proved: proved, deltas_unproved: unproved };
            print_json(terminal, &document)?;
        } else {
            for problem in &report.problems {
                print_line(terminal, &problem.to_string())?;
            }
        }
        if report.is_sound() {
            let (entries, bytes) = (report.entries, format_bytes(report.bytes));
            let reporter = terminal.reporter();
            let signed =
                signed_by.map(|id| format!(", signed by the key {id}")).unwrap_or_default();
            let deltas = of_deltas(proved);
            if !missing.is_empty() {
                let numbers: Vec<String> = missing.iter().map(ToString::to_string).collect();
                reporter.note(format!("one volume alone; the others are {}", numbers.join(", ")));
            }
            reporter.note(format!("sound: {entries} entries, {bytes}{deltas}{signed}"));
            if unproved > 0 {
                reporter.note(format!(
                    "{} not rebuilt, as what {} made against was not to be had; give it with -r or --baseline-dir",
                    count(unproved as u64, "delta"),
                    if unproved == 1 { "it was" } else { "they were" },
                ));
            }
            return Ok(ExitCode::Done);
        }
        let mut hints: Vec<String> = report.problems.iter().filter_map(Problem::hint).collect();
        hints.dedup();
        let names: Vec<_> =
            self.payloads.iter().map(|path| format!("`{}`", path.display())).collect();
        let is_missing = |problem: &Problem| matches!(problem, Problem::VolumeMissing { .. });
        let found = anyhow::anyhow!(
            "{} {} {}: {}",
            names.join(", "),
            if names.len() == 1 { "is" } else { "are" },
            if report.problems.iter().all(is_missing) { "incomplete" } else { "damaged" },
            count(report.problems.len() as u64, "problem")
        );
        terminal.print_error(&found, &hints);
        Ok(ExitCode::PayloadDamaged)
    }

    async fn prove(&self, payload: Payload, terminal: &Terminal) -> anyhow::Result<Proof> {
        let registry = self.access.registry(self.registry.as_ref(), terminal).await?;
        let baselines = self.baselines.baselines();
        let jobs = DEFAULT_JOBS.get();
        prove(Arc::new(payload), registry, baselines, jobs, terminal.reporter()).await
    }
}

fn of_deltas(proved: usize) -> String {
    match proved {
        0 => String::new(),
        proved => format!(", {} rebuilt", count(proved as u64, "delta")),
    }
}

/// A file that is not there or may not be read is no damaged payload.
fn refuse_unreadable(mut report: Report) -> Result<Report, payload::Error> {
    let unreadable = |problem: &Problem| matches!(problem, Problem::Payload(error) if matches!(error.fault(), Fault::Io(_)));
    let is_all = report.problems.len() == 1;
    match report.problems.pop_if(|problem| is_all && unreadable(problem)) {
        Some(Problem::Payload(error)) => Err(error),
        _ => Ok(report),
    }
}
