//! The command line as typed, and from there to the library's requests.

mod access;
mod baselines;
mod call;
mod config;
mod delta;
mod expand;
mod extract;
mod images;
mod inspect;
mod inventory;
mod key;
mod listen;
mod make;
mod mirrors;
mod origin;
mod paper;
mod push;
mod recreate;
mod save;
mod serve;
mod signals;
mod start;
mod state;
mod verify;
mod web;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kharon::failure::ExitCode;
use kharon::terminal::{Options, ProgressMode, Terminal, Verbosity};

pub use call::{OpenPayload, Pushed, call_make, call_push};
use signals::signalled;
pub use start::start;

/// What stands under the help of every command.
const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed
    2  the command line makes no sense
    3  a registry cannot be reached, refused something, or sent something wrong
    4  the payload, a receipt or an inventory is damaged, or not signed or scanned as asked
    5  the far side lacks what the payload expects there
  130  interrupted (143: terminated)";

/// Where the options of every command stand in its help.
const MESSAGES: &str = "Messages";

/// Carries container images across an air gap.
///
/// On the connected side, `kharon make-payload` packs what the far registry lacks into one zip. On the
/// air-gapped side, `kharon push-payload` sends it to the registry there.
#[derive(Debug, Parser)]
#[command(name = "kharon", version, propagate_version = true, after_help = EXIT_CODES)]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pack what the far registry lacks into one zip
    #[command(after_help = EXIT_CODES)]
    MakePayload(Box<make::MakeArgs>),
    /// Send a payload to the far registry
    #[command(after_help = EXIT_CODES)]
    PushPayload(Box<push::PushArgs>),
    /// Show what a payload holds and what it expects at the far side
    #[command(after_help = EXIT_CODES)]
    Inspect(inspect::InspectArgs),
    /// Read every byte of a payload and check every digest
    #[command(after_help = EXIT_CODES)]
    Verify(Box<verify::VerifyArgs>),
    /// Write all that payloads bring as plain files, for a scanner to look at
    #[command(after_help = EXIT_CODES)]
    Expand(Box<expand::ExpandArgs>),
    /// Save images as one tar that every engine loads, or into a folder
    #[command(after_help = EXIT_CODES)]
    Save(Box<save::SaveArgs>),
    /// Make the tar of one image again out of a merged folder
    #[command(after_help = EXIT_CODES)]
    Recreate(recreate::RecreateArgs),
    /// Write an image as the tree of files that a container sees
    #[command(after_help = EXIT_CODES)]
    Extract(Box<extract::ExtractArgs>),
    /// Make a key that signs payloads
    #[command(after_help = EXIT_CODES)]
    Keygen(key::KeygenArgs),
    /// List what a registry holds, for `make-payload --against`
    #[command(after_help = EXIT_CODES)]
    Inventory(Box<inventory::InventoryArgs>),
    /// Serve payloads, or a folder with an OCI image layout, as a registry; or a page that hands images out
    #[command(after_help = EXIT_CODES)]
    Serve(Box<serve::ServeArgs>),
    /// Print a script that completes kharon's command line
    #[command(after_help = EXIT_CODES)]
    Completions(paper::CompletionsArgs),
    /// Print a manual page
    #[command(after_help = EXIT_CODES)]
    Man(paper::ManArgs),
}

/// How much is shown while a command runs.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Show warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = MESSAGES)]
    quiet: bool,
    /// Show details, such as what is tried again and why
    #[arg(short, long, global = true, help_heading = MESSAGES)]
    verbose: bool,
    /// How to show progress on stderr; `auto` draws bars on a terminal and prints a line every few
    /// seconds without one
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", help_heading = MESSAGES)]
    progress: Progress,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Progress {
    Auto,
    Bars,
    Lines,
    Json,
    None,
}

impl ShowArgs {
    pub(crate) fn options(&self) -> Options {
        Options {
            progress: match self.progress {
                Progress::Auto => ProgressMode::Auto,
                Progress::Bars => ProgressMode::Bars,
                Progress::Lines => ProgressMode::Lines,
                Progress::Json => ProgressMode::Json,
                Progress::None => ProgressMode::None,
            },
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, true) => Verbosity::Verbose,
                (false, false) => Verbosity::Normal,
            },
        }
    }
}

/// How a command ended.
pub(crate) enum Ended {
    Alone(anyhow::Result<ExitCode>),
    Signal(ExitCode),
}

