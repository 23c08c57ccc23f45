//! The binary, run as a person or a script runs it: codes, texts, JSON, and what it never says.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kharon::failure::ExitCode;
use serde_json::Value;

use crate::support::access::Access;
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

/// A folder to run in, where nothing of the user's own counts.
pub struct Desk {
    pub folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with these arguments, in the folder.
    pub fn kharon(&self, arguments: &[&str]) -> Command {
        self.command(assert_cmd::cargo::cargo_bin!("kharon"), arguments)
    }

    /// Any command, in the folder.
    pub fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            let upper = name.to_uppercase();
            if ["KHARON_", "DOCKER_", "XDG_"].iter().any(|start| upper.starts_with(start))
                || upper.ends_with("_PROXY")
                || upper == "REGISTRY_AUTH_FILE"
            {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.folder.path()).env("RUST_BACKTRACE", "0");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.kharon(arguments).output().expect("it runs"))
    }

    /// Runs with this text on stdin.
    pub fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut command = self.kharon(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        // A command that needs no input may have ended before it is written.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin);
        Ran::of(&child.wait_with_output().expect("an end"))
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn assert(&self, code: ExitCode) -> &Self {
        assert_eq!(self.code, Some(code as i32), "{}", self.stderr);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

const HOST: &str = "HOST";

fn image(seed: u64) -> Image {
    Image::oci(&[random_layer(seed, 3000)])
}

/// A source with `app:1` and a desk.
fn source() -> (TestRegistry, Desk) {
    let source = TestRegistry::start();
    source.put("app", "1", &image(1));
    (source, Desk::new())
}

/// What stands on stderr, without what differs from run to run.
fn plain(ran: &Ran, registry: &TestRegistry, desk: &Desk) -> String {
    let text = ran.stderr.replace(&registry.host(), HOST);
    text.replace(&format!("{}", desk.folder.path().display()), "DESK")
}

/// One bad command line: arguments (`HOST` is the registry), code, all of stderr.
type Bad<'a> = (&'a [&'a str], ExitCode, &'a str);

const BAD: &[Bad<'_>] = &[
    (
        &["make-payload", "-f", "x.zip", "HOST/app:2"],
        ExitCode::Registry,
        "resolving 1 image\n\
         error: cannot read image `HOST/app:2`\n  \
         caused by: `HOST` does not have manifest `app:2`: 404 MANIFEST_UNKNOWN: no manifest 2 in app\n",
    ),
    (
        &["make-payload", "-f", "x.zip", "HOST/app:1,A/B C"],
        ExitCode::Usage,
        "error: `A/B C` is no image: expected a repository of lower-case letters, digits and single separators, found `B C`\n\
         hint: write images as `[registry/]repository[:tag][@digest]`\n",
    ),
    (
        &["make-payload", "-f", "x.zip", "app:1@sha256:12"],
        ExitCode::Usage,
        "error: `app:1@sha256:12` is no image: expected 64 lower-case hexadecimal digits after `sha256:`, found `12`\n\
         hint: write images as `[registry/]repository[:tag][@digest]`\n",
    ),
    (
        &["make-payload", "-f", "x.zip", "--platform", "linux", "app"],
        ExitCode::Usage,
        "error: invalid value 'linux' for '--platform <PLATFORMS>': expected a platform such as `linux/amd64` or `linux/arm/v7`, found `linux`\n\n\
         For more information, try '--help'.\n",
    ),
    (
        &["make-payload", "-f", "x.zip"],
        ExitCode::Usage,
        "error: no image was named\n\
         hint: name images as arguments or with `--images-from FILE`\n",
    ),
    (
        &["make-payload", "-f", "x.zip", "HOST/app:1", "--against", "nowhere.zip"],
        ExitCode::Failed,
        "error: cannot take `nowhere.zip` as baseline\n  \
         caused by: No such file or directory (os error 2)\n",
    ),
    (
        &["make-payload", "-f", "no/folder/x.zip", "HOST/app:1"],
        ExitCode::Failed,
        "error: the folder `no/folder` for the payload is not there\n\
         hint: create it first, or write elsewhere with `-f`\n",
    ),
    (
        &["make-payload", "--json", "HOST/app:1"],
        ExitCode::Usage,
        "error: both the payload and JSON would go to stdout\n\
         hint: name a file with `-f payload.zip`\n",
    ),
    (
        &["make-payload", "-f", "x.zip", "HOST/app:1", "other.example/app:2"],
        ExitCode::Usage,
        "error: `HOST/app` and `other.example/app` would both be `app` at the far side\n\
         hint: use `--keep-registry`, or `--rename SOURCE=NAME` for one of them\n",
    ),
    (
        &["make-payload", "-f", "x.zip", "HOST/app:1", "-p", "x"],
        ExitCode::Usage,
        "error: a password needs a user name\nhint: give it with -u\n",
    ),
    (
        &["push-payload", "-f", "text.zip"],
        ExitCode::Usage,
        "error: no registry to push to was named\n\
         hint: give it with `-r HOST` or KHARON_REGISTRY; unlike docker-charon, kharon does not push to Docker Hub unasked\n",
    ),
    (
        &["push-payload", "-r", "HOST", "-f", "text.zip"],
        ExitCode::PayloadDamaged,
        "error: payload `text.zip`: expected a zip, found something else\n\
         hint: name the file that `kharon make-payload` or docker-charon wrote\n",
    ),
    (
        &["push-payload", "-r", "HOST", "-f", "nowhere.zip"],
        ExitCode::Failed,
        "error: payload `nowhere.zip`: cannot be read\n  \
         caused by: No such file or directory (os error 2)\n",
    ),
    (
        &["push-payload", "-r", "HOST", "-u", "me", "--password-stdin"],
        ExitCode::Usage,
        "error: both the password and the payload would come from stdin\n\
         hint: give one of them in another way\n",
    ),
];

#[test]
fn what_goes_wrong_is_said_in_these_words() {
    let (source, desk) = source();
    std::fs::write(desk.path("text.zip"), "no zip at all, but a text").expect("written");
    for (arguments, code, expected) in BAD {
        let host = source.host();
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace(HOST, &host)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = desk.run(&arguments);
        let shown = plain(&ran, &source, &desk);
        assert_eq!((shown.as_str(), ran.code), (*expected, Some(*code as i32)), "{arguments:?}");
        assert_eq!(ran.stdout, "");
        assert!(!desk.path("x.zip").exists() && !desk.path("x.zip.partial").exists());
    }
}

#[test]
fn a_host_that_does_not_answer_or_exist_is_named() {
    let desk = Desk::new();
    let ran = desk.run(&["make-payload", "-f", "x.zip", "nosuchhost.invalid/app"]);
    ran.assert(ExitCode::Registry);
    let first = "error: cannot read image `nosuchhost.invalid/app:latest`\n  \
                 caused by: `nosuchhost.invalid` could not serve manifest `app:latest`: no host of that name is known\n";
    assert!(ran.stderr.contains(first), "{}", ran.stderr);
    let hint = "hint: check the spelling of `nosuchhost.invalid`, and the proxy settings\n";
    assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
}

#[test]
fn a_closed_port_is_named_soon() {
    let ran = Desk::new().run(&["make-payload", "-v", "-f", "x.zip", "localhost:1/app"]);
    ran.assert(ExitCode::Registry);
    // Three seconds at most of waiting between attempts.
    assert_eq!(ran.stderr.matches("trying again").count(), 2, "{}", ran.stderr);
    let said = "error: cannot read image `localhost:1/app:latest`\n  caused by: `localhost:1` could not serve its API at `/v2/`: the port is closed\n";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let hint = "hint: check the port of `localhost:1`, and that the registry runs\n";
    assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
}

#[test]
fn a_payload_crosses_by_file_and_by_pipe_and_stdout_has_only_the_result() {
    let (source, desk) = source();
    let far = TestRegistry::start();
    let name = source.reference("app:1");
    let ran = desk.run(&["make-payload", "-f", "x.zip", &name]);
    ran.assert(ExitCode::Done);
    assert_eq!(ran.stdout, "");
    let last = ran.stderr.lines().last().expect("a line");
    assert!(last.starts_with("wrote ") && last.contains("to x.zip: 2 blobs carried"), "{last}");
    let piped = desk.kharon(&["make-payload", &name]).output().expect("it runs");
    assert_eq!(piped.stdout, std::fs::read(desk.path("x.zip")).expect("a payload"));

    let pushed = desk.run(&["push-payload", "-f", "x.zip", "-r", &far.host()]);
    pushed.assert(ExitCode::Done);
    assert_eq!(pushed.stdout, format!("{name}\n"));
    let last = pushed.stderr.lines().last().expect("a line");
    assert!(last.starts_with("1 image at the far side: 2 blobs uploaded"), "{last}");
    assert_eq!(far.tagged("app", "1"), source.tagged("app", "1"));
    let again = desk.run_with(&["push-payload", "-r", &far.host()], &piped.stdout);
    assert_eq!(again.assert(ExitCode::Done).stdout, format!("{name}\n"));
    let mut redirected = desk.kharon(&["push-payload"]);
    redirected.stdin(std::fs::File::open(desk.path("x.zip")).expect("a payload"));
    redirected.env("KHARON_REGISTRY", far.host());
    let redirected = Ran::of(&redirected.output().expect("it runs"));
    assert_eq!(redirected.assert(ExitCode::Done).stdout, format!("{name}\n"));
    source.assert_no_violations();
    far.assert_no_violations();
}

/// A limit on the size of files is as good as a disk that fills up in the middle.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_fills_up_in_the_middle_leaves_the_former_payload() {
    let (source, desk) = source();
    source.put("big", "1", &Image::oci(&[random_layer(1, 3_000_000)]));
    std::fs::write(desk.path("x.zip"), "former").expect("written");
    let whole = desk.kharon(&["make-payload", "-f", "x.zip", &source.reference("big:1")]);
    let words = std::iter::once(whole.get_program()).chain(whole.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().expect("text")).collect();
    let line = format!("trap '' XFSZ; ulimit -f 2000; exec {}", words.join(" "));
    let mut limited = Command::new("sh");
    limited.args(["-c", &line]).current_dir(desk.folder.path());
    limited.env("HOME", desk.folder.path()).env("RUST_BACKTRACE", "0");
    let ran = Ran::of(&limited.output().expect("it runs"));
    ran.assert(ExitCode::Failed);
    let said = "error: cannot write the payload\n  caused by: File too large (os error 27)\n";
    assert!(ran.stderr.ends_with(said), "{}", ran.stderr);
    assert_eq!(std::fs::read(desk.path("x.zip")).expect("a file"), b"former");
    assert!(desk.path("x.zip.partial").exists());
    desk.run(&words[1..]).assert(ExitCode::Done);
    assert!(!desk.path("x.zip.partial").exists());
}

#[test]
fn quiet_success_says_nothing() {
    let (source, desk) = source();
    let far = TestRegistry::start();
    let made = desk.run(&["make-payload", "-q", "-f", "x.zip", &source.reference("app:1")]);
    assert_eq!((made.code, made.stdout.as_str(), made.stderr.as_str()), (Some(0), "", ""));
    let pushed = desk.run(&["push-payload", "-q", "-f", "x.zip", "-r", &far.host()]);
    assert_eq!((pushed.code, pushed.stderr.as_str()), (Some(0), ""));
}

#[test]
fn json_has_plan_and_result() {
    let (source, desk) = source();
    let far = TestRegistry::start();
    let name = source.reference("app:1");
    let dry = desk.run(&["make-payload", "--dry-run", "--json", &name]);
    let dry = dry.assert(ExitCode::Done).json();
    assert_eq!(dry["plan"]["images"][0]["name"], name.as_str());
    assert_eq!(dry["plan"]["images"][0]["state"], "carried");
    assert_eq!(dry["plan"]["total"]["carriedBlobs"], 2);
    assert_eq!(dry["result"], Value::Null);
    assert_eq!(source.count("GET", "/blobs/"), 0);
    assert!(!desk.path("x.zip").exists());

    let made = desk.run(&["make-payload", "--json", "-f", "x.zip", &name]).json();
    let length = std::fs::metadata(desk.path("x.zip")).expect("a payload").len();
    assert_eq!(made["result"]["bytes"], length);
    assert_eq!(made["result"]["file"], "x.zip");
    assert_eq!(made["plan"], dry["plan"]);

    let pushed = desk.run(&["push-payload", "--json", "-f", "x.zip", "-r", &far.host()]).json();
    let digest = source.tagged("app", "1").expect("a digest").to_string();
    assert_eq!(pushed["pushed"][0]["name"], name.as_str());
    assert_eq!(pushed["pushed"][0]["digest"], digest.as_str());
    assert_eq!(pushed["sent"]["uploadedBlobs"], 2);
    for list in ["incomplete", "skippedAndMissing", "refusedTags", "keptTags"] {
        assert_eq!(pushed[list], serde_json::json!([]), "{list}");
    }
}

#[test]
fn json_progress_is_one_object_a_line_errors_included() {
    let (source, desk) = source();
    let name = source.reference("app:1");
    let good = desk.run(&["make-payload", "--progress", "json", "-f", "x.zip", &name]);
    let bad = desk.run(&["make-payload", "--progress", "json", "-f", "y.zip", "HOST/b", "a:b:c"]);
    good.assert(ExitCode::Done);
    bad.assert(ExitCode::Usage);
    let events = |ran: &Ran| -> Vec<String> {
        let lines = ran.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        lines.map(|event| event["event"].as_str().expect("a kind").to_owned()).collect()
    };
    let kinds = events(&good);
    for kind in ["phase", "total", "blob-started", "blob-finished", "note"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} in {kinds:?}");
    }
    assert_eq!(events(&bad), ["error"]);
}

