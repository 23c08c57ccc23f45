//! Registries that others wrote, as real processes, for tests that are ignored unless asked for.
//!
//! Use it from a test file as `#[path = "support/real.rs"] mod real;`, with
//! `#[expect(dead_code, reason = "…")]` on it where not all of it is used. Each test starts its own
//! [`RealRegistry`]; it listens on a free port of 127.0.0.1, keeps its content in a temporary folder,
//! and ends when it is dropped, also by a panic. Never keep one in a `static`: statics are not dropped.
//!
//! Binaries are looked for in the folder named by `KHARON_TEST_BIN`, then on `PATH`; `.ci/run`
//! installs them. A test that misses one fails and says what to install, so such tests carry
//! `#[ignore = "needs …"]`. Those that need more than `docker-registry` and `skopeo` stand in a module
//! that says so, as `.ci/run` may have to leave them out: `distribution_3`, `referrers_registry`,
//! `crane`, `zot`, `docker_charon`, `docker_28` or `docker_29`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a registry may take until it answers: seconds, were two cores not shared by many tests.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often a start is tried: between finding a free port and listening there, another may take it.
const START_TRIES: usize = 3;

/// A registry that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CNCF distribution 2.8 as Debian ships it. No referrers API.
    DockerRegistry,
    /// The same, which also takes and serves Docker's schema 1.
    DockerRegistrySchema1,
    /// CNCF distribution 3. No referrers API.
    Distribution3,
    /// The registry of go-containerregistry with its referrers API, which answers 404 until its
    /// repository holds a manifest, and calls the config's media type the artifact type. Forgets its
    /// manifests when it stops.
    Referrers,
    /// zot: the referrers API on disk.
    Zot,
}

impl Kind {
    fn binary(self) -> &'static str {
        match self {
            Self::DockerRegistry | Self::DockerRegistrySchema1 => "docker-registry",
            Self::Distribution3 => "registry",
            Self::Referrers => "referrers-registry",
            Self::Zot => "zot",
        }
    }

    fn how_to_install(self) -> &'static str {
        match self {
            Self::DockerRegistry | Self::DockerRegistrySchema1 => {
                "`apt-get install docker-registry`"
            }
            Self::Distribution3 => {
                "`go install github.com/distribution/distribution/v3/cmd/registry@latest`"
            }
            Self::Referrers => "`go build` in `tests/real/referrers-registry`",
            Self::Zot => "a release of zot (zotregistry.dev), minimal or full",
        }
    }

    /// The command that serves `folder` on `port`, its configuration written into `folder`.
    fn command(self, folder: &Path, port: u16, guard: Guard) -> Command {
        let storage = folder.join("storage");
        std::fs::create_dir_all(&storage).expect("the temporary folder takes a folder");
        let mut command = Command::new(self.find());
        let configuration = match self {
            Self::DockerRegistry | Self::DockerRegistrySchema1 | Self::Distribution3 => format!(
                "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
                 storage:\n  filesystem: {{rootdirectory: '{}'}}\n  delete: {{enabled: true}}\n\
                 compatibility: {{schema1: {{enabled: {}}}}}\n\
                 http:\n  addr: '127.0.0.1:{port}'\n{}",
                storage.display(),
                self == Self::DockerRegistrySchema1,
                guard.configuration(folder),
            ),
            Self::Zot => format!(
                r#"{{"storage": {{"rootDirectory": "{}"}}, "log": {{"level": "info"}},
                "http": {{"address": "127.0.0.1", "port": "{port}", "compat": ["docker2s2"]}}}}"#,
                storage.display()
            ),
            Self::Referrers => {
                command.arg(format!("127.0.0.1:{port}")).arg(storage);
                return command;
            }
        };
        let file = folder.join("configuration");
        let file = file.with_extension(if self == Self::Zot { "json" } else { "yml" });
        std::fs::write(&file, configuration).expect("the temporary folder takes a file");
        // Distribution 3 sends its traces to a collector on this machine unless told not to.
        command.arg("serve").arg(file).env("OTEL_TRACES_EXPORTER", "none");
        command
    }

    fn find(self) -> PathBuf {
        find_tool(self.binary()).unwrap_or_else(|| {
            let (binary, install) = (self.binary(), self.how_to_install());
            panic!("`{binary}` is neither in `KHARON_TEST_BIN` nor on `PATH`: {install}")
        })
    }
}

/// What stands between a registry of distribution and its users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: plain HTTP for everybody.
    #[default]
    None,
    /// TLS with `fixtures/tls/server.cert`, which `fixtures/tls/authority.crt` signed.
    Tls,
    /// Basic authentication for [`USERNAME`] and [`PASSWORD`].
    Login,
    /// Both.
    TlsAndLogin,
    /// TLS, and clients must show a certificate such as `fixtures/tls/client.cert`.
    ClientCertificate,
}

/// Who may enter where a login is asked for.
pub const USERNAME: &str = "porter";
/// The password for it.
pub const PASSWORD: &str = "open sesame";
/// Its bcrypt hash, the only kind that distribution takes.
const PASSWORD_HASH: &str = "$2b$04$m9mlRGggjTl1XO8XJQ0.AO7vVXkYgfEsElTu9I0ambLSOaed5G4um";

