//! `kharon extract`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use kharon::extract::{ExtractRequest, Parts, extract};
use kharon::failure::{ExitCode, Usage};
use kharon::make::{self, DEFAULT_JOBS};
use kharon::platform::Platform;
use kharon::save::Platforms;
use kharon::terminal::Terminal;

use super::origin::OriginArgs;
use super::{print_json, print_line};

#[derive(Debug, Args)]
#[command(mut_arg("baseline_repository", |argument| argument.requires("registry")))]
pub(crate) struct ExtractArgs {
    /// The image as `[registry/]repository[:tag][@digest]`; with `--from`, the only one there if not given
    #[arg(value_name = "IMAGE", required_unless_present = "from")]
    image: Option<String>,
    /// The folder to extract into, which must be empty or not there
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Extract this layer alone, its whiteouts as files; 1 is the lowest
    #[arg(long, value_name = "N")]
    layer: Option<NonZeroUsize>,
    /// Write a tree for each layer, its whiteouts as files, into `layers/1` and so on, and that of all into `merged`
    #[arg(long, conflicts_with = "layer")]
    each_layer: bool,
    /// Extract the image of this platform; if not given, that of this machine
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// How many transfers run at once
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    jobs: NonZeroUsize,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    origin: OriginArgs,
}

impl ExtractArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let default_registry = self.origin.default_registry();
        let mut wanted = make::parse_images(self.image.as_slice(), &default_registry)?;
        let image = wanted.pop();
        if !wanted.is_empty() {
            return Err(Usage::new("several images have no one tree")
                .with_hint("extract each into a folder of its own")
                .into());
        }
        let request = ExtractRequest {
            wanted: image,
            origin: self.origin.origin(terminal).await?,
            platforms: self.platform.clone().map_or(Platforms::Machine, Platforms::One),
            parts: match (self.layer, self.each_layer) {
                (Some(number), _) => Parts::Layer(number),
                (None, true) => Parts::Each,
                (None, false) => Parts::Merged,
            },
            folder: self.to.clone(),
            jobs: self.jobs,
        };
        let report = extract(request, terminal.reporter()).await?;
        terminal.finish();
        terminal.reporter().note(report.to_string());
        if self.json {
            print_json(terminal, &report)?;
        } else {
            let tree = report.merged.as_ref().unwrap_or(&report.folder);
            print_line(terminal, &tree.display().to_string())?;
        }
        Ok(report.exit_code())
    }
}