#[test]
fn a_payload_is_not_written_to_a_terminal() {
    let (source, desk) = source();
    let command = desk.kharon(&["make-payload", &source.reference("app:1")]);
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_str().expect("text").to_owned())
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    script.env("HOME", desk.folder.path()).env("RUST_BACKTRACE", "0").env("NO_COLOR", "1");
    let Ok(output) = script.output() else {
        // There is nothing else to make a terminal with.
        return;
    };
    let ran = Ran::of(&output);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stdout.contains("error: a payload is not for a terminal"), "{}", ran.stdout);
    assert!(source.journal().is_empty());
}

const PASSWORD: &str = "correct horse battery";

/// Registries that want a login, with `app:1`.
fn guarded() -> (TestRegistry, TestRegistry, Desk) {
    let options = || Options {
        access: Access::Basic { username: "me", password: PASSWORD },
        ..Options::default()
    };
    let (source, far) = (TestRegistry::start_with(options()), TestRegistry::start_with(options()));
    source.put("app", "1", &image(1));
    (source, far, Desk::new())
}

#[test]
fn logins_come_by_option_variable_and_pipe_and_are_never_shown() {
    let (source, far, desk) = guarded();
    let (host, name) = (source.host(), source.reference("app:1"));
    let make = ["make-payload", "-v", "-r", &host, "-f", "x.zip", &name];
    let with = |more: &[&'static str]| -> Vec<&str> {
        make.iter().copied().chain(more.iter().copied()).collect()
    };
    let mut runs = vec![
        desk.run(&with(&["-u", "me", "-p", PASSWORD])),
        desk.run_with(&with(&["-u", "me", "--password-stdin"]), format!("{PASSWORD}\n").as_bytes()),
    ];
    for (user, password) in [
        ("KHARON_USERNAME", "KHARON_PASSWORD"),
        ("DOCKER_CHARON_USERNAME", "DOCKER_CHARON_PASSWORD"),
    ] {
        let mut command = desk.kharon(&make);
        command.env(user, "me").env(password, PASSWORD);
        runs.push(Ran::of(&command.output().expect("it runs")));
    }
    let push = ["push-payload", "-v", "-f", "x.zip", "-r", &far.host(), "-u", "me", "-p", PASSWORD];
    runs.push(desk.run(&push));
    for ran in &runs {
        ran.assert(ExitCode::Done);
        assert!(!ran.stderr.contains("horse") && !ran.stdout.contains("horse"), "{}", ran.stderr);
    }
    assert_eq!(far.tagged("app", "1"), source.tagged("app", "1"));
}

