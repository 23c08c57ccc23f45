//! Uploads that were interrupted inside of a blob: what the journal of uploads keeps, and what of it the
//! next push believes.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::manifest::{Descriptor, MediaType};
use kharon::progress::{Event, Recorder};
use kharon::push::{PushRequest, Resume};
use kharon::registry::{
    BlobSource, CredentialStore, Error, Registries, UploadJournal, UploadOptions,
};
use kharon::stop::{Found, Stop};
use serde_json::Value;

use crate::kit::{self, Job, assert_told, connections};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_bytes, random_layer};
use crate::support::registry::{Locations, Options, TestRegistry};

const MIB: u64 = 1024 * 1024;
const SIZE_BYTES: u64 = 7 * MIB + 12_345;
const CHUNK_BYTES: u64 = 2 * MIB;

/// Bytes in memory, in pieces.
struct Memory(Bytes);

impl BlobSource for Memory {
    fn open(&self, from_byte: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let mut rest = self.0.slice(usize::try_from(from_byte).expect("small")..);
        let next = move || {
            let piece = rest.split_to(rest.len().min(100_000));
            (!piece.is_empty()).then_some(Ok(piece))
        };
        stream::iter(std::iter::from_fn(next)).boxed()
    }
}

/// A blob, the registry that it goes to, and a folder for the journal.
struct Upload {
    far: TestRegistry,
    state: tempfile::TempDir,
    bytes: Bytes,
    stop: Stop,
}

/// What came of a run.
struct Run {
    result: Result<(), Error>,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// How many bytes of the blob were sent in it.
    sent_bytes: u64,
}

impl Run {
    #[track_caller]
    fn well(self) -> Self {
        if let Err(error) = &self.result {
            panic!("{error}");
        }
        self
    }
}

