//! `kharon serve --web`.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use clap::Args;
use kharon::failure::{ExitCode, Usage};
use kharon::make::DEFAULT_JOBS;
use kharon::reference::RegistryHost;
use kharon::terminal::Terminal;
use kharon::web::{DEFAULT_DOWNLOADS, Settings, Web};

use super::access::{AccessArgs, Stdin};
use super::config;
use super::listen::ListenArgs;
use super::mirrors::MirrorArgs;
use super::signals::Signals;

#[derive(Debug, Args)]
#[command(next_help_heading = "The page (--web)")]
#[command(
    mut_group("AccessArgs", |group| group.requires("web")),
    mut_group("MirrorArgs", |group| group.requires("web"))
)]
pub(super) struct WebArgs {
    /// Serve a page from which browsers download images of registries, as tars and payloads
    #[arg(long, conflicts_with = "PayloadArgs")]
    web: bool,
    /// The registry of images that name none; if not given Docker Hub, or the first that `--allow-registry` names
    /// instead
    #[arg(short, long, value_name = "HOST", requires = "web")]
    registry: Option<RegistryHost>,
    /// Let the page ask this registry (repeatable) and that of -r, and no others; if not given, Docker Hub and
    /// that of -r
    #[arg(long, value_name = "HOST", requires = "web", value_delimiter = ',')]
    allow_registry: Vec<RegistryHost>,
    /// Answer to this name too, beside addresses and `localhost` (repeatable)
    #[arg(long, value_name = "NAME", requires = "web", value_delimiter = ',')]
    public_name: Vec<String>,
    /// How many downloads run at once; who comes then is told to wait
    #[arg(long, value_name = "N", requires = "web", default_value_t = DEFAULT_DOWNLOADS)]
    downloads: NonZeroUsize,
    /// How many transfers run at once for one download
    #[arg(short, long, value_name = "N", requires = "web", default_value_t = DEFAULT_JOBS)]
    jobs: NonZeroUsize,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

impl WebArgs {
    /// Whether the page is asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.web
    }

    pub(super) async fn run(
        &self,
        listen: &ListenArgs,
        terminal: &Terminal,
    ) -> anyhow::Result<ExitCode> {
        let registry = self.registry();
        let config = config::read()?;
        let connections = self.mirrors.connections(&self.access, &registry, &config, terminal)?;
        let credentials =
            self.access.credentials(&registry, &config, Stdin::Free, terminal).await?;
        let public_names = self.public_names()?;
        let (listener, logins) =
            listen.listen("download what the registries give", terminal).await?;
        let settings = Settings {
            allowed: self.allowed(),
            connections,
            credentials,
            jobs: self.jobs,
            downloads_max: self.downloads,
            public_names,
            logins,
            ..Settings::new(registry)
        };
        // Whoever reads that it serves may end it at once.
        let mut signals = Signals::listen();
        terminal.reporter().note(format!("serving the page on {}, Ctrl-C ends it", listener.url()));
        listener.run(Web::new(settings, terminal.reporter()), signals.next()).await;
        Ok(ExitCode::Done)
    }

    /// The registry of images that name none: where Docker Hub is not allowed, the first one that is.
    fn registry(&self) -> RegistryHost {
        let hub = RegistryHost::docker_hub();
        let first = || self.allow_registry.first().filter(|_| !self.allow_registry.contains(&hub));
        self.registry.clone().or_else(|| first().cloned()).unwrap_or(hub)
    }

    fn allowed(&self) -> BTreeSet<RegistryHost> {
        if self.allow_registry.is_empty() {
            return BTreeSet::from([RegistryHost::docker_hub()]);
        }
        self.allow_registry.iter().cloned().collect()
    }

    /// The names without ports, which are not compared.
    fn public_names(&self) -> Result<BTreeSet<String>, Usage> {
        let name = |text: &String| {
            let host: RegistryHost = text.parse().map_err(|_| {
                Usage::new(format!("expected a name such as `images.example`, found `{text}`"))
                    .with_hint("leave out `http://` and what follows the name")
            })?;
            Ok(host.name().to_owned())
        };
        self.public_name.iter().map(name).collect()
    }
}
