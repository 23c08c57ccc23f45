//! Paths to fields that hold images: `spec.image`, `Prometheus=spec.jobs[].image`.

use std::fmt;
use std::str::FromStr;

use super::yaml::{Node, Value};

/// A field that holds an image, in all documents or in those of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePath {
    text: String,
    kind: Option<String>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The field of this name.
    Field(String),
    /// Every field.
    EveryField,
    /// The entry at this place.
    Entry(usize),
    /// Every entry.
    EveryEntry,
}

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a path such as `spec.image`, `spec.jobs[].image` or `Prometheus=spec.image`, found `{0}`"
)]
pub struct InvalidImagePath(String);

/// A field that was found.
pub(super) struct Hit<'a> {
    pub(super) node: &'a Node,
    pub(super) field: String,
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ImagePath {
    type Err = InvalidImagePath;

    fn from_str(text: &str) -> Result<Self, InvalidImagePath> {
        let invalid = || InvalidImagePath(text.to_owned());
        let (kind, path) = match text.split_once('=') {
            Some((kind, path)) if is_kind(kind) => (Some(kind.to_owned()), path),
            _ => (None, text),
        };
        let steps = steps(path).filter(|steps| !steps.is_empty()).ok_or_else(invalid)?;
        Ok(Self { text: text.to_owned(), kind, steps })
    }
}

fn is_kind(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `None` if this is no path.
fn steps(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (place, behind) = inside.split_once(']')?;
            steps.push(match place {
                "" => Step::EveryEntry,
                place => Step::Entry(place.parse().ok()?),
            });
            rest = behind;
            if !(rest.is_empty() || rest.starts_with(['.', '['])) {
                return None;
            }
            continue;
        }
        if !steps.is_empty() {
            rest = rest.strip_prefix('.')?;
        }
        let (step, behind) = field(rest)?;
        steps.push(step);
        rest = behind;
    }
    Some(steps)
}

/// The field that `text` begins with, and what is behind it.
fn field(text: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, behind) = quoted.split_once('"')?;
        return Some((Step::Field(name.to_owned()), behind));
    }
    let (name, behind) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    match name {
        "" => None,
        "*" => Some((Step::EveryField, behind)),
        name if name.contains(['*', ']', '"', '=']) => None,
        name => Some((Step::Field(name.to_owned()), behind)),
    }
}

/// A field's name as a path writes it.
pub(super) fn step(key: &str) -> String {
    let is_plain = !key.is_empty() && !key.contains(['.', '[', ']', '*', '=', '"']);
    if is_plain { key.to_owned() } else { format!("\"{key}\"") }
}

impl ImagePath {
    /// Whether it goes for documents of this kind.
    pub(super) fn is_for(&self, kind: Option<&str>) -> bool {
        self.kind.is_none() || self.kind.as_deref() == kind
    }

    /// All that it names below `root`.
    pub(super) fn find<'a>(&self, root: &'a Node) -> Vec<Hit<'a>> {
        let start = vec![Hit { node: root, field: String::new() }];
        self.steps
            .iter()
            .fold(start, |hits, step| hits.into_iter().flat_map(|hit| step.from(&hit)).collect())
    }
}

impl Step {
    fn from<'a>(&self, hit: &Hit<'a>) -> Vec<Hit<'a>> {
        let node = hit.node;
        let field = |(key, node): (&String, &'a Node)| {
            let dot = if hit.field.is_empty() { "" } else { "." };
            Hit { node, field: format!("{}{dot}{}", hit.field, step(key)) }
        };
        let entry = |(place, node): (usize, &'a Node)| Hit {
            node,
            field: format!("{}[{place}]", hit.field),
        };
        match (self, &node.value) {
            (Self::Field(name), Value::Map(fields)) => {
                fields.get_key_value(name).into_iter().map(field).collect()
            }
            (Self::EveryField, Value::Map(fields)) => fields.iter().map(field).collect(),
            (Self::Entry(place), Value::List(entries)) => {
                entries.get(*place).map(|node| entry((*place, node))).into_iter().collect()
            }
            (Self::EveryEntry, Value::List(entries)) => {
                entries.iter().enumerate().map(entry).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The image that a mapping with `repository` and other parts names; none if `node` is no such mapping.
pub(super) fn whole_name(node: &Node) -> Result<Option<String>, String> {
    let part = |key: &str| match node.get(key).map(|part| &part.value) {
        None | Some(Value::Nothing) => Ok(None),
        Some(Value::Text(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.trim())),
        Some(Value::Number) => Err(format!(
            "expected text as `{key}` of an image, found a number that may have stood otherwise: put it in quotes"
        )),
        Some(other) => Err(format!("expected text as `{key}` of an image, found {}", other.noun())),
    };
    let repository = match part("repository")? {
        Some(repository) => repository,
        None => match part("name")? {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    let mut whole = match part("registry")? {
        Some(registry) => format!("{}/{repository}", registry.trim_end_matches('/')),
        None => repository.to_owned(),
    };
    for (key, separator) in [("tag", ':'), ("digest", '@')] {
        if let Some(part) = part(key)? {
            whole.push(separator);
            whole.push_str(part);
        }
    }
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_or_refused() {
        for (text, is_valid) in [
            ("spec.image", true),
            ("image", true),
            ("spec.jobs[].image", true),
            ("[].image", true),
            ("[0][1]", true),
            ("a.*.b", true),
            ("a.\"x.y/z=\".b", true),
            ("Prometheus=spec.image", true),
            ("", false),
            (".", false),
            ("a..b", false),
            ("a.", false),
            (".a", false),
            ("a[", false),
            ("a[x]", false),
            ("a[]b", false),
            ("a*", false),
            ("a.\"b", false),
            ("Kind=", false),
            ("no-kind=a", false),
        ] {
            assert_eq!(text.parse::<ImagePath>().is_ok(), is_valid, "{text}");
        }
    }
}