#[test]
fn a_wrong_password_is_told_from_none_and_shows_neither() {
    let (source, far, desk) = guarded();
    let (host, name) = (source.host(), source.reference("app:1"));
    let wrong = desk.run(&[
        "make-payload",
        "-v",
        "-r",
        &host,
        "-f",
        "x.zip",
        &name,
        "-u",
        "me",
        "-p",
        "wrong horse",
    ]);
    wrong.assert(ExitCode::Registry);
    let expected = "error: cannot read image `HOST/app:1`\n  \
        caused by: `HOST` denied manifest `app:1`: 401 UNAUTHORIZED: as the test wants it (asked with credentials)\n\
        hint: credentials were used: check that they are current and may do this at `HOST`\n";
    assert!(plain(&wrong, &source, &desk).ends_with(expected), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("horse"));
    let none = desk.run(&["make-payload", "-f", "x.zip", &name]);
    none.assert(ExitCode::Registry);
    let expected = "hint: no credentials were used: log in with `docker login HOST`, or give `--username` and a password\n";
    assert!(plain(&none, &source, &desk).ends_with(expected), "{}", none.stderr);

    // The login is for the -r registry and no other.
    let other = desk.run(&[
        "make-payload",
        "-r",
        &far.host(),
        "-f",
        "x.zip",
        &name,
        "-u",
        "me",
        "-p",
        PASSWORD,
    ]);
    other.assert(ExitCode::Registry);
    assert!(source.journal().iter().all(|exchange| exchange.status == 401 || !exchange.authorized));
}

