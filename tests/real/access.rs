//! Logins and certificates.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kharon::digest::Digest;

use crate::content::{As, put_quickstart};
use crate::kit::{self, Ended, kharon_command, make, run, skopeo};
use crate::real::{self, Guard, Kind, PASSWORD, RealRegistry, USERNAME};

/// An open registry with an image, a payload of it, and a guarded registry to push to.
struct Gate {
    near: RealRegistry,
    far: RealRegistry,
    folder: tempfile::TempDir,
}

impl Gate {
    fn new(guard: Guard) -> Self {
        let near = RealRegistry::start(Kind::DockerRegistry);
        put_quickstart(&near.host(), "v1", "app:1", As::Oci);
        let far = RealRegistry::start_guarded(Kind::DockerRegistry, guard);
        let gate = Self { near, far, folder: tempfile::tempdir().expect("a folder") };
        make(&gate.near.host(), &gate.payload(), &["app:1"]);
        gate
    }

    fn payload(&self) -> PathBuf {
        kit::path_in(&self.folder, "payload.zip")
    }

    fn push(&self, arguments: &[&str]) -> Command {
        let (host, file) = (self.far.host(), self.payload());
        let fixed = ["push-payload", "-r", &host, "-f", kit::text_of(&file)];
        kharon_command(&[&fixed[..], arguments].concat())
    }

    /// The image must have arrived, as skopeo sees it with a login of its own.
    #[track_caller]
    fn assert_arrived(&self) {
        let certificates = kit::path_in(&self.folder, "certificates");
        std::fs::create_dir_all(&certificates).expect("a folder");
        for name in ["authority.crt", "client.cert", "client.key"] {
            let from = real::fixture("tls").join(name);
            std::fs::copy(from, certificates.join(name)).expect("a certificate");
        }
        let login = format!("{USERNAME}:{PASSWORD}");
        let image = format!("docker://{}/app:1", self.far.host());
        let fixed =
            ["inspect", "--raw", "--creds", &login, "--cert-dir", kit::text_of(&certificates)];
        let found = skopeo(&[&fixed[..], &[&image]].concat()).well();
        let original = kit::manifest(&self.near.host(), "app", "1");
        assert_eq!(&Digest::of(&found.stdout), original.digest());
    }

    /// The registry must not have been written to.
    fn assert_untouched(&self) {
        let repositories = self.far.storage().join("docker/registry/v2/repositories");
        assert!(!repositories.exists(), "{}", repositories.display());
    }
}

fn authority() -> PathBuf {
    real::fixture("tls/authority.crt")
}

fn ca_file(path: &Path) -> [&str; 2] {
    ["--ca-file", kit::text_of(path)]
}

fn with_stdin(mut command: Command, text: &str) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kharon runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(text.as_bytes()).expect("written");
    drop(pipe);
    Ended::new(&command, child.wait_with_output().expect("an end"))
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_login_by_flags_opens_a_registry_of_a_private_authority() {
        let gate = Gate::new(Guard::TlsAndLogin);
        let authority = authority();
        let access = [&ca_file(&authority)[..], &["-u", USERNAME, "-p", PASSWORD]].concat();
        run(&mut gate.push(&access)).well();
        gate.assert_arrived();

        let back = kit::path_in(&gate.folder, "back.zip");
        make(&gate.far.host(), &back, &[&access[..], &["app:1"]].concat());
        let other = RealRegistry::start(Kind::DockerRegistry);
        kit::push(&other.host(), &back, &[]);
        kit::assert_same(&gate.near.host(), &other.host(), "app:1");
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_password_comes_from_stdin() {
        let gate = Gate::new(Guard::TlsAndLogin);
        let authority = authority();
        let access = [&ca_file(&authority)[..], &["-u", USERNAME, "--password-stdin"]].concat();
        with_stdin(gate.push(&access), &format!("{PASSWORD}\n")).well();
        gate.assert_arrived();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_login_comes_from_variables() {
        for prefix in ["KHARON", "DOCKER_CHARON"] {
            let gate = Gate::new(Guard::Login);
            let mut push = gate.push(&[]);
            push.env(format!("{prefix}_USERNAME"), USERNAME);
            run(push.env(format!("{prefix}_PASSWORD"), PASSWORD)).well();
            let find = [("Authorization", BASIC)];
            let answer = gate.far.send("GET", "/v2/app/tags/list", &find, b"");
            assert_eq!(answer.status, 200, "{prefix}");
        }
    }

    /// `porter:open sesame` in base64.
    const BASIC: &str = "Basic cG9ydGVyOm9wZW4gc2VzYW1l";

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_login_comes_from_dockers_own_file() {
        let gate = Gate::new(Guard::TlsAndLogin);
        let auth = BASIC.trim_start_matches("Basic ");
        let config = serde_json::json!({ "auths": { gate.far.host(): { "auth": auth } } });
        let file = kit::path_in(&gate.folder, "config.json");
        std::fs::write(file, config.to_string()).expect("written");
        let mut push = gate.push(&ca_file(&authority()));
        run(push.env("DOCKER_CONFIG", gate.folder.path())).well();
        gate.assert_arrived();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_wrong_password_is_told_and_never_shown() {
        let gate = Gate::new(Guard::TlsAndLogin);
        let authority = authority();
        let access =
            [&ca_file(&authority)[..], &["-v", "-u", USERNAME, "-p", "open barley"]].concat();
        let ended = run(&mut gate.push(&access)).with_code(3);
        let ended = ended.saying(&["denied", "401", "credentials were used"]);
        assert!(!ended.stderr.contains("barley"), "{}", ended.stderr);
        gate.assert_untouched();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn without_a_login_the_way_to_one_is_told() {
        let gate = Gate::new(Guard::TlsAndLogin);
        let ended = run(&mut gate.push(&ca_file(&authority()))).with_code(3);
        ended.saying(&["no credentials were used", "docker login"]);
        gate.assert_untouched();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_certificate_is_refused_without_its_authority() {
        let gate = Gate::new(Guard::Tls);
        let stranger = real::fixture("tls/stranger.crt");
        for access in [&[][..], &ca_file(&stranger)] {
            let ended = run(&mut gate.push(access)).with_code(3);
            ended.saying(&["certificate", "--ca-file"]);
            gate.assert_untouched();
        }
        run(&mut gate.push(&["--skip-tls-verify"]))
            .well()
            .saying(&["certificates are not checked"]);
        gate.assert_arrived();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_client_certificate_is_shown_where_one_is_wanted() {
        let gate = Gate::new(Guard::ClientCertificate);
        let authority = authority();
        run(&mut gate.push(&ca_file(&authority))).with_code(3);
        gate.assert_untouched();
        let [certificate, key] = ["tls/client.cert", "tls/client.key"].map(real::fixture);
        let own = ["--client-cert", kit::text_of(&certificate), "--client-key", kit::text_of(&key)];
        run(&mut gate.push(&[&ca_file(&authority)[..], &own].concat())).well();
        gate.assert_arrived();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn plain_http_to_a_registry_that_speaks_tls_is_told() {
        let gate = Gate::new(Guard::Tls);
        run(&mut gate.push(&["--insecure"])).with_code(3);
        gate.assert_untouched();
    }
}
