//! The files `config.toml`: where they are, and what they say together.

use std::env;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kharon::config::Config;
use kharon::failure::Usage;
use kharon::units::format_bytes;

/// The largest file that is read, in bytes: one has some lines for each registry.
const CONFIG_MAX_BYTES: u64 = 1024 * 1024;

/// A file that may be there.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// Whether it was named, so that it has to be there.
    is_named: bool,
}

/// What the user's file and the machine's say.
pub(super) fn read() -> anyhow::Result<Config> {
    let mut config = Config::default();
    for candidate in candidates(|name| env::var_os(name), env::home_dir()) {
        if let Some(text) = text_of(&candidate)? {
            config = config.over(Config::parse(&text, &candidate.path)?);
        }
    }
    config.refuse_halves()?;
    Ok(config)
}

fn text_of(candidate: &Candidate) -> anyhow::Result<Option<String>> {
    let Candidate { path, is_named } = candidate;
    let context = || format!("cannot read the settings in `{}`", path.display());
    let file = match std::fs::File::open(path) {
        Err(error) if !is_named && is_missing(&error) => return Ok(None),
        Err(error) if *is_named && is_missing(&error) => {
            let what = format!(
                "expected the file `{}` that KHARON_CONFIG names, found none",
                path.display()
            );
            let usage = Usage::new(what).with_hint("unset KHARON_CONFIG to use the usual files");
            return Err(usage.into());
        }
        file => file.with_context(context)?,
    };
    let mut text = String::new();
    file.take(CONFIG_MAX_BYTES + 1).read_to_string(&mut text).with_context(context)?;
    if text.len() as u64 > CONFIG_MAX_BYTES {
        let most = format_bytes(CONFIG_MAX_BYTES);
        let what =
            format!("expected at most {most} of settings in `{}`, found more", path.display());
        return Err(Usage::new(what).into());
    }
    Ok(Some(text))
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// `KHARON_CONFIG`, else `kharon/config.toml` where the system's users keep such things (XDG Base Directory
/// Specification, 0.8; Apple's File System Programming Guide; Windows' known folders), and the machine's.
fn candidates(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Vec<Candidate> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let within = |folder: PathBuf| Candidate {
        path: folder.join("kharon").join("config.toml"),
        is_named: false,
    };
    // The specification wants relative ones to be ignored.
    let xdg = path("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let usual = || {
        if cfg!(windows) {
            path("APPDATA")
        } else if cfg!(target_os = "macos") {
            Some(home?.join("Library/Application Support"))
        } else {
            Some(home.filter(|home| home != Path::new(""))?.join(".config"))
        }
    };
    let named = path("KHARON_CONFIG").map(|path| Candidate { path, is_named: true });
    let user = named.or_else(|| xdg.or_else(usual).map(within));
    let machine = if cfg!(windows) { path("ProgramData") } else { Some(PathBuf::from("/etc")) };
    user.into_iter().chain(machine.map(within)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_users_file_is_named_or_where_it_usually_is_and_the_machines_beneath() {
        for (own, xdg, home, expected) in [
            ("/own.toml", "/xdg", Some("/home/me"), Some(("/own.toml", true))),
            ("", "/xdg", Some("/home/me"), Some(("/xdg/kharon/config.toml", false))),
            ("", "rel", Some("/home/me"), Some(("/home/me/.config/kharon/config.toml", false))),
            ("", "", Some("/home/me"), Some(("/home/me/.config/kharon/config.toml", false))),
            ("", "", None, None),
        ] {
            let variable = |name: &str| match name {
                "KHARON_CONFIG" => Some(own.into()),
                "XDG_CONFIG_HOME" => Some(xdg.into()),
                _ => None,
            };
            let found = candidates(variable, home.map(PathBuf::from));
            let machine = Some(("/etc/kharon/config.toml", false));
            let expected: Vec<Candidate> = [expected, machine]
                .into_iter()
                .flatten()
                .map(|(path, is_named)| Candidate { path: path.into(), is_named })
                .collect();
            assert_eq!(found, expected, "{own} {xdg} {home:?}");
        }
    }
}
