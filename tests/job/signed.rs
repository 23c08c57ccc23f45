//! Payloads that are signed, and what is refused because it is not, or not by the right key.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use kharon::inspect::inspect;
use kharon::make::{Destination, Format, MakeRequest, plan_payload};
use kharon::minisign::{Prehash, PublicKey, SecretKey, Signature};
use kharon::payload::index::ENTRY_NAME;
use kharon::payload::{Payload, SIGNATURE_NAME, Writer};
use kharon::push::PushRequest;

use crate::cli::Desk;
use crate::kit::{Failed, Job, Packed, pack, push};
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;

fn key() -> SecretKey {
    SecretKey::generate().expect("a key")
}

fn job() -> Job {
    let job = Job::new();
    job.source.put("app", "1", &Image::oci(&[random_layer(1, 30_000)]));
    job
}

fn signed(job: &Job, key: &SecretKey) -> MakeRequest {
    MakeRequest { sign: Some(key.clone()), ..job.request(&["app:1"]) }
}

fn checked(job: &Job, key: &PublicKey) -> PushRequest {
    PushRequest { verify_key: Some(key.clone()), ..job.push_request() }
}

async fn packed(job: &Job, key: &SecretKey) -> Packed {
    job.pack_as("signed.zip", signed(job, key)).await
}

/// What becomes of an entry, by its name.
type Change<'a> = &'a dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>>;

/// Packs a payload again, with each entry as `change` wants it, if at all.
fn rezip(from: &Path, to: &Path, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> PathBuf {
    let payload = Payload::open(from).expect("a payload");
    let mut writer = Writer::new(Vec::new());
    for entry in payload.entries() {
        let mut bytes = Vec::new();
        entry.content.clone().bytes_from(0).read_to_end(&mut bytes).expect("read");
        if let Some(bytes) = change(entry.name, bytes) {
            writer.add(entry.name, &bytes).expect("written");
        }
    }
    std::fs::write(to, writer.finish().expect("written")).expect("written");
    to.to_owned()
}

/// A push with this key ends so, and the far side was not even asked.
async fn assert_refused(job: &Job, payload: &Path, key: &PublicKey, parts: &[&str]) {
    job.far.clear_journal();
    let failed = job.fail_to_push(payload, checked(job, key)).await;
    failed.assert(ExitCode::PayloadDamaged, parts);
    assert!(job.far.journal().is_empty(), "{:?}", job.far.journal());
}

fn index_digest(payload: &Payload) -> Digest {
    payload.indexes().next().expect("an index").1.clone()
}

#[tokio::test]
async fn a_signed_payload_is_the_same_each_time_and_arrives() {
    let (job, key) = (job(), key());
    let payload = packed(&job, &key).await;
    let bytes = payload.bytes();
    assert_eq!(bytes.len() as u64, payload.summary.payload_bytes);
    assert!(job.pack_as("again.zip", signed(&job, &key)).await.bytes() == bytes);
    let opened = payload.open();
    let names: Vec<_> = opened.entries().map(|entry| entry.name.to_owned()).collect();
    assert_eq!(names[names.len() - 2..], [ENTRY_NAME, SIGNATURE_NAME]);
    assert!(opened.index().entries.iter().all(|entry| entry.name != SIGNATURE_NAME));
    assert_eq!(inspect(&opened).signature_key, Some(key.id()));
    assert!(inspect(&opened).to_string().contains(&format!("by the key {}", key.id())));
    job.push_as(&payload.path, checked(&job, &key.public_key())).await;
    job.assert_arrived("app", &["1"]);
    job.far.assert_no_violations();
}

#[tokio::test]
async fn a_payload_without_a_key_is_what_it_was() {
    let (job, key) = (job(), key());
    let plain = job.pack("plain.zip", &["app:1"]).await;
    let without = packed(&job, &key).await;
    let without = rezip(&without.path, &job.path("without.zip"), |name, bytes| {
        (name != SIGNATURE_NAME).then_some(bytes)
    });
    let index = |path: &Path| index_digest(&Payload::open(path).expect("a payload"));
    assert_eq!(index(&plain.path), index(&without));
    assert_eq!(inspect(&plain.open()).signature_key, None);
    // Whoever does not ask for a signature is not kept from pushing.
    job.push(&without).await;
}

#[tokio::test]
async fn what_is_not_signed_as_asked_is_refused_before_anything_is_sent() {
    let (job, key, other) = (job(), key(), key());
    let (public, other_public) = (key.public_key(), other.public_key());
    let good = packed(&job, &key).await.path;
    let change = |name: &str, change: Change<'_>| rezip(&good, &job.path(name), change);
    let id = |key: &PublicKey| format!("`{}`", key.id());

    let unsigned = job.pack("unsigned.zip", &["app:1"]).await.path;
    assert_refused(&job, &unsigned, &public, &[&id(&public), "found none", "--sign"]).await;

    let parts = [&*id(&public), &id(&other_public), "by the key"];
    assert_refused(&job, &good, &other_public, &parts).await;

    let image = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").replace("app:1", "app:2");
    let index = change("index.zip", &|name, bytes| {
        Some(if name == ENTRY_NAME { image(bytes).into_bytes() } else { bytes })
    });
    let parts = [&*id(&public), "found something else", "changed after it was signed"];
    assert_refused(&job, &index, &public, &parts).await;

    let comment = change("comment.zip", &|name, bytes| {
        let text = || String::from_utf8(bytes.clone()).expect("text");
        Some(match name {
            SIGNATURE_NAME => text().replace("index of", "Index of").into_bytes(),
            _ => bytes,
        })
    });
    assert_refused(&job, &comment, &public, &["comment", &id(&public)]).await;

    // The index is signed, and something that it lists is other than it says.
    for altered in ["blobs/", "index.json", "oci-layout"] {
        let content = change("content.zip", &|name, mut bytes| {
            let is_blob = name.starts_with("blobs/") && bytes.len() > 20_000;
            if name == altered || (altered == "blobs/" && is_blob) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Some(bytes)
        });
        let parts = ["nothing was sent", altered, "expected content with digest"];
        assert_refused(&job, &content, &public, &parts).await;
    }

    let charon = Image::docker(&[random_layer(2, 1000)]);
    job.source.put("old", "1", &charon);
    let request = MakeRequest { format: Format::Charon, ..job.request(&["old:1"]) };
    let charon = job.pack_as("charon.zip", request).await.path;
    let parts = ["found none", "docker-charon's format has no signatures"];
    assert_refused(&job, &charon, &public, &parts).await;
}

#[tokio::test]
async fn a_signature_that_is_none_makes_the_payload_a_damaged_one() {
    let (job, key) = (job(), key());
    let good = packed(&job, &key).await.path;
    let signature = |bytes: &'static [u8]| {
        rezip(&good, &job.path("bad.zip"), move |name, old| {
            Some(if name == SIGNATURE_NAME { bytes.to_vec() } else { old })
        })
    };
    let large: &'static [u8] = vec![b'x'; 16 * 1024 + 1].leak();
    for (bytes, part) in [
        (&b""[..], "expected a signature of minisign in four lines"),
        (b"untrusted comment: x\nRWQ\n", "expected a signature of minisign in four lines"),
        (large, "expected at most 16384 bytes in the entry `kharon.json.minisig`, found 16385"),
    ] {
        let failed = Failed::of(push(&signature(bytes), job.push_request()).await);
        failed.assert(ExitCode::PayloadDamaged, &[part, "kharon.json.minisig"]);
    }
}

