//! `kharon push-payload`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kharon::failure::{ExitCode, Usage};
use kharon::make::DEFAULT_JOBS;
use kharon::names::{Rename, TargetNames};
use kharon::payload::Payload;
use kharon::progress::Reporter;
use kharon::push::{
    self, OnMissing, PushReport, PushRequest, Resume, SparseIndexes, TagPolicy, VerifyFirst,
};
use kharon::reference::{RegistryHost, RepositoryName};
use kharon::scanned::Scanned;
use kharon::stop::{Found, Stop};
use kharon::terminal::{self, Terminal};
use kharon::units::{count, format_bytes, parse_size};

use super::access::{AccessArgs, Stdin};
use super::baselines::BaselineArgs;
use super::signals::Signals;
use super::state::state_folder;
use super::{config, key, named, print_json, print_line};

const WORKDIR_HELP: &str = "Where temporary files lie: a payload that comes through a pipe, layers \
    that are rebuilt; the system's folder for temporary files if not given";

#[derive(Debug, Args)]
#[command(mut_arg("workdir", |argument| argument.help(WORKDIR_HELP)))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct PushArgs {
    /// The payload, of kharon or docker-charon; stdin if not given or `-`. Of one that was split, any of its
    /// volumes, several (repeatable), or the folder with them
    #[arg(short, long, value_name = "PAYLOAD", num_args = 1..)]
    file: Vec<PathBuf>,
    /// The registry to push to; there is no default, a payload should go where it is meant to
    #[arg(short, long, value_name = "HOST", env = "KHARON_REGISTRY")]
    registry: Option<RegistryHost>,
    /// End before anything is sent if any image lacks something at the far side
    #[arg(short, long)]
    strict: bool,
    /// Put this in front of every repository
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<RepositoryName>,
    /// Call a repository of the payload something else; OLD may be the first parts of several
    /// (repeatable)
    #[arg(long, value_name = "OLD=NEW")]
    rename: Vec<Rename>,
    /// Also move tags that name neither what they named before nor the new image
    #[arg(long)]
    force_tags: bool,
    /// Where the registry refuses an index of which not all platforms travel, push a new index of
    /// those that do; its digest is new
    #[arg(long)]
    rebuild_index: bool,
    /// Read and check the whole payload before anything is sent
    #[arg(long)]
    verify_first: bool,
    /// Refuse a payload that this key did not sign, before anything is sent; KEY is a `.pub` file of
    /// `kharon keygen` or minisign, or its second line. Implies --verify-first
    #[arg(long, value_name = "KEY")]
    verify_key: Option<String>,
    /// Refuse what `kharon expand` did not expand completely, before anything is sent; LIST is its
    /// `expanded.json` (repeatable)
    #[arg(long, value_name = "LIST")]
    scanned: Vec<PathBuf>,
    /// The size of the requests that large blobs are sent in, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64MiB")]
    chunk_size: u64,
    /// Begin large blobs anew also where an interrupted push has sent a part of them
    #[arg(long)]
    fresh: bool,
    /// How many transfers run at once
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_JOBS)]
    jobs: NonZeroUsize,
    #[command(flatten)]
    baselines: BaselineArgs,
    /// Write what is at the far side now into this file, for `make-payload --against`; a former one is
    /// replaced only when the push has gone through
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Print the result as JSON on stdout instead of one image per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
    /// What a signal ends the push with.
    #[arg(skip)]
    stop: Stop,
}

