//! The folder for what kharon remembers from one run to the next.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where it is, made or not; none where this user has no home.
pub(super) fn state_folder() -> Option<PathBuf> {
    // A home that was never made is not made for this.
    let home = env::home_dir().filter(|home| home.is_dir());
    find(|name| env::var_os(name), home)
}

/// `KHARON_STATE_DIR`, else a folder of that name where the system's users keep such things (XDG Base
/// Directory Specification, 0.8; Apple's File System Programming Guide; Windows' known folders).
fn find(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = path("KHARON_STATE_DIR") {
        return Some(folder);
    }
    // The specification wants relative ones to be ignored.
    let xdg = path("XDG_STATE_HOME").filter(|folder| folder.is_absolute());
    let usual = || {
        if cfg!(windows) {
            path("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            Some(home?.join("Library/Application Support"))
        } else {
            Some(home?.join(".local/state"))
        }
    };
    Some(xdg.or_else(usual)?.join("kharon"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_environment_says_where_it_is_or_the_home_does() {
        for (own, xdg, home, expected) in [
            ("/own", "/xdg", Some("/home/me"), Some("/own")),
            ("", "/xdg", Some("/home/me"), Some("/xdg/kharon")),
            ("", "relative", Some("/home/me"), Some("/home/me/.local/state/kharon")),
            ("", "", Some("/home/me"), Some("/home/me/.local/state/kharon")),
            ("", "", None, None),
        ] {
            let variable = |name: &str| match name {
                "KHARON_STATE_DIR" => Some(own.into()),
                "XDG_STATE_HOME" => Some(xdg.into()),
                _ => None,
            };
            let found = find(variable, home.map(PathBuf::from));
            assert_eq!(found, expected.map(PathBuf::from), "{own} {xdg} {home:?}");
        }
    }
}
