//! One page, taken apart: what is run of it, in order.

use std::fs;
use std::path::{Path, PathBuf};

use crate::is_ours;

/// A Markdown file.
pub struct Page {
    /// From the root of the project.
    pub name: String,
    pub text: String,
    pub blocks: Vec<Block>,
    /// Lines that look like our commands and are run by nobody.
    pub astray: Vec<String>,
}

/// A part of a page that is no prose.
pub enum Block {
    Commands { commands: Vec<Command> },
    Elsewhere { line: usize, why: String, content: String },
    File { name: String, content: String },
}

/// One command, and what the page says that it prints, if it says so.
pub struct Command {
    pub line: usize,
    pub text: String,
    pub output: Option<String>,
    pub may_fail: bool,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Page {
    /// README.md and all pages below `docs/`, by name.
    pub fn all() -> Vec<Self> {
        let mut paths = vec![root().join("README.md")];
        pages_below(&root().join("docs"), &mut paths);
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let name = path.strip_prefix(root()).expect("inside").display().to_string();
        let text = fs::read_to_string(path).expect("a page");
        let (mut blocks, mut astray) = (Vec::new(), Vec::new());
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let (fence, info) = match line.strip_prefix("```") {
                Some(info) => ("```", info),
                None if line == "<!-- run" => ("-->", "sh"),
                None => {
                    if line.starts_with("    ") && is_ours(line) {
                        astray.push(line.trim().to_owned());
                    }
                    continue;
                }
            };
            let content: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != fence).collect();
            match block(info, number + 1, &content) {
                Some(block) => blocks.push(block),
                // Text is what programs say, such as the examples in their help.
                None if info == "text" => {}
                None => {
                    let ours = content.iter().filter(|line| is_ours(line));
                    astray.extend(ours.map(|line| (*line).to_owned()));
                }
            }
        }
        Self { name, text, blocks, astray }
    }
}

fn pages_below(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages_below(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

fn block(info: &str, line: usize, content: &[&str]) -> Option<Block> {
    let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
    let whole = || content.iter().flat_map(|line| [*line, "\n"]).collect::<String>();
    if let Some(name) = rest.strip_prefix("file: ") {
        return Some(Block::File { name: name.to_owned(), content: whole() });
    }
    let commands = match language {
        "sh" | "console" if !rest.is_empty() => {
            let why = rest.strip_prefix("elsewhere: ");
            let why = why.unwrap_or_else(|| panic!("what is `{info}`?")).to_owned();
            return Some(Block::Elsewhere { line, why, content: whole() });
        }
        "sh" => plain(line + 1, content),
        "console" => shown(line + 1, content),
        _ => return None,
    };
    Some(Block::Commands { commands })
}

/// Commands without output; a line that ends with `\` goes on.
fn plain(first: usize, content: &[&str]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut goes_on = false;
    for (number, text) in (first..).zip(content) {
        match commands.last_mut().filter(|_| goes_on) {
            Some(last) => last.text = format!("{}\n{text}", last.text),
            None if text.is_empty() || text.starts_with('#') => continue,
            None => commands.push(Command {
                line: number,
                text: (*text).to_owned(),
                output: None,
                may_fail: false,
            }),
        }
        goes_on = text.ends_with('\\');
    }
    commands
}

/// Commands behind `$ `, and what they print.
fn shown(first: usize, content: &[&str]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for (number, text) in (first..).zip(content) {
        if let Some(text) = text.strip_prefix("$ ") {
            if let Some(before) = commands.last_mut() {
                before.may_fail = text == "echo $?";
            }
            commands.push(Command {
                line: number,
                text: text.to_owned(),
                output: Some(String::new()),
                may_fail: false,
            });
            continue;
        }
        let last = commands.last_mut().expect("output comes behind a command");
        let output = last.output.as_mut().expect("it is shown");
        if last.text.ends_with('\\') && output.is_empty() {
            last.text = format!("{}\n{}", last.text, text.trim_start_matches("> "));
        } else {
            output.push_str(text);
            output.push('\n');
        }
    }
    commands
}
