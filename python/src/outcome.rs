//! What a push that went through came to: names, or an exception that says what was pushed all the same.

use kharon::cli::Pushed;
use kharon::push::PushReport;
use kharon::terminal;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::{BlobNotFound, RegistryError};

/// The names of the images that are at the far side or were taken for transferred, in the payload's order.
pub fn names(py: Python<'_>, pushed: Pushed) -> PyResult<Vec<String>> {
    let Pushed { report, mut names } = pushed;
    let Some(text) = wrong(&report) else {
        let there = |name: &String| report.pushed.iter().any(|image| image.name == *name);
        names.retain(|name| there(name) || report.skipped_and_missing.contains(name));
        return Ok(names);
    };
    let text = terminal::shown(&text);
    let error = if report.incomplete.is_empty() {
        RegistryError::new_err(text)
    } else {
        BlobNotFound::new_err(text)
    };
    let there = report.pushed.iter().map(|image| image.name.as_str());
    error.value(py).setattr("pushed", PyTuple::new(py, there.collect::<Vec<_>>())?)?;
    Err(error)
}

/// What did not go as it should, if anything.
fn wrong(report: &PushReport) -> Option<String> {
    let mut lines: Vec<String> = report.incomplete.iter().map(ToString::to_string).collect();
    for tag in &report.refused_tags {
        lines.push(format!("tag `{}:{}` was refused: {}", tag.repository, tag.tag, tag.reason));
    }
    for tag in &report.kept_tags {
        lines.push(format!(
            "tag `{}:{}` was left alone: it names `{}`, which the payload did not expect",
            tag.repository, tag.tag, tag.found
        ));
    }
    if lines.is_empty() {
        return None;
    }
    let pushed: Vec<&str> = report.pushed.iter().map(|image| image.name.as_str()).collect();
    lines.push(match pushed.as_slice() {
        [] => "no image was pushed".to_owned(),
        pushed => format!("pushed: {}", pushed.join(", ")),
    });
    if !report.kept_tags.is_empty() {
        lines.push("hint: `force_tags=True` moves tags that were left alone".to_owned());
    }
    Some(lines.join("\n"))
}
