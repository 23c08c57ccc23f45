//! Questions to a person, and passwords from a pipe.

use std::io::{self, BufRead, IsTerminal, Write as _};

/// The longest password read from a pipe: tokens have some kilobytes, and a file named by mistake
/// should not fill the memory.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// What a person typed to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Shown while it was typed.
    pub username: String,
    /// Not shown, then or later.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why no login or password was read.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// There is nobody to ask.
    #[error("expected a terminal to ask for the login of `{0}` on, found none")]
    NoTerminal(String),
    /// There is nobody to ask for the password of a key.
    #[error("expected a terminal to ask for the password of the key `{0}` on, found none")]
    NoTerminalForKey(String),
    /// The terminal or the pipe failed, or the person ended the input.
    #[error("cannot read what was typed")]
    Input(#[source] io::Error),
    /// Ctrl-C was typed.
    #[error("the question was interrupted")]
    Interrupted,
    /// The pipe held no password.
    #[error("expected a password on standard input, found nothing")]
    NoPassword,
    /// The first line is longer than any password.
    #[error(
        "expected a password of at most {MAX_PASSWORD_BYTES} bytes on standard input, found more"
    )]
    PasswordTooLong,
    /// The first line is not UTF-8.
    #[error("expected a password in UTF-8 on standard input, found other bytes")]
    PasswordEncoding,
}

impl PromptError {
    /// What to do instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTerminal(_) => Some(
                "give the login with --username and --password-stdin, \
                 or in KHARON_USERNAME and KHARON_PASSWORD"
                    .to_owned(),
            ),
            Self::NoTerminalForKey(_) => Some("give it in KHARON_KEY_PASSWORD".to_owned()),
            Self::NoPassword | Self::PasswordTooLong | Self::PasswordEncoding => {
                Some("--password-stdin reads the first line of standard input".to_owned())
            }
            Self::Input(_) | Self::Interrupted => None,
        }
    }
}

/// What the password of a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyQuestion {
    /// To open a key that is there.
    Open,
    /// To encrypt a new key: it is asked for twice.
    Choose,
}

/// The terminal's settings before a question, which come back however the question ends: the thread
/// that asks waits for a line's end, and not for a signal.
struct Asked {
    #[cfg(unix)]
    settings: Option<rustix::termios::Termios>,
    is_answered: bool,
}

impl Asked {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            settings: rustix::termios::tcgetattr(io::stdin()).ok(),
            is_answered: false,
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        #[cfg(unix)]
        if let Some(settings) = &self.settings {
            use rustix::termios::{OptionalActions, tcsetattr};
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        }
        // What comes next does not belong behind the question.
        let _ = writeln!(io::stderr());
    }
}

/// Asks for what is missing of a login, on stderr.
pub(super) async fn ask_login(
    registry: String,
    username: Option<String>,
) -> Result<Login, PromptError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(PromptError::NoTerminal(registry));
    }
    let mut asked = Asked::new();
    let answer = tokio::task::spawn_blocking(move || ask(&registry, username)).await;
    asked.is_answered = matches!(answer, Ok(Ok(_)));
    answer.unwrap_or_else(|broken| Err(PromptError::Input(broken.into())))
}

/// Asks for the password of the key `name`, on stderr.
pub(super) async fn ask_key_password(
    name: String,
    question: KeyQuestion,
) -> Result<String, PromptError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(PromptError::NoTerminalForKey(name));
    }
    let mut asked = Asked::new();
    let ask = move || {
        let password = match question {
            KeyQuestion::Open => {
                dialoguer::Password::new().with_prompt(format!("Password of the key {name}"))
            }
            KeyQuestion::Choose => dialoguer::Password::new()
                .with_prompt(format!("New password for the key {name}"))
                .with_confirmation("The same again", "these were two passwords"),
        };
        password.report(false).interact().map_err(failed)
    };
    let answer = tokio::task::spawn_blocking(ask).await;
    asked.is_answered = matches!(answer, Ok(Ok(_)));
    answer.unwrap_or_else(|broken| Err(PromptError::Input(broken.into())))
}

fn failed(error: dialoguer::Error) -> PromptError {
    match io::Error::from(error) {
        error if error.kind() == io::ErrorKind::Interrupted => PromptError::Interrupted,
        error => PromptError::Input(error),
    }
}

fn ask(registry: &str, username: Option<String>) -> Result<Login, PromptError> {
    let username = match username {
        Some(username) => username,
        None => dialoguer::Input::<String>::new()
            .with_prompt(format!("Username for {registry}"))
            .interact_text()
            .map_err(failed)?,
    };
    let password = dialoguer::Password::new()
        .with_prompt(format!("Password for {username} at {registry}"))
        .report(false)
        .interact()
        .map_err(failed)?;
    Ok(Login { username, password })
}

/// Reads the first line without its line end.
pub(super) fn read_password(input: impl BufRead) -> Result<String, PromptError> {
    let mut line = Vec::new();
    // Two more than the longest, for the line end.
    input.take(MAX_PASSWORD_BYTES + 2).read_until(b'\n', &mut line).map_err(PromptError::Input)?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    match password.len() {
        0 => Err(PromptError::NoPassword),
        length if length as u64 > MAX_PASSWORD_BYTES => Err(PromptError::PasswordTooLong),
        _ => String::from_utf8(password.to_vec()).map_err(|_| PromptError::PasswordEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line() {
        let table = ["secret", "secret\n", "secret\r\n", "secret\nmore\n"];
        for input in table {
            let password = read_password(input.as_bytes()).expect("a password");
            assert_eq!(password, "secret", "{input:?}");
        }
        let spaced = read_password(" a b \n".as_bytes()).expect("a password");
        assert_eq!(spaced, " a b ");
    }

    #[test]
    fn the_longest_password_still_passes() {
        let longest = "x".repeat(64 * 1024);
        let read = read_password(format!("{longest}\r\n").as_bytes()).expect("a password");
        assert_eq!(read.len(), longest.len());
        let longer = read_password(format!("{longest}x").as_bytes());
        assert!(matches!(longer, Err(PromptError::PasswordTooLong)));
    }

    #[test]
    fn what_is_no_password_is_refused_without_quoting_it() {
        assert!(matches!(read_password(&b""[..]), Err(PromptError::NoPassword)));
        assert!(matches!(read_password(&b"\nx"[..]), Err(PromptError::NoPassword)));
        let binary = read_password(&b"s3cr\xff"[..]).expect_err("no UTF-8");
        assert!(!format!("{binary} {binary:?}").contains("s3cr"));
    }

    #[test]
    fn a_login_does_not_show_its_password() {
        let login = Login { username: "u".to_owned(), password: "s3cret".to_owned() };
        assert_eq!(format!("{login:?}"), "Login { username: \"u\", .. }");
    }
}
