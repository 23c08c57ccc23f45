//! The two verbs as calls from another language: the options of the command, and no terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use clap::Args;
use kharon::failure::Usage;
use kharon::make::{self, Destination};
use kharon::payload::Payload;
use kharon::push::{self, PushReport};
use kharon::stop::Stop;
use kharon::terminal::Terminal;

use super::make::MakeArgs;
use super::push::PushArgs;

/// Makes the payload that the options of `kharon make-payload` describe: into their file, or `stream`.
/// Nobody is asked anything, and `terminal` should be one that is none ([`Terminal::without`]).
///
/// # Errors
/// As [`make::make_payload`], and where the options make no sense.
pub async fn call_make(
    options: Vec<OsString>,
    stream: Option<Box<dyn Write + Send>>,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let arguments: MakeArgs = parse("make_payload", options)?;
    if arguments.is_one_volume() {
        if stream.is_some() {
            return Err(Usage::new("a volume that is made again goes into a file").into());
        }
        arguments.run(terminal).await?;
        return Ok(());
    }
    let request = arguments.checked_request(terminal).await?;
    let destination = match (stream, arguments.file()) {
        (Some(stream), _) => Destination::Stream(stream),
        (None, Some(path)) => Destination::File(path.clone()),
        (None, None) => return Err(Usage::new("no file to write was named").into()),
    };
    make::make_payload(request, destination, terminal.reporter()).await?;
    Ok(())
}

/// What a call of `push-payload` came to.
#[derive(Debug)]
pub struct Pushed {
    /// How it went.
    pub report: PushReport,
    /// The names of all images of the payload, in its order.
    pub names: Vec<String>,
}

/// A payload that is open already.
#[derive(Debug)]
pub struct OpenPayload {
    /// It is read at offsets, wherever it stands.
    pub file: File,
    /// How messages call it.
    pub name: String,
}

/// Pushes the payload that is open, else the one that the options of `kharon push-payload` name, until it is done
/// or `stop` asks.
///
/// # Errors
/// As [`push::push_payload`], and where the options make no sense.
pub async fn call_push(
    options: Vec<OsString>,
    open: Option<OpenPayload>,
    stop: Stop,
    terminal: &Terminal,
) -> anyhow::Result<Pushed> {
    let arguments: PushArgs = parse("push_payload", options)?;
    let request = arguments.request_with(stop, terminal).await?;
    let payload = match open {
        Some(OpenPayload { file, name }) => {
            tokio::task::spawn_blocking(move || Payload::from_file(file, name)).await??
        }
        None => arguments.open_files().await?,
    };
    let names = payload.index().images.iter().map(|image| image.name.clone()).collect();
    let report = push::push_payload(Arc::new(payload), request, terminal.reporter()).await?;
    Ok(Pushed { report, names })
}

fn parse<T: Args>(name: &'static str, options: Vec<OsString>) -> Result<T, Usage> {
    let command = T::augment_args(clap::Command::new(name)).no_binary_name(true);
    command.try_get_matches_from(options).and_then(|found| T::from_arg_matches(&found)).map_err(
        |error| {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            Usage::new(first.strip_prefix("error: ").unwrap_or(first).trim())
        },
    )
}
