//! The config of a converted image.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::digest::Digest;

use super::document::Schema1;
use super::error::InvalidSchema1;
use super::fields::Fields;
use super::json::{self, Object};
use super::old_config;

/// What the newest step says of itself rather than of the image.
const DROPPED: [&str; 6] = ["id", "parent", "parent_id", "layer_id", "throwaway", "Size"];
/// Before this version, Docker left out what a config has to have.
const WHOLE_SINCE: &str = "1.8.3";

/// The config that says what the newest step of `document` says, with its history and the plain layers `diff_ids`.
pub(super) fn config(document: &Schema1, diff_ids: &[Digest]) -> Result<String, InvalidSchema1> {
    let failed = |source| InvalidSchema1::History { place: 1, source };
    let newest = Fields::read(&document.newest).map_err(failed)?;
    let version = newest.text("docker_version").map_err(failed)?;
    let mut fields: BTreeMap<&str, Cow<'_, str>> = if is_before(&version, WHOLE_SINCE) {
        let written = old_config::fields(&newest).map_err(failed)?;
        written.into_iter().map(|(name, json)| (name, Cow::Owned(json))).collect()
    } else {
        newest.all().map(|(name, json)| (name, Cow::Borrowed(json.get()))).collect()
    };
    for name in DROPPED {
        fields.remove(name);
    }
    fields.insert("rootfs", rootfs(diff_ids).into());
    fields.insert("history", history(document).into());
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    for (name, value) in fields {
        json::compact(object.field(name), &value);
    }
    object.end();
    Ok(out)
}

fn rootfs(diff_ids: &[Digest]) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::string(object.field("type"), "layers");
    if !diff_ids.is_empty() {
        json::list(object.field("diff_ids"), diff_ids, |out, digest| {
            json::string(out, &digest.to_string());
        });
    }
    object.end();
    out
}

fn history(document: &Schema1) -> String {
    let mut out = String::new();
    json::list(&mut out, &document.steps, |out, step| step.entry.write(out));
    out
}

/// Whether a version is before another, as Docker compares them: number by number, and what is none is 0. None at all is
/// before nothing.
fn is_before(version: &str, other: &str) -> bool {
    let number = |text: &str| match text.parse::<i64>() {
        Ok(number) => number,
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => i64::MAX,
        Err(error) if *error.kind() == std::num::IntErrorKind::NegOverflow => i64::MIN,
        Err(_) => 0,
    };
    let numbers = |text: &str| {
        let mut numbers: Vec<i64> = text.split('.').map(number).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    };
    !version.is_empty() && numbers(version) < numbers(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_docker_does() {
        for (version, is_old) in [
            ("", false),
            ("1.8.2", true),
            ("1.8.3", false),
            ("1.8.3-rc1", true),
            ("1.8", true),
            ("1.10.0", false),
            ("17.06.2-ce", false),
            ("0.9", true),
            ("unknown", true),
            ("1.-1", true),
            ("99999999999999999999.0", false),
        ] {
            assert_eq!(is_before(version, WHOLE_SINCE), is_old, "{version}");
        }
    }
}
