//! `kharon make-payload`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kharon::config::Config;
use kharon::failure::{ExitCode, Usage};
use kharon::make::{
    self, DEFAULT_JOBS, Destination, ImageName, MakeRequest, ReadLayers, Referrers, Repositories,
    Resume, Summary, TagFilter, VolumeRequest,
};
use kharon::minisign::SecretKey;
use kharon::names::{FarNames, KeepRegistry, Rename};
use kharon::plan::ForeignLayers;
use kharon::platform::Platform;
use kharon::reference::RegistryHost;
use kharon::registry::Connections;
use kharon::terminal::{self, Terminal};
use kharon::units::{count, format_bytes, parse_volume_size};
use serde::Serialize;

use super::access::{AccessArgs, Stdin};
use super::delta::DeltaArgs;
use super::images::ImagesArgs;
use super::mirrors::MirrorArgs;
use super::{config, key, named, print_json, print_line};

/// What a plan says already.
const NOT_AGAIN: [&str; 16] = [
    "images",
    "images_from",
    "image_path",
    "all_tags",
    "whole_registry",
    "tag_regex",
    "already_transferred",
    "platform",
    "no_referrers",
    "foreign_layers",
    "keep_registry",
    "rename",
    "format",
    "volume_size",
    "fresh",
    "dry_run",
];

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct MakeArgs {
    #[command(flatten)]
    images: ImagesArgs,
    /// Take names without tag and digest for repositories, with all their tags
    #[arg(long)]
    all_tags: bool,
    /// Take all repositories that the registry of `-r` lists, with all their tags
    #[arg(long)]
    whole_registry: bool,
    /// Of listed tags, take those in which this regular expression is found
    #[arg(long, value_name = "REGEX")]
    tag_regex: Option<TagFilter>,
    /// Images that the far registry has already, as a comma-separated list (repeatable)
    #[arg(short, long, value_name = "IMAGES")]
    already_transferred: Vec<String>,
    /// A former payload, a receipt of push-payload or an inventory: the far registry has what it brought,
    /// expected or lists (repeatable)
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// The payload to write, stdout if not given or `-`; a former one is replaced only by a complete one
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The registry of images that name none
    #[arg(short, long, value_name = "HOST", default_value = "registry-1.docker.io")]
    registry: RegistryHost,
    /// Choose these platforms of each image, such as linux/amd64,linux/arm64; all if not given
    #[arg(long, value_name = "PLATFORMS", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Leave signatures, attestations and whatever else refers to the images
    #[arg(long)]
    no_referrers: bool,
    /// Fetch and carry layers that their distributor serves from elsewhere
    #[arg(long)]
    foreign_layers: bool,
    /// Put the registry's name in front of repositories at the far side
    #[arg(long)]
    keep_registry: bool,
    /// Call a repository something else at the far side; OLD may begin with the registry and may be
    /// the first parts of several repositories (repeatable)
    #[arg(long, value_name = "OLD=NEW")]
    rename: Vec<Rename>,
    /// The layout of the zip: kharon's own, or that of docker-charon 0.4
    #[arg(long, value_name = "FORMAT", default_value = "kharon")]
    format: FormatArg,
    /// Split the payload into volumes of at most this size, such as 4.7GB, dvd, dvd-dl or fat32: NAME.001.zip,
    /// NAME.002.zip and so on, each of which can be checked and pushed alone
    #[arg(long, value_name = "SIZE", value_parser = parse_volume_size)]
    volume_size: Option<u64>,
    /// Make this volume of a payload again, byte for byte; needs `--plan`
    #[arg(long, value_name = "N", requires = "plan", conflicts_with_all = NOT_AGAIN)]
    only_volume: Option<NonZeroU32>,
    /// Any other volume of that payload, which says what was planned
    #[arg(long, value_name = "VOLUME", requires = "only_volume")]
    plan: Option<PathBuf>,
    /// Begin anew where a former run of the same request was interrupted, instead of going on
    #[arg(long)]
    fresh: bool,
    /// Sign the payload with this key, of `kharon keygen` or minisign; its password comes from
    /// `KHARON_KEY_PASSWORD`, or is asked for
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    delta: DeltaArgs,
    /// How many transfers run at once
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    jobs: NonZeroUsize,
    /// Print the plan and what it costs, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print plan and result as JSON on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Kharon,
    Charon,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    plan: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Written<'a>>,
}

