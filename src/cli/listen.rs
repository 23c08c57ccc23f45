//! The options of those who serve: where, with which certificate, and for whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kharon::listen::{Listener, Logins, Tls};
use kharon::terminal::Terminal;

/// Where to listen, and who may ask.
#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Speak TLS with the certificate in this PEM file, its chain behind it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The PEM key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Answer only the users in this file, as `htpasswd -B` writes it
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
}

impl ListenArgs {
    /// Reads the files and listens. `can` says what everybody can do there, such as "pull and push".
    pub(super) async fn listen(
        &self,
        can: &str,
        terminal: &Terminal,
    ) -> anyhow::Result<(Listener, Option<Logins>)> {
        let logins = self.htpasswd.as_deref().map(Logins::read).transpose()?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::read(certificate, key)?),
            _ => None,
        };
        let listener = Listener::bind(self.listen, tls).await?;
        let address = listener.local_address();
        if listener.is_exposed() && logins.is_none() {
            terminal.reporter().warn(format!(
                "everybody who can reach {address} can {can}: there is no login, `--htpasswd` asks for one"
            ));
        }
        if listener.is_exposed() && listener.is_plain() {
            let passwords = if logins.is_some() { "passwords and content" } else { "content" };
            terminal.reporter().warn(format!(
                "{passwords} can be read and changed on the way to {address}: `--tls-cert` and `--tls-key` prevent that"
            ));
        }
        Ok((listener, logins))
    }
}
