//! `kharon keygen`, and keys that other commands are given.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kharon::failure::{ExitCode, Usage};
use kharon::minisign::{KEY_MAX_BYTES, Password, PublicKey, SecretKey, StoredKey};
use kharon::terminal::{KeyQuestion, Terminal};

use super::print_line;

/// Where the password of a key may stand.
const PASSWORD_VARIABLE: &str = "KHARON_KEY_PASSWORD";

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Write the secret key to NAME.key and the public key to NAME.pub; neither is ever replaced
    #[arg(short, long, value_name = "NAME")]
    file: PathBuf,
    /// Do not encrypt the secret key; else its password comes from
    /// `KHARON_KEY_PASSWORD`, or is asked for
    #[arg(long)]
    no_password: bool,
}

impl KeygenArgs {
    pub(crate) async fn run(&self, terminal: &Terminal) -> anyhow::Result<ExitCode> {
        let (secret_path, public_path) = (beside(&self.file, ".key"), beside(&self.file, ".pub"));
        for path in [&secret_path, &public_path] {
            if fs::symlink_metadata(path).is_ok() {
                return Err(taken(path).into());
            }
        }
        let password = if self.no_password {
            None
        } else {
            Some(password(&secret_path, KeyQuestion::Choose, terminal).await?)
        };
        if password.as_ref().is_some_and(Password::is_empty) {
            return Err(Usage::new("expected a password for the new key, found an empty one")
                .with_hint("choose one, or leave the key unencrypted with `--no-password`")
                .into());
        }
        let key = SecretKey::generate()?;
        let public = key.public_key();
        let text = tokio::task::spawn_blocking(move || key.to_text(password.as_ref())).await??;
        write_new(&secret_path, &text, Readers::Owner)?;
        if let Err(error) = write_new(&public_path, &public.to_text(), Readers::All) {
            // Without its public half the new key is of no use.
            let _ = fs::remove_file(&secret_path);
            return Err(error);
        }
        terminal.finish();
        terminal.reporter().note(format!(
            "wrote the key {}: `{}` signs and stays with you, `{}` checks and goes to the far side",
            public.id(),
            secret_path.display(),
            public_path.display()
        ));
        print_line(terminal, &public.to_line())?;
        Ok(ExitCode::Done)
    }
}

/// Whose eyes a file is for.
#[derive(Clone, Copy)]
enum Readers {
    Owner,
    All,
}

fn beside(name: &Path, extension: &str) -> PathBuf {
    let mut path = OsString::from(name);
    path.push(extension);
    path.into()
}

fn taken(path: &Path) -> Usage {
    Usage::new(format!("expected no file `{}`, found one", path.display()))
        .with_hint("choose another name with `-f`: keys are never replaced")
}

fn write_new(path: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if matches!(readers, Readers::Owner) {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = readers;
    let cannot_write = || format!("cannot write `{}`", path.display());
    let mut file = match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(taken(path).into());
        }
        opened => opened.with_context(cannot_write)?,
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // It is ours, and cut short.
        let _ = fs::remove_file(path);
    }
    written.with_context(cannot_write)
}

/// The password of the key at `path`.
async fn password(
    path: &Path,
    question: KeyQuestion,
    terminal: &Terminal,
) -> anyhow::Result<Password> {
    if let Some(password) = std::env::var_os(PASSWORD_VARIABLE) {
        let not_text =
            || Usage::new(format!("expected text in {PASSWORD_VARIABLE}, found other bytes"));
        return Ok(Password::new(password.into_string().map_err(|_| not_text())?));
    }
    let name = path.display().to_string();
    Ok(Password::new(terminal.prompt_key_password(&name, question).await?))
}

/// Reads a secret key, and opens it.
pub(super) async fn read_secret(path: &Path, terminal: &Terminal) -> anyhow::Result<SecretKey> {
    let stored = StoredKey::parse(&read(path)?).with_context(|| cannot_use(path))?;
    if !stored.is_encrypted() {
        return stored.open().with_context(|| cannot_use(path));
    }
    let password = password(path, KeyQuestion::Open, terminal).await?;
    let opened = tokio::task::spawn_blocking(move || stored.unlock(&password)).await?;
    opened.with_context(|| cannot_use(path))
}

/// Reads a public key: a file, or the line itself.
pub(super) fn read_public(key: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = key.parse() {
        return Ok(key);
    }
    let path = Path::new(key);
    read(path)?.parse().with_context(|| cannot_use(path))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(KEY_MAX_BYTES).read_to_end(&mut bytes));
    read.with_context(|| cannot_use(path))?;
    // What is no text is no key either.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use the key `{}`", path.display())
}
