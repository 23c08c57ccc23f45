//! `kharon completions` and `kharon man`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use kharon::failure::{ExitCode, Usage};
use kharon::terminal::Terminal;

use super::Cli;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "kharon", &mut script);
        terminal.write_stdout(&String::from_utf8(script)?)?;
        Ok(ExitCode::Done)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command whose page to print; kharon's own if not given
    command: Option<String>,
}

impl ManArgs {
    pub(crate) fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let mut whole = Cli::command();
        whole.build();
        let page = match &self.command {
            None => whole,
            Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
                Usage::new(format!("there is no command `{name}`")).with_hint("see `kharon --help`")
            })?,
        };
        let mut text = Vec::new();
        clap_mangen::Man::new(page).render(&mut text)?;
        terminal.write_stdout(&String::from_utf8(text)?)?;
        Ok(ExitCode::Done)
    }
}
