use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/home/me/.config/kharon/config.toml"))
        .map_err(|error| error.to_string())
}

fn host(name: &str) -> RegistryHost {
    name.parse().expect("a host")
}

const ALL: &str = r#"
limit-rate = "50MB"

[registry."docker.io"]
mirror = ["mirror.local/hub", "mirror.gcr.io"]
mirror-only = true
limit-rate = "1MB"

[registry."mirror.local:5000"]
mirror = "other.local"
ca-file = "corporate.pem"
plain-http = false
username = "robot"
password-file = "/run/secrets/mirror"

[registry."ghcr.io"]
ca-file = ["/etc/a.pem", "b.pem"]
username = "me"
password-env = "GHCR_TOKEN"

[registry.localhost]
plain-http = true
credential-helper = "pass"
"#;

#[test]
fn all_keys_are_read() {
    let config = parse(ALL).expect("valid");
    assert_eq!(config.rate_limit_bytes_per_second, Some(50_000_000));
    let of = |name: &str| config.registries[&host(name)].clone();
    let mirror = |text: &str| text.parse().expect("a mirror");
    assert_eq!(
        of("docker.io"),
        RegistrySettings {
            mirrors: Some(vec![mirror("mirror.local/hub"), mirror("mirror.gcr.io")]),
            mirror_only: Some(true),
            rate_limit_bytes_per_second: Some(1_000_000),
            ..RegistrySettings::default()
        }
    );
    assert_eq!(
        of("mirror.local:5000"),
        RegistrySettings {
            mirrors: Some(vec![mirror("other.local")]),
            ca_files: Some(vec!["/home/me/.config/kharon/corporate.pem".into()]),
            plain_http: Some(false),
            username: Some("robot".to_owned()),
            password: Some(PasswordSource::File("/run/secrets/mirror".into())),
            ..RegistrySettings::default()
        }
    );
    let ghcr = of("ghcr.io");
    let files: Vec<PathBuf> = vec!["/etc/a.pem".into(), "/home/me/.config/kharon/b.pem".into()];
    assert_eq!(ghcr.ca_files, Some(files));
    assert_eq!(ghcr.password, Some(PasswordSource::Variable("GHCR_TOKEN".to_owned())));
    assert!(matches!(of("localhost").password, Some(PasswordSource::Helper { .. })));
    assert_eq!(parse(""), Ok(Config::default()));
    assert!(config.refuse_halves().is_ok());
}

#[test]
fn what_cannot_be_is_refused_with_line_and_key() {
    for (text, line, expected) in [
        ("\nlimit-rat = \"1MB\"", 2, "unknown field `limit-rat`"),
        ("[registry.\"a.x\"]\nca = \"b\"", 2, "unknown field `ca`"),
        ("limit-rate = \"fast\"", 1, "`limit-rate`: "),
        ("limit-rate = 5", 1, "invalid type"),
        ("[registry.\"a/b\"]\nplain-http = true", 1, "`registry`: expected a registry"),
        ("[registry.\"a.x\"]\n\nmirror = \"https://b\"", 3, "`mirror`: expected a mirror"),
        ("[registry.\"a.x\"]\nmirror = [\n\"b.x\",\n\"B/C\"]", 4, "`mirror`: expected a mirror"),
        ("[registry.\"a.x\"]\nmirror = 5", 2, "expected text or a list of texts"),
        ("[registry.\"a.x\"]\nplain-http = \"yes\"", 2, "invalid type"),
        (
            "[registry.\"a.x\"]\nusername = \"u\"\npassword = \"s3cret\"",
            3,
            "`password` cannot stand",
        ),
        (
            "[registry.\"a.x\"]\npassword-env = \"A\"\ncredential-helper = \"b\"",
            3,
            "a registry has one of",
        ),
        (
            "[registry.\"a.x\"]\nusername = \"u\"\ncredential-helper = \"b\"",
            3,
            "knows the user name",
        ),
        (
            "[registry.\"docker.io\"]\n[registry.\"index.docker.io\"]\nplain-http = true",
            2,
            "registry `docker.io` is named twice",
        ),
        ("a = [", 1, ""),
        ("[registry.\"a.x\"]\n[registry.\"a.x\"]", 2, "duplicate key"),
    ] {
        let error = parse(text).expect_err(text);
        let place = format!("`/home/me/.config/kharon/config.toml`, line {line}: ");
        assert!(error.starts_with(&place), "{text}\n{error}");
        assert!(error.contains(expected), "{text}\n{error}");
        assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn the_users_file_counts_before_the_machines_for_each_key() {
    for (user, machine, expected) in [
        ("", "limit-rate = '1B'", "limit-rate = '1B'"),
        ("limit-rate = '2B'", "limit-rate = '1B'", "limit-rate = '2B'"),
        ("[registry.a]", "[registry.a]\nplain-http = true", "[registry.a]\nplain-http = true"),
        (
            "[registry.a]\nplain-http = false",
            "[registry.a]\nplain-http = true",
            "[registry.a]\nplain-http = false",
        ),
        (
            "[registry.a]\nmirror = 'b'\nca-file = '/x'",
            "[registry.a]\nmirror = ['c', 'd']\nmirror-only = true\nlimit-rate = '5B'",
            "[registry.a]\nmirror = 'b'\nmirror-only = true\nca-file = '/x'\nlimit-rate = '5B'",
        ),
        (
            "[registry.a]\nca-file = '/x'\nmirror-only = false\nlimit-rate = '6B'",
            "[registry.a]\nca-file = '/y'\nmirror-only = true\nlimit-rate = '5B'",
            "[registry.a]\nca-file = '/x'\nmirror-only = false\nlimit-rate = '6B'",
        ),
        (
            "[registry.a]\nusername = 'u'",
            "[registry.a]\nusername = 'm'\npassword-file = '/m'",
            "[registry.a]\nusername = 'u'\npassword-file = '/m'",
        ),
        (
            "[registry.a]\npassword-env = 'U'",
            "[registry.a]\nusername = 'm'\npassword-file = '/m'",
            "[registry.a]\nusername = 'm'\npassword-env = 'U'",
        ),
        (
            "[registry.a]\nplain-http = true",
            "[registry.b]\nplain-http = true",
            "[registry.a]\nplain-http = true\n[registry.b]\nplain-http = true",
        ),
    ] {
        let read = |text: &str| parse(text).expect(text);
        assert_eq!(read(user).over(read(machine)), read(expected), "{user}\n---\n{machine}");
    }
}

#[test]
fn half_a_login_is_refused_once_all_files_are_read() {
    for (text, expected) in [
        ("[registry.a]\nusername = 'u'", Some("`username` needs a password for registry `a`")),
        ("[registry.a]\npassword-env = 'U'", Some("a password needs `username` for registry `a`")),
        ("[registry.a]\ncredential-helper = 'pass'", None),
        ("[registry.a]\nusername = 'u'\npassword-env = 'U'", None),
    ] {
        let found = parse(text).expect("valid").refuse_halves().err().map(|e| e.to_string());
        assert_eq!(found, expected.map(|what| format!("config.toml: {what}")), "{text}");
    }
}
