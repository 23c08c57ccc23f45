//! `kharon inspect`.

use std::path::PathBuf;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::inspect::inspect;
use kharon::payload::Payload;
use kharon::terminal::Terminal;

use super::{print_json, print_line};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The payload, of kharon or docker-charon; of one that was split, any of its volumes or the folder with them
    #[arg(value_name = "PAYLOAD", required = true)]
    payloads: Vec<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl InspectArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let inspection = inspect(&Payload::open_all(&self.payloads)?);
        if self.json {
            print_json(terminal, &inspection)?;
        } else {
            print_line(terminal, inspection.to_string().trim_end())?;
        }
        Ok(ExitCode::Done)
    }
}
