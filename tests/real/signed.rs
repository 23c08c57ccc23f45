//! Keys and signatures between kharon and minisign, in both directions.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::content::{As, put_quickstart};
use crate::kit::{Ended, clean, kharon_command, make, run};
use crate::real::{self, Kind, RealRegistry};

const PASSWORD: &str = "v3ry-s3cret";

/// A command in `folder`, with passwords on stdin, one a line.
fn with_passwords(mut command: Command, folder: &Path) -> Ended {
    command.current_dir(folder).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let typed = format!("{PASSWORD}\n{PASSWORD}\n");
    // What asks for no password may have ended before it is written.
    let _ = child.stdin.take().expect("a pipe").write_all(typed.as_bytes());
    Ended::new(&command, child.wait_with_output().expect("an end"))
}

fn minisign(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = clean(real::tool("minisign"));
    command.args(arguments);
    with_passwords(command, folder)
}

fn kharon(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = kharon_command(arguments);
    run(command.env("KHARON_KEY_PASSWORD", PASSWORD).current_dir(folder))
}

fn unzip(folder: &Path, entries: &[&str]) -> Ended {
    let mut command = clean(real::tool("unzip"));
    run(command.args(["-oq", "payload.zip"]).args(entries).current_dir(folder))
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry, minisign, zip and unzip"]
    fn each_takes_the_keys_and_signatures_of_the_other() {
        let near = RealRegistry::start(Kind::DockerRegistry);
        let host = near.host();
        put_quickstart(&host, "v1", "clock:v1", As::Oci);
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        kharon(at, &["keygen", "-f", "ours"]).well();
        kharon(at, &["keygen", "-f", "ours-plain", "--no-password"]).well();
        minisign(at, &["-G", "-p", "theirs.pub", "-s", "theirs.key"]).well();
        minisign(at, &["-G", "-W", "-p", "theirs-plain.pub", "-s", "theirs-plain.key"]).well();
        let payload = at.join("payload.zip");
        for key in ["ours", "ours-plain", "theirs", "theirs-plain"] {
            let (secret, public) = (format!("{key}.key"), format!("{key}.pub"));
            let verify = ["verify", "payload.zip", "--verify-key", &public];
            // kharon signs, minisign verifies.
            let make = ["make-payload", "-r", &host, "-f", "payload.zip", "clock:v1"];
            kharon(at, &[&make[..], &["--sign", &secret]].concat()).well();
            kharon(at, &verify).well().saying(&["signed by the key"]);
            unzip(at, &["kharon.json", "kharon.json.minisig"]).well();
            let verified = minisign(at, &["-VHm", "kharon.json", "-p", &public]).well();
            assert!(verified.text().contains("index of a kharon payload"), "{}", verified.text());
            // minisign signs, kharon verifies.
            super::make(&host, &payload, &["clock:v1"]);
            kharon(at, &verify).with_code(4).saying(&["found none"]);
            unzip(at, &["kharon.json"]).well();
            fs::remove_file(at.join("kharon.json.minisig")).expect("it was there");
            let plain: &[&str] = if key == "theirs-plain" { &["-W"] } else { &[] };
            minisign(at, &[&["-Sm", "kharon.json", "-s", &secret], plain].concat()).well();
            let mut zip = clean(real::tool("zip"));
            run(zip.args(["-q0", "payload.zip", "kharon.json.minisig"]).current_dir(at)).well();
            kharon(at, &verify).well();
            let push = ["push-payload", "-f", "payload.zip", "-r", &host, "--verify-key", &public];
            kharon(at, &push).well();
        }
    }
}