#[test]
fn images_come_from_files_and_stdin() {
    let (source, desk) = source();
    source.put("app", "2", &image(2));
    source.put("b", "1", &image(3));
    let list = "# ours\n\napp:2  # the new one\n";
    std::fs::write(desk.path("list.txt"), list).expect("written");
    let host = source.host();
    let arguments = [
        "make-payload",
        "--dry-run",
        "--json",
        "-r",
        &host,
        "app:1",
        "--images-from",
        "list.txt",
        "--images-from",
        "-",
    ];
    let ran = desk.run_with(&arguments, b"b:1\r\n");
    let plan = ran.assert(ExitCode::Done).json();
    let names: Vec<_> = plan["plan"]["images"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|image| image["name"].clone())
        .collect();
    assert_eq!(names, ["app:1", "app:2", "b:1"]);
    let missing = desk.run(&["make-payload", "--dry-run", "--images-from", "nowhere.txt"]);
    missing.assert(ExitCode::Failed);
    assert!(
        missing.stderr.starts_with("error: cannot read the list of images from `nowhere.txt`\n")
    );
}

#[test]
fn a_lenient_push_prints_what_arrived_and_ends_with_five() {
    let (source, desk) = source();
    let far = TestRegistry::start();
    let base = random_layer(7, 500);
    source.put("base", "1", &Image::oci(std::slice::from_ref(&base)));
    source.put("over", "1", &Image::oci(&[base.clone(), random_layer(8, 500)]));
    let host = source.host();
    let make = ["make-payload", "-r", &host, "-f", "x.zip", "app:1,over:1", "-a", "base:1"];
    desk.run(&make).assert(ExitCode::Done);
    let push = |more: &[&str]| {
        let far = far.host();
        let arguments = ["push-payload", "-f", "x.zip", "-r", &far];
        desk.run(&arguments.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let strict = push(&["--strict"]);
    strict.assert(ExitCode::BaselineMissing);
    let digest = base.digest().to_string();
    let expected = format!(
        "looking at `HOST`\n\
         error: the far side lacks what this payload expects there:\n    \
         `over:1` lacks blob `{digest}` expected in `base` or `over`\n\
         hint: push the payload that brings these blobs first, or make this one again without what promised them (`-a`, `--against`)\n"
    );
    assert_eq!(plain(&strict, &far, &desk), expected);
    assert_eq!(strict.stdout, "");
    let lenient = push(&[]);
    lenient.assert(ExitCode::BaselineMissing);
    assert_eq!(lenient.stdout, "app:1\n");
    assert!(lenient.stderr.contains(&format!("warning: `over:1` lacks blob `{digest}`")));
}

#[test]
fn every_help_tells_every_exit_code() {
    let desk = Desk::new();
    let commands =
        "make-payload push-payload inspect verify inventory serve completions man".split(' ');
    for command in commands.chain([""]) {
        let arguments: Vec<&str> =
            [command, "--help"].into_iter().filter(|text| !text.is_empty()).collect();
        let ran = desk.run(&arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        for code in [
            "0  done",
            "1  failed",
            "2  the command line",
            "3  a registry",
            "4  the payload",
            "5  the far side",
            "130  interrupted (143: terminated)",
        ] {
            assert!(ran.stdout.contains(code), "no `{code}` in the help of `{command}`");
        }
    }
}

/// What docker-charon's users have in their scripts.
#[test]
fn the_spellings_of_docker_charon_carry_an_image() {
    let (source, desk) = source();
    let far = TestRegistry::start();
    source.put("app", "0", &image(5));
    let (host, file) = (source.host(), desk.path("x.zip"));
    let file = format!("--file={}", file.display());
    desk.run(&["make-payload", "app:1, app:0", "-ir", &host, &file, "-a", "app:0"])
        .assert(ExitCode::Done);
    let pushed = desk.run(&["push-payload", "-fx.zip", "-ir", &far.host()]);
    // `app:0` was skipped and is not there: a warning, and docker-charon's code.
    assert_eq!(pushed.assert(ExitCode::Done).stdout, "app:1\n");
    assert!(pushed.stderr.contains("warning: `app:0` was skipped as already transferred"));
}

#[test]
fn a_file_is_not_mistaken_for_a_folder() {
    let (source, desk) = source();
    let folder = desk.folder.path().to_str().expect("text");
    let ran = desk.run(&["make-payload", "-f", folder, &source.reference("app:1")]);
    ran.assert(ExitCode::Usage);
    assert!(Path::new(folder).is_dir());
}
