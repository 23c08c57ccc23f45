//! The n-th request fails, for n = 0, 1, 2 … until it is never reached, in each way in which requests fail.
//! After each run: a former payload is as it was, no tag leads to nothing; and the next run ends as one
//! that nobody disturbed, and sends nothing that had arrived.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::make::MakeRequest;
use kharon::push::PushRequest;
use kharon::registry::Connections;

use crate::deltas::app;
use crate::kit::{Job, connections, dangling, pack, push};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::{Options, TestRegistry};

const FORMER: &[u8] = b"a former payload";
/// Long enough for a busy machine, and short enough to be waited for a hundred times.
const PATIENCE: Duration = Duration::from_millis(400);
const THREE: [&str; 3] = ["one:1", "one:2", "two:1"];

/// Three images: one with two platforms, all with a layer in common, two repositories, a signature.
fn put_three(source: &TestRegistry) {
    let shared = random_layer(1, 40_000);
    let children = ["linux/amd64", "linux/arm64"]
        .map(|platform| Image::oci_for(platform, std::slice::from_ref(&shared)));
    source.put("one", "1", &Image::index(&children));
    source.put("one", "2", &Image::docker(&[shared.clone(), random_layer(4, 2000)]));
    let signed = Image::oci(&[shared]);
    source.put("two", "1", &signed);
    source.put("two", &signed.signature_tag(), &Image::cosign_signature(&signed));
}

/// How long something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    Once,
    FromThenOn,
}

