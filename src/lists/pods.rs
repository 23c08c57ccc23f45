//! Pods in Kubernetes' resources, known by their shape (Kubernetes API, `PodSpec`).

use super::path::Hit;
use super::yaml::{Node, Value};

/// The lists of a pod whose entries have an `image`.
const CONTAINERS: [&str; 3] = ["containers", "ephemeralContainers", "initContainers"];

/// The fields that name images in all pods of a document, whatever is in them.
pub(super) fn images(root: &Node) -> Vec<Hit<'_>> {
    let mut hits = Vec::new();
    walk(root, &mut String::new(), &mut hits);
    hits
}

fn walk<'a>(node: &'a Node, field: &mut String, hits: &mut Vec<Hit<'a>>) {
    match &node.value {
        Value::List(entries) => {
            for (place, entry) in entries.iter().enumerate() {
                within(field, &format!("[{place}]"), |field| walk(entry, field, hits));
            }
        }
        Value::Map(fields) => {
            pod(node, field, hits);
            // What a cluster reports is about what runs, not about what is wanted.
            let top = field.is_empty();
            for (key, value) in fields.iter().filter(|(key, _)| !(top && *key == "status")) {
                within(field, &super::path::step(key), |field| walk(value, field, hits));
            }
        }
        _ => {}
    }
}

/// Takes the images of `node` if it is a pod.
fn pod<'a>(node: &'a Node, field: &str, hits: &mut Vec<Hit<'a>>) {
    let list = |key| match node.get(key).map(|list| &list.value) {
        Some(Value::List(entries)) => Some(entries),
        _ => None,
    };
    let mut take = |key: &str, entries: &'a [Node], path: &[&str]| {
        for (place, entry) in entries.iter().enumerate() {
            let image = path.iter().try_fold(entry, |node, key| node.get(key));
            if let Some(image) = image {
                let dot = if field.is_empty() { "" } else { "." };
                let field = format!("{field}{dot}{key}[{place}].{}", path.join("."));
                hits.push(Hit { node: image, field });
            }
        }
    };
    let mut is_pod = false;
    for key in CONTAINERS {
        if let Some(entries) = list(key) {
            is_pod = true;
            take(key, entries, &["image"]);
        }
    }
    if let Some(volumes) = list("volumes").filter(|_| is_pod) {
        take("volumes", volumes, &["image", "reference"]);
    }
}

/// Goes one step further while `inside` runs.
fn within(field: &mut String, step: &str, inside: impl FnOnce(&mut String)) {
    let length = field.len();
    if length > 0 && !step.starts_with('[') {
        field.push('.');
    }
    field.push_str(step);
    inside(field);
    field.truncate(length);
}
