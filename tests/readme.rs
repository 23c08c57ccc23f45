//! What README.md says of the command line is true: its options, variables, commands and exit codes
//! exist, and the lines that it shows print what it shows. Its Rust is a test of the documentation.

#[path = "support/served.rs"]
mod served;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use kharon::failure::ExitCode;
use served::Served;

const README: &str = include_str!("../README.md");
/// What README.md says in short, at length.
const PAGES: [&str; 3] =
    [README, include_str!("../docs/names.md"), include_str!("../docs/pushing.md")];
/// The build's own options are not ours.
const FOREIGN: &str = "cargo ";

fn kharon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kharon"));
    let ours = ["KHARON_REGISTRY", "KHARON_USERNAME", "DOCKER_CHARON_USERNAME"];
    let logins = ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"];
    for variable in ours.iter().chain(&logins) {
        command.env_remove(variable);
    }
    command
}

fn help_of(command: &[&str]) -> String {
    let output = kharon().args(command).arg("--help").output().expect("kharon runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn commands() -> BTreeSet<String> {
    let help = help_of(&[]);
    let list = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names = list.take_while(|line| !line.is_empty()).filter_map(|line| {
        let rest = line.strip_prefix("  ")?;
        rest.starts_with(|c: char| c.is_ascii_lowercase()).then(|| rest.split(' ').next())?
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The parts of `text` made of `allowed` characters.
fn words(text: &str, allowed: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c| !allowed(c)).filter(|word| !word.is_empty())
}

fn options(text: &str) -> BTreeSet<&str> {
    let in_option = |c: char| c == '-' || c.is_ascii_alphanumeric();
    words(text, in_option).filter(|word| is_option(word)).collect()
}

fn is_option(word: &str) -> bool {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-').filter(|s| s.len() == 1));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn every_option_of_the_readme_is_in_some_help() {
    let help: Vec<String> = commands().iter().map(|name| help_of(&[name])).collect();
    let known: BTreeSet<&str> = help.iter().flat_map(|text| options(text)).collect();
    let lines = PAGES.iter().flat_map(|page| page.lines());
    let ours = lines.filter(|line| !line.contains(FOREIGN));
    let named: BTreeSet<&str> = ours.flat_map(options).collect();
    assert!(named.len() > 20, "only {named:?} were found");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "no command has {unknown:?}");
}

#[test]
fn every_command_line_of_the_readme_has_options_of_its_command() {
    // Every second part stands between two fences.
    let blocks = README.split("```").skip(1).step_by(2).flat_map(str::lines);
    let lines = blocks.map(|line| line.strip_prefix("$ ").unwrap_or(line));
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("kharon ")).collect();
    assert!(lines.len() > 5, "only {lines:?} were found");
    for line in lines {
        let command = line.split(' ').nth(1).expect("a command");
        assert!(commands().contains(command), "{line}");
        let help = help_of(&[command]);
        let (known, named) = (options(&help), options(line));
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{line}: {unknown:?}");
    }
}

#[test]
fn the_readme_names_every_command() {
    let commands = commands();
    assert!(commands.contains("make-payload"), "{commands:?}");
    for name in commands {
        assert!(README.contains(&format!("`kharon {name}`")), "{name}");
    }
}

#[test]
fn every_variable_of_the_readme_is_in_some_help() {
    let help: String = commands().iter().map(|name| help_of(&[name])).collect();
    let in_name = |c: char| c == '_' || c.is_ascii_uppercase();
    let named: BTreeSet<&str> = words(README, in_name)
        .filter(|word| word.contains("CHARON_") || word.contains("KHARON_"))
        .collect();
    assert!(named.len() >= 5, "only {named:?} were found");
    let unknown: Vec<_> = named.into_iter().filter(|name| !help.contains(*name)).collect();
    assert!(unknown.is_empty(), "no help has {unknown:?}");
}

#[test]
fn the_readme_has_exactly_the_exit_codes_that_there_are() {
    let table = README.lines().skip_while(|line| !line.starts_with("| exit code |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let first = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split(','));
    let found: Vec<u8> = first.map(|code| code.trim().parse().expect(code)).collect();
    assert_eq!(found, exit_codes().map(|code| code as u8));
}

fn exit_codes() -> [ExitCode; 8] {
    use ExitCode::{
        BaselineMissing, Done, Failed, Interrupted, PayloadDamaged, Registry, Terminated, Usage,
    };
    // A new code does not compile here until it is in the list.
    match Done {
        Done | Failed | Usage | Registry | PayloadDamaged | BaselineMissing | Interrupted
        | Terminated => {}
    }
    [Done, Failed, Usage, Registry, PayloadDamaged, BaselineMissing, Interrupted, Terminated]
}

/// Runs a line that ends with `&`, on a free port, and returns what it says first.
fn serve(line: &str, folder: &Path) -> (Served, String) {
    let mut words: Vec<&str> = line.trim_end_matches('&').split_whitespace().skip(1).collect();
    let listen = words.pop().expect("an address");
    let mut command = kharon();
    command.args(words).arg("127.0.0.1:0").current_dir(folder);
    Served::start(command, listen.to_owned())
        .unwrap_or_else(|said| panic!("it does not serve: {said}"))
}

/// Runs a line to its end and returns all that it says.
fn run(line: &str, folder: &Path) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let mut command = match program {
        "kharon" => kharon(),
        _ => Command::new(program),
    };
    let path = folder.join("said");
    let said = File::create(&path).expect("a file");
    command.stdout(said.try_clone().expect("a second handle")).stderr(said);
    let status = command.args(words).current_dir(folder).status().expect(line);
    let said = fs::read_to_string(path).expect("text");
    assert!(status.success(), "{line}: {status}\n{said}");
    said
}

#[test]
fn the_lines_of_the_readme_print_what_it_shows() {
    let block = README.split("```console\n").nth(1).expect("a session");
    let shown = block.split("```").next().expect("its end");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").display().to_string();
    let mut servers: Vec<Served> = Vec::new();
    let mut found = Vec::new();
    for line in shown.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let mut real = line.replace("fixtures", &fixtures);
        for server in &servers {
            real = server.with_real(&real);
        }
        let mut said = if real.ends_with('&') {
            let (server, said) = serve(&real, folder.path());
            servers.push(server);
            said
        } else {
            run(&real, folder.path())
        };
        for server in &servers {
            said = server.with_shown(&said);
        }
        found.push(format!("$ {line}\n{said}"));
    }
    let found = found.concat();
    assert!(found == shown, "README.md should show:\n{found}");
}
