//! Pushes that are killed inside of a large blob, and what the next one sends.
#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::images::{Image, random_layer};
use crate::kit::{self, Ended, assert_same, make, put};
use crate::real::{Kind, RealRegistry};
use crate::served::Served;

const MIB: u64 = 1024 * 1024;
const CHUNK_BYTES: u64 = 8 * MIB;
/// Heads of requests, and other blobs.
const SLACK_BYTES: u64 = MIB / 4;
/// How large the layer is, in MiB, unless this variable says otherwise. More than go into one request.
const LAYER_MIB: u64 = 72;
const LAYER_VARIABLE: &str = "KHARON_TEST_LAYER_MIB";
/// No run takes longer to get somewhere.
const LONGEST: Duration = Duration::from_secs(120);

/// Stands in front of a registry and counts what is sent there.
struct Gate {
    host: String,
    passed_bytes: Arc<AtomicU64>,
}

impl Gate {
    fn before(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let (registry, passed_bytes) = (registry.to_owned(), Arc::<AtomicU64>::default());
        let count = Arc::clone(&passed_bytes);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&registry).expect("the registry listens");
                let [to, back] = [&server, &client].map(|end| end.try_clone().expect("a handle"));
                let count = Arc::clone(&count);
                std::thread::spawn(move || pass(client, to, &count));
                std::thread::spawn(move || pass(server, back, &AtomicU64::new(0)));
            }
        });
        Self { host, passed_bytes }
    }

    fn passed_bytes(&self) -> u64 {
        self.passed_bytes.load(Ordering::SeqCst)
    }
}

/// Passes bytes on until one of both ends.
fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        count.fetch_add(length as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// What the second of two pushes did.
struct Second {
    ended: Ended,
    /// Sent by the first one, which was killed, and by this one.
    sent_bytes: [u64; 2],
    size_bytes: u64,
}

impl Second {
    /// What arrived was not sent again, but for a chunk at most.
    #[track_caller]
    fn assert_resumed(self) {
        let ended = self.ended.well().saying(&["going on with blob"]);
        let [first, second] = self.sent_bytes;
        let most = self.size_bytes + CHUNK_BYTES + SLACK_BYTES;
        assert!(first + second <= most, "{first} + {second} > {most}\n{}", ended.stderr);
        assert!(!ended.stderr.contains("anew"), "{}", ended.stderr);
    }

    /// Everything went again, with a warning.
    #[track_caller]
    fn assert_begun_anew(self) {
        self.ended.well().saying(&["lost the upload of blob", "it begins anew"]);
        assert!(self.sent_bytes[1] >= self.size_bytes);
    }
}

/// Pushes a large layer, ends that in the middle of a chunk, and pushes again.
#[expect(clippy::print_stdout, reason = "the numbers are what these tests are about")]
fn push_twice(far: &str, signal: &str) -> Second {
    let near = RealRegistry::start(Kind::DockerRegistry);
    let layer_mib = std::env::var(LAYER_VARIABLE).ok().and_then(|text| text.parse().ok());
    let size_bytes = layer_mib.unwrap_or(LAYER_MIB) * MIB;
    let layer = random_layer(1, usize::try_from(size_bytes).expect("memory"));
    put(&Image::oci(&[layer]), &near.host(), "large", "1");
    let folder = tempfile::tempdir().expect("a folder");
    let file = kit::path_in(&folder, "large.zip");
    make(&near.host(), &file, &["large:1"]);
    let (gate, state) = (Gate::before(far), kit::path_in(&folder, "state"));
    let push = |arguments: &[&str]| {
        let chunk = CHUNK_BYTES.to_string();
        let fixed = ["push-payload", "-r", &gate.host, "-f", kit::text_of(&file)];
        let fixed = [&fixed[..], &["--chunk-size", &chunk]].concat();
        let mut command = kit::kharon_command(&[&fixed[..], arguments].concat());
        command.env("KHARON_STATE_DIR", &state);
        command
    };
    let enough = (size_bytes / 2 / CHUNK_BYTES) * CHUNK_BYTES + CHUNK_BYTES / 2;
    let first = end_after(&gate, enough, &mut push(&["--limit-rate", "32MB"]), signal);
    if signal == "-TERM" {
        let first = first.with_code(143).saying(&["finishing the chunk under way"]);
        assert!(first.stderr.ends_with("what arrived stays and is not sent again\n"));
    }
    assert_eq!(entries(&state).len(), 1);
    let sent_before = gate.passed_bytes();
    let ended = kit::run(&mut push(&[]));
    let sent_bytes = [sent_before, gate.passed_bytes() - sent_before];
    println!("{size_bytes} bytes after {signal}: sent {sent_bytes:?}\n{}", ended.stderr);
    assert_eq!(entries(&state), Vec::<PathBuf>::new());
    assert_same(&near.host(), far, "large:1");
    Second { ended, sent_bytes, size_bytes }
}

fn entries(state: &std::path::Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(state.join("uploads")).expect("a journal");
    folder.map(|entry| entry.expect("an entry").path()).collect()
}

/// Runs the command until so much has passed, and sends it the signal.
fn end_after(gate: &Gate, bytes: u64, command: &mut Command, signal: &str) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child: Child = child.expect("kharon runs");
    let started = Instant::now();
    while gate.passed_bytes() < bytes {
        assert!(child.try_wait().expect("a state").is_none(), "it has ended by itself");
        assert!(started.elapsed() < LONGEST, "{} bytes only", gate.passed_bytes());
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    Ended::new(command, child.wait_with_output().expect("an end"))
}

mod docker_registry {
    use super::*;

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_terminated_push_goes_on_inside_of_a_layer() {
        let far = RealRegistry::start(Kind::DockerRegistry);
        push_twice(&far.host(), "-TERM").assert_resumed();
    }

    /// distribution 2.8 loses a session whose chunk was torn.
    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_killed_push_begins_the_layer_anew() {
        let far = RealRegistry::start(Kind::DockerRegistry);
        push_twice(&far.host(), "-KILL").assert_begun_anew();
    }

    #[test]
    #[ignore = "needs docker-registry and skopeo"]
    fn a_killed_push_to_kharon_serve_goes_on_inside_of_a_layer() {
        let folder = tempfile::tempdir().expect("a folder");
        let far = Served::start(folder.path());
        push_twice(&far.host, "-KILL").assert_resumed();
    }
}

mod distribution_3 {
    use super::*;

    #[test]
    #[ignore = "needs registry (distribution 3) and skopeo"]
    fn a_killed_push_goes_on_inside_of_a_layer() {
        let far = RealRegistry::start(Kind::Distribution3);
        push_twice(&far.host(), "-KILL").assert_resumed();
    }
}

mod zot {
    use super::*;

    #[test]
    #[ignore = "needs zot and skopeo"]
    fn a_terminated_push_goes_on_inside_of_a_layer() {
        let far = RealRegistry::start(Kind::Zot);
        push_twice(&far.host(), "-TERM").assert_resumed();
    }

    /// zot removes an upload whose request broke off (`PatchBlobUpload` in its `pkg/api/routes.go`).
    #[test]
    #[ignore = "needs zot and skopeo"]
    fn a_killed_push_begins_the_layer_anew() {
        let far = RealRegistry::start(Kind::Zot);
        push_twice(&far.host(), "-KILL").assert_begun_anew();
    }
}