impl Guard {
    fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::TlsAndLogin | Self::ClientCertificate)
    }

    fn has_login(self) -> bool {
        matches!(self, Self::Login | Self::TlsAndLogin)
    }

    /// The rest of distribution's configuration, from inside of its section `http`.
    fn configuration(self, folder: &Path) -> String {
        let mut text = String::new();
        if self.has_tls() {
            let tls = fixture("tls");
            let _ = writeln!(
                text,
                "  tls:\n    certificate: '{0}/server.cert'\n    key: '{0}/server.key'",
                tls.display()
            );
        }
        if self == Self::ClientCertificate {
            let authority = fixture("tls/authority.crt");
            let _ = writeln!(text, "    clientcas: ['{}']", authority.display());
        }
        if self.has_login() {
            let file = folder.join("htpasswd");
            std::fs::write(&file, format!("{USERNAME}:{PASSWORD_HASH}\n"))
                .expect("the temporary folder takes a file");
            let _ =
                writeln!(text, "auth: {{htpasswd: {{realm: tests, path: '{}'}}}}", file.display());
        }
        text
    }

    /// What a started registry answers to a GET of `/v2/` over plain HTTP.
    fn first_status(self) -> u16 {
        match self {
            Self::None => 200,
            Self::Login => 401,
            Self::Tls | Self::TlsAndLogin | Self::ClientCertificate => 400,
        }
    }
}

/// A file or folder below `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The path of a program such as `skopeo` or `crane`.
///
/// # Panics
/// If it is not there, naming it.
pub fn tool(name: &str) -> PathBuf {
    find_tool(name)
        .unwrap_or_else(|| panic!("`{name}` is neither in `KHARON_TEST_BIN` nor on `PATH`"))
}

fn find_tool(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("KHARON_TEST_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct RealRegistry {
    kind: Kind,
    guard: Guard,
    port: u16,
    process: Process,
    folder: tempfile::TempDir,
}

/// What a registry answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.headers.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }
}

impl RealRegistry {
    /// Starts an empty registry and waits until it answers.
    ///
    /// # Panics
    /// If its binary is missing, or it does not answer; then its log is shown.
    pub fn start(kind: Kind) -> Self {
        Self::start_guarded(kind, Guard::None)
    }

    /// The same with a guard, which only the two of distribution can have.
    ///
    /// # Panics
    /// As [`RealRegistry::start`].
    pub fn start_guarded(kind: Kind, guard: Guard) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut log = String::new();
        for _ in 0..START_TRIES {
            let port = free_port();
            let mut process = Process::start(kind, folder.path(), port, guard);
            if process.answers(port, guard) {
                return Self { kind, guard, port, process, folder };
            }
            drop(process);
            log = read_log(folder.path());
        }
        panic!("{kind:?} did not start:\n{log}");
    }

    /// Ends it and starts it again with the same content (but for [`Kind::Referrers`]) and address.
    ///
    /// # Panics
    /// As [`RealRegistry::start`].
    pub fn restart(&mut self) {
        self.process.end();
        self.process = Process::start(self.kind, self.folder.path(), self.port, self.guard);
        assert!(self.process.answers(self.port, self.guard), "{:?}:\n{}", self.kind, self.log());
    }

    /// Where it listens, as `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder with its content, in its own format.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// What it wrote to stdout and stderr.
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.0.id()
    }

    /// One GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// One request of any kind, without redirects or retries.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(&self.host(), method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }
}

/// A child that does not outlive this value.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(kind: Kind, folder: &Path, port: u16, guard: Guard) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("log"));
        let log = log.expect("the temporary folder takes a file");
        let mut command = kind.command(folder, port, guard);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a second handle")).stdout(log);
        Self(command.spawn().unwrap_or_else(|error| panic!("{kind:?} cannot be run: {error}")))
    }

    /// Waits until it answers, or ends, or time is up.
    fn answers(&mut self, port: u16, guard: Guard) -> bool {
        let (started, host) = (Instant::now(), format!("127.0.0.1:{port}"));
        while started.elapsed() < START_LIMIT {
            if self.0.try_wait().expect("a child can be waited for").is_some() {
                return false;
            }
            let answer = send(&host, "GET", "/v2/", &[], b"");
            if answer.is_ok_and(|answer| answer.status == guard.first_status()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn read_log(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One request to `host`, by HTTP/1.0, so that answers end with the connection and are never chunked.
///
/// # Errors
/// If there is no answer.
pub fn send(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    send_through(stream, host, method, path, headers, body)
}

/// The same over a connection that is there, such as one to an engine's socket.
///
/// # Errors
/// As [`send`].
pub fn send_through(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let length = body.len();
    let mut head =
        format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let malformed = || std::io::Error::other("the answer is not HTTP");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let (status_line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(malformed)?,
        headers: headers.to_owned(),
        body: answer[end + 4..].to_vec(),
    })
}
