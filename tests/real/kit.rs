//! Programs to run, and what must be equal at both ends.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kharon::digest::Digest;
use kharon::manifest::{Manifest, MediaType};
use serde_json::Value;

use crate::images::{Blob, Image, layer, random_bytes};
use crate::real;

/// Everything that a registry may hold; some hide what a client does not say it takes.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    command: String,
}

impl Ended {
    pub fn new(command: &Command, output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: format!("{command:?}"),
        }
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}{}", self.command, self.text(), self.stderr);
        self
    }

    /// It must have ended well.
    #[track_caller]
    pub fn well(self) -> Self {
        self.with_code(0)
    }

    /// Its stderr must say all of this.
    #[track_caller]
    pub fn saying(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in\n{}", self.stderr);
        }
        self
    }

    /// What it wrote to stdout, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The lines of its stdout.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}\n{}", self.text(), self.stderr))
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Ended::new(command, output)
}

/// A command that knows nothing of this machine's logins, proxies and settings.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", "/nowhere").stdin(Stdio::null());
    if let Some(folder) = std::env::var_os("TMPDIR") {
        command.env("TMPDIR", folder);
    }
    command
}

/// The built `kharon`, not run yet.
pub fn kharon_command(arguments: &[&str]) -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_kharon"));
    command.args(arguments);
    command
}

/// The built `kharon`, run to its end.
pub fn kharon(arguments: &[&str]) -> Ended {
    run(&mut kharon_command(arguments))
}

/// Makes a payload of `images` of `registry`.
#[track_caller]
pub fn make(registry: &str, file: &Path, arguments: &[&str]) -> Value {
    let file = file.to_str().expect("a path in UTF-8");
    let fixed = ["make-payload", "--json", "-r", registry, "-f", file];
    kharon(&[&fixed[..], arguments].concat()).well().json()
}

/// Pushes a payload, expecting it to end well, and gives the report.
#[track_caller]
pub fn push(registry: &str, file: &Path, arguments: &[&str]) -> Value {
    let report = try_push(registry, file, &[&["--json"], arguments].concat());
    report.well().json()
}

/// Pushes a payload.
pub fn try_push(registry: &str, file: &Path, arguments: &[&str]) -> Ended {
    let file = file.to_str().expect("a path in UTF-8");
    kharon(&[&["push-payload", "-r", registry, "-f", file], arguments].concat())
}

/// skopeo, run to its end.
pub fn skopeo(arguments: &[&str]) -> Ended {
    let mut command = clean(real::tool("skopeo"));
    run(command.arg("--insecure-policy").args(arguments))
}

/// The digest that skopeo finds for a reference of any transport.
#[track_caller]
pub fn digest_by_skopeo(reference: &str) -> Digest {
    let ended = skopeo(&["inspect", "--raw", "--tls-verify=false", reference]).well();
    Digest::of(&ended.stdout)
}

/// Copies an image with everything under it by skopeo, from any transport to a registry.
#[track_caller]
pub fn copy_by_skopeo(from: &str, registry: &str, name: &str, arguments: &[&str]) {
    let to = format!("docker://{registry}/{name}");
    let fixed = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&fixed[..], arguments, &[from, &to]].concat()).well();
}

/// crane, run to its end.
pub fn crane(arguments: &[&str]) -> Ended {
    run(clean(real::tool("crane")).args(arguments))
}

/// Puts an image into a registry without kharon.
pub fn put(image: &Image, registry: &str, repository: &str, tag: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let base = format!("http://{registry}");
    runtime.expect("a runtime").block_on(image.push_to(&base, repository, tag));
}

/// A manifest as a registry has it; `None` where it has none.
pub fn find_manifest(registry: &str, repository: &str, which: &str) -> Option<Manifest> {
    let path = format!("/v2/{repository}/manifests/{which}");
    let answer = real::send(registry, "GET", &path, &[("Accept", ACCEPTED)], b"");
    let answer = answer.unwrap_or_else(|error| panic!("{registry}{path}: {error}"));
    if answer.status == 404 {
        return None;
    }
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    let media_type = answer.header("content-type").map(MediaType::new);
    Some(Manifest::parse(answer.body.into(), media_type.as_ref()).expect("a manifest"))
}

/// The same; it must be there.
#[track_caller]
pub fn manifest(registry: &str, repository: &str, which: &str) -> Manifest {
    find_manifest(registry, repository, which)
        .unwrap_or_else(|| panic!("`{registry}` has no `{repository}:{which}`"))
}

/// A blob must be there, with its own digest.
#[track_caller]
pub fn assert_blob(registry: &str, repository: &str, digest: &Digest) {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let answer = real::send(registry, "GET", &path, &[], b"").expect("an answer");
    assert_eq!((answer.status, Digest::of(&answer.body)), (200, digest.clone()), "{path}");
}

/// An image by a tag or digest must be there whole: each manifest under it, each blob, and each
/// with its own digest. Gives the digest.
#[track_caller]
pub fn assert_whole(registry: &str, repository: &str, which: &str) -> Digest {
    let found = manifest(registry, repository, which);
    let digest = Digest::of(&found.raw);
    for blob in found.blobs() {
        assert_blob(registry, repository, &blob.digest);
    }
    for child in found.children() {
        let below = assert_whole(registry, repository, &child.digest.to_string());
        assert_eq!(below, child.digest);
    }
    digest
}

/// An image `repository:tag` must be whole at both ends, and the same.
#[track_caller]
pub fn assert_same(near: &str, far: &str, name: &str) {
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    let there = assert_whole(far, repository, tag);
    assert_eq!(there, assert_whole(near, repository, tag), "{name}");
    for host in [near, far] {
        assert_eq!(there, digest_by_skopeo(&format!("docker://{host}/{name}")), "{name}");
    }
}

/// Where a file of a temporary folder is.
pub fn path_in(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// A path as an argument.
pub fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The volumes in a folder, in order.
pub fn volumes_in(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).expect("a folder");
    let files = files.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "zip")).collect();
    files.sort();
    files
}

/// A layer of text; another `from` makes a part of it new.
pub fn text_layer(seed: u64, from: usize) -> Blob {
    let text = |seed, length| -> Vec<u8> {
        random_bytes(seed, length).iter().map(|byte| b'a' + byte % 9).collect()
    };
    let mut content = text(seed, 2_000_000);
    if from > 0 {
        content.splice(from..from + 100, text(seed + 1, 9_000));
    }
    layer(&[("usr/text", &content)])
}
