//! `kharon serve`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kharon::failure::{BaselineMissing, ExitCode, Usage};
use kharon::layout::{Durability, Layout};
use kharon::names::{Rename, TargetNames};
use kharon::payload::Payload;
use kharon::reference::RepositoryName;
use kharon::serve::{self, Server};
use kharon::shelf::{DEFAULT_CACHE_BYTES, Shelf, ShelfRequest};
use kharon::terminal::Terminal;
use kharon::units::{count, parse_size};

use super::listen::ListenArgs;
use super::signals::Signals;
use super::web::WebArgs;

const CACHE_SIZE_HELP: &str =
    "Keep at most so many bytes of rebuilt layers, such as 50GB [default: 10GB]";

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Serve this payload in place: a file, volumes of one, or a folder with payloads (repeatable); later ones lie
    /// over earlier ones
    #[arg(long, value_name = "FILE", num_args = 1..)]
    payload: Vec<PathBuf>,
    /// The folder with the OCI image layout, such as an unzipped payload; made if it is missing. With --payload it
    /// lies beneath the payloads and takes what is pushed
    #[arg(long, value_name = "FOLDER", required_unless_present_any = ["payload", "web"])]
    dir: Option<PathBuf>,
    /// Take nothing: whoever pushes is refused. The folder of --dir must be there, and nothing in it is changed
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    payloads: PayloadArgs,
    #[command(flatten)]
    web: WebArgs,
    #[command(flatten)]
    listen: ListenArgs,
}

/// What only payloads need.
#[derive(Debug, Args)]
#[command(next_help_heading = "Payloads")]
struct PayloadArgs {
    /// End with exit code 5 at the start where something that the payloads expect at the far side is not here
    #[arg(long, requires = "payload")]
    strict: bool,
    /// Put this in front of every repository of the payloads
    #[arg(long, value_name = "REPOSITORY", requires = "payload")]
    prefix: Option<RepositoryName>,
    /// Call the repository OLD of the payloads NEW, also where OLD is only its first parts (repeatable)
    #[arg(long, value_name = "OLD=NEW", requires = "payload")]
    rename: Vec<Rename>,
    /// An OCI image layout that has blobs which the payloads lack (repeatable)
    #[arg(long, value_name = "FOLDER", requires = "payload")]
    baseline_dir: Vec<PathBuf>,
    /// Keep rebuilt layers in this folder, also for the next time
    #[arg(long, value_name = "FOLDER", requires = "payload")]
    cache_dir: Option<PathBuf>,
    #[arg(long, value_name = "SIZE", requires = "payload", value_parser = parse_size, help = CACHE_SIZE_HELP)]
    cache_size: Option<u64>,
    /// Where temporary files lie; the system's folder for temporary files if not given
    #[arg(long, value_name = "FOLDER", requires = "payload")]
    workdir: Option<PathBuf>,
}

impl ServeArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        if self.web.is_asked() {
            self.refuse_both()?;
            return self.web.run(&self.listen, terminal).await;
        }
        let server = self.server(terminal).await?;
        let is_read_only = self.read_only || self.dir.is_none();
        let can = if is_read_only { "pull" } else { "pull and push" };
        let (listener, logins) = self.listen.listen(can, terminal).await?;
        let server = match logins {
            Some(logins) => server.with_logins(logins),
            None => server,
        };
        // Whoever reads that it serves may end it at once.
        let mut signals = Signals::listen();
        terminal.reporter().note(format!(
            "serving {} on {}, Ctrl-C ends it",
            self.served(),
            listener.url()
        ));
        server.on(listener).run(signals.next()).await;
        Ok(ExitCode::Done)
    }

    /// clap would forget that other options need `--web` if it knew that `--web` excludes these.
    fn refuse_both(&self) -> Result<(), Usage> {
        if self.dir.is_none() && self.payload.is_empty() && !self.read_only {
            return Ok(());
        }
        let message = "`--web` is for registries elsewhere, and serves no folder and no payload";
        Err(Usage::new(message).with_hint("serve `--dir` and `--payload` by a kharon of their own"))
    }

    async fn server(&self, terminal: &Terminal) -> anyhow::Result<Server> {
        let request = self.request().await?;
        let (reporter, dir, read_only) = (terminal.reporter(), self.dir.clone(), self.read_only);
        let open = move || {
            let opened = request.map(|request| Shelf::open(request, reporter)).transpose()?;
            let layout = match dir {
                Some(dir) if read_only => Some(Layout::open_read_only(&dir)),
                Some(dir) => Some(Layout::open(&dir, Durability::Synced)),
                None => None,
            };
            let layout = layout.transpose().map_err(serve::Error::from)?;
            let lacking = opened.as_ref().map(Shelf::lacking).unwrap_or_default();
            anyhow::Ok((Server::over(opened.map(Arc::new), layout), lacking))
        };
        let (server, lacking) = tokio::task::spawn_blocking(open).await??;
        if self.payloads.strict && !lacking.is_empty() {
            return Err(BaselineMissing { images: lacking, lacks_image: false }.into());
        }
        for line in &lacking {
            terminal.reporter().warn(line.clone());
        }
        if !lacking.is_empty() {
            let message = "the blobs above are not served until they are pushed to `--dir`, or found with \
                `--baseline-dir` or in another `--payload`";
            terminal.reporter().warn(message.to_owned());
        }
        Ok(server)
    }

    async fn request(&self) -> anyhow::Result<Option<ShelfRequest>> {
        if self.payload.is_empty() {
            return Ok(None);
        }
        let paths = self.payload.clone();
        let open = move || Payload::open_each(&paths);
        let payloads = tokio::task::spawn_blocking(open).await??;
        let more = &self.payloads;
        Ok(Some(ShelfRequest {
            payloads,
            names: TargetNames { prefix: more.prefix.clone(), renames: more.rename.clone() },
            folders: self.dir.iter().chain(&more.baseline_dir).cloned().collect(),
            workdir: more.workdir.clone().unwrap_or_else(std::env::temp_dir),
            cache: more.cache_dir.clone(),
            cache_bytes: more.cache_size.unwrap_or(DEFAULT_CACHE_BYTES),
        }))
    }

    /// What is served, for people.
    fn served(&self) -> String {
        let payloads = match self.payload.as_slice() {
            [] => None,
            [one] => Some(format!("`{}`", one.display())),
            several => Some(count(several.len() as u64, "payload")),
        };
        let dir = self.dir.as_ref().map(|dir| format!("`{}`", dir.display()));
        payloads.into_iter().chain(dir).collect::<Vec<_>>().join(" over ")
    }
}
