//! What a reader of one page does: types its commands one after the other, in one folder.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use crate::OTHERS;
use crate::page::{Command, root};
use crate::support::served::Served;
use crate::world::World;

/// Stands for Helm: `helm template NAME CHART` of a chart that has no variables.
const HELM: &str = "#!/bin/sh\n[ \"$1\" = template ] && cat \"$3\"/templates/*\n";

pub struct Session {
    world: World,
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
    servers: Vec<Served>,
    /// Lines that change the shell itself: `export`, `cd`.
    lasting: Vec<String>,
    last_status: i32,
    pub commands_run: usize,
    pub passed_over: Vec<String>,
}

impl Session {
    pub fn new() -> Self {
        let (folder, home) = (tempfile::tempdir(), tempfile::tempdir());
        let (folder, home) = (folder.expect("a folder"), home.expect("a folder"));
        let world = World::start();
        let settings = home.path().join(".config/kharon");
        fs::create_dir_all(&settings).expect("a folder");
        fs::write(settings.join("config.toml"), world.config()).expect("written");
        let programs = home.path().join("bin");
        fs::create_dir(&programs).expect("a folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kharon"), programs.join("kharon"))
            .expect("a link");
        let helm = programs.join("helm");
        fs::write(&helm, HELM).expect("written");
        fs::set_permissions(&helm, fs::Permissions::from_mode(0o755)).expect("it may run");
        // The fixtures, under the name that README.md has for them.
        std::os::unix::fs::symlink(root().join("fixtures"), folder.path().join("fixtures"))
            .expect("a link");
        Self {
            world,
            folder,
            home,
            servers: Vec::new(),
            lasting: Vec::new(),
            last_status: 0,
            commands_run: 0,
            passed_over: Vec::new(),
        }
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = match name.strip_prefix("~/") {
            Some(name) => self.home.path().join(name),
            None => self.folder.path().join(name),
        };
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// Runs one command and compares. The error says what differs.
    pub fn run(&mut self, command: &Command) -> Result<(), String> {
        if let Some(program) = missing_program(&command.text) {
            self.passed_over.push(format!("{program}: {}", command.text));
            return Ok(());
        }
        self.commands_run += 1;
        let said = if command.text.trim_end().ends_with('&') {
            self.serve(&command.text)?
        } else {
            let (said, status) = self.shell(&command.text);
            self.last_status = status;
            if status != 0 && !command.may_fail {
                return Err(format!("exit code {status}:\n{said}"));
            }
            said
        };
        let first = command.text.split(' ').next().unwrap_or_default();
        if ["export", "cd", "set"].contains(&first) {
            self.lasting.push(command.text.clone());
        }
        match &command.output {
            Some(shown) if !matches(shown, &said) => {
                Err(format!("the page shows:\n{shown}\nfound:\n{said}"))
            }
            _ => Ok(()),
        }
    }

    fn shell(&self, text: &str) -> (String, i32) {
        let path = self.home.path().join("said");
        let said = File::create(&path).expect("a file");
        let before = self.lasting.join("\n");
        let mut script = format!("{before}\n(exit {})\n{text}\n", self.last_status);
        for server in &self.servers {
            script = server.with_real(&script);
        }
        let mut process = self.process("sh");
        process.args(["-c", &script]);
        process.stdout(said.try_clone().expect("a second handle")).stderr(said);
        let status = process.status().expect("a shell");
        let said = String::from_utf8_lossy(&fs::read(path).expect("text")).into_owned();
        (self.as_shown(said), status.code().unwrap_or(-1))
    }

    /// Starts a server on a free port and returns the first line that it says.
    fn serve(&mut self, text: &str) -> Result<String, String> {
        let mut words: Vec<String> =
            text.trim_end().trim_end_matches('&').split_whitespace().map(str::to_owned).collect();
        let listen = words.iter().position(|word| word == "--listen");
        let shown = if let Some(at) = listen {
            std::mem::replace(&mut words[at + 1], "127.0.0.1:0".to_owned())
        } else {
            words.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
            "127.0.0.1:5000".to_owned()
        };
        let mut command = self.process("sh");
        command.args(["-c", &format!("exec {}", words.join(" "))]);
        let started = Served::start(command, shown);
        let (served, said) = started.map_err(|said| format!("it does not serve:\n{said}"))?;
        self.servers.push(served);
        Ok(self.as_shown(said))
    }

    /// Output, with the names that the page has.
    fn as_shown(&self, mut said: String) -> String {
        for server in &self.servers {
            said = server.with_shown(&said);
        }
        let places = [("~", self.home.path()), ("/tmp/work", self.folder.path())];
        for (name, path) in places {
            said = said.replace(&path.display().to_string(), name);
        }
        said
    }

    fn process(&self, program: &str) -> Process {
        let home = self.home.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut process = Process::new(program);
        process.env_clear().envs(kept_variables());
        process
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("HOME", home)
            .env("PATH", format!("{}:{path}", home.join("bin").display()))
            .env("HTTP_PROXY", format!("http://{}", self.world.front))
            .env("HTTPS_PROXY", format!("http://{}", self.world.front))
            .env("NO_PROXY", "127.0.0.1,localhost,.invalid")
            .env("LC_ALL", "C.UTF-8");
        process
    }
}

fn kept_variables() -> HashMap<String, String> {
    let kept = |name: &str| ["TMPDIR", "LANG"].contains(&name) || name.starts_with("LLVM_PROFILE");
    std::env::vars().filter(|(name, _)| kept(name)).collect()
}

/// The first program of a line that this machine has not, of those that it need not have.
fn missing_program(text: &str) -> Option<&str> {
    let programs = text.split('|').filter_map(|part| part.split_whitespace().next());
    let mut needed = programs.filter(|program| OTHERS.contains(program));
    let path = std::env::var("PATH").unwrap_or_default();
    needed.find(|program| !path.split(':').any(|folder| Path::new(folder).join(program).exists()))
}

/// Whether a page shows what was said: `…` stands for any text in a line, alone for any lines.
pub fn matches(shown: &str, said: &str) -> bool {
    let (shown, said): (Vec<&str>, Vec<&str>) = (shown.lines().collect(), said.lines().collect());
    lines_match(&shown, &said)
}

fn lines_match(shown: &[&str], said: &[&str]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=said.len()).any(|n| lines_match(rest, &said[n..])),
        (Some((pattern, shown)), Some((line, said))) => {
            line_matches(pattern, line) && lines_match(shown, said)
        }
        _ => false,
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            ends.into_iter().any(|at| line_matches(rest, &line[at..]))
        }),
    }
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    let table = [
        ("a\nb\n", "a\nb\n", true),
        ("a…c\n", "abbc\n", true),
        ("a…c…\n", "ac\n", true),
        ("a…c\n", "abb\n", false),
        ("…\nb\n", "x\ny\nb\n", true),
        ("…\nb\n", "x\nb\ny\n", false),
        ("a\n", "a\nb\n", false),
    ];
    for (shown, said, expected) in table {
        assert_eq!(matches(shown, said), expected, "{shown:?} {said:?}");
    }
}