/// The payload that was written.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a PathBuf,
    bytes: u64,
    /// All files, where the payload is split.
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<&'a [PathBuf]>,
}

impl MakeArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        if let (Some(number), Some(plan)) = (self.only_volume, &self.plan) {
            return self.write_volume(number, plan, terminal).await;
        }
        if self.file().is_none() && !self.dry_run {
            self.refuse_stdout()?;
        }
        self.refuse_volumes()?;
        let request = self.request(terminal).await?;
        if self.dry_run {
            let planned = make::plan_payload(request, terminal.reporter()).await?;
            terminal.finish();
            let plan = planned.summary();
            if self.json {
                print_json(terminal, &Document { plan, result: None })?;
            } else {
                print_line(terminal, plan.to_string().trim_end())?;
            }
            return Ok(ExitCode::Done);
        }
        let destination = match self.file() {
            Some(path) => Destination::File(path.clone()),
            None => Destination::Stream(Box::new(terminal::stdout_file()?)),
        };
        let summary = make::make_payload(request, destination, terminal.reporter()).await?;
        self.tell(&summary, terminal)
    }

    /// Whether the same command can go on with what it has written.
    pub(super) fn is_resumable(&self) -> bool {
        self.file().is_some() && self.only_volume.is_none() && !self.dry_run
    }

    /// Whether one volume of a payload is made again.
    pub(super) fn is_one_volume(&self) -> bool {
        self.only_volume.is_some()
    }

    /// The file to write; none for stdout.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        named(self.file.as_ref())
    }

    /// The request, for a caller that has no terminal.
    pub(super) async fn checked_request(&self, terminal: &Terminal) -> anyhow::Result<MakeRequest> {
        self.refuse_volumes()?;
        self.request(terminal).await
    }

    fn refuse_stdout(&self) -> Result<(), Usage> {
        let hint = "name a file with `-f payload.zip`";
        if self.json {
            return Err(Usage::new("both the payload and JSON would go to stdout").with_hint(hint));
        }
        if terminal::stdout_is_terminal() {
            let message = "a payload is not for a terminal";
            return Err(Usage::new(message).with_hint(format!("{hint}, or pipe stdout elsewhere")));
        }
        Ok(())
    }

    fn refuse_volumes(&self) -> Result<(), Usage> {
        if self.volume_size.is_none() {
            return Ok(());
        }
        if matches!(self.format, FormatArg::Charon) {
            return Err(Usage::new("docker-charon's format knows no volumes")
                .with_hint("leave `--volume-size` or `--format charon` out"));
        }
        if self.file().is_none() && !self.dry_run {
            return Err(Usage::new("volumes cannot all go to stdout")
                .with_hint("name the files with `-f payload.zip`: payload.001.zip and so on"));
        }
        Ok(())
    }

    async fn write_volume(
        &self,
        number: NonZeroU32,
        plan: &Path,
        terminal: &Terminal,
    ) -> anyhow::Result<ExitCode> {
        let config = config::read()?;
        let request = VolumeRequest {
            plan: plan.to_owned(),
            number,
            file: self.file().cloned(),
            sign: self.signing_key(terminal).await?,
            against: self.against.clone(),
            delta: self.delta.request(),
            jobs: self.jobs,
            connections: self.connections(&config, terminal)?,
            credentials: self
                .access
                .credentials(&self.registry, &config, Stdin::Free, terminal)
                .await?,
        };
        let summary = make::make_volume(request, terminal.reporter()).await?;
        terminal.finish();
        for file in &summary.files {
            let (number, file) = (number, file.display());
            terminal.reporter().note(format!("wrote volume {number} again to {file}"));
        }
        if let (true, Some(file)) = (self.json, summary.files.first()) {
            let result = Some(Written { file, bytes: summary.payload_bytes, volumes: None });
            print_json(terminal, &Document { plan: &summary, result })?;
        }
        Ok(ExitCode::Done)
    }

    fn tell(&self, summary: &Summary, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        terminal.finish();
        let name = match (self.file(), summary.files.as_slice()) {
            (None, _) => "stdout".to_owned(),
            (Some(_), [first, .., last]) => format!(
                "{} ({} to {})",
                count(summary.files.len() as u64, "volume"),
                first.display(),
                last.display()
            ),
            (Some(path), [only]) if only != path => format!("one volume, {}", only.display()),
            (Some(path), _) => path.display().to_string(),
        };
        if summary.savings.has_deltas() {
            for line in summary.savings.to_string().lines() {
                terminal.reporter().note(line.to_owned());
            }
        }
        terminal.reporter().note(format!(
            "wrote {} to {name}: {} carried ({}), {} expected at the far side ({})",
            format_bytes(summary.payload_bytes),
            count(summary.total.carried_blobs, "blob"),
            format_bytes(summary.total.carried_bytes),
            summary.total.expected_blobs,
            format_bytes(summary.total.expected_bytes),
        ));
        if let (true, Some(file)) = (self.json, self.file()) {
            let volumes = self.volume_size.is_some().then_some(summary.files.as_slice());
            let result = Some(Written { file, bytes: summary.payload_bytes, volumes });
            print_json(terminal, &Document { plan: summary, result })?;
        }
        Ok(ExitCode::Done)
    }

    async fn request(&self, terminal: &Terminal) -> anyhow::Result<MakeRequest> {
        let stdin = if self.images.reads_stdin() {
            Stdin::Taken("the list of images")
        } else {
            Stdin::Free
        };
        let config = config::read()?;
        let (wanted, repositories) = self.wanted(terminal).await?;
        Ok(MakeRequest {
            wanted,
            repositories,
            already_transferred: make::parse_images(&self.already_transferred, &self.registry)?,
            against: self.against.clone(),
            receipts: Vec::new(),
            platforms: self.platform.clone(),
            referrers: if self.no_referrers { Referrers::Leave } else { Referrers::Include },
            foreign_layers: if self.foreign_layers {
                ForeignLayers::Fetch
            } else {
                ForeignLayers::LeaveOut
            },
            names: FarNames {
                keep_registry: if self.keep_registry {
                    KeepRegistry::Keep
                } else {
                    KeepRegistry::Drop
                },
                renames: self.rename.clone(),
            },
            format: match self.format {
                FormatArg::Kharon => make::Format::Kharon,
                FormatArg::Charon => make::Format::Charon,
            },
            sign: self.signing_key(terminal).await?,
            delta: self.delta.request(),
            volume_bytes: self.volume_size,
            resume: if self.fresh { Resume::Fresh } else { Resume::Continue },
            jobs: self.jobs,
            read_layers: ReadLayers::default(),
            connections: self.connections(&config, terminal)?,
            credentials: self.access.credentials(&self.registry, &config, stdin, terminal).await?,
        })
    }

    fn connections(&self, config: &Config, terminal: &Terminal) -> Result<Connections, Usage> {
        self.mirrors.connections(&self.access, &self.registry, config, terminal)
    }

    async fn signing_key(&self, terminal: &Terminal) -> anyhow::Result<Option<SecretKey>> {
        match &self.sign {
            Some(path) => Ok(Some(key::read_secret(path, terminal).await?)),
            None => Ok(None),
        }
    }

    /// The images that were named, and the repositories.
    async fn wanted(&self, terminal: &Terminal) -> anyhow::Result<(Vec<ImageName>, Repositories)> {
        let images = self.images.wanted(&self.registry, terminal).await?;
        if self.tag_regex.is_some() && !self.all_tags && !self.whole_registry {
            return Err(Usage::new("`--tag-regex` chooses among listed tags, and none are listed")
                .with_hint("add `--all-tags` or `--whole-registry`")
                .into());
        }
        let mut repositories =
            Repositories { tags: self.tag_regex.clone(), ..Repositories::default() };
        if self.whole_registry {
            repositories.registries.push(self.registry.clone());
        }
        if !self.all_tags {
            return Ok((images, repositories));
        }
        let (images, named) = make::split_repositories(images);
        repositories.named = named;
        Ok((images, repositories))
    }
}
