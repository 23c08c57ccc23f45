//! One sequence of what happens at both sides and between them, each step compared with the model.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::inventory::{InventoryRequest, inventory};
use kharon::make::{Deltas, Recompress};
use kharon::progress::Silent;
use kharon::push::{OnMissing, TagPolicy};
use kharon::receipt::Receipt;
use kharon::verify::verify;

use crate::asked::{Make, Push, described, joined, known_of, read};
use crate::belief::{Held, Known, Name, Outcome, Packed, Payload, Signed, Travels};
use crate::content;
use crate::kit::{Job, connections, contents_sent, dangling, host, pack, push, text};
use crate::random::Random;
use crate::support::fault::{Effect, Fault};
use crate::support::images::Image;
use crate::told::{Counts, Story};

const REPOSITORIES: [&str; 3] = ["app", "team/tool", "base"];
const TAGS: [&str; 3] = ["1", "2", "latest"];
const PREFIX: &str = "mirror";
const STEPS: usize = 12;

/// Both sides, what the model thinks of them, and what travelled.
struct World<'a> {
    random: Random,
    story: &'a Story,
    job: Job,
    source: Held,
    /// Signatures at the source, by repository and the digest that is signed.
    signatures: BTreeMap<(String, Digest), Image>,
    /// Manifest paths that answer 404, because their tags were deleted.
    deleted: Arc<Mutex<BTreeSet<String>>>,
    far: Held,
    payloads: Vec<Payload>,
    pushed: BTreeSet<String>,
    /// Receipts and inventories by their file names.
    lists: BTreeMap<String, Known>,
    counts: Counts,
}

/// Runs the sequence of this seed.
pub async fn run(seed: u64, story: &Story) -> Counts {
    let job = Job::new();
    let deleted = Arc::new(Mutex::new(BTreeSet::new()));
    let gone = Arc::clone(&deleted);
    let is_gone = move |head: &hyper::http::request::Parts| {
        gone.lock().unwrap_or_else(PoisonError::into_inner).contains(head.uri.path())
    };
    job.source.fail(Fault::matching(is_gone, Effect::Status(404, Vec::new())).always());
    let mut world = World {
        random: Random::new(seed),
        story,
        job,
        source: Held::default(),
        signatures: BTreeMap::new(),
        deleted,
        far: Held::default(),
        payloads: Vec::new(),
        pushed: BTreeSet::new(),
        lists: BTreeMap::new(),
        counts: Counts { sequences: 1, ..Counts::default() },
    };
    world.push_at_source();
    for _ in 0..STEPS {
        world.step().await;
    }
    world.counts.never_pushed = world.payloads.len() - world.pushed.len();
    world.counts
}

