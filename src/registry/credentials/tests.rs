use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

mod helpers;

fn host(text: &str) -> RegistryHost {
    text.parse().expect(text)
}

fn repository(text: &str) -> RepositoryName {
    text.parse().expect(text)
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: Secret::new(password) }
}

/// `USER:PASSWORD`, `id:TOKEN`, `token:TOKEN` or `-` for each kind of credentials.
fn brief(credentials: &Credentials) -> String {
    match credentials {
        Credentials::Anonymous => "-".to_owned(),
        Credentials::Basic { username, password } => format!("{username}:{}", password.expose()),
        Credentials::IdentityToken(token) => format!("id:{}", token.expose()),
        Credentials::RegistryToken(token) => format!("token:{}", token.expose()),
    }
}

/// What a helper does that knows a login.
const KNOWS: &str = r#"echo '{"ServerURL": "x", "Username": "me", "Secret": "hidden"}'"#;

/// A user's home with files and helpers.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    /// Makes `docker-credential-NAME`, which notes its questions and then does as `script` says.
    fn helper(&self, name: &str, script: &str) {
        let log = self.path("questions").display().to_string();
        self.program(name, &format!("echo \"$1 $(/bin/cat)\" >> '{log}'\n{script}"));
    }

    /// Makes `docker-credential-NAME` of `script` alone.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(format!("docker-credential-{name}"));
        fs::create_dir_all(self.path("bin")).expect("made");
        // Another process writes the script: were it open for writing in a child that another test
        // starts right now, it could not be run.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let script = format!("#!/bin/sh\n{script}\n");
        shell.stdin.take().expect("piped").write_all(script.as_bytes()).expect("written");
        assert!(shell.wait().expect("run").success());
    }

    fn questions(&self) -> String {
        fs::read_to_string(self.path("questions")).unwrap_or_default()
    }

    fn paths(&self) -> SearchPaths {
        let mut programs = OsString::from(self.path("bin"));
        programs.push(":/usr/bin:/bin");
        SearchPaths {
            runtime_auth_file: Some(self.path("run/containers/auth.json")),
            config_directory: Some(self.path(".config")),
            docker_directory: Some(self.path(".docker")),
            home: Some(self.directory.path().to_owned()),
            programs: Some(programs),
            ..SearchPaths::default()
        }
    }

    fn store(&self) -> CredentialStore {
        CredentialStore::from_search_paths(self.paths())
    }
}

