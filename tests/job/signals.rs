//! Ctrl-C and SIGTERM: a clean end at once, a former payload as it was, no tag moved.
#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{Desk, Ran};
use crate::support::awkward::{LayerTar, Packing, image};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

/// A source with an image of four megabytes.
fn source() -> TestRegistry {
    let source = TestRegistry::start();
    source.put("app", "1", &Image::oci(&[random_layer(1, 4_000_000)]));
    source
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends the signal and expects an end within seconds.
fn end(mut child: Child, signal: &str) -> Ran {
    let started = Instant::now();
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    while child.try_wait().expect("a state").is_none() {
        if started.elapsed() > Duration::from_secs(10) {
            child.kill().expect("an end");
            panic!("{signal} did not end it");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ran::of(&child.wait_with_output().expect("an end"))
}

const SIGNALS: [(&str, i32); 2] = [("-INT", 130), ("-TERM", 143)];

#[test]
fn an_interrupted_make_leaves_the_former_payload_and_the_torn_one() {
    let source = source();
    for (signal, code) in SIGNALS {
        let desk = Desk::new();
        std::fs::write(desk.path("x.zip"), "former").expect("written");
        source.clear_journal();
        let name = source.reference("app:1");
        let arguments = ["make-payload", "-f", "x.zip", "--limit-rate", "100kB", &name];
        let child = start(&mut desk.kharon(&arguments));
        wait_until("a blob", || source.count("GET", "/blobs/") > 0);
        let ran = end(child, signal);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(
            ran.stderr.ends_with(
                "interrupted: a former payload is as it was, and the same command goes on from here\n"
            ),
            "{}",
            ran.stderr
        );
        assert_eq!(std::fs::read(desk.path("x.zip")).expect("a file"), b"former");
        let mut names: Vec<_> = std::fs::read_dir(desk.folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["x.zip", "x.zip.partial", "x.zip.partial.plan"]);
        // And again, to the end.
        let again = desk.run(&["make-payload", "-f", "x.zip", &name]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert!(!desk.path("x.zip.partial").exists());
        assert!(!desk.path("x.zip.partial.plan").exists());
    }
}

#[test]
fn an_interrupted_push_moves_no_tag_and_can_be_run_again() {
    let source = source();
    let desk = Desk::new();
    let name = source.reference("app:1");
    desk.run(&["make-payload", "-f", "x.zip", &name]);
    for (signal, code) in SIGNALS {
        let far = TestRegistry::start();
        let host = far.host();
        let push = ["push-payload", "-f", "x.zip", "-r", &host];
        let slow = [&push[..], &["--limit-rate", "100kB"]].concat();
        let child = start(&mut desk.kharon(&slow));
        wait_until("a body", || far.journal().iter().any(|line| line.request_body_bytes > 70_000));
        let ran = end(child, signal);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("what arrived stays and is not sent again"), "{}", ran.stderr);
        assert_eq!(far.tags("app"), Vec::<String>::new());
        let again = desk.run(&push);
        assert_eq!((again.code, again.stdout), (Some(0), format!("{name}\n")), "{}", again.stderr);
        assert_eq!(far.tagged("app", "1"), source.tagged("app", "1"));
    }
}

/// A payload with a layer that is too large for one request.
fn large(desk: &Desk) -> TestRegistry {
    let source = TestRegistry::start();
    source.put("app", "1", &Image::oci(&[random_layer(1, 70_000_000)]));
    let name = source.reference("app:1");
    assert_eq!(desk.run(&["make-payload", "-f", "x.zip", &name]).code, Some(0));
    source
}

/// Waits until a part of the second chunk of 2 MiB has arrived.
fn wait_for_second_chunk(far: &TestRegistry) {
    wait_until("a chunk", || {
        let chunks = far.exchanges("PATCH", "");
        chunks.get(1).is_some_and(|chunk| chunk.request_body_bytes > 100_000)
    });
}

#[test]
fn a_chunk_under_way_is_sent_to_its_end_first() {
    let desk = Desk::new();
    let source = large(&desk);
    let payload = std::fs::read(desk.path("x.zip")).expect("a payload");
    for (signal, code) in SIGNALS {
        let far =
            TestRegistry::start_with(Options { torn_uploads_die: true, ..Options::default() });
        let host = far.host();
        let push = ["push-payload", "-f", "x.zip", "-r", &host, "--chunk-size", "2MiB"];
        let child = start(&mut desk.kharon(&[&push[..], &["--limit-rate", "4MB"]].concat()));
        wait_for_second_chunk(&far);
        let ran = end(child, signal);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
        let told = "finishing the chunk under way, Ctrl-C again ends at once";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert!(
            ran.stderr.ends_with("what arrived stays and is not sent again\n"),
            "{}",
            ran.stderr
        );
        let chunks = far.exchanges("PATCH", "");
        assert!(chunks.iter().all(|chunk| chunk.status == 202), "{chunks:#?}");
        far.clear_journal();
        // What comes through a pipe is gone on with as well.
        let again = match code {
            130 => desk.run(&push),
            _ => desk.run_with(&["push-payload", "-r", &host], &payload),
        };
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert!(again.stderr.contains("going on with blob"), "{}", again.stderr);
        assert!(far.blob_bytes_sent_to("app") < 70_100_000 - 2 * 2 * 1024 * 1024);
        assert_eq!(far.tagged("app", "1"), source.tagged("app", "1"));
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_chunk() {
    let desk = Desk::new();
    large(&desk);
    let far = TestRegistry::start();
    let host = far.host();
    // A chunk takes more than a minute.
    let push = ["push-payload", "-f", "x.zip", "-r", &host, "--limit-rate", "1MB"];
    let mut child = start(&mut desk.kharon(&push));
    let arrived =
        |bytes: u64| far.exchanges("PATCH", "").iter().any(|x| x.request_body_bytes > bytes);
    wait_until("a chunk", || arrived(100_000));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    wait_until("more of the chunk", || arrived(600_000));
    assert!(child.try_wait().expect("a state").is_none());
    let ran = end(child, "-TERM");
    assert_eq!(ran.code, Some(143), "{}", ran.stderr);
    assert!(ran.stderr.contains("finishing the chunk"), "{}", ran.stderr);
}

#[test]
fn a_run_that_waits_for_a_silent_pipe_ends_too() {
    let desk = Desk::new();
    let host = source().host();
    let lines: [&[&str]; 3] = [
        &["make-payload", "-f", "x.zip", "--images-from", "-"],
        &["make-payload", "-f", "x.zip", "-u", "me", "--password-stdin", "app"],
        &["push-payload", "-r", &host],
    ];
    for arguments in lines {
        let mut command = desk.kharon(arguments);
        let child = start(command.stdin(Stdio::piped()));
        // There is nothing to see of a process that waits; it has to come that far first.
        std::thread::sleep(Duration::from_millis(500));
        let mut child = child;
        let _silent = child.stdin.take();
        let ran = end(child, "-INT");
        assert_eq!(ran.code, Some(130), "{arguments:?}: {}", ran.stderr);
    }
}

/// On a terminal made by `script` (of Debian's bsdutils), if this machine has it.
#[test]
fn ctrl_c_at_a_question_for_a_login_leaves_the_terminal_as_it_was() {
    let kharon = assert_cmd::cargo::cargo_bin!("kharon").display().to_string();
    for (name, question) in [("", "Username for far"), ("-u me", "Password for me at far")] {
        let desk = Desk::new();
        // The shell must outlive the Ctrl-C, which is for all processes of the terminal.
        let line = format!(
            "trap : INT; {kharon} make-payload -f x.zip -r far --login {name} app; echo code=$?; stty -a"
        );
        let mut command = desk.command("script", &["-q", "-c", &line, "/dev/null"]);
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            return;
        };
        let (mut keys, mut screen) =
            (child.stdin.take().expect("keys"), child.stdout.take().expect("a screen"));
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(question) {
            let mut byte = [0];
            screen.read_exact(&mut byte).expect("a question");
            shown.extend(byte);
        }
        // The question shows a moment before the terminal stops to show what is typed.
        std::thread::sleep(Duration::from_millis(300));
        keys.write_all(b"\x03").expect("the terminal takes keys");
        screen.read_to_end(&mut shown).expect("an end");
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains("code=130"), "{shown}");
        assert!(shown.contains(" echo ") && shown.contains(" icanon "), "{shown}");
        child.wait().expect("an end");
    }
}

#[test]
fn an_interrupted_extract_or_save_leaves_nothing() {
    let mut layer = LayerTar::default();
    for number in 0..3000 {
        layer.file(&format!("folder{}/{number}", number % 50), &"content".repeat(100));
    }
    let source = TestRegistry::start();
    source.put("app", "1", &image(&[(&layer, Packing::Plain)]));
    let name = source.reference("app:1");
    for (round, (signal, code)) in SIGNALS.iter().cycle().take(6).enumerate() {
        let desk = Desk::new();
        source.clear_journal();
        let what = if round % 3 == 2 { "save" } else { "extract" };
        let child = start(&mut desk.kharon(&[what, "--limit-rate", "3MB", "--to", "x", &name]));
        let is_begun = || std::fs::read_dir(desk.folder.path()).expect("a folder").count() > 0;
        wait_until("a folder", is_begun);
        wait_until("a blob", || source.count("GET", "/blobs/") > 0);
        std::thread::sleep(Duration::from_millis(200 + 40 * round as u64));
        let ran = end(child, signal);
        assert_eq!(ran.code, Some(*code), "{}", ran.stderr);
        let said = "interrupted: a former file or folder is as it was\n";
        assert!(ran.stderr.ends_with(said), "{}", ran.stderr);
        assert!(!is_begun(), "round {round}");
    }
}
