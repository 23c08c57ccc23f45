//! The binary is killed (SIGKILL) at random moments, again and again: a former payload is as it was, no
//! tag leads to nothing, and the next run ends as one that nobody disturbed.
//!
//! `KHARON_KILL_SEED` repeats the moments of a run.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kharon::failure::ExitCode;

use crate::cli::Desk;
use crate::kit::dangling;
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;

const KILLS: usize = 100;
/// As fast as a payload of [`put_images`] takes about a third of a second.
const RATE: &str = "900kB";
const FORMER: &[u8] = b"a former payload";
const NAMES: [&str; 3] = ["app:1", "app:2", "tool:1"];

/// Two images and an index of two platforms, with a layer in common: 300 kB of blobs.
fn put_images(source: &TestRegistry) {
    let shared = random_layer(1, 80_000);
    let image =
        |platform, seed| Image::oci_for(platform, &[shared.clone(), random_layer(seed, 40_000)]);
    source.put("app", "1", &image("linux/amd64", 2));
    source.put("app", "2", &Image::index(&[image("linux/amd64", 3), image("linux/arm64", 4)]));
    source.put("tool", "1", &Image::docker(&[shared.clone(), random_layer(5, 60_000)]));
}

/// Moments from a seed, each below a duration.
struct Moments(u64);

impl Moments {
    #[expect(clippy::print_stderr, reason = "a run that fails can be repeated")]
    fn new(what: &str) -> Self {
        let given = std::env::var("KHARON_KILL_SEED").ok().and_then(|text| text.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let seed = given.unwrap_or_else(clock);
        eprintln!("{what}: KHARON_KILL_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: Duration) -> Duration {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        end.mul_f64(f64::from((self.0 >> 32) as u32) / f64::from(u32::MAX))
    }
}

/// Starts the command, kills it after `moment`, and says whether it was still at work.
fn kill_after(desk: &Desk, arguments: &[&str], moment: Duration) -> bool {
    let mut command = desk.kharon(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    std::thread::sleep(moment);
    child.kill().expect("killed, or at its end");
    child.wait().expect("an end").code().is_none()
}

/// How long the command takes when nobody disturbs it.
fn time_of(desk: &Desk, arguments: &[&str]) -> Duration {
    let started = Instant::now();
    desk.run(arguments).assert(ExitCode::Done);
    started.elapsed()
}

#[test]
#[expect(clippy::print_stderr, reason = "how much was tried shows with --nocapture")]
fn a_make_that_is_killed_at_any_moment_leaves_the_former_payload_and_can_be_run_again() {
    let source = TestRegistry::start();
    put_images(&source);
    let desk = Desk::new();
    let names = NAMES.map(|name| source.reference(name));
    let [one, two, three] = names.each_ref().map(String::as_str);
    let slow = |file| ["make-payload", "-f", file, "--limit-rate", RATE, one, two, three];
    let fast = ["make-payload", "-f", "x.zip", one, two, three];
    let takes = time_of(&desk, &slow("good.zip"));
    let undisturbed = std::fs::read(desk.path("good.zip")).expect("a payload");
    let (mut moments, mut at_work) = (Moments::new("make-payload"), 0);
    for n in 0..KILLS {
        std::fs::write(desk.path("x.zip"), FORMER).expect("written");
        let moment = moments.below(takes);
        let was_at_work = kill_after(&desk, &slow("x.zip"), moment);
        at_work += usize::from(was_at_work);
        let found = std::fs::read(desk.path("x.zip")).expect("a payload");
        // One that had its new name a moment before is whole.
        assert!(found == FORMER || found == undisturbed, "kill {n}, after {moment:?}");
        // Sometimes it is killed more than once before somebody lets it end.
        if n % 3 != 0 {
            desk.run(&fast).assert(ExitCode::Done);
            assert!(
                std::fs::read(desk.path("x.zip")).expect("a payload") == undisturbed,
                "kill {n}"
            );
            assert!(!desk.path("x.zip.partial").exists());
        }
    }
    eprintln!("make-payload takes {takes:?}: {KILLS} kills, {at_work} while it was at work");
    assert!(at_work > KILLS / 2, "{at_work}");
    desk.run(&fast).assert(ExitCode::Done);
    assert!(std::fs::read(desk.path("x.zip")).expect("a payload") == undisturbed);
    // Nothing else is left, such as a file that was to be gone.
    let mut left: Vec<_> = std::fs::read_dir(desk.folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, ["good.zip", "x.zip"]);
}

#[test]
#[expect(clippy::print_stderr, reason = "how much was tried shows with --nocapture")]
fn a_push_that_is_killed_at_any_moment_leaves_no_tag_of_nothing_and_can_be_run_again() {
    let source = TestRegistry::start();
    put_images(&source);
    let desk = Desk::new();
    let names = NAMES.map(|name| source.reference(name));
    let [one, two, three] = &names;
    desk.run(&["make-payload", "-f", "x.zip", one, two, three]).assert(ExitCode::Done);
    let payload = std::fs::read(desk.path("x.zip")).expect("a payload");
    let old = Image::oci(&[random_layer(9, 500)]);
    let start = || {
        let far = TestRegistry::start();
        far.put("app", "1", &old);
        far
    };
    let push = |far: &TestRegistry| {
        ["push-payload", "-f", "x.zip", "--limit-rate", RATE, "-r", &far.host()].map(str::to_owned)
    };
    let far = start();
    let takes = time_of(&desk, &push(&far).each_ref().map(String::as_str));
    let (mut moments, mut at_work) = (Moments::new("push-payload"), 0);
    let mut far = start();
    for n in 0..KILLS {
        let moment = moments.below(takes);
        let arguments = push(&far);
        let was_at_work = kill_after(&desk, &arguments.each_ref().map(String::as_str), moment);
        at_work += usize::from(was_at_work);
        // What the far side had under way ends by itself.
        let looks = [far.tagged("app", "1"), source.tagged("app", "1")];
        let now = looks[0].as_ref();
        assert!(now == Some(old.digest()) || looks[0] == looks[1], "kill {n}, after {moment:?}");
        assert_eq!(dangling(&far), Vec::<String>::new(), "kill {n}, after {moment:?}");
        // Sometimes it is killed more than once before somebody lets it end.
        if n % 3 == 0 {
            continue;
        }
        desk.run(&["push-payload", "-f", "x.zip", "-r", &far.host()]).assert(ExitCode::Done);
        for (repository, tag) in [("app", "1"), ("app", "2"), ("tool", "1")] {
            assert_eq!(far.tagged(repository, tag), source.tagged(repository, tag), "kill {n}");
        }
        assert_eq!(dangling(&far), Vec::<String>::new(), "kill {n}");
        far.assert_no_violations();
        far = start();
    }
    eprintln!("push-payload takes {takes:?}: {KILLS} kills, {at_work} while it was at work");
    assert!(at_work > KILLS / 2, "{at_work}");
    assert!(std::fs::read(desk.path("x.zip")).expect("a payload") == payload);
}
