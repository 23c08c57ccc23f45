//! Docker's credential helpers: programs `docker-credential-NAME` that keep logins elsewhere.
//!
//! The protocol is that of docker-credential-helpers: `get` as the argument, the server on stdin, JSON
//! on stdout. An exit status other than 0 with [`NOT_FOUND`] means that the helper knows no login.
//! Answers, errors too, are kept for [`ANSWER_LIFETIME`], and at most one process per question runs.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::{CredentialError, Credentials, Secret};

/// How long a helper may take, which may have to ask a server or a person.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer is believed. Cloud registries' helpers hand out tokens that end within the hour,
/// so an answer that is kept for the whole run would fail a long one.
const ANSWER_LIFETIME: Duration = Duration::from_secs(300);
/// The most that is read of a helper's answer: a token has some kilobytes.
const ANSWER_MAX_BYTES: u64 = 1 << 20;
/// The most that is shown of a helper's complaint.
const MESSAGE_MAX_CHARS: usize = 200;
/// How a helper says that it knows no login for the server.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USERNAME: &str = "<token>";

/// The part of a helper's program name that stands in settings files: no path, no blank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HelperName(String);

impl HelperName {
    /// `text` if it consists of letters, digits, `.`, `_` and `-`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        (!text.is_empty() && text.bytes().all(is_safe)).then(|| Self(text.to_owned()))
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }
}

type Answer = Result<Option<Credentials>, CredentialError>;

/// The helpers of one run, and what they answered.
#[derive(Debug)]
pub(super) struct Helpers {
    /// The value of `PATH`.
    programs: Option<OsString>,
    pub(super) timeout: Duration,
    pub(super) answer_lifetime: Duration,
    answers: Mutex<HashMap<(HelperName, String), Arc<Question>>>,
}

#[derive(Debug)]
struct Question {
    asked_at: Instant,
    answer: OnceCell<Answer>,
}

impl Helpers {
    pub(super) fn new(programs: Option<OsString>) -> Self {
        Self {
            programs,
            timeout: TIMEOUT,
            answer_lifetime: ANSWER_LIFETIME,
            answers: Mutex::default(),
        }
    }

    /// What the helper says about `server`: nothing if it knows no login.
    pub(super) async fn ask(&self, name: HelperName, server: &str) -> Answer {
        let question = self.question(name.clone(), server);
        question.answer.get_or_init(|| self.run(&name, server)).await.clone()
    }

    fn question(&self, name: HelperName, server: &str) -> Arc<Question> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let question = answers.entry((name, server.to_owned())).or_default();
        if question.answer.initialized() && question.asked_at.elapsed() >= self.answer_lifetime {
            *question = Arc::default();
        }
        question.clone()
    }

    async fn run(&self, name: &HelperName, server: &str) -> Answer {
        let (program, server) = (name.program(), server.to_owned());
        let Some(path) = self.locate(&program) else {
            return Err(CredentialError::HelperMissing { program, server });
        };
        let mut command = Command::new(path);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        if let Some(programs) = &self.programs {
            command.env("PATH", programs);
        }
        let run = async { converse(command.spawn()?, &server).await };
        match tokio::time::timeout(self.timeout, run).await {
            Ok(Ok(output)) => output.answer(program, server),
            Ok(Err(error)) => {
                let source = Arc::new(error);
                Err(CredentialError::HelperUnusable { program, server, source })
            }
            Err(_) => {
                let seconds = self.timeout.as_secs();
                Err(CredentialError::HelperSilent { program, server, seconds })
            }
        }
    }

    /// The program's file. Folders that are relative are left out: what lies in the current folder is
    /// not trusted with a question about logins.
    pub(super) fn locate(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(self.programs.as_ref()?)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(format!("{program}{}", env::consts::EXE_SUFFIX)))
            .find(|path| path.is_file())
    }
}

impl Default for Question {
    fn default() -> Self {
        Self { asked_at: Instant::now(), answer: OnceCell::new() }
    }
}

/// What a helper said.
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Asks a running helper. Dropping this ends the helper.
async fn converse(mut child: Child, server: &str) -> std::io::Result<Output> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async move {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its question may still answer.
            stdin.write_all(server.as_bytes()).await.ok();
        }
    };
    let ((), stdout, stderr) = tokio::join!(write, read(stdout), read(stderr));
    Ok(Output { stdout: stdout?, stderr: stderr?, status: child.wait().await? })
}

/// Reads up to one byte more than may be, and closes the pipe then.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(ANSWER_MAX_BYTES + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The JSON that a helper answers. Go, which helpers are written in, reads any case.
#[derive(Deserialize)]
struct Login {
    #[serde(rename = "Username", alias = "username", default)]
    username: String,
    #[serde(rename = "Secret", alias = "secret")]
    secret: Secret,
}

impl Output {
    fn answer(self, program: String, server: String) -> Answer {
        if self.stdout.len() as u64 > ANSWER_MAX_BYTES {
            return Err(CredentialError::HelperAnswer { program, server });
        }
        if !self.status.success() {
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(NOT_FOUND);
            if said(&self.stdout) || said(&self.stderr) {
                return Ok(None);
            }
            let message = self.message();
            return Err(CredentialError::HelperFailed { program, server, message });
        }
        let Ok(Login { username, secret }) = serde_json::from_slice(&self.stdout) else {
            return Err(CredentialError::HelperAnswer { program, server });
        };
        Ok(match (username.as_str(), secret.expose()) {
            ("", "") => None,
            (TOKEN_USERNAME, _) => Some(Credentials::IdentityToken(secret)),
            _ => Some(Credentials::Basic { username, password: secret }),
        })
    }

    /// The first line of the complaint. Helpers complain on stdout, where logins go as well: what may
    /// be one is left out.
    fn message(&self) -> String {
        let first_line = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.trim().lines().next().unwrap_or_default();
            line.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX_CHARS).collect::<String>()
        };
        [first_line(&self.stdout), first_line(&self.stderr)]
            .into_iter()
            .find(|line| !line.is_empty() && !line.contains('{'))
            .unwrap_or_else(|| self.status.to_string())
    }
}
