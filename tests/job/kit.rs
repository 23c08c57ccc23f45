//! What all tests of the main job need: two registries, a folder, and the two verbs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kharon::digest::Digest;
use kharon::failure::{ExitCode, hints};
use kharon::make::{self, Destination, ImageName, MakeRequest, Summary};
use kharon::manifest::Manifest;
use kharon::payload::Payload;
use kharon::payload::index::{Blob, Travels};
use kharon::progress::{Event, Recorder};
use kharon::push::{self, PushReport, PushRequest};
use kharon::reference::RegistryHost;
use kharon::registry::{Connections, RetryPolicy};

use crate::support::registry::{Options, TestRegistry};

/// A run that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// A source, a far side, and a folder for payloads.
pub struct Job {
    pub source: TestRegistry,
    pub far: TestRegistry,
    pub folder: tempfile::TempDir,
}

/// A payload that was written.
#[derive(Debug)]
pub struct Packed {
    pub path: PathBuf,
    pub summary: Summary,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
}

/// A push that ended with a report.
#[derive(Debug)]
pub struct Pushed {
    pub report: PushReport,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
}

impl Job {
    pub fn new() -> Self {
        Self::with(Options::default(), Options::default())
    }

    pub fn with(source: Options, far: Options) -> Self {
        Self {
            source: TestRegistry::start_with(source),
            far: TestRegistry::start_with(far),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A request for images of the source by their names there.
    pub fn request(&self, images: &[&str]) -> MakeRequest {
        request(&self.source, images)
    }

    /// A request to push to the far side.
    pub fn push_request(&self) -> PushRequest {
        push_request(&self.far)
    }

    /// A payload of `images` with everything as usual.
    pub async fn pack(&self, name: &str, images: &[&str]) -> Packed {
        self.pack_as(name, self.request(images)).await
    }

    pub async fn pack_as(&self, name: &str, request: MakeRequest) -> Packed {
        pack(request, &self.path(name)).await.unwrap_or_else(|error| panic!("{}", text(&error)))
    }

    /// A payload that cannot be made.
    pub async fn fail_to_pack(&self, name: &str, request: MakeRequest) -> Failed {
        Failed::of(pack(request, &self.path(name)).await)
    }

    pub async fn push(&self, payload: &Path) -> Pushed {
        self.push_as(payload, self.push_request()).await
    }

    pub async fn push_as(&self, payload: &Path, request: PushRequest) -> Pushed {
        push(payload, request).await.unwrap_or_else(|error| panic!("{}", text(&error)))
    }

    /// A push that ends with an error.
    pub async fn fail_to_push(&self, payload: &Path, request: PushRequest) -> Failed {
        Failed::of(push(payload, request).await)
    }

    /// Checks that tags of a repository name the same at both sides, and lack nothing at the far one.
    pub fn assert_arrived(&self, repository: &str, tags: &[&str]) {
        for tag in tags {
            let sent = self.source.tagged(repository, tag);
            assert!(sent.is_some(), "no `{repository}:{tag}` at the source");
            assert_eq!(self.far.tagged(repository, tag), sent, "`{repository}:{tag}`");
        }
        assert_eq!(dangling(&self.far), Vec::<String>::new());
    }
}

/// An error as a person sees it.
#[derive(Debug)]
pub struct Failed {
    pub code: ExitCode,
    pub text: String,
}

impl Failed {
    pub fn of<T: std::fmt::Debug>(result: anyhow::Result<T>) -> Self {
        let error = result.expect_err("an error");
        Self { code: ExitCode::of(&error), text: text(&error) }
    }

    /// Checks code and text.
    pub fn assert(&self, code: ExitCode, parts: &[&str]) {
        for part in parts {
            assert!(self.text.contains(part), "no `{part}` in:\n{}", self.text);
        }
        assert_eq!(self.code, code, "{}", self.text);
    }
}

/// The error, its causes and the advice.
pub fn text(error: &anyhow::Error) -> String {
    let advice: Vec<_> = hints(error).into_iter().map(|hint| format!("\nhint: {hint}")).collect();
    format!("{error:#}{}", advice.concat())
}

pub fn host(registry: &TestRegistry) -> RegistryHost {
    registry.host().parse().expect("a host")
}

/// Impatient, so that failing takes no time, and without a look for TLS.
pub fn connections(registries: &[&TestRegistry]) -> Connections {
    Connections {
        plain_http: registries.iter().map(|registry| host(registry)).collect(),
        certs_directories: Vec::new(),
        header_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(20),
        retry: RetryPolicy {
            attempts: 3,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(5),
        },
        ..Connections::default()
    }
}

pub fn names(registry: &TestRegistry, images: &[&str]) -> Vec<ImageName> {
    make::parse_images(images, &host(registry)).expect("images")
}

pub fn request(source: &TestRegistry, images: &[&str]) -> MakeRequest {
    let connections = connections(&[source]);
    MakeRequest { connections, ..MakeRequest::new(names(source, images)) }
}

pub fn push_request(far: &TestRegistry) -> PushRequest {
    PushRequest { connections: connections(&[far]), ..PushRequest::new(host(far)) }
}

pub async fn pack(request: MakeRequest, path: &Path) -> anyhow::Result<Packed> {
    let recorder = Arc::new(Recorder::default());
    let destination = Destination::File(path.to_owned());
    let making = make::make_payload(request, destination, recorder.clone());
    let summary = tokio::time::timeout(LONGEST, making).await.expect("an end")?;
    let (warnings, notes) = (recorder.warnings(), notes(&recorder));
    Ok(Packed { path: path.to_owned(), summary, warnings, notes })
}

pub async fn push(payload: &Path, request: PushRequest) -> anyhow::Result<Pushed> {
    let payload = Arc::new(Payload::open(payload)?);
    let recorder = Arc::new(Recorder::default());
    let pushing = push::push_payload(payload, request, recorder.clone());
    let report = tokio::time::timeout(LONGEST, pushing).await.expect("an end")?;
    Ok(Pushed { report, warnings: recorder.warnings(), notes: notes(&recorder) })
}

fn notes(recorder: &Recorder) -> Vec<String> {
    let note = |event| match event {
        Event::Note { message } => Some(message),
        _ => None,
    };
    recorder.events().into_iter().filter_map(note).collect()
}

impl Pushed {
    /// The names of the images that are there now.
    pub fn names(&self) -> Vec<&str> {
        self.report.pushed.iter().map(|image| image.name.as_str()).collect()
    }
}

impl Packed {
    pub fn open(&self) -> Payload {
        Payload::open(&self.path).expect("a payload")
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("a payload")
    }

    /// The digests of the blobs in the payload.
    pub fn carried(&self) -> Vec<Digest> {
        self.blobs(|blob| blob.travels == Travels::Carried)
    }

    /// The digests of the blobs that it expects at the far side.
    pub fn expected(&self) -> Vec<Digest> {
        self.blobs(|blob| matches!(blob.travels, Travels::Expected { .. }))
    }

    fn blobs(&self, wanted: impl Fn(&Blob) -> bool) -> Vec<Digest> {
        let payload = self.open();
        let blobs = payload.index().blobs.iter().filter(|blob| wanted(blob));
        blobs.map(|blob| blob.digest.clone()).collect()
    }
}

/// Checks that one of the messages has all of these parts.
pub fn assert_told(messages: &[String], parts: &[&str]) {
    let told = messages.iter().any(|message| parts.iter().all(|part| message.contains(part)));
    assert!(told, "nobody said {parts:?} in {messages:#?}");
}

/// Everything that the tags of a registry lead to and that is not there.
pub fn dangling(registry: &TestRegistry) -> Vec<String> {
    dangling_but(registry, &[])
}

/// The same, but for manifests that are known not to travel.
pub fn dangling_but(registry: &TestRegistry, known: &[&Digest]) -> Vec<String> {
    let mut missing = Vec::new();
    for repository in registry.server().layout().expect("a folder").repositories() {
        for tag in registry.tags(repository.as_str()) {
            let mut found = Vec::new();
            walk(registry, repository.as_str(), &tag, known, &mut found);
            missing.extend(found.into_iter().map(|what| format!("{repository}:{tag}: {what}")));
        }
    }
    missing
}

fn walk(
    registry: &TestRegistry,
    repository: &str,
    what: &str,
    known: &[&Digest],
    missing: &mut Vec<String>,
) {
    let Some(raw) = registry.manifest(repository, what) else {
        missing.push(format!("manifest `{what}`"));
        return;
    };
    let manifest = Manifest::parse(raw, None).expect("a manifest");
    for blob in manifest.blobs().filter(|blob| !blob.is_foreign()) {
        if !registry.has_blob(repository, &blob.digest) {
            missing.push(format!("blob `{}`", blob.digest));
        }
    }
    for child in manifest.children().iter().filter(|child| !known.contains(&&child.digest)) {
        walk(registry, repository, &child.digest.to_string(), known, missing);
    }
}

/// How many requests matter when one asks whether a push sent content: bodies of blobs and manifests.
pub fn contents_sent(registry: &TestRegistry) -> (usize, usize) {
    let bodies = registry.journal();
    let blobs = bodies.iter().filter(|x| x.path.contains("/blobs/") && x.request_body_bytes > 0);
    let manifests = bodies.iter().filter(|x| x.method == "PUT" && x.path.contains("/manifests/"));
    (blobs.count(), manifests.count())
}