/// What goes wrong in a sweep.
type Failing = (&'static str, Effect, Lasts);

fn refusing(status: u16) -> Effect {
    Effect::Status(status, Vec::new())
}

/// The ways in which any request fails.
fn any_request() -> Vec<Failing> {
    vec![
        ("429 once", refusing(429), Lasts::Once),
        ("500 from then on", refusing(500), Lasts::FromThenOn),
        ("no connection from then on", Effect::CloseBeforeHeaders, Lasts::FromThenOn),
        ("one connection closed", Effect::CloseBeforeHeaders, Lasts::Once),
        ("one answer lost", Effect::LoseAnswer, Lasts::Once),
        ("one answer that never comes", Effect::Hang, Lasts::Once),
    ]
}

/// Those, and bodies of answers that are cut or stand still.
fn reading() -> Vec<Failing> {
    let bodies = [
        ("every answer cut", Effect::CutBodyAfter(0), Lasts::FromThenOn),
        ("one answer cut", Effect::CutBodyAfter(10), Lasts::Once),
        ("one answer stands still", Effect::StallBodyAfter(10), Lasts::Once),
    ];
    any_request().into_iter().chain(bodies).collect()
}

/// Those, and bodies of requests.
fn writing() -> Vec<Failing> {
    let bodies = [
        ("every body cut", Effect::CutRequestAfter(10), Lasts::FromThenOn),
        ("one body cut", Effect::CutRequestAfter(10), Lasts::Once),
        ("one body that nobody reads", Effect::StallRequestAfter(10), Lasts::Once),
    ];
    any_request().into_iter().chain(bodies).collect()
}

fn fault(nth: usize, effect: Effect, lasts: Lasts) -> Fault {
    let fault = Fault::nth_request(nth, effect);
    if lasts == Lasts::FromThenOn { fault.always() } else { fault }
}

fn impatient(registry: &TestRegistry) -> Connections {
    Connections { header_timeout: PATIENCE, stall_timeout: PATIENCE, ..connections(&[registry]) }
}

/// How far one sweep went.
#[derive(Debug, Default)]
struct Swept {
    runs: usize,
    failed: usize,
}

impl Swept {
    #[expect(clippy::print_stderr, reason = "how much was tried shows with --nocapture")]
    fn tell(&self, what: &str, effect: &str) {
        eprintln!("{what}, {effect}: {} runs, {} of them failed", self.runs, self.failed);
    }
}

#[tokio::test]
async fn a_payload_is_whole_or_the_former_one_whichever_request_fails() {
    let job = Job::new();
    put_three(&job.source);
    let good = job.pack("good.zip", &THREE).await.bytes();
    let request = || MakeRequest { connections: impatient(&job.source), ..job.request(&THREE) };
    for (name, effect, lasts) in reading() {
        let mut swept = Swept::default();
        for nth in 0.. {
            fs::write(job.path("payload.zip"), FORMER).expect("written");
            let before = job.source.faults_struck();
            job.source.fail(fault(nth, effect.clone(), lasts));
            let made = pack(request(), &job.path("payload.zip")).await;
            job.source.heal();
            let found = fs::read(job.path("payload.zip")).expect("a file");
            if job.source.faults_struck() == before {
                assert!(found == good);
                break;
            }
            swept.runs += 1;
            match made {
                Ok(_) => assert!(found == good, "{name}, request {nth}"),
                Err(error) => {
                    swept.failed += 1;
                    assert!(found == FORMER, "{name}, request {nth}");
                    assert!(lasts == Lasts::FromThenOn, "{name}, request {nth}: {error:#}");
                    assert_eq!(ExitCode::of(&error), ExitCode::Registry, "{error:#}");
                    // Over what the failure left.
                    let again = job.pack_as("payload.zip", request()).await.bytes();
                    assert!(again == good, "{name}, request {nth}");
                }
            }
        }
        swept.tell("make", name);
        assert!(swept.runs > 10, "{swept:?}");
        assert_eq!(lasts == Lasts::FromThenOn, swept.failed > 0, "{swept:?}");
    }
}

/// Tags that users set, with what they name.
fn tags(registry: &TestRegistry, repositories: &[&str]) -> Vec<(String, Option<Digest>)> {
    let mut tags = Vec::new();
    for repository in repositories {
        let all = registry.tags(repository).into_iter();
        // Not the fallback tag of the referrers API.
        for tag in all.filter(|tag| tag.contains(".sig") || !tag.starts_with("sha256-")) {
            tags.push((format!("{repository}:{tag}"), registry.tagged(repository, &tag)));
        }
    }
    tags
}

/// The bodies of blobs that arrived more than once in a repository, or again though they were there.
fn sent_twice(registry: &TestRegistry, sizes: &BTreeMap<String, u64>) -> Vec<String> {
    let mut arrived: BTreeMap<(String, String), usize> = BTreeMap::new();
    for exchange in registry.exchanges("PUT", "/blobs/uploads/") {
        let Some(digest) = exchange.query.split("digest=").nth(1) else { continue };
        let digest = digest.replace("%3A", ":");
        let whole = sizes.get(&digest) == Some(&exchange.request_body_bytes);
        // Without a status the answer was lost, after all was done that was asked for.
        if whole && (exchange.status == 201 || exchange.status == 0) {
            let repository = exchange.repository().unwrap_or_default().to_owned();
            *arrived.entry((repository, digest)).or_default() += 1;
        }
    }
    let twice = arrived.into_iter().filter(|(_, times)| *times > 1);
    twice
        .map(|((repository, digest), times)| format!("{times} × {digest} to {repository}"))
        .collect()
}

/// A payload and where it goes.
struct Sweep<'a> {
    what: &'a str,
    images: &'a [&'a str],
    repositories: &'a [&'a str],
    far: Options,
    /// What is at the far side before.
    prepare: fn(&TestRegistry),
}

