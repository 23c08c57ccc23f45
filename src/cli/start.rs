//! One run of the command: parse, run, turn the outcome into an exit code.

use std::ffi::OsString;

use clap::Parser as _;
use kharon::failure::{ExitCode, hints};
use kharon::terminal::Terminal;

use super::{Cli, Ended};

/// Runs the command line `arguments`, the first of which is the command's name, until it is done or a
/// signal comes.
pub fn start(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and ends with 0, a usage error to stderr and ends with 2. Where
            // neither can be written there is nobody to tell.
            let _ = error.print();
            return u8::from(error.use_stderr()) * ExitCode::Usage as u8;
        }
    };
    let terminal = Terminal::open(&cli.show.options());
    let code = match run(&cli, &terminal) {
        Ok(code) => code,
        Err(error) => {
            terminal.print_error(&error, &hints(&error));
            ExitCode::of(&error)
        }
    };
    terminal.finish();
    code as u8
}

/// Runs the command until it is done or a signal comes.
fn run(cli: &Cli, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            code = cli.command.signalled(terminal) => Ended::Signal(code),
            result = cli.command.run(terminal) => Ended::Alone(result),
        }
    });
    // A thread may still wait for a pipe that says nothing: do not wait for it.
    runtime.shutdown_background();
    match ended {
        Ended::Alone(result) => result,
        Ended::Signal(code) => {
            terminal.finish();
            cli.command.tell_interrupted(terminal);
            Ok(code)
        }
    }
}
