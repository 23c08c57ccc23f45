//! Docker's engines of several releases, each with a store of its own, without systemd and without a network.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::{clean, run};
use crate::real::{self, Answer};

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one on `PATH`: Debian's.
    Installed,
    /// `docker-28/dockerd` in `KHARON_TEST_BIN`, its containerd beside it.
    Docker28,
    /// `docker-29/dockerd`, likewise.
    Docker29,
}

impl Release {
    fn dockerd(self) -> PathBuf {
        real::tool(match self {
            Self::Installed => "dockerd",
            Self::Docker28 => "docker-28/dockerd",
            Self::Docker29 => "docker-29/dockerd",
        })
    }
}

/// Where an engine keeps its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Graph drivers: an image's ID is the digest of its config.
    Classic,
    /// containerd's: it is the digest of the manifest or index that the name stands for.
    Containerd,
}

/// Docker's engine with a store of its own.
pub struct Engine {
    child: Child,
    socket: PathBuf,
    folder: PathBuf,
}

impl Engine {
    pub fn start(release: Release, store: Store, folder: &Path) -> Self {
        let (socket, program) = (folder.join("docker.sock"), release.dockerd());
        let mut command = Command::new(&program);
        // It starts the containerd that it finds first.
        let beside = program.parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(beside).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path).expect("a list of folders"));
        let log = std::fs::File::create(folder.join("dockerd.log")).expect("a log");
        for (option, name) in
            [("--data-root", "root"), ("--exec-root", "exec"), ("--pidfile", "docker.pid")]
        {
            command.arg(option).arg(folder.join(name));
        }
        // Both drivers copy files, so they work on any filesystem.
        let (driver, is_containerd) = match store {
            Store::Classic => ("vfs", false),
            Store::Containerd => ("native", true),
        };
        let configuration = json!({ "features": { "containerd-snapshotter": is_containerd } });
        let file = folder.join("daemon.json");
        std::fs::write(&file, configuration.to_string()).expect("a configuration");
        command.arg("--config-file").arg(file).args(["--storage-driver", driver]);
        command.arg("-H").arg(format!("unix://{}", socket.display()));
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.args(["--ip-forward=false", "--ip-masq=false"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = child.spawn().expect("dockerd runs");
        let mut engine = Self { child, socket, folder: folder.to_owned() };
        let begun = Instant::now();
        while engine.try_ask("GET", "/_ping", b"").is_none_or(|answer| answer.status != 200) {
            let has_ended = engine.child.try_wait().expect("a child can be waited for").is_some();
            let is_late = begun.elapsed() > START_LIMIT;
            assert!(!has_ended && !is_late, "{release:?} does not answer:\n{}", engine.log());
            sleep(Duration::from_millis(100));
        }
        engine
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("dockerd.log")).expect("a log")
    }

    pub fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = clean(real::tool("docker"));
        command.arg("-H").arg(format!("unix://{}", self.socket.display())).args(arguments);
        command
    }

    fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
        let kind =
            if body.first() == Some(&b'{') { "application/json" } else { "application/x-tar" };
        real::send_through(stream, "docker", method, path, &[("Content-Type", kind)], body).ok()
    }

    /// One request of its API, which must be answered well. Its own client may be too old for it.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let answer = self.try_ask(method, path, body).unwrap_or_else(|| panic!("{}", self.log()));
        let text = String::from_utf8_lossy(&answer.body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {text}", answer.status);
        answer.body
    }

    /// The same, answered in JSON.
    #[track_caller]
    pub fn json(&self, method: &str, path: &str, body: &[u8]) -> Value {
        serde_json::from_slice(&self.ask(method, path, body)).expect("JSON")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Its own containerd ends with it only if it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        // Engines from 23 on leave this behind, and the folder could not be removed.
        let _ = run(Command::new("umount").arg("-q").arg(self.folder.join("exec/netns/default")));
    }
}