#[tokio::test]
async fn a_signature_that_came_later_and_in_another_place_counts() {
    let (job, key) = (job(), key());
    let plain = job.pack("plain.zip", &["app:1"]).await;
    let payload = Payload::open(&plain.path).expect("a payload");
    let entries: Vec<(String, Vec<u8>)> = payload
        .entries()
        .map(|entry| {
            let mut bytes = Vec::new();
            entry.content.clone().bytes_from(0).read_to_end(&mut bytes).expect("read");
            (entry.name.to_owned(), bytes)
        })
        .collect();
    let json = &entries.last().expect("entries").1;
    assert_eq!(Digest::of(json), index_digest(&payload));
    let signature = key.sign(&Prehash::of(json), "mine", "time:1").expect("signed").to_text();
    assert!(Signature::parse(signature.as_bytes()).is_ok());
    let mut writer = Writer::new(Vec::new());
    writer.add(SIGNATURE_NAME, signature.as_bytes()).expect("written");
    for (name, bytes) in entries.iter().rev() {
        writer.add(name, bytes).expect("written");
    }
    let path = job.path("later.zip");
    std::fs::write(&path, writer.finish().expect("written")).expect("written");
    job.push_as(&path, checked(&job, &key.public_key())).await;
    job.assert_arrived("app", &["1"]);
}

#[tokio::test]
async fn docker_charons_format_is_not_signed() {
    let job = job();
    let request = MakeRequest { format: Format::Charon, ..signed(&job, &key()) };
    let failed = job.fail_to_pack("payload.zip", request).await;
    failed.assert(ExitCode::Usage, &["docker-charon's format has no signatures", "--sign"]);
}