impl World<'_> {
    async fn step(&mut self) {
        match self.random.below(100) {
            0..=19 => self.push_at_source(),
            20..=23 => self.retag_at_source(),
            24..=27 => self.delete_at_source(),
            28..=52 => self.make().await,
            53..=84 => self.push().await,
            85..=88 => self.delete_at_far_side(),
            89..=95 => self.move_at_far_side(),
            _ => self.take_inventory().await,
        }
    }

    fn tell(&self, line: &str) {
        self.story.tell(line);
    }

    fn name(&mut self) -> Name {
        let (repository, tag) = (self.random.of(&REPOSITORIES), self.random.of(&TAGS));
        ((*repository).to_owned(), (*tag).to_owned())
    }

    /// A tag of the source.
    fn tag_at_source(&mut self) -> Option<(Name, Image)> {
        let tags = self.source.tags.iter().map(|(name, image)| (name.clone(), image.clone()));
        self.random.any(tags.collect::<Vec<_>>())
    }

    fn put_at_source(&mut self, (repository, tag): &Name, image: &Image) {
        self.job.source.put(repository, tag, image);
        self.source.put(repository, tag, image);
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.remove(&format!("/v2/{repository}/manifests/{tag}"));
    }

    fn push_at_source(&mut self) {
        for _ in 0..=self.random.below(2) {
            let (name, image) = (self.name(), content::image(&mut self.random));
            self.tell(&format!("source: push {} as {}", described(&image), joined(&name)));
            self.put_at_source(&name, &image);
            if self.random.chance(15) {
                let signature = Image::cosign_signature(&image);
                self.tell(&format!("source: sign {}", joined(&name)));
                self.job.source.put(&name.0, &image.signature_tag(), &signature);
                self.source.add(&name.0, content::blobs(&signature));
                self.signatures.insert((name.0, image.digest().clone()), signature);
            }
        }
    }

    fn retag_at_source(&mut self) {
        let Some((from, image)) = self.tag_at_source() else { return };
        let to = (from.0.clone(), (*self.random.of(&TAGS)).to_owned());
        self.tell(&format!("source: tag {} as {}", joined(&from), joined(&to)));
        self.put_at_source(&to, &image);
    }

    fn delete_at_source(&mut self) {
        let Some((name, image)) = self.tag_at_source() else { return };
        if self.random.chance(60) {
            self.tell(&format!("source: delete tag {}", joined(&name)));
            self.source.tags.remove(&name);
            let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            deleted.insert(format!("/v2/{}/manifests/{}", name.0, name.1));
        } else if let Some(digest) = self.random.any(content::blobs(&image)) {
            self.tell(&format!("source: lose blob {digest} of {}", name.0));
            self.job.source.forget_blob(&name.0, &digest);
            self.source.forget(&name.0, &digest);
        }
    }

    fn delete_at_far_side(&mut self) {
        let all = self.far.blobs.iter().flat_map(|(repository, blobs)| {
            blobs.iter().map(|digest| (repository.clone(), digest.clone()))
        });
        let Some((repository, digest)) = self.random.any(all.collect::<Vec<_>>()) else { return };
        self.tell(&format!("far side: lose blob {digest} of {repository}"));
        self.job.far.forget_blob(&repository, &digest);
        self.far.forget(&repository, &digest);
    }

    fn move_at_far_side(&mut self) {
        let theirs = self.far.tags.keys().filter(|(_, tag)| TAGS.contains(&tag.as_str()));
        let theirs: Vec<Name> = theirs.cloned().collect();
        let name = self.random.any(theirs).unwrap_or((REPOSITORIES[0].into(), TAGS[0].into()));
        let image = content::image(&mut self.random);
        self.tell(&format!("far side: push {} as {}", described(&image), joined(&name)));
        self.job.far.put(&name.0, &name.1, &image);
        self.far.put(&name.0, &name.1, &image);
    }

    async fn take_inventory(&mut self) {
        let request = InventoryRequest {
            connections: connections(&[&self.job.far]),
            ..InventoryRequest::new(host(&self.job.far))
        };
        let found = inventory(request, Arc::new(Silent)).await;
        let found = found.unwrap_or_else(|error| panic!("{}", text(&error)));
        let file = format!("inventory-{}.json", self.lists.len());
        self.tell(&format!("far side: {file}"));
        let known = self.far.inventory();
        assert_eq!(known_of(&found), known, "what the inventory lists");
        std::fs::write(self.job.path(&file), found.to_json().expect("JSON")).expect("written");
        self.lists.insert(file, known);
        self.counts.inventories += 1;
    }

    fn signed(&self, (repository, _): &Name, image: &Image) -> Signed {
        let mut parts: Vec<&Image> = image.children.iter().collect();
        parts.push(image);
        let signatures = parts.into_iter().filter_map(|part| {
            let signature = self.signatures.get(&(repository.clone(), part.digest().clone()))?;
            Some((part.signature_tag(), signature.clone()))
        });
        Signed { image: image.clone(), signatures: signatures.collect() }
    }

    async fn make(&mut self) {
        let mut wanted: BTreeMap<Name, Option<Image>> = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            if let Some((name, image)) = self.tag_at_source() {
                wanted.insert(name, Some(image));
            }
        }
        if self.random.chance(3) || wanted.is_empty() {
            wanted.insert((REPOSITORIES[0].to_owned(), "never".to_owned()), None);
        }
        let mut files: Vec<(String, Known)> = Vec::new();
        let share = *self.random.of(&[0, 40, 60, 90]);
        let payloads = self.random.some(self.payloads.iter(), share);
        files.extend(payloads.into_iter().map(|payload| (payload.file.clone(), payload.known())));
        let share = *self.random.of(&[0, 0, 40, 90]);
        let lists = self.random.some(self.lists.iter(), share);
        files.extend(lists.into_iter().map(|(file, known)| (file.clone(), known.clone())));
        let transferred = if self.random.chance(20) {
            (0..2).filter_map(|_| self.tag_at_source()).collect()
        } else {
            Vec::new()
        };
        let deltas = if self.random.chance(75) { Deltas::Auto } else { Deltas::Off };
        let recompress = if self.random.chance(10) { Recompress::Yes } else { Recompress::No };
        let jobs = NonZeroUsize::new(1 + self.random.below(6)).expect("not zero");
        let make = Make { wanted, files, transferred, deltas, recompress, jobs };
        self.make_as(&make).await;
    }

    async fn make_as(&mut self, asked: &Make) {
        let file = format!("payload-{}.zip", self.payloads.len());
        self.tell(&format!("make {file}: {}", asked.described()));
        let mut known = Known::default();
        asked.files.iter().for_each(|(_, says)| known.add(says));
        for (name, image) in &asked.transferred {
            for digest in content::blobs(image) {
                known.add_blob(&name.0, &digest);
            }
        }
        let images: Option<Vec<Packed>> = asked
            .wanted
            .iter()
            .map(|(name, image)| {
                let is_transferred = asked.transferred.iter().any(|(other, _)| other == name);
                let carried =
                    if is_transferred { None } else { Some(self.signed(name, image.as_ref()?)) };
                let former = known.tags.get(name).cloned().unwrap_or_default();
                Some(Packed { name: name.clone(), carried, former })
            })
            .collect();
        let path = self.job.path(&file);
        let made = pack(asked.request(&self.job), &path).await;
        let Some(images) = images else {
            let error = made.expect_err("an image that is not there");
            assert_eq!(ExitCode::of(&error), ExitCode::Registry, "{}", text(&error));
            assert!(!path.exists());
            self.counts.failed_makes += 1;
            return;
        };
        // What has to be fetched, and from where it could be.
        let mut fetched: BTreeMap<Digest, BTreeSet<&str>> = BTreeMap::new();
        for image in &images {
            for digest in image.carried.iter().flat_map(Signed::blobs) {
                if !known.blobs.contains_key(&digest) {
                    fetched.entry(digest).or_default().insert(&image.name.0);
                }
            }
        }
        let has = |(digest, places): (&Digest, &BTreeSet<&str>), all: bool| {
            let mut places = places.iter().map(|place| self.source.has(place, digest));
            if all { places.all(|has| has) } else { places.any(|has| has) }
        };
        let packed = match made {
            Ok(packed) => packed,
            Err(error) => {
                assert!(!fetched.iter().all(|blob| has(blob, true)), "{}", text(&error));
                assert_eq!(ExitCode::of(&error), ExitCode::Registry, "{}", text(&error));
                assert!(!path.exists());
                self.tell("  it fails: the source lost a blob");
                self.counts.failed_makes += 1;
                return;
            }
        };
        assert!(fetched.iter().all(|blob| has(blob, false)), "a blob came from nowhere");
        let payload = read(&file, images.clone(), &packed.open(), &known);
        let carried: BTreeSet<_> = payload
            .blobs
            .iter()
            .filter(|(_, travels)| !matches!(travels, Travels::Expected(_)))
            .map(|(digest, _)| digest)
            .collect();
        assert_eq!(carried, fetched.keys().collect(), "what travels");
        if self.random.chance(25) {
            let report = verify(&packed.open(), &Silent);
            assert!(report.problems.is_empty(), "{:?}", report.problems);
        }
        if self.random.chance(10) {
            let again = self.job.pack_as("again.zip", asked.request(&self.job)).await;
            assert!(again.bytes() == packed.bytes(), "the same request gave another payload");
        }
        let is_delta = |travels: &&Travels| matches!(travels, Travels::Delta(_));
        self.counts.payloads += 1;
        self.counts.deltas += payload.blobs.values().filter(is_delta).count();
        self.counts.with_baselines += usize::from(known != Known::default());
        self.payloads.push(payload);
    }

    async fn push(&mut self) {
        // The last one more often than others; some are never pushed, some again, some out of order.
        let count = self.payloads.len();
        if count == 0 {
            return;
        }
        let at = if self.random.chance(50) { count - 1 } else { self.random.below(count) };
        let payload = self.payloads[at].clone();
        let how = Push {
            prefix: self.random.chance(10).then_some(PREFIX),
            policy: if self.random.chance(15) { TagPolicy::Force } else { TagPolicy::Protect },
            on_missing: if self.random.chance(20) {
                OnMissing::Fail
            } else {
                OnMissing::PushOthers
            },
            receipt: self.random.chance(40).then(|| format!("receipt-{}.json", self.lists.len())),
            jobs: NonZeroUsize::new(1 + self.random.below(6)).expect("not zero"),
        };
        let goes_well = self.push_as(&payload, &how).await;
        if goes_well && self.random.chance(20) {
            self.job.far.clear_journal();
            let again = Push { receipt: None, ..how };
            self.push_as(&payload, &again).await;
            assert_eq!(contents_sent(&self.job.far), (0, 0), "it was sent twice");
        }
    }

    /// Whether everything is at the far side after it.
    async fn push_as(&mut self, payload: &Payload, how: &Push) -> bool {
        self.tell(&format!("push {}: {how:?}", payload.file));
        self.counts.pushes += 1;
        let place = |name: &str| match how.prefix {
            Some(prefix) => format!("{prefix}/{name}"),
            None => name.to_owned(),
        };
        let mut after = self.far.clone();
        let expected = payload.push(&mut after, &place, how.policy);
        let pushed = push(&self.job.path(&payload.file), how.request(&self.job)).await;
        let lacks = !expected.incomplete.is_empty() || !expected.skipped_and_missing.is_empty();
        if how.on_missing == OnMissing::Fail && lacks {
            let error = pushed.expect_err("something is missing");
            assert_eq!(ExitCode::of(&error), ExitCode::BaselineMissing, "{}", text(&error));
            self.counts.refused += 1;
            self.compare();
            return false;
        }
        let report = pushed.unwrap_or_else(|error| panic!("{}", text(&error))).report;
        self.far = after;
        self.pushed.insert(payload.file.clone());
        let found = Outcome {
            pushed: report.pushed.iter().map(|image| image.name.clone()).collect(),
            incomplete: report.incomplete.iter().map(|image| image.name.clone()).collect(),
            skipped_and_missing: report.skipped_and_missing.clone(),
            kept: report.kept_tags.iter().map(|tag| tag.name.clone()).collect(),
        };
        assert_eq!(found, expected, "what the push reports");
        self.compare();
        if let Some(file) = &how.receipt {
            self.keep_receipt(file, payload, &place, &expected);
        }
        self.counts.complete += usize::from(!lacks && expected.kept.is_empty());
        self.counts.left_out += usize::from(!expected.incomplete.is_empty());
        self.counts.kept_tags += expected.kept.len();
        self.counts.rebuilt += count_of(report.sent.rebuilt_blobs);
        self.counts.copied_or_mounted +=
            count_of(report.sent.copied_blobs + report.sent.mounted_blobs);
        !lacks && expected.kept.is_empty()
    }

    /// Whether the far side is what the model says, down to every blob that a tag leads to.
    fn compare(&self) {
        let layout = self.job.far.server().layout().expect("a folder");
        let mut tags = BTreeMap::new();
        for repository in layout.repositories() {
            for tag in self.job.far.tags(repository.as_str()) {
                let digest = self.job.far.tagged(repository.as_str(), &tag).expect("a tag");
                tags.insert((repository.to_string(), tag), digest);
            }
        }
        let believed = self.far.tags.iter();
        let believed: BTreeMap<_, _> =
            believed.map(|(name, image)| (name.clone(), image.digest().clone())).collect();
        assert_eq!(tags, believed, "the tags of the far side");
        for (repository, blobs) in &self.far.blobs {
            for digest in blobs {
                assert!(self.job.far.has_blob(repository, digest), "no {digest} in {repository}");
            }
        }
        let found: BTreeSet<String> = dangling(&self.job.far).into_iter().collect();
        assert_eq!(found, self.far.dangling(), "what tags lead to and is not there");
        self.job.far.assert_no_violations();
    }

    /// A receipt lists only what is there, and all of what was brought.
    fn keep_receipt(
        &mut self,
        file: &str,
        payload: &Payload,
        place: &dyn Fn(&str) -> String,
        outcome: &Outcome,
    ) {
        let json = std::fs::read(self.job.path(file)).expect("a receipt");
        let known = known_of(&Receipt::parse(&json).expect("a receipt"));
        for (digest, repositories) in &known.blobs {
            for repository in repositories {
                assert!(self.far.has(&place(repository), digest), "{digest} in {repository}");
            }
        }
        for ((repository, tag), digests) in &known.tags {
            let now = self.far.tags.get(&(place(repository), tag.clone())).map(Image::digest);
            assert_eq!(digests.iter().collect::<Vec<_>>(), now.into_iter().collect::<Vec<_>>());
        }
        for image in &payload.images {
            let Some(carried) = &image.carried else { continue };
            if !outcome.incomplete.contains(&joined(&image.name)) {
                for digest in carried.blobs() {
                    assert!(known.blobs[&digest].contains(&image.name.0), "{digest}");
                }
                assert!(known.tags.contains_key(&image.name), "{}", joined(&image.name));
            }
        }
        self.lists.insert(file.to_owned(), known);
    }
}

fn count_of(blobs: u64) -> usize {
    usize::try_from(blobs).expect("few")
}
