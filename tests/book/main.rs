//! README.md and the book below `docs/` are true: every command in them is run, against registries inside
//! of this process, and prints what the book shows.
//!
//! What the fences of a page mean (docs/README.md tells writers the same):
//!
//! - `sh`: commands, one a line (`\` goes on), each of which has to end with exit code 0.
//! - `console`: commands behind `$ `, and all that they print. `…` stands for any text in a line, a line of
//!   its own `…` for any lines. A command whose next one is `echo $?` may fail.
//! - `sh elsewhere: WHY`, and `console` likewise: cannot run here. Never for kharon's own commands.
//! - `LANGUAGE file: NAME`: a file, written before what follows runs.
//! - `<!-- run` … `-->`: commands that readers do not see, such as what the page takes for granted.
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod front;
mod page;
mod reference;
mod session;
mod summary;
mod world;

use std::collections::BTreeSet;
use std::sync::Mutex;

use page::{Block, Command, Page};
use session::Session;

/// Programs beside the shell's that pages may use. Where one is missing, its lines are passed over, and said to be.
const OTHERS: &[&str] = &["minisign", "unzip", "zip", "sha256sum", "curl"];

#[test]
fn every_command_of_the_book_does_what_the_book_says() {
    let only = std::env::var("KHARON_BOOK_PAGE").ok();
    let pages: Vec<Page> = Page::all()
        .into_iter()
        .filter(|page| only.as_ref().is_none_or(|only| page.name.contains(only)))
        .collect();
    let (queue, failures) = (Mutex::new(pages), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("a queue").pop();
                    let Some(page) = next else { return };
                    let found = run(&page);
                    failures.lock().expect("a list").extend(found);
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a list");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs all of a page, and returns what is not as the page says.
#[expect(clippy::print_stdout, reason = "what was run shows with --nocapture")]
fn run(page: &Page) -> Vec<String> {
    let mut session = Session::new();
    let mut failures = Vec::new();
    for block in &page.blocks {
        match block {
            Block::File { name, content } => session.write(name, content),
            Block::Commands { commands } => {
                for command in commands {
                    if let Err(why) = session.run(command) {
                        let Command { line, text, .. } = command;
                        failures.push(format!("{} line {line}: `{text}`\n{why}", page.name));
                    }
                }
            }
            Block::Elsewhere { .. } => {}
        }
    }
    println!("{}: {} commands", page.name, session.commands_run);
    for line in &session.passed_over {
        println!("  PASSED OVER, no such program: {line}");
    }
    failures
}

#[test]
#[expect(clippy::print_stdout, reason = "what was not run shows with --nocapture")]
fn commands_that_run_elsewhere_have_a_reason_and_are_not_ours() {
    let mut count = 0;
    for page in Page::all() {
        for block in &page.blocks {
            let Block::Elsewhere { line, why, content } = block else { continue };
            println!("{} line {line} is not run: {why}", page.name);
            count += 1;
            assert!(why.split(' ').count() > 1, "{} line {line}: a reason, please", page.name);
            let ours = content.lines().find(|line| is_ours(line));
            assert_eq!(ours, None, "{} line {line}: kharon's commands have to run", page.name);
        }
    }
    println!("{count} blocks are not run");
}

/// Whether one of the programs of a line is kharon.
fn is_ours(line: &str) -> bool {
    let line = line.trim().trim_start_matches("$ ");
    line.split(['|', ';', '&']).any(|part| part.split_whitespace().next() == Some("kharon"))
}

#[test]
fn no_command_stands_where_nobody_runs_it() {
    let found: BTreeSet<String> = Page::all()
        .iter()
        .flat_map(|page| page.astray.iter().map(move |line| format!("{}: {line}", page.name)))
        .collect();
    assert!(found.is_empty(), "commands stand in `sh` or `console` fences: {found:#?}");
}
