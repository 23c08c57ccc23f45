//! `kharon serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::serve::Server;
use kharon::terminal::Terminal;

use super::signalled;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The folder with the OCI image layout, such as an unzipped payload; made if it is missing
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Where to listen; who can reach this address can pull and push without a login
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
}

impl ServeArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let bound = Server::open(&self.dir)?.bind(self.listen).await?;
        let address = bound.local_address();
        if !address.ip().is_loopback() {
            terminal.reporter().warn(format!(
                "everybody who can reach {address} can pull and push: there is no login"
            ));
        }
        terminal
            .reporter()
            .note(format!("serving `{}` on http://{address}, Ctrl-C ends it", self.dir.display()));
        bound.run(signalled()).await;
        Ok(ExitCode::Done)
    }
}