impl Upload {
    fn to(options: Options) -> Self {
        Self {
            far: TestRegistry::start_with(options),
            state: tempfile::tempdir().expect("a folder"),
            bytes: random_bytes(1, usize::try_from(SIZE_BYTES).expect("small")).into(),
            stop: Stop::default(),
        }
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// One run, as a process of its own would do it.
    async fn run_as(&self, resume: Resume) -> Run {
        self.far.clear_journal();
        let recorder = Arc::new(Recorder::default());
        let registries = Registries::new(
            connections(&[&self.far]),
            CredentialStore::anonymous(),
            recorder.clone(),
        );
        let registry = registries.registry(&kit::host(&self.far)).expect("a client");
        let options = UploadOptions {
            chunk_size_bytes: CHUNK_BYTES,
            whole_up_to_bytes: MIB,
            journal: Some(UploadJournal::new(self.state.path(), resume)),
            stop: self.stop.clone(),
        };
        let media_type = MediaType::new("application/octet-stream");
        let blob = Descriptor::new(media_type, self.digest(), SIZE_BYTES);
        let source = Arc::new(Memory(self.bytes.clone()));
        let repository = "app".parse().expect("a repository");
        let result =
            registry.upload_blob(&repository, &blob, None, source, &options, &|_| {}).await;
        Run {
            result,
            warnings: recorder.warnings(),
            notes: notes(&recorder),
            sent_bytes: self.far.blob_bytes_sent_to("app"),
        }
    }

    async fn run(&self) -> Run {
        self.run_as(Resume::Continue).await
    }

    /// A run that is killed when it has sent two chunks and a part of the third.
    async fn run_and_be_killed(&self) {
        let stall = Effect::StallRequestAfter(700_000);
        self.far.fail(Fault::on("PATCH", "", stall).skip(2));
        tokio::select! {
            run = self.run() => panic!("it came to an end: {:?}", run.result),
            () = self.has_sent(2 * CHUNK_BYTES + 700_000) => {}
        }
        self.far.heal();
    }

    async fn has_sent(&self, bytes: u64) {
        while self.far.blob_bytes_sent_to("app") < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The files of the journal.
    fn entries(&self) -> Vec<PathBuf> {
        let Ok(folder) = fs::read_dir(self.state.path().join("uploads")) else { return Vec::new() };
        folder.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// What its only file says.
    fn record(&self) -> Value {
        let [path] = self.entries().try_into().expect("one file");
        serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
    }

    fn assert_arrived(&self) {
        assert!(self.far.has_blob("app", &self.digest()));
        assert_eq!(self.entries(), Vec::<PathBuf>::new());
        self.far.assert_no_violations();
    }
}

fn notes(recorder: &Recorder) -> Vec<String> {
    let note = |event| match event {
        Event::Note { message } => Some(message),
        _ => None,
    };
    recorder.events().into_iter().filter_map(note).collect()
}

#[tokio::test]
async fn a_killed_upload_goes_on_inside_of_its_blob() {
    for locations in [Locations::Relative, Locations::WithState] {
        let upload = Upload::to(Options { locations, ..Options::default() });
        upload.run_and_be_killed().await;
        let record = upload.record();
        assert_eq!(record["registry"], upload.far.host());
        assert_eq!(record["repository"], "app");
        assert_eq!(record["digest"], upload.digest().to_string());
        assert_eq!(record["sizeBytes"], SIZE_BYTES);
        assert!(record["location"].as_str().expect("text").contains("/v2/app/blobs/uploads/"));
        let run = upload.run().await.well();
        assert!(run.sent_bytes <= SIZE_BYTES - 2 * CHUNK_BYTES, "{}", run.sent_bytes);
        assert_told(&run.notes, &["going on with blob", upload.digest().hex(), "MB of 7.4 MB"]);
        assert_eq!((run.warnings, upload.far.count("POST", "")), (Vec::new(), 0));
        upload.assert_arrived();
    }
}

#[tokio::test]
async fn an_upload_that_lacks_nothing_but_its_end_is_ended() {
    let upload = Upload::to(Options::default());
    upload.far.fail(Fault::on("PUT", "", Effect::Hang));
    tokio::select! {
        run = upload.run() => panic!("it came to an end: {:?}", run.result),
        () = async { while upload.far.count("PUT", "") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        } } => {}
    }
    assert_eq!(upload.run().await.well().sent_bytes, 0);
    upload.assert_arrived();
}

#[tokio::test]
async fn a_registry_that_is_away_for_long_gets_the_rest() {
    let upload = Upload::to(Options::default());
    // More often than one request is tried.
    upload.far.fail(Fault::on("PATCH", "", Effect::CloseBeforeHeaders).skip(2).times(4));
    let run = upload.run().await.well();
    assert_eq!((run.sent_bytes, upload.far.count("POST", "")), (SIZE_BYTES, 1));
    upload.assert_arrived();
    // And when it stays away: another run.
    let upload = Upload::to(Options::default());
    upload.far.fail(Fault::on("PATCH", "", Effect::Status(503, Vec::new())).skip(2).always());
    upload.run().await.result.expect_err("given up");
    upload.far.heal();
    assert_eq!(upload.run().await.well().sent_bytes, SIZE_BYTES - 2 * CHUNK_BYTES);
    upload.assert_arrived();
}

#[tokio::test]
async fn a_session_that_is_gone_or_lies_costs_a_warning_and_a_new_beginning() {
    let range = |last: u64| Effect::Header("range", Some(format!("0-{last}")));
    for effect in [
        Effect::Status(404, Vec::new()),
        Effect::Status(400, Vec::new()),
        Effect::Status(405, Vec::new()),
        Effect::Status(403, Vec::new()),
        Effect::Header("range", None),
        Effect::Header("range", Some("all".to_owned())),
        range(SIZE_BYTES),
        range(u64::MAX),
        range(SIZE_BYTES - 1),
        range(3 * CHUNK_BYTES - 1),
    ] {
        let shown = format!("{effect:?}");
        let upload = Upload::to(Options::default());
        upload.run_and_be_killed().await;
        upload.far.fail(Fault::on("GET", "/blobs/uploads/", effect));
        let run = upload.run().await.well();
        assert_eq!(run.warnings.len(), 1, "{shown}: {:?}", run.warnings);
        assert_told(&run.warnings, &[upload.digest().hex(), "it begins anew"]);
        assert_eq!(upload.far.count("POST", ""), 1, "{shown}");
        assert!(upload.far.count("PATCH", "") >= 4, "{shown}");
        upload.assert_arrived();
    }
}

#[tokio::test]
async fn a_session_with_other_bytes_is_found_out_when_it_should_end() {
    let upload = Upload::to(Options::default());
    upload.run_and_be_killed().await;
    let url = upload.far.url("/v2/app/blobs/uploads/");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("one");
    let opened = client.post(url).send().await.expect("an answer");
    let location = upload.far.url(opened.headers()["location"].to_str().expect("text"));
    client.patch(&location).body(vec![0; 3_000_000]).send().await.expect("an answer");
    let mut record = upload.record();
    record["location"] = location.into();
    fs::write(&upload.entries()[0], record.to_string()).expect("written");
    let run = upload.run().await.well();
    assert_told(&run.warnings, &["DIGEST_INVALID", "it begins anew"]);
    assert_eq!(run.warnings.len(), 1, "{:?}", run.warnings);
    upload.assert_arrived();
}

#[tokio::test]
async fn a_registry_that_forgets_torn_sessions_makes_a_warning() {
    let upload = Upload::to(Options { torn_uploads_die: true, ..Options::default() });
    upload.far.fail(Fault::on("PATCH", "", Effect::CutRequestAfter(700_000)).skip(2));
    let run = upload.run().await.well();
    assert_eq!(run.warnings.len(), 1, "{:?}", run.warnings);
    assert_told(&run.warnings, &[upload.digest().hex(), "it begins anew"]);
    upload.assert_arrived();
}

#[tokio::test]
async fn a_session_that_another_process_uses_is_left_to_it() {
    let upload = Upload::to(Options::default());
    upload.run_and_be_killed().await;
    let [path] = upload.entries().try_into().expect("one file");
    let other = fs::File::open(&path).expect("readable");
    other.try_lock().expect("free");
    let before = fs::read(&path).expect("readable");
    let run = upload.run().await.well();
    assert_eq!((run.sent_bytes, upload.far.count("POST", "")), (SIZE_BYTES, 1));
    assert_eq!(fs::read(&path).expect("readable"), before);
    other.unlock().expect("unlocked");
    // Now its session goes on, though the blob is there.
    assert!(upload.run().await.well().sent_bytes < SIZE_BYTES);
    upload.assert_arrived();
}

#[tokio::test]
async fn a_fresh_run_forgets_what_former_ones_have_sent() {
    let upload = Upload::to(Options::default());
    upload.run_and_be_killed().await;
    let run = upload.run_as(Resume::Fresh).await.well();
    assert_eq!((run.sent_bytes, upload.far.count("POST", "")), (SIZE_BYTES, 1));
    upload.assert_arrived();
}

#[tokio::test]
async fn a_run_that_is_asked_to_stop_sends_its_chunk_to_the_end() {
    let mut upload = Upload::to(Options { torn_uploads_die: true, ..Options::default() });
    upload.far.fail(Fault::on("PATCH", "", Effect::Wait(Duration::from_millis(300))).skip(2));
    tokio::select! {
        run = upload.run() => panic!("it came to an end: {:?}", run.result),
        () = async {
            while upload.far.count("PATCH", "") < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(upload.stop.ask(), Found::Busy);
            upload.stop.settled().await;
        } => {}
    }
    assert_eq!(upload.far.blob_bytes_sent_to("app"), 3 * CHUNK_BYTES);
    upload.stop = Stop::default();
    let run = upload.run().await.well();
    assert_eq!((run.sent_bytes, run.warnings.len()), (SIZE_BYTES - 3 * CHUNK_BYTES, 0));
    upload.assert_arrived();
}

#[tokio::test]
async fn without_a_folder_for_the_journal_everything_else_works() {
    let upload = Upload::to(Options::default());
    fs::write(upload.state.path().join("uploads"), "a file").expect("written");
    assert_eq!(upload.run().await.well().sent_bytes, SIZE_BYTES);
    assert!(upload.far.has_blob("app", &upload.digest()));
}

/// A payload with one layer that is too large for one request.
async fn packed_large(job: &Job) -> PathBuf {
    job.source.put("app", "1", &Image::oci(&[random_layer(1, 70_000_000)]));
    job.pack("x.zip", &["app:1"]).await.path
}

fn in_chunks(job: &Job) -> PushRequest {
    let state = Some(job.path("state"));
    PushRequest { state, chunk_bytes: 8 * MIB, ..job.push_request() }
}

#[tokio::test]
async fn a_push_that_was_killed_sends_only_the_rest_of_a_layer() {
    let job = Job::new();
    let path = packed_large(&job).await;
    job.far.fail(Fault::on("PATCH", "", Effect::Hang).skip(5));
    tokio::select! {
        _ = job.push_as(&path, in_chunks(&job)) => panic!("it came to an end"),
        () = async { while job.far.count("PATCH", "") < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        } } => {}
    }
    job.far.heal();
    let entries = || fs::read_dir(job.path("state/uploads")).expect("a folder").count();
    assert_eq!(entries(), 1);
    job.far.clear_journal();
    job.push_as(&path, in_chunks(&job)).await;
    assert!(job.far.blob_bytes_sent_to("app") < 70_100_000 - 5 * 8 * MIB);
    job.assert_arrived("app", &["1"]);
    assert_eq!(entries(), 0);
}

#[tokio::test]
async fn a_push_that_is_asked_to_stop_ends_with_an_error_and_moves_no_tag() {
    let job = Job::new();
    let path = packed_large(&job).await;
    job.far.fail(Fault::on("PATCH", "", Effect::Wait(Duration::from_millis(300))).skip(1));
    let request = in_chunks(&job);
    let stop = request.stop.clone();
    let (failed, ()) = tokio::join!(job.fail_to_push(&path, request), async {
        while job.far.count("PATCH", "") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.ask();
    });
    failed.assert(ExitCode::Interrupted, &["interrupted: what arrived stays"]);
    let chunks = job.far.exchanges("PATCH", "");
    let sizes: Vec<u64> = chunks.iter().map(|chunk| chunk.request_body_bytes).collect();
    assert_eq!(sizes, [8 * MIB; 2]);
    assert!(chunks.iter().all(|chunk| chunk.status == 202));
    assert_eq!(job.far.tags("app"), Vec::<String>::new());
    job.far.clear_journal();
    job.push_as(&path, in_chunks(&job)).await;
    assert!(job.far.blob_bytes_sent_to("app") < 70_100_000 - 16 * MIB);
    job.assert_arrived("app", &["1"]);
}