#[tokio::test]
async fn a_file_tells_the_credentials_of_hosts_and_namespaces() {
    let entry = |key: &str, password: &str| {
        format!(r#""{key}": {{"username": "u", "password": "{password}"}}"#)
    };
    let auths = |entries: &[String]| format!(r#"{{"auths": {{{}}}}}"#, entries.join(","));
    let value = |value: &str| format!(r#"{{"auths": {{"r.example": {value}}}}}"#);
    let namespaces = auths(&[
        entry("r.example", "host"),
        entry("r.example/a", "a"),
        entry("r.example/a/b/c/", "abc"),
        entry("s.example/a", "other"),
    ]);
    let hub = |keys: &[&str]| auths(&keys.iter().map(|key| entry(key, key)).collect::<Vec<_>>());
    for (content, at, expected) in [
        // What an entry may hold.
        (value(r#"{"auth": "dXNlcjpwYXNz"}"#), "r.example", "user:pass"),
        (value(r#"{"auth": "dTpw"}"#), "r.example", "u:p"),
        (value(r#"{"auth": "dTpwYQ=="}"#), "r.example", "u:pa"),
        (value(r#"{"auth": "dTpwYQ"}"#), "r.example", "u:pa"),
        (value(r#"{"auth": "dTpwYR=="}"#), "r.example", "u:pa"),
        (value(r#"{"auth": "dTpw\nYQ==\n"}"#), "r.example", "u:pa"),
        (value(r#"{"auth": "dTpwOnE="}"#), "r.example", "u:p:q"),
        (value(r#"{"auth": "dTpwAAAA"}"#), "r.example", "u:p"),
        (value(r#"{"username": "u", "password": "p", "email": "x"}"#), "r.example", "u:p"),
        (value(r#"{"auth": "dTpw", "username": "v", "password": "q"}"#), "r.example", "u:p"),
        (value(r#"{"auth": "dTpw", "identitytoken": "t"}"#), "r.example", "id:t"),
        (value(r#"{"identitytoken": "t", "registrytoken": "r"}"#), "r.example", "token:r"),
        (value(r#"{"auth": "", "identitytoken": "", "registrytoken": ""}"#), "r.example", "-"),
        (value("{}"), "r.example", "-"),
        (value("null"), "r.example", "-"),
        // Whole files.
        (String::new(), "r.example", "-"),
        (" \n".to_owned(), "r.example", "-"),
        ("{}".to_owned(), "r.example", "-"),
        (
            r#"{"auths": null, "credHelpers": null, "credsStore": null}"#.to_owned(),
            "r.example",
            "-",
        ),
        (r#"{"auths": {}, "credsStore": "", "psFormat": 1}"#.to_owned(), "r.example", "-"),
        // How hosts are spelled.
        (auths(&[entry("r.example", "p")]), "s.example", "-"),
        (auths(&[entry("r.example", "p")]), "r.example:5000", "-"),
        (auths(&[entry("r.example:5000", "p")]), "r.example:5000", "u:p"),
        (auths(&[entry("R.Example", "p")]), "r.example", "u:p"),
        (auths(&[entry("https://r.example/v1/", "p")]), "r.example", "u:p"),
        (auths(&[entry("https://r.example", "p")]), "r.example", "u:p"),
        (auths(&[entry("http://r.example/v2/", "p")]), "r.example", "u:p"),
        (auths(&[entry("https://r.example", "p"), entry("r.example", "q")]), "r.example", "u:q"),
        (auths(&[entry("[::1]:5000", "p")]), "[::1]:5000", "u:p"),
        (auths(&[entry("r.example.evil", "p"), entry("evil/r.example", "p")]), "r.example", "-"),
        (auths(&[entry("https://u@r.example/", "p"), entry("", "p")]), "r.example", "-"),
        // Namespaces.
        (namespaces.clone(), "r.example", "u:host"),
        (namespaces.clone(), "r.example z", "u:host"),
        (namespaces.clone(), "r.example a", "u:a"),
        (namespaces.clone(), "r.example a/b", "u:a"),
        (namespaces.clone(), "r.example ab", "u:host"),
        (namespaces.clone(), "r.example a/b/c", "u:abc"),
        (namespaces.clone(), "r.example a/b/c/d", "u:abc"),
        (namespaces.clone(), "r.example a/b/cd", "u:a"),
        (namespaces.clone(), "s.example a", "u:other"),
        (namespaces.clone(), "s.example", "-"),
        // Docker Hub.
        (hub(&["registry-1.docker.io"]), "docker.io", "u:registry-1.docker.io"),
        (hub(&["docker.io", "registry-1.docker.io"]), "docker.io", "u:docker.io"),
        (hub(&["docker.io", "index.docker.io"]), "docker.io", "u:index.docker.io"),
        (
            hub(&["docker.io", "https://index.docker.io/v1/"]),
            "docker.io",
            "u:https://index.docker.io/v1/",
        ),
        (hub(&["https://index.docker.io/v1/access-token"]), "docker.io", "-"),
        (hub(&["https://index.docker.io/v1/refresh-token"]), "docker.io", "-"),
        (hub(&["docker.io/me", "docker.io"]), "docker.io me/x", "u:docker.io/me"),
        (hub(&["docker.io/library", "docker.io"]), "docker.io python", "u:docker.io/library"),
        (hub(&["docker.io"]), "hub.example", "-"),
    ] {
        let home = Home::new();
        home.write(".docker/config.json", &content);
        let (name, namespace) = at.split_once(' ').map_or((at, None), |(n, r)| (n, Some(r)));
        let namespace = namespace.map(repository);
        let found = home.store().find(&host(name), namespace.as_ref()).await.expect(&content);
        assert_eq!(brief(&found), expected, "`{at}` in {content}");
    }
}

#[tokio::test]
async fn files_are_asked_in_the_order_of_skopeo() {
    let home = Home::new();
    let content = |hosts: &[&str], password: &str| {
        let mut auths = String::new();
        for name in hosts {
            let comma = if auths.is_empty() { "" } else { "," };
            write!(auths, r#"{comma}"{name}": {{"username": "u", "password": "{password}"}}"#)
                .expect("text");
        }
        format!(r#"{{"auths": {{{auths}}}}}"#)
    };
    let all = ["a.example", "b.example", "c.example", "d.example"];
    home.write("named.json", &content(&all[..1], "named"));
    home.write("run/containers/auth.json", &content(&all[..2], "runtime"));
    home.write(".config/containers/auth.json", &content(&all[..3], "config"));
    home.write(".docker/config.json", &content(&all, "docker"));
    let named = SearchPaths { registry_auth_file: Some(home.path("named.json")), ..home.paths() };
    for (paths, expected) in [
        (home.paths(), ["u:runtime", "u:runtime", "u:config", "u:docker"]),
        (named, ["u:named", "u:config", "u:config", "u:docker"]),
        (SearchPaths::default(), ["-"; 4]),
    ] {
        let store = CredentialStore::from_search_paths(paths);
        for (name, expected) in all.iter().zip(expected) {
            let found = store.find(&host(name), None).await.expect(name);
            assert_eq!(brief(&found), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn an_explicit_login_wins_at_its_host_and_goes_to_no_other() {
    let home = Home::new();
    home.write("run/containers/auth.json", "broken");
    let store = home
        .store()
        .with_explicit(host("r.example"), basic("me", "mine"))
        .with_explicit(host("public.example"), Credentials::Anonymous);
    let found = store.find(&host("r.example"), Some(&repository("a/b"))).await;
    assert_eq!(brief(&found.expect("no file is asked")), "me:mine");
    let found = store.find(&host("public.example"), None).await;
    assert_eq!(brief(&found.expect("no file is asked")), "-");
    store.find(&host("r.example:5000"), None).await.expect_err("the file is asked");
    let anonymous = CredentialStore::anonymous().with_explicit(host("a"), basic("me", "mine"));
    assert_eq!(brief(&anonymous.find(&host("b"), None).await.expect("none")), "-");
}

#[tokio::test]
async fn a_login_renewed_in_the_middle_of_a_run_is_found() {
    let home = Home::new();
    let store = home.store();
    for password in ["old", "new"] {
        let entry = format!(r#"{{"username": "u", "password": "{password}"}}"#);
        home.write(".docker/config.json", &format!(r#"{{"auths": {{"r.example": {entry}}}}}"#));
        let found = store.find(&host("r.example"), None).await.expect(password);
        assert_eq!(found, basic("u", password));
    }
}

#[tokio::test]
async fn a_broken_file_is_named_and_never_quoted() {
    let path = ".docker/config.json";
    let entry = |entry: &str| format!(r#"{{"auths": {{"r.example": {entry}}}}}"#);
    let at = |line, column| {
        format!(
            "expected the JSON of Docker or podman in `PATH`, found something else in line {line}, \
             column {column}"
        )
    };
    let auth = "expected base64 of `user:password` as `auth` of `r.example` in `PATH`, found \
                something else";
    let size = "expected at most 1048576 bytes in `PATH`, found more";
    for (content, expected) in [
        ("hidden".to_owned(), at(1, 1)),
        ("{\n\"auths\": \"hidden\"}".to_owned(), at(2, 17)),
        (r#"{"auths": {"hidden"#.to_owned(), at(1, 18)),
        (entry(r#""hidden""#), at(1, 32)),
        (entry(r#"{"auth": 7}"#), at(1, 34)),
        ("[".repeat(100_000), at(1, 1)),
        (entry(r#"{"auth": "hidden!"}"#), auth.to_owned()),
        (entry(r#"{"auth": "aGlkZGVu"}"#), auth.to_owned()),
        (entry(r#"{"auth": "/////w=="}"#), auth.to_owned()),
        (" ".repeat(2 << 20), size.to_owned()),
    ] {
        let home = Home::new();
        home.write(path, &content);
        let error = home.store().find(&host("r.example"), None).await.expect_err(&expected);
        let expected = expected.replace("PATH", &home.path(path).display().to_string());
        assert_eq!(error.to_string(), expected);
        let shown = format!("{error:?} {:#} {:?}", anyhow::Error::new(error.clone()), error.hint());
        assert!(!shown.contains("hidden") && !shown.contains("aGlk"), "{shown}");
    }
}

#[tokio::test]
async fn another_hosts_broken_entry_does_no_harm() {
    let home = Home::new();
    home.write(
        ".docker/config.json",
        r#"{"auths": {"a": {"auth": "!"}, "r.example": {"auth": "dTpw"}, "r.example/z": {"auth": "!"}}}"#,
    );
    let found = home.store().find(&host("r.example"), Some(&repository("y"))).await;
    assert_eq!(brief(&found.expect("its own entry")), "u:p");
}

#[tokio::test]
async fn only_a_file_that_was_named_must_be_there() {
    let home = Home::new();
    let named = SearchPaths { registry_auth_file: Some(home.path("gone.json")), ..home.paths() };
    let store = CredentialStore::from_search_paths(named);
    let error = store.find(&host("r.example"), None).await.expect_err("named and missing");
    let path = home.path("gone.json").display().to_string();
    let expected = format!("expected the file `{path}` that REGISTRY_AUTH_FILE names, found none");
    assert_eq!(error.to_string(), expected);
    home.write(".docker/config.json/file", "");
    let error = home.store().find(&host("r.example"), None).await.expect_err("a folder");
    assert!(error.to_string().starts_with("cannot read `"), "{error}");
}

#[tokio::test]
async fn nothing_shows_a_secret() {
    let home = Home::new();
    home.helper("h", KNOWS);
    home.write(".docker/config.json", r#"{"credsStore": "h"}"#);
    let store = home.store().with_explicit(host("a"), basic("me", "hidden"));
    let found = store.find(&host("r.example"), None).await.expect("an answer");
    assert_eq!(brief(&found), "me:hidden");
    let file = AuthFile::parse(
        br#"{"auths": {"r": {"auth": "hidden", "password": "hidden", "identitytoken": "hidden",
             "registrytoken": "hidden"}}}"#,
    );
    let token = || Secret::new("hidden");
    for shown in [
        format!("{store:?}"),
        format!("{file:?}"),
        format!("{:?}", file.expect("valid").sources(&host("r"), None)),
        format!("{found:?}"),
        format!("{:?}", Credentials::IdentityToken(token())),
        format!("{:?}", Credentials::RegistryToken(token())),
    ] {
        assert!(shown.contains('…') && !shown.contains("hidden"), "{shown}");
    }
}