impl Sweep<'_> {
    async fn run(&self, job: &mut Job, payload: &Path, failing: &[Failing]) {
        let open = kharon::payload::Payload::open(payload).expect("a payload");
        let sizes = open.index().blobs.iter().map(|blob| (blob.digest.to_string(), blob.size));
        let sizes: BTreeMap<String, u64> = sizes.collect();
        for (name, effect, lasts) in failing {
            let mut swept = Swept::default();
            for nth in 0.. {
                job.far = TestRegistry::start_with(self.far.clone());
                (self.prepare)(&job.far);
                job.far.fail(fault(nth, effect.clone(), *lasts));
                let request =
                    || PushRequest { connections: impatient(&job.far), ..job.push_request() };
                let pushed = push(payload, request()).await;
                let struck = job.far.faults_struck();
                job.far.heal();
                let here = format!("{}, {name}, request {nth}", self.what);
                assert_eq!(dangling(&job.far), Vec::<String>::new(), "{here}");
                if struck == 0 {
                    break;
                }
                swept.runs += 1;
                if let Err(error) = pushed {
                    swept.failed += 1;
                    assert!(*lasts == Lasts::FromThenOn, "{here}: {error:#}");
                    assert_eq!(ExitCode::of(&error), ExitCode::Registry, "{error:#}");
                }
                let again = job.push_as(payload, request()).await;
                assert_eq!(again.names(), self.images, "{here}");
                let wanted = tags(&job.source, self.repositories);
                let mut found = tags(&job.far, self.repositories);
                found.retain(|tag| wanted.iter().any(|wanted| wanted.0 == tag.0));
                assert_eq!(found, wanted, "{here}");
                assert_eq!(dangling(&job.far), Vec::<String>::new(), "{here}");
                assert_eq!(sent_twice(&job.far, &sizes), Vec::<String>::new(), "{here}");
            }
            swept.tell(self.what, name);
            assert!(swept.runs > 15, "{swept:?}");
            assert_eq!(*lasts == Lasts::FromThenOn, swept.failed > 0, "{swept:?}");
        }
    }
}

async fn sweep_three(what: &str, far: Options, failing: &[Failing]) {
    let mut job = Job::new();
    put_three(&job.source);
    let packed = job.pack("payload.zip", &THREE).await;
    let repositories = &["one", "two"];
    let sweep = Sweep { what, images: &THREE, repositories, far, prepare: |_| {} };
    sweep.run(&mut job, &packed.path, failing).await;
}

#[tokio::test]
async fn no_tag_leads_to_nothing_whichever_request_of_a_push_fails() {
    sweep_three("push", Options::default(), &writing()).await;
}

#[tokio::test]
async fn no_tag_leads_to_nothing_where_mounts_are_refused_and_there_is_no_referrers_api() {
    let far = Options { mounts_refused: true, no_referrers: true, ..Options::default() };
    let failing = writing().into_iter().filter(|(name, ..)| {
        ["500 from then on", "one answer lost", "one body cut"].contains(name)
    });
    sweep_three("push without mounts", far, &failing.collect::<Vec<_>>()).await;
}

/// The old image, whose layers a delta is made against, and which another repository shares.
fn old_image() -> Image {
    Image::oci(&[random_layer(1, 20_000), app(None)])
}

#[tokio::test]
async fn no_tag_leads_to_nothing_whichever_request_fails_while_layers_are_rebuilt_and_copied() {
    let mut job = Job::new();
    job.source.put("app", "1", &old_image());
    let first = job.pack("first.zip", &["app:1"]).await;
    job.source.put("app", "2", &Image::oci(&[random_layer(1, 20_000), app(Some(7))]));
    job.source.put("tool", "1", &Image::docker(&[random_layer(1, 20_000)]));
    let images = &["app:2", "tool:1"];
    let against = vec![first.path];
    let request = MakeRequest { against, ..job.request(images) };
    let packed = job.pack_as("payload.zip", request).await;
    assert_eq!(packed.open().index().baselines.len(), 1, "no delta");
    let sweep = Sweep {
        what: "push of an upgrade",
        images,
        repositories: &["app", "tool"],
        far: Options { mounts_refused: true, ..Options::default() },
        prepare: |far| drop(far.put("app", "1", &old_image())),
    };
    let failing = [
        ("429 from then on", refusing(429), Lasts::FromThenOn),
        ("500 once", refusing(500), Lasts::Once),
        ("one answer lost", Effect::LoseAnswer, Lasts::Once),
        ("every answer cut", Effect::CutBodyAfter(0), Lasts::FromThenOn),
        ("one answer cut", Effect::CutBodyAfter(10), Lasts::Once),
        ("one answer stands still", Effect::StallBodyAfter(10), Lasts::Once),
        ("one body cut", Effect::CutRequestAfter(10), Lasts::Once),
    ];
    sweep.run(&mut job, &packed.path, &failing).await;
}
