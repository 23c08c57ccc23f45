//! The terminal as a whole process shows it: this test program runs itself again, on a terminal made
//! by `script` (of Debian's bsdutils) or without one, and looks at what comes out.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kharon::digest::Digest;
use kharon::progress::{Arrival, Event, Reporter};
use kharon::terminal::{Login, Options, ProgressMode, PromptError, Terminal, Verbosity};

const ROLE: &str = "KHARON_TERMINAL_TEST_ROLE";

/// What the second process does. Does nothing when the tests run as usual.
#[test]
fn second_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let progress = match role.as_str() {
        "json" => ProgressMode::Json,
        "lines" => ProgressMode::Lines,
        _ => ProgressMode::Auto,
    };
    let terminal = Terminal::open(&Options { progress, verbosity: Verbosity::Normal });
    if role == "login" {
        let error = ask(&terminal, "far").expect_err("nobody is there to ask");
        let hints: Vec<String> = error.hint().into_iter().collect();
        terminal.print_error(&error.into(), &hints);
        return;
    }
    if role == "ask" {
        let login = ask(&terminal, "far:5000").expect("a login");
        let length = login.password.len();
        terminal.reporter().note(format!("{}, {length} characters", login.username));
        return;
    }
    move_some_blobs(&*terminal.reporter());
    terminal.finish();
    terminal.reporter().note("all is done".to_owned());
}

fn ask(terminal: &Terminal, registry: &str) -> Result<Login, PromptError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(terminal.prompt_login(registry, None))
}

fn move_some_blobs(reporter: &dyn Reporter) {
    reporter.phase("uploading".to_owned());
    reporter.report(Event::Total { blobs: 12, bytes: 12_000 });
    let blobs: Vec<Digest> = (0..12_u8).map(|n| Digest::of(&[n])).collect();
    for digest in &blobs {
        reporter.report(Event::BlobStarted { digest: digest.clone(), bytes: 1000 });
    }
    for _ in 0..5 {
        for digest in &blobs {
            reporter.report(Event::BlobAdvanced { digest: digest.clone(), bytes: 100 });
        }
        // The bars are drawn by a clock of their own.
        std::thread::sleep(Duration::from_millis(120));
    }
    std::thread::sleep(Duration::from_millis(400));
    reporter.warn("the tag `app:1` moved".to_owned());
    for digest in blobs {
        reporter.report(Event::BlobFinished { digest, how: Arrival::Uploaded });
    }
}

fn second_process_command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program's path"));
    command.args(["--exact", "second_process", "--nocapture"]);
    command.env(ROLE, role).env_remove("NO_COLOR").env("TERM", "xterm-256color");
    command.stdin(Stdio::null());
    command
}

/// The second process on a terminal of its own.
fn command_on_a_terminal(role: &str) -> Command {
    let program = std::env::current_exe().expect("this program's path");
    let inner =
        format!("stty cols 100 rows 30; {} --exact second_process --nocapture", program.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &inner, "/dev/null"]);
    command.env(ROLE, role).env_remove("NO_COLOR").env("TERM", "xterm-256color");
    command.stdin(Stdio::null());
    command
}

