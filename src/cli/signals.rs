//! SIGINT and SIGTERM, as the exit codes that they end a run with.

use std::io;

use kharon::failure::ExitCode;

/// Takes the signals that come from now on.
pub(super) struct Signals(Option<Handlers>);

#[cfg(unix)]
struct Handlers {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(windows)]
struct Handlers {
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    /// Begins to listen. Where the system refuses that, a signal ends the process by itself.
    pub(super) fn listen() -> Self {
        Self(Handlers::install().ok())
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> ExitCode {
        match &mut self.0 {
            Some(handlers) => handlers.next().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
impl Handlers {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::Interrupted,
            _ = self.terminate.recv() => ExitCode::Terminated,
        }
    }
}

#[cfg(windows)]
impl Handlers {
    fn install() -> io::Result<Self> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    async fn next(&mut self) -> ExitCode {
        self.interrupt.recv().await;
        ExitCode::Interrupted
    }
}

/// Waits for one signal.
pub(super) async fn signalled() -> ExitCode {
    Signals::listen().next().await
}
