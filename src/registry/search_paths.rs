//! Where a user's and a machine's registry settings lie. The only part of `registry` that looks at
//! the environment by itself (reqwest reads the proxy variables).

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The values that decide which settings files are read; all empty by default.
#[derive(Clone, Debug, Default)]
pub struct SearchPaths {
    /// `REGISTRY_AUTH_FILE`, as podman and skopeo know it.
    pub registry_auth_file: Option<PathBuf>,
    /// The `auth.json` that `podman login` writes: below `XDG_RUNTIME_DIR`, or `/run/containers/UID`.
    pub runtime_auth_file: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, or `~/.config`.
    pub config_directory: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub docker_directory: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// `PATH`, where credential helpers are looked for.
    pub programs: Option<OsString>,
}

impl SearchPaths {
    /// What the environment of this process says.
    pub fn from_environment() -> Self {
        let path =
            |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        Self {
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime_auth_file: match path("XDG_RUNTIME_DIR") {
                Some(directory) => Some(directory.join("containers/auth.json")),
                None => runtime_auth_file_without_session(),
            },
            config_directory: path("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            docker_directory: path("DOCKER_CONFIG").or_else(|| in_home(".docker")),
            programs: env::var_os("PATH"),
            home,
        }
    }

    /// The folders with one folder of certificates per registry, the machine's before the user's:
    /// Docker's and podman's (containers-certs.d(5)).
    pub fn certs_directories(&self) -> Vec<PathBuf> {
        let machine = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
        let config = self.config_directory.iter().map(|config| config.join("containers/certs.d"));
        let home = self.home.iter().map(|home| home.join(".docker/certs.d"));
        machine.into_iter().chain(config).chain(home).collect()
    }
}

/// Where `podman login` writes when the user has no session, as under sudo and in cron jobs.
fn runtime_auth_file_without_session() -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // The owner of a process's own folder is its user: the standard library has no getuid.
        let user = std::fs::metadata("/proc/self").ok()?.uid();
        Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_looked_for_where_docker_and_podman_keep_them() {
        let paths = SearchPaths {
            config_directory: Some("/home/me/.config".into()),
            home: Some("/home/me".into()),
            ..SearchPaths::default()
        };
        let expected = [
            "/etc/docker/certs.d",
            "/etc/containers/certs.d",
            "/home/me/.config/containers/certs.d",
            "/home/me/.docker/certs.d",
        ];
        assert_eq!(paths.certs_directories(), expected.map(PathBuf::from));
    }
}
