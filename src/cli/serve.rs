//! `kharon serve`.

use std::path::PathBuf;

use clap::Args;
use kharon::failure::ExitCode;
use kharon::serve::Server;
use kharon::terminal::Terminal;

use super::listen::ListenArgs;
use super::signalled;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The folder with the OCI image layout, such as an unzipped payload; made if it is missing
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
}

impl ServeArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let server = Server::open(&self.dir)?;
        let (listener, logins) = self.listen.listen("pull and push", terminal).await?;
        let server = match logins {
            Some(logins) => server.with_logins(logins),
            None => server,
        };
        terminal.reporter().note(format!(
            "serving `{}` on {}, Ctrl-C ends it",
            self.dir.display(),
            listener.url()
        ));
        server.on(listener).run(signalled()).await;
        Ok(ExitCode::Done)
    }
}
