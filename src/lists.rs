//! Images that files name: plain lists, Kubernetes manifests, compose files, and fields of custom
//! resources (docs/image-lists.md).
//!
//! Pure: takes a file's text and the environment's variables, gives names as they stand there, each with
//! its place. What the names mean is not known here. YAML is bounded while it is read, so that aliases
//! cannot make much of little.

mod compose;
mod interpolate;
mod path;
mod pods;
mod yaml;

use std::collections::HashSet;
use std::fmt;

use crate::failure::Usage;
use crate::printable::escaped;
use crate::units::count;

pub use path::{ImagePath, InvalidImagePath};

use yaml::{Node, Value};

/// How many documents without an image are named.
const NAMED_MAX: usize = 5;

/// What a file names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The images, in the file's order; within a mapping in that of its keys.
    pub images: Vec<FoundImage>,
    /// How many documents there are; none in a plain list.
    pub documents: Option<usize>,
    /// What names no image and perhaps should, such as a service that is only built.
    pub left: Vec<String>,
    /// Which of the paths asked for named something, by their place.
    pub paths_met: Vec<bool>,
}

/// An image that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImage {
    /// The name as it stands there, variables replaced.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// Where an image stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1 on.
    pub line: u64,
    /// The document and the field; none in a plain list.
    pub within: Option<Within>,
}

/// A field of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// The line where the document begins.
    pub document_line: u64,
    /// What the document is, such as `Deployment/web`.
    pub document: String,
    /// The field, such as `spec.containers[0].image`.
    pub field: String,
}

/// `line 4, field spec.containers[0].image of Pod/web`
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        match &self.within {
            Some(within) => write!(f, ", field `{}` of {}", within.field, within.document),
            None => Ok(()),
        }
    }
}

/// Reads `text`, which `file` stands for in messages. `paths` name fields that hold images besides those of
/// pods and services; `variable` knows the environment.
///
/// # Errors
/// [`Usage`] names the file and the place: YAML that cannot be read or goes beyond the limits, a field
/// that should hold an image and does not, YAML without any image.
pub fn find(
    text: &str,
    file: &str,
    paths: &[ImagePath],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Found, Usage> {
    if !is_yaml(text) {
        return Ok(plain(text, paths.len()));
    }
    let mut search = Search {
        file,
        paths,
        variable,
        found: Found { paths_met: vec![false; paths.len()], ..Found::default() },
        fields: HashSet::new(),
        without: Vec::new(),
    };
    let roots = yaml::documents(text).map_err(|error| unreadable(text, file, &error))?;
    let mut documents = 0;
    for root in &roots {
        for document in items(root) {
            documents += 1;
            search.document(document)?;
        }
    }
    search.found.documents = Some(documents);
    if search.found.images.is_empty() {
        return Err(search.nothing());
    }
    Ok(search.found)
}

fn plain(text: &str, paths: usize) -> Found {
    let image = |(line, name): (u64, &str)| {
        let place = Place { line, within: None };
        FoundImage { name: name.to_owned(), place }
    };
    let names = lines_of_list(text).flat_map(|(line, names)| {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(move |name| (line, name))
    });
    let images = names.map(image).collect();
    Found { images, paths_met: vec![false; paths], ..Found::default() }
}

/// The lines of a plain list that say something, with their numbers. `#` begins a comment at the start
/// of a line or after a blank.
fn lines_of_list(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let lines = (1..).zip(without_mark(text).lines());
    lines.map(|(number, line)| (number, without_comment(line))).filter(|(_, line)| !line.is_empty())
}

fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

fn without_comment(line: &str) -> &str {
    let comment = line
        .char_indices()
        .find(|(at, c)| *c == '#' && line[..*at].chars().last().is_none_or(char::is_whitespace));
    line[..comment.map_or(line.len(), |(at, _)| at)].trim()
}

/// Whether the first line that says something can be YAML's and cannot be an image.
fn is_yaml(text: &str) -> bool {
    let Some((_, line)) = lines_of_list(text).next() else { return false };
    let starts = ["{", "[", "- ", "? ", "%YAML", "---", "\"", "'", "&", "!"];
    line == "-"
        || starts.iter().any(|start| line.starts_with(start))
        || line.contains(": ")
        || line.contains(":\t")
        || line.ends_with(':')
}

/// The documents in a document: the items of a list of Kubernetes, or itself.
fn items(root: &Node) -> Vec<&Node> {
    let is_list = |node: &Node| node.text("kind").is_some_and(|kind| kind.ends_with("List"));
    let mut documents = Vec::new();
    // Lists of lists are no less deep than YAML may be.
    let mut waiting = vec![root];
    while let Some(node) = waiting.pop() {
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(items)) if is_list(node) => waiting.extend(items.iter().rev()),
            _ => documents.push(node),
        }
    }
    documents
}

fn unreadable(text: &str, file: &str, error: &yaml::Unreadable) -> Usage {
    let usage = Usage::new(format!("{file} cannot be read as YAML: {error}"));
    if text.contains("{{") {
        return usage.with_hint(
            "render a chart first: `helm template RELEASE CHART | kharon make-payload --images-from - …`",
        );
    }
    usage.with_hint("write YAML, JSON, or one image per line")
}

