//! Options that say how registries are reached and who we are to them.

use std::path::PathBuf;

use clap::Args;
use kharon::config::Config;
use kharon::failure::Usage;
use kharon::reference::RegistryHost;
use kharon::registry::{
    ClientIdentity, Connections, CredentialStore, Credentials, HostSettings, PasswordSource,
    Referenced, Registries, Registry, Secret, TlsVerification,
};
use kharon::terminal::{self, Terminal};
use kharon::units::parse_rate;

use super::config;

/// The password's variables: kharon's own, and docker-charon's.
const PASSWORD_VARIABLES: [&str; 2] = ["KHARON_PASSWORD", "DOCKER_CHARON_PASSWORD"];
/// The user name's variables.
const USERNAME_VARIABLES: [&str; 2] = ["KHARON_USERNAME", "DOCKER_CHARON_USERNAME"];

const USERNAME_HELP: &str = "User name for the registry given with -r, and for no other; without one \
    kharon looks where docker login and podman login keep theirs \
    [env: KHARON_USERNAME, DOCKER_CHARON_USERNAME]";
const PASSWORD_HELP: &str = "Password for it; other users of this machine can see it, better use \
    --password-stdin [env: KHARON_PASSWORD, DOCKER_CHARON_PASSWORD]";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(next_help_heading = "Access to registries")]
pub(crate) struct AccessArgs {
    /// Speak plain http to the registry given with -r
    #[arg(short, long)]
    insecure: bool,
    /// Speak plain http to this registry too (repeatable)
    #[arg(long, value_name = "HOST")]
    plain_http: Vec<RegistryHost>,
    #[arg(short, long, value_name = "NAME", help = USERNAME_HELP)]
    username: Option<String>,
    #[arg(short, long, value_name = "PASSWORD", help = PASSWORD_HELP)]
    #[arg(conflicts_with_all = ["password_stdin", "login"])]
    password: Option<Secret>,
    /// Read the password from the first line of stdin
    #[arg(long, conflicts_with = "login")]
    password_stdin: bool,
    /// Ask for user name and password on the terminal
    #[arg(long)]
    login: bool,
    /// Trust the certificate authorities in this PEM file for the registry given with -r (repeatable)
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Show this PEM certificate to the registry given with -r
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The PEM key of that certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Do not check certificates at all
    #[arg(long)]
    skip_tls_verify: bool,
    /// Move at most so many bytes a second, such as 10MB
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit_rate: Option<u64>,
}

/// Who reads standard input besides a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    Free,
    Taken(&'static str),
}

impl AccessArgs {
    /// The registry that was named, if one was, reached as these options say.
    pub(super) async fn registry(
        &self,
        host: Option<&RegistryHost>,
        terminal: &Terminal,
    ) -> anyhow::Result<Option<Registry>> {
        let Some(host) = host else { return Ok(None) };
        let config = config::read()?;
        let connections = self.connections(host, &config, terminal);
        let credentials = self.credentials(host, &config, Stdin::Free, terminal).await?;
        let registries = Registries::new(connections, credentials, terminal.reporter());
        Ok(Some(registries.registry(host)?))
    }

    /// The settings for reaching registries; `main` is the one given with -r. What these options say counts
    /// before what `config` says. Mirrors are another matter.
    pub(crate) fn connections(
        &self,
        main: &RegistryHost,
        config: &Config,
        terminal: &Terminal,
    ) -> Connections {
        let mut connections = Connections { main: Some(main.clone()), ..Connections::default() };
        for (host, settings) in &config.registries {
            if settings.plain_http == Some(true) {
                connections.plain_http.insert(host.clone());
            }
            let is_told = host == main && !self.ca_file.is_empty();
            let ca_files = settings.ca_files.clone().filter(|_| !is_told).unwrap_or_default();
            let rate_limit_bytes_per_second = settings.rate_limit_bytes_per_second;
            let settings = HostSettings { ca_files, rate_limit_bytes_per_second };
            connections.hosts.insert(host.clone(), settings);
        }
        connections.plain_http.extend(self.plain_http.iter().cloned());
        if self.insecure {
            connections.plain_http.insert(main.clone());
        }
        connections.ca_files.clone_from(&self.ca_file);
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            let (certificate, key) = (certificate.clone(), key.clone());
            connections.client_identity = Some(ClientIdentity { certificate, key });
        }
        if self.skip_tls_verify {
            connections.tls_verification = TlsVerification::Skip;
            terminal.reporter().warn(
                "certificates are not checked: anybody on the way can read and change what is sent"
                    .to_owned(),
            );
        }
        connections.rate_limit_bytes_per_second =
            self.limit_rate.or(config.rate_limit_bytes_per_second);
        connections
    }

    /// The logins: those of the command line for `main`, else those that `config` leads to, else those that
    /// Docker and podman keep.
    pub(crate) async fn credentials(
        &self,
        main: &RegistryHost,
        config: &Config,
        stdin: Stdin,
        terminal: &Terminal,
    ) -> anyhow::Result<CredentialStore> {
        let mut store = CredentialStore::from_environment();
        for (host, settings) in &config.registries {
            let Some(password) = settings.password.clone() else { continue };
            let variable = match &password {
                PasswordSource::Variable(name) => variable(&[name]).map(Secret::new),
                PasswordSource::File(_) | PasswordSource::Helper { .. } => None,
            };
            let username = settings.username.clone().unwrap_or_default();
            let referenced = Referenced { username, password, variable };
            store = store.with_referenced(host.clone(), referenced);
        }
        let login = self.login(main, stdin, terminal).await?;
        Ok(match login {
            Some(login) => store.with_explicit(main.clone(), login),
            None => store,
        })
    }

    async fn login(
        &self,
        main: &RegistryHost,
        stdin: Stdin,
        terminal: &Terminal,
    ) -> anyhow::Result<Option<Credentials>> {
        let basic =
            |username: String, password: Secret| Some(Credentials::Basic { username, password });
        let username = self.username.clone().or_else(|| variable(&USERNAME_VARIABLES));
        if self.login {
            let login = terminal.prompt_login(main.as_str(), username.as_deref()).await?;
            return Ok(basic(login.username, Secret::new(login.password.as_str())));
        }
        if self.password_stdin {
            let username = username.ok_or_else(|| {
                Usage::new("--password-stdin needs a user name").with_hint("give it with -u")
            })?;
            if let Stdin::Taken(by) = stdin {
                return Err(Usage::new(format!(
                    "both the password and {by} would come from stdin"
                ))
                .with_hint("give one of them in another way")
                .into());
            }
            // A pipe that says nothing must not keep a signal from ending the run.
            let read = tokio::task::spawn_blocking(terminal::read_password_stdin);
            return Ok(basic(username, Secret::new(read.await??)));
        }
        let password =
            self.password.clone().or_else(|| variable(&PASSWORD_VARIABLES).map(Secret::new));
        match (username, password) {
            (Some(username), Some(password)) => Ok(basic(username, password)),
            (Some(username), None) => {
                let login = terminal.prompt_login(main.as_str(), Some(&username)).await?;
                Ok(basic(login.username, Secret::new(login.password.as_str())))
            }
            (None, Some(_)) if self.password.is_some() => {
                Err(Usage::new("a password needs a user name").with_hint("give it with -u").into())
            }
            (None, _) => Ok(None),
        }
    }
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
}
