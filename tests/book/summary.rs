//! The book's table of contents names every page, links lead somewhere, the recording shows what README.md
//! shows, and the messages that docs/troubleshooting.md explains are those that commands there were seen to give.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::page::{Block, Page, root};
use crate::session::matches;

/// Targets of `](…)` that lead into the project: file, and what stands behind `#`.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(|t| t.split_once('#').unwrap_or((t, "")))
}

#[test]
fn the_summary_names_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("a summary");
    let named: BTreeSet<String> = links(&summary).map(|(file, _)| file.to_owned()).collect();
    let pages = Page::all();
    let below_docs = pages.iter().filter_map(|page| page.name.strip_prefix("docs/"));
    let there: BTreeSet<String> =
        below_docs.filter(|file| *file != "SUMMARY.md").map(str::to_owned).collect();
    assert_eq!(named, there);
}

#[test]
fn every_link_leads_somewhere() {
    for page in Page::all() {
        let folder = Path::new(&page.name).parent().expect("a folder");
        for (file, part) in links(&page.text) {
            let target = if file.is_empty() { page.name.clone().into() } else { folder.join(file) };
            let path = root().join(&target);
            assert!(path.exists(), "{}: no `{file}`", page.name);
            if !part.is_empty() {
                let text = fs::read_to_string(path).expect("text");
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.map(anchor).any(|anchor| anchor == part);
                assert!(found, "{}: `{file}` has no `#{part}`", page.name);
            }
        }
    }
}

/// The address of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Commands on the page are run and their output is compared by another test; so a message that stands in
/// such output is real.
#[test]
fn every_message_that_is_explained_is_provoked() {
    let pages = Page::all();
    let page = pages.iter().find(|page| page.name == "docs/troubleshooting.md").expect("a page");
    let commands = page.blocks.iter().filter_map(|block| match block {
        Block::Commands { commands } => Some(commands),
        _ => None,
    });
    let shown: Vec<&str> = commands
        .flatten()
        .filter_map(|command| command.output.as_deref())
        .flat_map(str::lines)
        .collect();
    let headings = page.text.lines().filter_map(|line| line.strip_prefix("## "));
    let explained: Vec<&str> = headings.filter(|heading| !heading.starts_with("Where")).collect();
    assert!(explained.len() >= 12, "only {explained:?}");
    for message in explained {
        let wanted = format!("…{}…", message.replace('`', ""));
        let seen = shown.iter().any(|line| matches(&wanted, &line.replace('`', "")));
        assert!(seen, "no command on the page gives `{message}`");
    }
}

/// docs/recording.py draws the session that README.md shows and another test runs.
#[test]
fn the_recording_shows_what_the_readme_shows() {
    let drawn = fs::read_to_string(root().join("docs/recording.svg")).expect("a drawing");
    assert!(drawn.len() < 60 * 1024, "{} bytes", drawn.len());
    let readme = fs::read_to_string(root().join("README.md")).expect("text");
    let session = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next());
    let session: BTreeSet<&str> =
        session.expect("a session").lines().map(|line| line.trim_start_matches("$ ")).collect();
    let texts = drawn.split("<text ").skip(1).filter_map(|rest| rest.split(['>', '<']).nth(1));
    let unescaped = texts.map(|text| text.replace("&lt;", "<").replace("&gt;", ">"));
    let lines: Vec<String> = unescaped.filter(|line| line != "$").collect();
    assert!(lines.len() > 20, "only {lines:?}");
    for line in lines {
        assert!(session.contains(line.as_str()), "README.md does not show `{line}`");
    }
}