#[tokio::test]
async fn the_length_is_known_beforehand_and_a_pipe_gets_the_same_bytes() {
    let (job, key) = (job(), key());
    let file = packed(&job, &key).await;
    let planned = plan_payload(signed(&job, &key), std::sync::Arc::new(kharon::progress::Silent));
    let planned = planned.await.expect("a plan");
    assert_eq!(planned.summary().payload_bytes, file.bytes().len() as u64);
    let path = job.path("stream.zip");
    let stream = Box::new(std::fs::File::create(&path).expect("a file"));
    planned.write(Destination::Stream(stream)).await.expect("written");
    assert!(std::fs::read(path).expect("read") == file.bytes());
    assert!(pack(signed(&job, &key), &job.path("third.zip")).await.is_ok());
}

/// A desk with `team.key`, `team.pub` and a source with `app:1`.
fn desk() -> (Desk, TestRegistry) {
    let (desk, source) = (Desk::new(), TestRegistry::start());
    source.put("app", "1", &Image::oci(&[random_layer(1, 3000)]));
    (desk, source)
}

#[test]
fn a_person_makes_a_key_signs_and_verifies() {
    let (desk, source) = desk();
    let host = source.host();
    let keygen = |arguments: &[&str]| desk.run(&[&["keygen", "-f", "team"], arguments].concat());
    let keys = keygen(&["--no-password"]);
    keys.assert(ExitCode::Done);
    let public = std::fs::read_to_string(desk.path("team.pub")).expect("a key");
    assert_eq!(public.lines().nth(1), Some(keys.stdout.trim()));
    assert!(keys.stderr.contains("team.key"), "{}", keys.stderr);
    let secret = std::fs::read_to_string(desk.path("team.key")).expect("a key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = std::fs::metadata(desk.path("team.key")).expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let again = keygen(&["--no-password"]);
    again.assert(ExitCode::Usage);
    assert!(again.stderr.contains("never replaced"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(desk.path("team.key")).expect("a key"), secret);

    let make = ["make-payload", "-r", &host, "-f", "p.zip", "app:1", "--sign", "team.key"];
    desk.run(&make).assert(ExitCode::Done);
    let verified = desk.run(&["verify", "p.zip", "--verify-key", "team.pub"]);
    verified.assert(ExitCode::Done);
    assert!(verified.stderr.contains("signed by the key"), "{}", verified.stderr);
    desk.run(&["verify", "p.zip", "--verify-key", keys.stdout.trim()]).assert(ExitCode::Done);
    let shown = desk.run(&["inspect", "p.zip"]);
    assert!(shown.stdout.contains("not checked"), "{}", shown.stdout);
    let refused = desk.run(&["push-payload", "-f", "p.zip", "-r", &host, "--verify-key", "p.zip"]);
    refused.assert(ExitCode::Failed);
    assert!(refused.stderr.contains("cannot use the key"), "{}", refused.stderr);
}

#[test]
fn a_password_comes_from_the_environment_and_shows_nowhere() {
    const PASSWORD: &str = "v3ry-s3cret";
    let (desk, source) = desk();
    let host = source.host();
    let with = |password: Option<&str>, arguments: &[&str]| {
        let mut command = desk.kharon(arguments);
        if let Some(password) = password {
            command.env("KHARON_KEY_PASSWORD", password);
        }
        let ran = crate::cli::Ran::of(&command.output().expect("it runs"));
        assert!(!format!("{ran:?}").contains(PASSWORD), "{ran:?}");
        ran
    };
    let keygen = ["keygen", "-f", "team"];
    let nobody = with(None, &keygen);
    nobody.assert(ExitCode::Usage);
    assert!(nobody.stderr.contains("KHARON_KEY_PASSWORD"), "{}", nobody.stderr);
    with(Some(""), &keygen).assert(ExitCode::Usage);
    assert!(!desk.path("team.key").exists());
    with(Some(PASSWORD), &keygen).assert(ExitCode::Done);
    let make = ["make-payload", "-v", "-r", &host, "-f", "p.zip", "app:1", "--sign", "team.key"];
    with(None, &make).assert(ExitCode::Usage);
    let wrong = with(Some("other"), &make);
    wrong.assert(ExitCode::Failed);
    assert!(wrong.stderr.contains("expected the password of the key"), "{}", wrong.stderr);
    assert!(!desk.path("p.zip").exists());
    with(Some(PASSWORD), &make).assert(ExitCode::Done);
    with(None, &["verify", "p.zip", "--verify-key", "team.pub"]).assert(ExitCode::Done);
}
