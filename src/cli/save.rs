//! `kharon save`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use kharon::failure::{ExitCode, Usage};
use kharon::make::{self, DEFAULT_JOBS, ImageName};
use kharon::platform::{InvalidPlatform, Platform};
use kharon::progress::Reporter;
use kharon::save::{
    Existing, Layout, Platforms, Rewrite, RewrittenLayers, SaveReport, SaveRequest, Target,
    file_name, save,
};
use kharon::terminal::{self, Terminal};
use kharon::units::{count, format_bytes};

use super::origin::OriginArgs;

#[derive(Debug, Args)]
#[command(
    mut_arg("username", |argument| argument.visible_alias("user")),
    mut_arg("login", |argument| argument.visible_alias("ilogin")),
    mut_arg("baseline_repository", |argument| argument.requires("registry"))
)]
pub(crate) struct SaveArgs {
    /// Images as `[registry/]repository[:tag][@digest]`, each also a comma-separated list; with `--from` all if
    /// none is given
    #[arg(value_name = "IMAGE", required_unless_present = "from")]
    images: Vec<String>,
    /// The tar to write, `-` is stdout; if not given, a name made of the image's
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["to", "tarname", "no_tar"])]
    output: Option<PathBuf>,
    /// Replace a tar that is there already, once the new one is whole
    #[arg(long, conflicts_with_all = ["to", "no_tar"])]
    force: bool,
    /// Write into this folder instead of a tar
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["tarname", "no_tar"])]
    to: Option<PathBuf>,
    /// How the images lie in that folder: an OCI image layout, what the tar would hold, or one that many images
    /// share, to which more can be added
    #[arg(long, value_name = "LAYOUT", default_value = "oci", requires = "to")]
    layout: LayoutArg,
    /// Save this platform, or `all`; if not given, that of this machine
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<PlatformArg>,
    /// Save layers unpacked, for old engines and tools that take no others; this needs room in `--workdir` for all
    /// of them
    #[arg(long, conflicts_with = "rewrite_zstd")]
    uncompressed: bool,
    /// Save layers that are packed with zstd as gzip or plain, for engines that do not know zstd; this needs room
    /// in `--workdir`
    #[arg(long, value_name = "HOW")]
    rewrite_zstd: Option<ZstdArg>,
    /// How many transfers run at once
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    jobs: NonZeroUsize,
    #[command(flatten)]
    scripts: ScriptArgs,
    #[command(flatten)]
    origin: OriginArgs,
}

/// What scripts call things.
#[derive(Debug, Args)]
#[command(next_help_heading = "As dockersave has them")]
struct ScriptArgs {
    /// The name of the tar, in the folder of `--working-dir`
    #[arg(long, value_name = "NAME")]
    tarname: Option<PathBuf>,
    /// Where the tar is written if `-o` does not say it; the current folder if not given
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output", "to"])]
    working_dir: Option<PathBuf>,
    /// Write a folder with what the tar would hold, as `--layout docker` does
    #[arg(long, conflicts_with = "tarname")]
    no_tar: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    Oci,
    Docker,
    Merged,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ZstdArg {
    Gzip,
    Plain,
}

#[derive(Clone, Debug)]
enum PlatformArg {
    All,
    One(Platform),
}

impl FromStr for PlatformArg {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

impl SaveArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let wanted = make::parse_images(&self.images, &self.origin.default_registry())?;
        let (target, name) = self.target(&wanted)?;
        let request = SaveRequest {
            wanted,
            origin: self.origin.origin(terminal).await?,
            platforms: match &self.platform {
                None => Platforms::Machine,
                Some(PlatformArg::All) => Platforms::All,
                Some(PlatformArg::One(platform)) => Platforms::One(platform.clone()),
            },
            rewrite: self.rewritten().map(|layers| {
                let workdir = self.origin.workdir();
                Rewrite { layers, workdir }
            }),
            target,
            jobs: self.jobs,
        };
        let report = save(request, terminal.reporter()).await?;
        terminal.finish();
        tell(&report, &name, terminal.reporter().as_ref());
        Ok(ExitCode::Done)
    }

    /// Where the images go, and what that is called.
    fn target(&self, wanted: &[ImageName]) -> anyhow::Result<(Target, String)> {
        if let Some(folder) = &self.to {
            let layout = match self.layout {
                LayoutArg::Oci => Layout::Oci,
                LayoutArg::Docker => Layout::Docker,
                LayoutArg::Merged => Layout::Merged,
            };
            return Ok(folder_target(folder.clone(), layout));
        }
        let ScriptArgs { tarname, working_dir, no_tar } = &self.scripts;
        if let Some(path) = &self.output {
            return tar_target(path, self.existing());
        }
        if let Some(folder) = working_dir {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        let inside = |name: &Path| working_dir.as_deref().unwrap_or(Path::new("")).join(name);
        if let Some(name) = tarname {
            return Ok(file_target(inside(name), self.existing()));
        }
        let [image] = wanted else {
            return Err(Usage::new("several images have no one name for their file")
                .with_hint("name it with `-o FILE.tar`, or a folder with `--to`")
                .into());
        };
        let name = file_name(image);
        if *no_tar {
            return Ok(folder_target(inside(Path::new(&name)), Layout::Docker));
        }
        Ok(file_target(inside(Path::new(&format!("{name}.tar"))), self.existing()))
    }

    fn rewritten(&self) -> Option<RewrittenLayers> {
        match (self.uncompressed, self.rewrite_zstd) {
            (true, _) => Some(RewrittenLayers::AllPlain),
            (false, Some(ZstdArg::Plain)) => Some(RewrittenLayers::ZstdPlain),
            (false, Some(ZstdArg::Gzip)) => Some(RewrittenLayers::ZstdGzip),
            (false, None) => None,
        }
    }

    fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Refuse }
    }
}

/// A tar at `path`, or on stdout.
pub(super) fn tar_target(path: &Path, existing: Existing) -> anyhow::Result<(Target, String)> {
    if path.as_os_str() != "-" {
        return Ok(file_target(path.to_owned(), existing));
    }
    if terminal::stdout_is_terminal() {
        return Err(Usage::new("a tar is not for a terminal")
            .with_hint("name a file with `-o FILE.tar`, or pipe stdout elsewhere")
            .into());
    }
    Ok((Target::Stream(Box::new(terminal::stdout_file()?)), "stdout".to_owned()))
}

fn file_target(path: PathBuf, existing: Existing) -> (Target, String) {
    let name = path.display().to_string();
    (Target::File(path, existing), name)
}

fn folder_target(path: PathBuf, layout: Layout) -> (Target, String) {
    let name = path.display().to_string();
    (Target::Folder(path, layout), name)
}

/// Says what was saved, on stderr.
pub(super) fn tell(report: &SaveReport, name: &str, reporter: &dyn Reporter) {
    let present = match report.present {
        0 => String::new(),
        present => format!(", {present} there before"),
    };
    reporter.note(format!(
        "wrote {} to {name}: {}, {}{present}",
        format_bytes(report.bytes),
        count(report.images.len() as u64, "image"),
        count(report.blobs, "blob"),
    ));
}
