//! docs/reference.md is what `--help` says, of every command. `KHARON_BLESS=1` writes it anew.

use std::fs;
use std::process::Command;

use crate::page::root;

const HEAD: &str = "# Reference

What `kharon --help` and `kharon COMMAND --help` say. This page is written by a test
(`KHARON_BLESS=1 cargo test --test book reference`), which fails where it is not what the program says.
";

fn help(command: &[&str]) -> String {
    let mut process = Command::new(env!("CARGO_BIN_EXE_kharon"));
    process.args(command).arg("--help").env_clear().env("HOME", "/nowhere").env("COLUMNS", "100");
    let output = process.output().expect("kharon runs");
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn commands(help: &str) -> Vec<&str> {
    let list = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names = list.take_while(|line| !line.is_empty()).filter_map(|line| {
        let rest = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        rest.split(' ').next()
    });
    names.filter(|name| *name != "help").collect()
}

#[test]
fn the_reference_is_what_the_program_says() {
    let all = help(&[]);
    let mut page = format!("{HEAD}\n```text\n{all}```\n");
    for command in commands(&all) {
        let text = help(&[command]);
        page.extend(["\n## kharon ", command, "\n\n```text\n", &text, "```\n"]);
    }
    let path = root().join("docs/reference.md");
    if std::env::var_os("KHARON_BLESS").is_some() {
        fs::write(&path, &page).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/reference.md is stale: KHARON_BLESS=1 writes it anew");
}