impl PushArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let registry = self.named_registry()?;
        if self.receipt.as_ref().is_some_and(|path| path.as_os_str() == "-") {
            return Err(Usage::new("both the receipt and the result would go to stdout")
                .with_hint("name a file with `--receipt receipt.json`")
                .into());
        }
        let request = self.request(registry, terminal).await?;
        let payload = self.open().await?;
        let reporter = terminal.reporter();
        let report = push::push_payload(Arc::new(payload), request, Arc::clone(&reporter)).await?;
        terminal.finish();
        tell(&report, reporter.as_ref());
        if self.json {
            print_json(terminal, &report)?;
        } else {
            for image in &report.pushed {
                print_line(terminal, &image.name)?;
            }
        }
        Ok(report.exit_code())
    }

    /// The request, for a caller that ends the push with `stop`.
    pub(super) async fn request_with(
        &self,
        stop: Stop,
        terminal: &Terminal,
    ) -> anyhow::Result<PushRequest> {
        let request = self.request(self.named_registry()?, terminal).await?;
        Ok(PushRequest { stop, ..request })
    }

    fn named_registry(&self) -> Result<RegistryHost, Usage> {
        self.registry.clone().ok_or_else(|| {
            Usage::new("no registry to push to was named").with_hint(
                "give it with `-r HOST` or KHARON_REGISTRY; unlike docker-charon, kharon does not push to Docker Hub unasked",
            )
        })
    }

    /// Waits for a signal, and then until no chunk is under way, or for another signal.
    pub(crate) async fn signalled(&self, terminal: &Terminal) -> ExitCode {
        let mut signals = Signals::listen();
        let code = signals.next().await;
        if self.stop.ask() == Found::Idle {
            return code;
        }
        let message = "finishing the chunk under way, Ctrl-C again ends at once";
        terminal.reporter().warn(message.to_owned());
        tokio::select! {
            code = signals.next() => code,
            () = self.stop.settled() => code,
        }
    }

    async fn open(&self) -> anyhow::Result<Payload> {
        if self.files().is_empty() {
            if terminal::stdin_is_terminal() {
                return Err(Usage::new("no payload was named")
                    .with_hint("name it with `-f payload.zip`, or pipe it into stdin")
                    .into());
            }
            let workdir = self.baselines.workdir();
            return tokio::task::spawn_blocking(move || push::payload_from_stdin(&workdir)).await?;
        }
        self.open_files().await
    }

    /// The payload in the files that were named.
    pub(super) async fn open_files(&self) -> anyhow::Result<Payload> {
        let files = self.files();
        Ok(tokio::task::spawn_blocking(move || Payload::open_all(&files)).await??)
    }

    /// The files that were named; none for stdin.
    fn files(&self) -> Vec<PathBuf> {
        self.file.iter().filter_map(|path| named(Some(path))).cloned().collect()
    }

    async fn scanned(&self) -> anyhow::Result<Option<Scanned>> {
        if self.scanned.is_empty() {
            return Ok(None);
        }
        let paths = self.scanned.clone();
        let read = move || {
            let mut scanned = Scanned::default();
            paths.iter().try_for_each(|path| scanned.add(path))?;
            anyhow::Ok(Some(scanned))
        };
        tokio::task::spawn_blocking(read).await?
    }

    async fn request(
        &self,
        registry: RegistryHost,
        terminal: &Terminal,
    ) -> anyhow::Result<PushRequest> {
        let stdin = if self.files().is_empty() { Stdin::Taken("the payload") } else { Stdin::Free };
        let state = state_folder();
        if state.is_none() {
            let detail = "there is no home for a journal of uploads; KHARON_STATE_DIR can name one";
            terminal.reporter().detail(detail.to_owned());
        }
        let config = config::read()?;
        Ok(PushRequest {
            state,
            names: TargetNames { prefix: self.prefix.clone(), renames: self.rename.clone() },
            on_missing: if self.strict { OnMissing::Fail } else { OnMissing::PushOthers },
            tag_policy: if self.force_tags { TagPolicy::Force } else { TagPolicy::Protect },
            sparse_indexes: if self.rebuild_index {
                SparseIndexes::Rebuild
            } else {
                SparseIndexes::Keep
            },
            verify_first: if self.verify_first {
                VerifyFirst::Everything
            } else {
                VerifyFirst::WhileSending
            },
            verify_key: self.verify_key.as_deref().map(key::read_public).transpose()?,
            scanned: self.scanned().await?,
            baselines: self.baselines.baselines(),
            receipt: self.receipt.clone(),
            jobs: self.jobs,
            chunk_bytes: self.chunk_size,
            resume: if self.fresh { Resume::Fresh } else { Resume::Continue },
            stop: self.stop.clone(),
            connections: self.access.connections(&registry, &config, terminal),
            credentials: self.access.credentials(&registry, &config, stdin, terminal).await?,
            registry,
        })
    }
}

/// Says what a person should know of the result, on stderr.
fn tell(report: &PushReport, reporter: &dyn Reporter) {
    for tag in &report.refused_tags {
        reporter.warn(format!("tag `{}:{}` was refused: {}", tag.repository, tag.tag, tag.reason));
    }
    let sent = &report.sent;
    if !report.volumes_needed.is_empty() {
        let numbers: Vec<String> = report.volumes_needed.iter().map(ToString::to_string).collect();
        reporter.note(format!(
            "{} brought ({}); nothing is published before the other volumes have arrived: {}",
            count(sent.uploaded_blobs + sent.rebuilt_blobs, "blob"),
            format_bytes(sent.uploaded_bytes + sent.rebuilt_bytes),
            numbers.join(", ")
        ));
        return;
    }
    let rebuilt = match sent.rebuilt_blobs {
        0 => String::new(),
        blobs => format!(", {blobs} rebuilt ({})", format_bytes(sent.rebuilt_bytes)),
    };
    reporter.note(format!(
        "{} at the far side: {} uploaded ({}){}, {} mounted, {} copied ({}), {} there before",
        count(report.pushed.len() as u64, "image"),
        count(sent.uploaded_blobs, "blob"),
        format_bytes(sent.uploaded_bytes),
        rebuilt,
        sent.mounted_blobs,
        sent.copied_blobs,
        format_bytes(sent.copied_bytes),
        sent.present_blobs,
    ));
}
