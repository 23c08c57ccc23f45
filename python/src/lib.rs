//! The native part of the Python package: it runs the library's two verbs without the interpreter's lock,
//! and gives what happens to Python on the thread that called.

mod sink;
mod wait;

use std::ffi::OsString;

use kharon::cli;
use kharon::failure::ExitCode;
use kharon::stop::Stop;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use sink::Sink;

create_exception!(kharon, KharonError, PyException, "kharon could not do what it was asked for.");
create_exception!(kharon, RegistryError, KharonError, "A registry failed, refused or lied.");
create_exception!(kharon, PayloadError, KharonError, "A payload, receipt or inventory is damaged.");
create_exception!(kharon, ManifestNotFound, KharonError, "The far side lacks an image.");
create_exception!(kharon, BlobNotFound, KharonError, "The far side lacks blobs of an image.");

/// Makes a payload, into the file that `options` name or into `stream`.
#[pyfunction]
fn make(
    py: Python<'_>,
    options: Vec<String>,
    stream: Option<Py<PyAny>>,
    on_event: Py<PyAny>,
) -> PyResult<()> {
    let sink = stream.map(Sink::new);
    let raised = sink.as_ref().map(Sink::raised);
    let stream = sink.map(|sink| Box::new(sink) as Box<dyn std::io::Write + Send>);
    wait::run(py, &on_event, &Stop::default(), |reporter| cli::call_make(options, stream, reporter))
        .map_err(|error| raised.and_then(|raised| raised.take()).unwrap_or(error))
}

/// Pushes the payload that `options` name and gives the names of its images that are at the far side or were
/// taken for transferred, and of those among the latter that are not there.
#[pyfunction]
fn push(
    py: Python<'_>,
    options: Vec<String>,
    on_event: Py<PyAny>,
) -> PyResult<(Vec<String>, Vec<String>)> {
    let stop = Stop::default();
    let asked = stop.clone();
    let (report, mut names) =
        wait::run(py, &on_event, &stop, |reporter| cli::call_push(options, asked, reporter))?;
    if !report.incomplete.is_empty() {
        let left: Vec<&str> = report.incomplete.iter().map(|image| image.name.as_str()).collect();
        return Err(BlobNotFound::new_err(format!(
            "the far side lacks blobs that the payload expects there, for {}; what was complete was \
             pushed",
            left.join(", ")
        )));
    }
    if let Some(tag) = report.refused_tags.first() {
        let (name, reason) = (format!("{}:{}", tag.repository, tag.tag), &tag.reason);
        return Err(RegistryError::new_err(format!("tag `{name}` was refused: {reason}")));
    }
    let missing = report.skipped_and_missing;
    names.retain(|name| {
        missing.contains(name) || report.pushed.iter().any(|image| image.name == *name)
    });
    Ok((names, missing))
}

/// Runs the `kharon` command and gives its exit code.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| cli::start(arguments))
}

/// The exception for `error`.
fn exception(error: &anyhow::Error) -> PyErr {
    let mut text = format!("{error:#}");
    for hint in kharon::failure::hints(error) {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    match ExitCode::of(error) {
        ExitCode::Usage => pyo3::exceptions::PyValueError::new_err(text),
        ExitCode::Registry => RegistryError::new_err(text),
        ExitCode::PayloadDamaged => PayloadError::new_err(text),
        ExitCode::BaselineMissing => ManifestNotFound::new_err(text),
        _ => KharonError::new_err(text),
    }
}

#[pymodule]
fn _kharon(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(make, module)?)?;
    module.add_function(wrap_pyfunction!(push, module)?)?;
    module.add_function(wrap_pyfunction!(command, module)?)?;
    module.add("KharonError", py.get_type::<KharonError>())?;
    module.add("RegistryError", py.get_type::<RegistryError>())?;
    module.add("PayloadError", py.get_type::<PayloadError>())?;
    module.add("ManifestNotFound", py.get_type::<ManifestNotFound>())?;
    module.add("BlobNotFound", py.get_type::<BlobNotFound>())
}
