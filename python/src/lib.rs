//! The native part of the Python package: it runs the library's two verbs without the interpreter's lock,
//! and gives what happens to Python on the thread that called.

mod descriptor;
mod outcome;
mod sink;
mod wait;

use std::ffi::OsString;
use std::io::Write;

use kharon::cli::{self, OpenPayload};
use kharon::failure::{self, BaselineMissing, ExitCode};
use kharon::stop::Stop;
use kharon::terminal::{self, Terminal, Verbosity};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use descriptor::Number;
use sink::Sink;
use wait::Listener;

create_exception!(kharon, KharonError, PyException, "kharon could not do what it was asked for.");
create_exception!(kharon, RegistryError, KharonError, "A registry failed, refused or lied.");
create_exception!(kharon, PayloadError, KharonError, "A payload, receipt or inventory is damaged.");
create_exception!(kharon, ManifestNotFound, KharonError, "The far side lacks an image.");
create_exception!(kharon, BlobNotFound, KharonError, "The far side lacks blobs of an image.");

/// Makes a payload, into the file that `options` name or into `stream`.
#[pyfunction]
fn make(
    py: Python<'_>,
    options: Vec<OsString>,
    stream: Option<Py<PyAny>>,
    on_event: Py<PyAny>,
    all_events: bool,
) -> PyResult<()> {
    let sink = stream.map(Sink::new);
    let raised = sink.as_ref().map(Sink::raised);
    let stream = sink.map(|sink| Box::new(sink) as Box<dyn Write + Send>);
    let listener = listener(on_event, all_events);
    let work = async |terminal: &Terminal| cli::call_make(options, stream, terminal).await;
    wait::run(py, &listener, &Stop::default(), work)
        .map_err(|error| raised.and_then(|raised| raised.take()).unwrap_or(error))
}

/// Pushes the payload in the open file of that number, else the one that `options` name. Gives the names of its
/// images that are at the far side or were taken for transferred, in its order.
#[pyfunction]
fn push(
    py: Python<'_>,
    options: Vec<OsString>,
    open: Option<(Number, String)>,
    on_event: Py<PyAny>,
    all_events: bool,
) -> PyResult<Vec<String>> {
    let open = match open {
        Some((number, name)) => {
            Some(OpenPayload { file: descriptor::file(number)?, name: terminal::shown(&name) })
        }
        None => None,
    };
    let stop = Stop::default();
    let asked = stop.clone();
    let listener = listener(on_event, all_events);
    let work = async |terminal: &Terminal| {
        let pushed = cli::call_push(options, open, asked, terminal).await?;
        let needed = &pushed.report.volumes_needed;
        if !needed.is_empty() {
            let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
            terminal.reporter().warn(format!(
                "nothing is published before the other volumes have arrived: {}",
                needed.join(", ")
            ));
        }
        Ok(pushed)
    };
    outcome::names(py, wait::run(py, &listener, &stop, work)?)
}

fn listener(on_event: Py<PyAny>, all_events: bool) -> Listener {
    let verbosity = if all_events { Verbosity::Normal } else { Verbosity::Quiet };
    Listener { on_event, verbosity }
}

/// Runs the `kharon` command and gives its exit code.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| cli::start(arguments))
}

/// The exception for `error`, in text that is safe to show.
fn exception(error: &anyhow::Error) -> PyErr {
    let text = terminal::plain_error(error, &failure::hints(error));
    match ExitCode::of(error) {
        ExitCode::Usage => PyValueError::new_err(text),
        ExitCode::Registry => RegistryError::new_err(text),
        ExitCode::PayloadDamaged => PayloadError::new_err(text),
        ExitCode::BaselineMissing => match error.downcast_ref::<BaselineMissing>() {
            Some(missing) if !missing.lacks_image => BlobNotFound::new_err(text),
            _ => ManifestNotFound::new_err(text),
        },
        _ => KharonError::new_err(text),
    }
}

#[pymodule]
fn _kharon(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(make, module)?)?;
    module.add_function(wrap_pyfunction!(push, module)?)?;
    module.add_function(wrap_pyfunction!(command, module)?)?;
    // Those that are raised after something was pushed have their own.
    py.get_type::<KharonError>().setattr("pushed", PyTuple::empty(py))?;
    module.add("KharonError", py.get_type::<KharonError>())?;
    module.add("RegistryError", py.get_type::<RegistryError>())?;
    module.add("PayloadError", py.get_type::<PayloadError>())?;
    module.add("ManifestNotFound", py.get_type::<ManifestNotFound>())?;
    module.add("BlobNotFound", py.get_type::<BlobNotFound>())
}