impl Command {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        match self {
            Self::MakePayload(arguments) => arguments.run(terminal).await,
            Self::PushPayload(arguments) => arguments.run(terminal).await,
            Self::Inspect(arguments) => arguments.run(terminal),
            Self::Verify(arguments) => arguments.run(terminal).await,
            Self::Expand(arguments) => arguments.run(terminal).await,
            Self::Save(arguments) => arguments.run(terminal).await,
            Self::Recreate(arguments) => arguments.run(terminal).await,
            Self::Extract(arguments) => arguments.run(terminal).await,
            Self::Keygen(arguments) => arguments.run(terminal).await,
            Self::Inventory(arguments) => arguments.run(terminal).await,
            Self::Serve(arguments) => arguments.run(terminal).await,
            Self::Completions(arguments) => arguments.run(terminal),
            Self::Man(arguments) => arguments.run(terminal),
        }
    }

    /// Waits for a signal that ends the command. A server ends by itself when one comes, and a push when
    /// what it may not tear has ended.
    pub(crate) async fn signalled(&self, terminal: &Terminal) -> ExitCode {
        match self {
            Self::Serve(_) => std::future::pending().await,
            Self::PushPayload(arguments) => arguments.signalled(terminal).await,
            _ => signalled().await,
        }
    }

    /// Says what a signal left behind.
    pub(crate) fn tell_interrupted(&self, terminal: &Terminal) {
        let message = match self {
            Self::MakePayload(arguments) if arguments.is_resumable() => {
                "interrupted: a former payload is as it was, and the same command goes on from here"
            }
            Self::PushPayload(_) => "interrupted: what arrived stays and is not sent again",
            Self::Save(_) | Self::Recreate(_) | Self::Extract(_) => {
                "interrupted: a former file or folder is as it was"
            }
            Self::Expand(_) => "interrupted: not everything is in the folder, remove it",
            _ => "interrupted",
        };
        terminal.reporter().warn(message.to_owned());
    }
}

/// A file that was named, other than by the `-` that stands for stdin or stdout.
fn named(file: Option<&PathBuf>) -> Option<&PathBuf> {
    file.filter(|path| path.as_os_str() != "-")
}

/// `text` and a line's end on stdout.
fn print_line(terminal: &Terminal, text: &str) -> anyhow::Result<()> {
    terminal.write_stdout(&format!("{text}\n"))?;
    Ok(())
}

/// `value` as JSON on stdout.
fn print_json(terminal: &Terminal, value: &impl serde::Serialize) -> anyhow::Result<()> {
    print_line(terminal, &serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_holds_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_spellings_of_docker_charon_keep_working() {
        for line in [
            "kharon make-payload --file=x a,b",
            "kharon make-payload -fx a -a b",
            "kharon make-payload a,b -ir HOST -u me -p secret",
            "kharon make-payload a --already-transferred b,c --registry localhost:5000",
            "kharon push-payload -ir localhost:5000 -fx -s",
            "kharon push-payload --strict --insecure --registry=localhost:5000 --file x",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err().map(|e| e.to_string()));
        }
    }

    #[test]
    fn the_spellings_of_scripts_that_save_images_keep_working() {
        for line in [
            "kharon save a -o x.tar",
            "kharon save a --output=-",
            "kharon save a --tarname x.tar --working-dir y",
            "kharon save a --no-tar --insecure --user me --password secret",
            "kharon save a --ilogin -r localhost:5000",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err().map(|e| e.to_string()));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_code_for_usage() {
        for line in [
            "kharon",
            "kharon make-payload --jobs 0 a",
            "kharon make-payload -q -v a",
            "kharon make-payload --platform linux a",
            "kharon push-payload -r http://host",
            "kharon push-payload -r a --chunk-size x",
            "kharon inspect",
            "kharon save a --layout merged",
            "kharon save a --to x -o y",
            "kharon save a --platform linux",
            "kharon save a --uncompressed --rewrite-zstd gzip",
            "kharon save a --rewrite-zstd xz",
            "kharon recreate x",
            "kharon extract a",
            "kharon extract --to x",
            "kharon extract a --to x --layer 0",
            "kharon extract a --to x --layer 1 --each-layer",
        ] {
            assert_eq!(parse(line).err().map(|error| error.exit_code()), Some(2), "{line}");
        }
    }
}
