//! The options that say where images are read: registries, payloads, or a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use kharon::failure::Usage;
use kharon::make::ReadLayers;
use kharon::payload::Payload;
use kharon::reference::RegistryHost;
use kharon::registry::Registries;
use kharon::save::Origin;
use kharon::terminal::Terminal;

use super::access::{AccessArgs, Stdin};
use super::baselines::BaselineArgs;
use super::config;
use super::mirrors::MirrorArgs;

/// Files that make a folder one of images, instead of one of payloads.
const FOLDER_MARKS: [&str; 2] = ["oci-layout", "catalog.json"];

#[derive(Debug, Args)]
pub(super) struct OriginArgs {
    /// Read from this payload (repeatable, volumes too), OCI image layout or merged folder instead of registries
    #[arg(long, value_name = "PAYLOAD")]
    from: Vec<PathBuf>,
    /// The registry of images that name none, Docker Hub if not given; with `--from`, the one that has what
    /// the payload expects there
    #[arg(short, long, value_name = "HOST")]
    registry: Option<RegistryHost>,
    #[command(flatten)]
    baselines: BaselineArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    access: AccessArgs,
}

impl OriginArgs {
    /// The registry of images that name none.
    pub(super) fn default_registry(&self) -> RegistryHost {
        self.registry.clone().unwrap_or_else(RegistryHost::docker_hub)
    }

    /// Where temporary files lie.
    pub(super) fn workdir(&self) -> PathBuf {
        self.baselines.workdir()
    }

    pub(super) async fn origin(&self, terminal: &Terminal) -> anyhow::Result<Origin> {
        let is_folder = |path: &Path| FOLDER_MARKS.iter().any(|mark| path.join(mark).is_file());
        if let [path] = self.from.as_slice()
            && is_folder(path)
        {
            return Ok(Origin::Folder(path.clone()));
        }
        if let Some(path) = self.from.iter().find(|path| is_folder(path)) {
            let message =
                format!("`{}` is a folder of images beside other origins", path.display());
            return Err(Usage::new(message).with_hint("name it alone").into());
        }
        if self.from.is_empty() {
            let default_registry = self.default_registry();
            let config = config::read()?;
            let connections =
                self.mirrors.connections(&self.access, &default_registry, &config, terminal)?;
            let credentials =
                self.access.credentials(&default_registry, &config, Stdin::Free, terminal).await?;
            let registries = Registries::new(connections, credentials, terminal.reporter());
            return Ok(Origin::Registries(registries, ReadLayers::default()));
        }
        let paths = self.from.clone();
        let open = move || Payload::open_each(&paths);
        let payloads = tokio::task::spawn_blocking(open).await??;
        Ok(Origin::Payloads {
            payloads: payloads.into_iter().map(Arc::new).collect(),
            registry: self.access.registry(self.registry.as_ref(), terminal).await?,
            baselines: self.baselines.baselines(),
        })
    }
}
