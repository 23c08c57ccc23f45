//! The options of deltas.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kharon::delta::Effort;
use kharon::make::{DeltaRequest, Deltas, Recompress};

/// How make-payload makes deltas.
#[derive(Debug, Args)]
#[command(next_help_heading = "Deltas")]
pub(super) struct DeltaArgs {
    /// Whether layers travel as deltas of old ones where the far registry has any
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    delta: DeltaArg,
    /// How much time is spent for fewer bytes
    #[arg(long, value_name = "EFFORT", default_value = "default")]
    effort: EffortArg,
    /// Pack layers better where there is nothing old to make a delta of
    #[arg(long)]
    recompress: bool,
    /// Where temporary files lie, the plain content of old and new layers; the system's folder for
    /// temporary files if not given
    #[arg(long, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
    /// Keep blobs here, so that the next run need not fetch them again to make deltas
    #[arg(long, value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
    /// An OCI image layout that has blobs which the far registry has too (repeatable)
    #[arg(long, value_name = "FOLDER")]
    baseline_dir: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeltaArg {
    Auto,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EffortArg {
    Fast,
    Default,
    Max,
}

impl DeltaArgs {
    pub(super) fn request(&self) -> DeltaRequest {
        DeltaRequest {
            deltas: match self.delta {
                DeltaArg::Auto => Deltas::Auto,
                DeltaArg::Off => Deltas::Off,
            },
            recompress: if self.recompress { Recompress::Yes } else { Recompress::No },
            effort: match self.effort {
                EffortArg::Fast => Effort::Fast,
                EffortArg::Default => Effort::Default,
                EffortArg::Max => Effort::Max,
            },
            workdir: self.workdir.clone(),
            cache: self.cache_dir.clone(),
            baseline_folders: self.baseline_dir.clone(),
        }
    }
}
