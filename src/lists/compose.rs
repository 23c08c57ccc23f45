//! The services of a compose file (compose specification, "Services top-level element").

use super::interpolate::interpolate;
use super::path::step;
use super::yaml::{Node, Value};
use crate::printable::escaped;

/// The most variables that are named as not set.
const UNSET_MAX: usize = 20;

/// What a compose file names.
pub(super) struct Read<'a> {
    pub(super) images: Vec<Image<'a>>,
    /// What names no image.
    pub(super) left: Vec<String>,
}

/// The field `image` of a service.
pub(super) struct Image<'a> {
    pub(super) node: &'a Node,
    pub(super) field: String,
    /// The name with its variables replaced: none if it is no text, an error if a variable is required
    /// and not set.
    pub(super) name: Result<Option<String>, String>,
}

/// Whether a document is a compose file: it has services, and is no resource of Kubernetes.
pub(super) fn is_compose(root: &Node) -> bool {
    let has_services = matches!(root.get("services").map(|n| &n.value), Some(Value::Map(_)));
    has_services && root.get("kind").is_none()
}

/// Reads the services of `root`.
pub(super) fn read<'a>(root: &'a Node, variable: &dyn Fn(&str) -> Option<String>) -> Read<'a> {
    let mut read = Read { images: Vec::new(), left: Vec::new() };
    let mut unset = Vec::new();
    let services = match root.get("services").map(|services| &services.value) {
        Some(Value::Map(services)) => services.iter(),
        _ => return read,
    };
    for (name, service) in services {
        let shown = escaped(name);
        if let Some(file) = service.get("extends").and_then(|extends| extends.text("file")) {
            read.left.push(format!("service `{shown}` extends one of `{}`", escaped(file)));
        }
        match service.get("image") {
            Some(node) => {
                let name_there = match &node.value {
                    Value::Text(text) => interpolate(text.trim(), variable, &mut unset).map(Some),
                    _ => Ok(None),
                };
                let field = format!("services.{}.image", step(name));
                read.images.push(Image { node, field, name: name_there });
            }
            None if service.get("build").is_some() => {
                read.left.push(format!("service `{shown}` is built and has no image"));
            }
            None if service.get("extends").is_some() => {}
            None => read.left.push(format!("service `{shown}` has no image")),
        }
    }
    if root.get("include").is_some() {
        read.left.push("other compose files are included".to_owned());
    }
    unset.sort_unstable();
    unset.dedup();
    let variables = unset.into_iter().take(UNSET_MAX);
    read.left.extend(variables.map(|name| format!("variable `{name}` is not set, so empty")));
    read
}
