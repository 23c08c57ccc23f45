//! Random sequences of what happens at both sides of a gap and between them, each compared with a plain
//! model: images are pushed, retagged, signed, deleted and lost at the source; payloads are made against
//! former payloads, receipts, inventories and images named as transferred, with and without deltas; they
//! are pushed late, twice, out of order, elsewhere or never, to a far side where somebody deletes and
//! moves things meanwhile.
//!
//! After each push the far side is what the model says, tag by tag and blob by blob, or the push refused
//! or left out exactly the images that the model says lack something.
//!
//! Each run tries other sequences. One that fails is printed with its seed, and `KHARON_MODEL_SEED` runs
//! that one alone; `KHARON_MODEL_SEQUENCES` says how many are run.

#[path = "../job/kit.rs"]
#[expect(dead_code, reason = "the other tests of the main job use the rest")]
mod kit;
#[path = "../support/mod.rs"]
mod support;

mod asked;
mod belief;
mod content;
mod random;
mod sequence;
mod told;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use told::{Counts, Story};

const SEQUENCES: usize = 1000;
const THREADS: usize = 2;

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("expected a number in `{variable}`, found `{text}`")),
    )
}

/// Runs one sequence, and prints it if it fails.
#[expect(clippy::print_stderr, reason = "a failure nobody can repeat is worth little")]
fn run(seed: u64) -> Counts {
    let story = Story::default();
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(sequence::run(seed, &story))
    }));
    ran.unwrap_or_else(|panic| {
        eprintln!("\nKHARON_MODEL_SEED={seed} fails:\n{}", story.told());
        std::panic::resume_unwind(panic)
    })
}

/// Runs the sequences of as many seeds, on all threads.
fn run_all(first_seed: u64, count: usize) -> Counts {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counts = Counts::default();
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= count {
                return counts;
            }
            counts.add(&run(first_seed.wrapping_add(nth as u64)));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut counts = Counts::default();
        for thread in threads {
            counts.add(&thread.join().expect("the sequence above fails"));
        }
        counts
    })
}

#[test]
#[expect(clippy::print_stderr, reason = "what was tried shows with --nocapture")]
fn the_far_side_is_what_a_plain_model_says_after_any_sequence() {
    if let Some(seed) = number_of("KHARON_MODEL_SEED") {
        run(seed);
        return;
    }
    let count = number_of("KHARON_MODEL_SEQUENCES")
        .map_or(SEQUENCES, |count| usize::try_from(count).expect("few"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let (first_seed, started) =
        (since.as_secs() * 1000 + u64::from(since.subsec_millis()), Instant::now());
    let counts = run_all(first_seed, count);
    eprintln!("seeds from {first_seed}, {:.1} s: {counts:#?}", started.elapsed().as_secs_f64());
    // Chance alone does not make these small: where they are, the test does not test.
    assert_eq!(counts.sequences, count);
    for (what, found, in_thousand) in [
        ("payloads", counts.payloads, 1500),
        ("payloads with a baseline", counts.with_baselines, 700),
        ("deltas", counts.deltas, 100),
        ("blobs rebuilt from deltas", counts.rebuilt, 20),
        ("pushes", counts.pushes, 1500),
        ("complete pushes", counts.complete, 900),
        ("pushes that left images out", counts.left_out, 100),
        ("refused pushes", counts.refused, 40),
        ("tags that were left alone", counts.kept_tags, 10),
        ("makes that failed", counts.failed_makes, 50),
        ("payloads that were lost", counts.never_pushed, 500),
        ("inventories", counts.inventories, 100),
    ] {
        let least = in_thousand * count / 1000;
        assert!(count < 200 || found >= least, "only {found} {what} in {count} sequences");
    }
}