/// What the second process shows on a terminal, if this machine can make one.
fn on_a_terminal(settings: &[(&str, &str)]) -> Option<String> {
    let mut command = command_on_a_terminal("auto");
    let output = command.envs(settings.iter().copied()).output().ok()?;
    assert!(output.status.success(), "the second process failed: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads until `text` was shown, and gives all that was shown up to there.
fn read_until(shown: &mut impl Read, text: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let mut byte = [0];
        let count = shown.read(&mut byte).expect("the terminal can be read");
        assert_eq!(count, 1, "no `{text}` in {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn stderr_of(output: Output) -> String {
    assert!(output.status.success(), "the second process failed: {output:?}");
    String::from_utf8(output.stderr).expect("stderr is UTF-8")
}

#[test]
fn a_terminal_shows_bars_for_the_whole_and_for_eight_blobs() {
    let Some(shown) = on_a_terminal(&[]) else { return };
    assert!(shown.contains("0 of 12 blobs, "), "{shown:?}");
    let bars = |n: u8| shown.contains(&format!("{} [", Digest::of(&[n]).short()));
    assert!((0..8).all(bars) && !(8..12).any(bars), "{shown:?}");
    assert!(shown.contains("500 of 1000 B") || shown.contains("0.5 of 1.0 kB"), "{shown:?}");
    assert!(shown.contains("\x1b[1;33mwarning:\x1b[0m the tag `app:1` moved"), "{shown:?}");
    let last = shown.rsplit_once("all is done").expect("the note").0;
    assert!(last.ends_with("\x1b[2K") || last.ends_with("\x1b[1A") || last.ends_with('\r'));
}

#[test]
fn colours_and_bars_can_be_switched_off() {
    let Some(plain) = on_a_terminal(&[("NO_COLOR", "1")]) else { return };
    assert!(plain.contains("warning: the tag"), "{plain:?}");
    assert!(plain.contains("0 of 12 blobs"), "{plain:?}");
    let dumb = on_a_terminal(&[("TERM", "dumb")]).expect("script was there before");
    assert!(dumb.contains("warning: the tag") && dumb.contains("uploading\r\n"), "{dumb:?}");
    assert!(!dumb.contains('\x1b') && !dumb.contains("of 12 blobs"), "{dumb:?}");
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let output = second_process_command("auto").output().expect("this program runs");
    let shown = stderr_of(output);
    assert_eq!(shown, "uploading\nwarning: the tag `app:1` moved\nall is done\n");
}

#[test]
fn json_lines_are_for_programs() {
    let output = second_process_command("json").output().expect("this program runs");
    let shown = stderr_of(output);
    let events: Vec<serde_json::Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is one JSON object"))
        .collect();
    let advanced = events.iter().filter(|e| e["event"] == "blob-advanced");
    let bytes: u64 = advanced.map(|e| e["bytes"].as_u64().expect("a number")).sum();
    assert_eq!(bytes, 12 * 500);
    assert_eq!(events[0]["message"], "uploading");
    assert_eq!(events.last().expect("an event")["message"], "all is done");
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let mut command = command_on_a_terminal("ask");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut process) = command.spawn() else { return };
    let mut keys = process.stdin.take().expect("stdin is a pipe");
    let mut screen = process.stdout.take().expect("stdout is a pipe");
    // The question shows a moment before the terminal stops to show what is typed.
    let mut answer = |text: &[u8]| {
        std::thread::sleep(Duration::from_millis(300));
        keys.write_all(text).expect("the terminal takes keys");
    };
    read_until(&mut screen, "Username for far:5000");
    answer(b"alice\r");
    let mut shown = read_until(&mut screen, "Password for alice at far:5000");
    answer(b"s3cret\r");
    shown.push_str(&read_until(&mut screen, "alice, 6 characters"));
    assert!(!shown.contains("s3cret"), "{shown:?}");
    assert!(process.wait().expect("it ends").success());
}

#[test]
fn nobody_is_asked_where_nobody_can_answer() {
    let output = second_process_command("login").output().expect("this program runs");
    let shown = stderr_of(output);
    let expected = "error: expected a terminal to ask for the login of `far` on, found none\n\
        hint: give the login with --username and --password-stdin, \
        or in KHARON_USERNAME and KHARON_PASSWORD\n";
    assert_eq!(shown, expected);
}

/// Two threads, as many as any machine has at least: what a counted event costs must not show
/// beside the work. The bound is far below what was measured, for slow machines and debug builds.
#[test]
fn moving_bytes_are_counted_cheaply_from_many_threads() {
    const EVENTS: u32 = 200_000;
    let options = Options { progress: ProgressMode::Lines, verbosity: Verbosity::Normal };
    let reporter = Terminal::open(&options).reporter();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..2_u8 {
            let reporter: Arc<dyn Reporter> = reporter.clone();
            scope.spawn(move || {
                let digest = Digest::of(&[n]);
                reporter.report(Event::BlobStarted { digest: digest.clone(), bytes: 1 << 40 });
                for _ in 0..EVENTS {
                    reporter.report(Event::BlobAdvanced { digest: digest.clone(), bytes: 1000 });
                }
            });
        }
    });
    let per_second = f64::from(2 * EVENTS) / started.elapsed().as_secs_f64();
    assert!(per_second > 100_000.0, "only {per_second:.0} events per second");
}