/// One file under search.
struct Search<'a> {
    file: &'a str,
    paths: &'a [ImagePath],
    variable: &'a dyn Fn(&str) -> Option<String>,
    found: Found,
    /// The fields of this document that were taken.
    fields: HashSet<String>,
    /// What the documents are that name no image.
    without: Vec<String>,
}

/// The document that a field belongs to.
struct Document {
    line: u64,
    title: String,
}

impl Document {
    fn of(node: &Node) -> Self {
        let name = node
            .get("metadata")
            .and_then(|metadata| metadata.text("name").or_else(|| metadata.text("generateName")));
        let title = match (node.text("kind"), name.or_else(|| node.text("name"))) {
            (Some(kind), Some(name)) => format!("{kind}/{name}"),
            (Some(name), None) | (None, Some(name)) => name.to_owned(),
            (None, None) if node.get("services").is_some() => "compose file".to_owned(),
            (None, None) => format!("the document at line {}", node.line),
        };
        Self { line: node.line, title: escaped(&title) }
    }

    fn place(&self, line: u64, field: String) -> Place {
        let within = Within { document_line: self.line, document: self.title.clone(), field };
        Place { line, within: Some(within) }
    }
}

impl Search<'_> {
    fn document(&mut self, root: &Node) -> Result<(), Usage> {
        let document = Document::of(root);
        self.fields.clear();
        let before = (self.found.images.len(), self.found.left.len());
        if compose::is_compose(root) {
            self.compose(root, &document)?;
        }
        for hit in pods::images(root) {
            self.hit(&document, hit.node, hit.field)?;
        }
        for (place, path) in self.paths.iter().enumerate() {
            if !path.is_for(root.text("kind")) {
                continue;
            }
            for hit in path.find(root) {
                self.found.paths_met[place] = true;
                let whole = path::whole_name(hit.node);
                let whole = whole.map_err(|what| self.wrong(&document, &hit, &what))?;
                match whole {
                    Some(name) => self.add(&document, hit.node.line, hit.field, name),
                    None => self.hit(&document, hit.node, hit.field)?,
                }
            }
        }
        if (self.found.images.len(), self.found.left.len()) == before {
            self.without.push(document.title);
        }
        Ok(())
    }

    fn compose(&mut self, root: &Node, document: &Document) -> Result<(), Usage> {
        let read = compose::read(root, self.variable);
        self.found.left.extend(read.left);
        for compose::Image { node, field, name } in read.images {
            let name = name.map_err(|what| {
                let place = document.place(node.line, field.clone());
                Usage::new(format!("{what} in {}, {place}", self.file))
                    .with_hint("set the variable in the environment")
            })?;
            match name {
                Some(name) => self.add(document, node.line, field, name),
                None => self.hit(document, node, field)?,
            }
        }
        Ok(())
    }

    /// Takes the text of a field for an image; a field with nothing in it names none.
    fn hit(&mut self, document: &Document, node: &Node, field: String) -> Result<(), Usage> {
        match &node.value {
            Value::Text(name) => self.add(document, node.line, field, name.trim().to_owned()),
            Value::Nothing => {}
            other => {
                let what = format!("expected the name of an image, found {}", other.noun());
                return Err(self.wrong(document, &path::Hit { node, field }, &what));
            }
        }
        Ok(())
    }

    fn add(&mut self, document: &Document, line: u64, field: String, name: String) {
        // A path may name what a pod names already.
        if !self.fields.insert(field.clone()) {
            return;
        }
        let image = FoundImage { name, place: document.place(line, field) };
        self.found.images.push(image);
    }

    fn wrong(&self, document: &Document, hit: &path::Hit<'_>, what: &str) -> Usage {
        let place = document.place(hit.node.line, hit.field.clone());
        let usage = Usage::new(format!("{what} in {}, {place}", self.file));
        match &hit.node.value {
            Value::Number => usage.with_hint("put it in quotes: YAML reads 1.10 as the number 1.1"),
            Value::List(_) => usage.with_hint("name the entries of a list with `[]`"),
            Value::Map(_) => {
                usage.with_hint("name a field of it, or one with `repository` and `tag`")
            }
            _ => usage.with_hint("write images as `[registry/]repository[:tag][@digest]`"),
        }
    }

    fn nothing(&self) -> Usage {
        let mut documents = self.without.clone();
        documents.dedup();
        let more = documents.len().saturating_sub(NAMED_MAX);
        documents.truncate(NAMED_MAX);
        if more > 0 {
            documents.push(format!("and {} more", count(more as u64, "document")));
        }
        let found = match (self.found.left.as_slice(), documents.as_slice()) {
            ([], []) => "no document".to_owned(),
            (left, []) => left.join(", "),
            ([], documents) => documents.join(", "),
            (left, documents) => format!("{}, {}", documents.join(", "), left.join(", ")),
        };
        Usage::new(format!("{} names no image, found {found}", self.file))
            .with_hint("name the field that holds one, such as `--image-path spec.image`")
    }
}

#[cfg(test)]
mod tests;
