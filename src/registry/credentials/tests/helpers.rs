use super::*;

const KNOWS_NOT: &str = "echo credentials not found in native keychain; exit 1";

#[tokio::test]
async fn helpers_are_asked_as_docker_asks_them() {
    let auths = r#""auths": {"r.example": {"auth": "dTpw"}, "docker.io": {"auth": "dTpw"}}"#;
    for (helpers, name, expected, questions) in [
        (r#""credHelpers": {"r.example": "good"}"#, "r.example", "me:hidden", "get r.example\n"),
        (r#""credHelpers": {"s.example": "good"}"#, "r.example", "u:p", ""),
        (
            r#""credHelpers": {"https://r.example": "good"}"#,
            "r.example",
            "me:hidden",
            "get https://r.example\n",
        ),
        // A host's helper has the last word in its file.
        (r#""credHelpers": {"r.example": "none"}"#, "r.example", "-", "get r.example\n"),
        (
            r#""credHelpers": {"r.example": "none"}, "credsStore": "good""#,
            "r.example",
            "-",
            "get r.example\n",
        ),
        (r#""credHelpers": {"r.example": ""}, "credsStore": "good""#, "r.example", "u:p", ""),
        // The general one is asked before the file's entries.
        (r#""credsStore": "good""#, "r.example", "me:hidden", "get r.example\n"),
        (r#""credsStore": "none""#, "r.example", "u:p", "get r.example\n"),
        (r#""credsStore": "quiet""#, "r.example", "u:p", "get r.example\n"),
        (r#""credsStore": "blank""#, "r.example", "u:p", "get r.example\n"),
        (r#""credsStore": "none""#, "s.example:5000", "-", "get s.example:5000\n"),
        (r#""credsStore": "token""#, "r.example", "id:refresh", "get r.example\n"),
        (r#""credsStore": "deaf""#, "r.example", "me:hidden", ""),
        // Docker Hub.
        (r#""credsStore": "good""#, "docker.io", "me:hidden", "get https://index.docker.io/v1/\n"),
        (r#""credHelpers": {"docker.io": "good"}"#, "docker.io", "me:hidden", "get docker.io\n"),
        (
            r#""credHelpers": {"docker.io": "none", "https://index.docker.io/v1/": "good"}"#,
            "docker.io",
            "me:hidden",
            "get https://index.docker.io/v1/\n",
        ),
    ] {
        let home = Home::new();
        home.helper("good", KNOWS);
        home.helper("none", KNOWS_NOT);
        home.helper("quiet", "echo credentials not found in native keychain >&2; exit 3");
        home.helper("blank", r#"echo '{"Username": "", "Secret": ""}'"#);
        home.helper("token", r#"echo '{"Username": "<token>", "Secret": "refresh"}'"#);
        home.program("deaf", KNOWS);
        home.write(".docker/config.json", &format!("{{{auths}, {helpers}}}"));
        let found = home.store().find(&host(name), None).await.expect(helpers);
        assert_eq!(brief(&found), expected, "{helpers}");
        assert_eq!(home.questions(), questions, "{helpers}");
    }
}

#[tokio::test]
async fn a_helper_that_fails_is_an_error_for_its_host_alone() {
    let line = "x".repeat(300);
    let long = format!(
        "the credential helper `docker-credential-h` failed for `r.example`: {}",
        "x".repeat(200)
    );
    let broken = "expected JSON with `Username` and `Secret` from the credential helper \
                  `docker-credential-h` for `r.example`, found something else";
    let failed = "the credential helper `docker-credential-h` failed for `r.example`: ";
    for (script, expected) in [
        ("echo no keychain; echo hidden; exit 1", format!("{failed}no keychain")),
        ("echo no keychain >&2; exit 1", format!("{failed}no keychain")),
        (r"printf '\033[1mred\n'; exit 1", format!("{failed}[1mred")),
        (&format!("echo {line}; exit 1"), long),
        (r#"echo '{"Secret": "hidden"}'; exit 1"#, format!("{failed}exit status: 1")),
        ("kill -9 $$", format!("{failed}signal: 9 (SIGKILL)")),
        ("exit 0", broken.to_owned()),
        ("echo hidden", broken.to_owned()),
        (r#"echo '{"Username": "hidden"}'"#, broken.to_owned()),
        (r#"echo '["hidden"]'"#, broken.to_owned()),
        // Endless.
        ("while :; do echo hiddenhiddenhiddenhiddenhiddenhidden; done", broken.to_owned()),
    ] {
        let home = Home::new();
        home.helper("h", script);
        home.write(".docker/config.json", r#"{"credHelpers": {"r.example": "h"}}"#);
        let store = home.store();
        let error = store.find(&host("r.example"), None).await.expect_err(script);
        assert_eq!(error.to_string(), expected, "{script}");
        assert!(error.hint().is_some() && !format!("{error:?}").contains("hidden"), "{error:?}");
        assert_eq!(brief(&store.find(&host("s.example"), None).await.expect("none")), "-");
    }
}

#[tokio::test]
async fn a_helper_that_is_not_installed_is_named() {
    let home = Home::new();
    home.write("bin/docker-credential-folder/file", "");
    home.write("bin/docker-credential-text", "no program");
    for (name, expected) in [
        (
            "gone",
            "expected the credential helper `docker-credential-gone` for `r.example` in PATH, found none",
        ),
        (
            "folder",
            "expected the credential helper `docker-credential-folder` for `r.example` in PATH, found none",
        ),
        ("text", "cannot run the credential helper `docker-credential-text` for `r.example`"),
    ] {
        home.write(".docker/config.json", &format!(r#"{{"credsStore": "{name}"}}"#));
        let error = home.store().find(&host("r.example"), None).await.expect_err(name);
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().is_some_and(|hint| hint.contains("user name")), "{error:?}");
    }
    let without_path = SearchPaths { programs: None, ..home.paths() };
    let store = CredentialStore::from_search_paths(without_path);
    store.find(&host("r.example"), None).await.expect_err("no PATH");
}

#[tokio::test]
async fn a_helpers_name_leads_out_of_no_folder() {
    let home = Home::new();
    home.helper("good", KNOWS);
    for name in
        ["../good", "/bin/sh", "good ", "a\\\\b", "good;ls", "good\\u0000", "g\u{f6}\u{f6}d"]
    {
        home.write(".docker/config.json", &format!(r#"{{"credsStore": "{name}"}}"#));
        let error = home.store().find(&host("r.example"), None).await.expect_err(name);
        assert!(matches!(error, CredentialError::HelperName { .. }), "{name}: {error}");
    }
    assert_eq!(home.questions(), "");
}

#[test]
fn a_helper_is_never_taken_from_the_current_folder() {
    // The tests run in the folder of the package.
    let helpers = Helpers::new(Some(".".into()));
    assert_eq!(helpers.locate("Cargo.toml"), None);
    let absolute = Path::new(env!("CARGO_MANIFEST_DIR"));
    let helpers = Helpers::new(Some(absolute.as_os_str().to_owned()));
    assert_eq!(helpers.locate("Cargo.toml"), Some(absolute.join("Cargo.toml")));
}

#[tokio::test]
async fn a_helper_that_hangs_is_ended() {
    let home = Home::new();
    let pid = home.path("pid");
    home.helper("h", &format!("echo $$ > '{}'; exec sleep 600", pid.display()));
    home.write(".docker/config.json", r#"{"credsStore": "h"}"#);
    let mut store = home.store();
    Arc::get_mut(&mut store.helpers).expect("the only one").timeout = Duration::from_secs(2);
    let error = store.find(&host("r.example"), None).await.expect_err("no answer");
    assert_eq!(
        error.to_string(),
        "the credential helper `docker-credential-h` did not answer for `r.example` in 2 s"
    );
    let pid = fs::read_to_string(pid).expect("it ran");
    let process = Path::new("/proc").join(pid.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.exists() && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(!process.exists(), "it goes on");
}

#[tokio::test]
async fn a_helper_is_asked_once_by_many_and_again_when_its_answer_is_old() {
    let home = Home::new();
    home.helper("h", KNOWS);
    home.helper("bad", "exit 1");
    home.write(
        ".docker/config.json",
        r#"{"credsStore": "h", "credHelpers": {"bad.example": "bad"}}"#,
    );
    let mut store = home.store();
    let (good, bad) = (host("r.example"), host("bad.example"));
    let many =
        async |host| futures_util::future::join_all((0..32).map(|_| store.find(host, None))).await;
    assert!(many(&good).await.iter().all(Result::is_ok));
    assert!(many(&bad).await.iter().all(Result::is_err));
    assert_eq!(home.questions(), "get r.example\nget bad.example\n");
    Arc::get_mut(&mut store.helpers).expect("the only one").answer_lifetime = Duration::ZERO;
    store.find(&good, None).await.expect("an answer");
    assert_eq!(home.questions(), "get r.example\nget bad.example\nget r.example\n");
    // All of them ask before the helper can answer.
    let name = HelperName::parse("h").expect("valid");
    let asked_at_once = (0..8).map(|_| store.helpers.ask(name.clone(), "s.example"));
    futures_util::future::join_all(asked_at_once).await;
    assert_eq!(home.questions().matches("get s.example\n").count(), 1);
}
