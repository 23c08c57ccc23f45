//! Payloads through pipes, on either side.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, Ended, assert_same, clean, kharon_command, make, push, run};
use crate::real::{self, Kind, RealRegistry};

const IMAGES: [&str; 3] = ["worldclock:v2", "debian:1", "debian:2"];

fn registries() -> (RealRegistry, RealRegistry) {
    let near = RealRegistry::start(Kind::DockerRegistry);
    put_quickstart(&near.host(), "v2", "worldclock:v2", As::Oci);
    Debian::read().put(&near.host(), "debian", As::Oci);
    (near, RealRegistry::start(Kind::DockerRegistry))
}

/// `make-payload` of all images to stdout.
fn make_to_stdout(registry: &str, arguments: &[&str]) -> Command {
    kharon_command(&[&["make-payload", "-r", registry][..], &IMAGES, arguments].concat())
}

/// Runs commands as a shell's pipeline does, and gives the last one's end; all must end well.
#[track_caller]
fn pipeline(mut commands: Vec<Command>) -> Ended {
    let mut last = commands.pop().expect("a command");
    let mut children = Vec::new();
    let mut input = None;
    for command in &mut commands {
        command.stdin(input.take().unwrap_or_else(Stdio::null)).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a command that runs");
        input = child.stdout.take().map(Stdio::from);
        children.push(child);
    }
    let ended = run(last.stdin(input.expect("a first command"))).well();
    for mut child in children {
        assert!(child.wait().expect("a child can be waited for").success());
    }
    ended
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_payload_goes_from_registry_to_registry_through_a_pipe() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let workdir = kit::text_of(folder.path());
        let push = kharon_command(&["push-payload", "-r", &far.host(), "--workdir", workdir]);
        let ended = pipeline(vec![make_to_stdout(&near.host(), &[]), clean("cat"), push]);
        assert_eq!(ended.lines(), IMAGES);
        for name in IMAGES {
            assert_same(&near.host(), &far.host(), name);
        }
        assert_eq!(
            folder.path().read_dir().expect("a folder").count(),
            0,
            "nothing is left behind"
        );
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_pipe_and_a_file_get_the_same_bytes_whatever_the_number_of_jobs() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        make(&near.host(), &file, &IMAGES);
        let expected = std::fs::read(&file).expect("the payload");
        for jobs in ["1", "2", "16"] {
            let piped = pipeline(vec![make_to_stdout(&near.host(), &["-j", jobs]), clean("cat")]);
            assert!(piped.stdout == expected, "--jobs {jobs}");
        }

        let mut push = kharon_command(&["push-payload", "-r", &far.host()]);
        let ended = run(push.stdin(File::open(&file).expect("the payload"))).well();
        assert_eq!(ended.lines(), IMAGES, "a file on stdin is read in place");
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and bsdtar"]
    fn a_piped_payload_is_unpacked_while_it_comes() {
        let (near, _far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let mut unpack = clean(real::tool("bsdtar"));
        unpack.args(["-x", "-f", "-", "-C", kit::text_of(folder.path())]);
        pipeline(vec![make_to_stdout(&near.host(), &[]), unpack]);
        for name in IMAGES {
            let tag = name.rsplit(':').next().expect("a tag");
            let here = kit::digest_by_skopeo(&format!("oci:{}:{tag}", folder.path().display()));
            assert_eq!(here, kit::digest_by_skopeo(&format!("docker://{}/{name}", near.host())));
        }
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_torn_pipe_moves_no_tag() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        make(&near.host(), &file, &IMAGES);
        let whole = std::fs::read(&file).expect("the payload");
        let mut command = kharon_command(&["push-payload", "-r", &far.host()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kharon runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&whole[..whole.len() / 2]).expect("half of a payload");
        drop(pipe);
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert_eq!(far.get("/v2/_catalog").body, b"{\"repositories\":[]}\n");

        push(&far.host(), &file, &[]);
        assert_same(&near.host(), &far.host(), "debian:2");
    }
}
