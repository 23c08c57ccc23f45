//! The two verbs as calls from another language: the options of the command, and a reporter instead of
//! the terminal.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use kharon::failure::Usage;
use kharon::make::{self, Destination};
use kharon::progress::Reporter;
use kharon::push::{self, PushReport};
use kharon::stop::Stop;
use kharon::terminal::{Options, ProgressMode, Terminal, Verbosity};

use super::make::MakeArgs;
use super::push::PushArgs;

/// Makes the payload that the options of `kharon make-payload` describe: into their file, or `stream`.
///
/// # Errors
/// As [`make::make_payload`], and where the options make no sense.
pub async fn call_make(
    options: Vec<String>,
    stream: Option<Box<dyn Write + Send>>,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<()> {
    let arguments: MakeArgs = parse("make_payload", options)?;
    let request = arguments.checked_request(&quiet()).await?;
    let destination = match (stream, arguments.file()) {
        (Some(stream), _) => Destination::Stream(stream),
        (None, Some(path)) => Destination::File(path.clone()),
        (None, None) => return Err(Usage::new("no file to write was named").into()),
    };
    make::make_payload(request, destination, reporter).await?;
    Ok(())
}

/// Pushes the payload that the options of `kharon push-payload` name, until it is done or `stop` asks.
/// Gives the names of all its images too, in its order.
///
/// # Errors
/// As [`push::push_payload`], and where the options make no sense.
pub async fn call_push(
    options: Vec<String>,
    stop: Stop,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<(PushReport, Vec<String>)> {
    let arguments: PushArgs = parse("push_payload", options)?;
    let (payload, request) = arguments.opened(stop, &quiet()).await?;
    let names = payload.index().images.iter().map(|image| image.name.clone()).collect();
    Ok((push::push_payload(Arc::new(payload), request, reporter).await?, names))
}

fn parse<T: Args>(name: &'static str, options: Vec<String>) -> Result<T, Usage> {
    let command = T::augment_args(clap::Command::new(name)).no_binary_name(true);
    command.try_get_matches_from(options).and_then(|found| T::from_arg_matches(&found)).map_err(
        |error| {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            Usage::new(first.strip_prefix("error: ").unwrap_or(first).trim())
        },
    )
}

/// A terminal that is only used for what has to be asked, such as the password of a key.
fn quiet() -> Terminal {
    Terminal::open(&Options { progress: ProgressMode::None, verbosity: Verbosity::Quiet })
}
