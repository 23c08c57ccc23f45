//! docker-charon's format, and docker-charon 0.4.3 itself at either end.
//!
//! docker-charon's `--insecure` depends on the versions beneath it: with current ones it does nothing,
//! with click 8.1.7 and typer 0.9.0 it means plain HTTP, as it says. `.ci/run` installs those. Its names
//! hold no registry, and it reads Docker schema 2 only, so all images here are that.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::content::{As, Debian, put_quickstart};
use crate::kit::{self, assert_same, clean, make, push, run, try_push};
use crate::real::{self, Kind, RealRegistry};

const NEW: [&str; 2] = ["team/debian:2", "clock:1"];

fn registries() -> (RealRegistry, RealRegistry) {
    let near = RealRegistry::start(Kind::DockerRegistry);
    Debian::read().put(&near.host(), "team/debian", As::DockerSchema2);
    put_quickstart(&near.host(), "v1", "clock:1", As::DockerSchema2);
    (near, RealRegistry::start(Kind::DockerRegistry))
}

/// Makes payloads of the first image, and of what is new after it.
fn make_both(registry: &str, folder: &tempfile::TempDir) -> [std::path::PathBuf; 2] {
    let files = ["first.zip", "next.zip"].map(|name| kit::path_in(folder, name));
    make(registry, &files[0], &["--format", "charon", "team/debian:1"]);
    let next = ["--format", "charon", &NEW.join(","), "-a", "team/debian:1"];
    make(registry, &files[1], &next);
    files
}

fn docker_charon(registry: &str, arguments: &[&str]) -> Command {
    let mut command = clean(real::tool("docker-charon"));
    command.args(arguments).args(["--insecure", "--registry", registry]);
    command
}

#[track_caller]
fn assert_all_same(near: &RealRegistry, far: &RealRegistry) {
    for name in NEW.into_iter().chain(["team/debian:1"]) {
        assert_same(&near.host(), &far.host(), name);
    }
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn what_kharon_writes_in_that_format_it_pushes() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        for file in make_both(&near.host(), &folder) {
            push(&far.host(), &file, &["--strict"]);
        }
        assert_all_same(&near, &far);
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn what_docker_charon_cannot_carry_is_refused() {
        let (near, _far) = registries();
        put_quickstart(&near.host(), "v2", "worldclock:v2", As::Oci);
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "payload.zip");
        let fixed = ["make-payload", "--format", "charon", "-r", &near.host(), "-f"];
        let arguments = [&fixed[..], &[kit::text_of(&file), "worldclock:v2"]].concat();
        kit::kharon(&arguments).with_code(2).saying(&["hint:"]);
        assert!(!file.exists());
    }
}

mod docker_charon {
    use super::*;

    fn push_with_docker_charon(registry: &str, file: &Path) -> Vec<String> {
        run(&mut docker_charon(registry, &["push-payload", "-f", kit::text_of(file)]))
            .well()
            .lines()
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and docker-charon"]
    fn docker_charon_pushes_what_kharon_makes() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let [first, next] = make_both(&near.host(), &folder);
        assert_eq!(push_with_docker_charon(&far.host(), &first), ["team/debian:1"]);
        assert_eq!(push_with_docker_charon(&far.host(), &next), NEW);
        assert_all_same(&near, &far);
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and docker-charon"]
    fn docker_charon_pushes_what_kharon_pipes() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "piped.zip");
        let host = near.host();
        let fixed = ["make-payload", "--format", "charon", "-r", &host];
        let mut make = kit::kharon_command(&[&fixed[..], &NEW, &["team/debian:1"]].concat());
        run(make.stdout(File::create(&file).expect("a file"))).well();
        let mut push = docker_charon(&far.host(), &["push-payload"]);
        run(push.stdin(File::open(&file).expect("the payload"))).well();
        assert_all_same(&near, &far);
    }

    #[test]
    #[ignore = "needs docker-registry, skopeo and docker-charon"]
    fn kharon_pushes_what_docker_charon_makes() {
        let (near, far) = registries();
        let folder = tempfile::tempdir().expect("a folder");
        let [first, next] = ["first.zip", "next.zip"].map(|name| kit::path_in(&folder, name));
        let make = |arguments: &[&str]| {
            run(&mut docker_charon(&near.host(), &[&["make-payload"], arguments].concat())).well()
        };
        make(&["team/debian:1", "-f", kit::text_of(&first)]);
        make(&[&NEW.join(","), "-a", "team/debian:1", "-f", kit::text_of(&next)]);
        for file in [&first, &next] {
            kit::kharon(&["verify", kit::text_of(file)]).well();
        }
        let ended =
            try_push(&far.host(), &next, &[]).with_code(5).saying(&["`team/debian:2` lacks"]);
        assert_eq!(ended.lines(), ["clock:1"]);
        assert_eq!(try_push(&far.host(), &first, &[]).well().lines(), ["team/debian:1"]);
        assert_eq!(try_push(&far.host(), &next, &["--strict"]).well().lines(), NEW);
        assert_all_same(&near, &far);
    }

    /// Its pipes have data descriptors and no sizes in front, so only the directory can be trusted.
    #[test]
    #[ignore = "needs docker-registry, skopeo and docker-charon"]
    fn kharon_pushes_what_docker_charon_pipes() {
        let (near, far) = registries();
        let all = format!("{},team/debian:1", NEW.join(","));
        let piped = run(&mut docker_charon(&near.host(), &["make-payload", &all])).well();
        let folder = tempfile::tempdir().expect("a folder");
        let file = kit::path_in(&folder, "piped.zip");
        std::fs::write(&file, piped.stdout).expect("written");
        let mut cat = clean("cat");
        let mut child =
            cat.arg(&file).stdout(std::process::Stdio::piped()).spawn().expect("cat runs");
        let mut push = kit::kharon_command(&["push-payload", "-r", &far.host()]);
        let pushed = run(push.stdin(child.stdout.take().expect("a pipe"))).well();
        assert!(child.wait().expect("an end").success());
        assert_eq!(pushed.lines(), all.split(',').collect::<Vec<_>>());
        assert_all_same(&near, &far);
    }
}
