//! Payloads as plain files for a scanner: that nothing gets out, and nothing is hidden from it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use kharon::baselines::Baselines;
use kharon::digest::Digest;
use kharon::expand::{ExpandReport, ExpandRequest, expand};
use kharon::failure::ExitCode;
use kharon::make::MakeRequest;
use kharon::payload::Payload;
use kharon::progress::Silent;
use kharon::push::PushRequest;
use kharon::scanned::Scanned;
use serde_json::Value;

use crate::cli::Desk;
use crate::deltas::app;
use crate::kit::{Failed, Job, names};
use crate::support::images::{Blob, Image, layer, random_bytes, random_layer};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A tar under construction, of which any byte may be wrong.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(name: &[u8], kind: tar::EntryType, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header
    }

    fn put(&mut self, mut header: tar::Header, content: &[u8]) {
        header.set_cksum();
        self.0.append(&header, content).expect("a tar");
    }

    fn file(&mut self, name: &[u8], content: &[u8]) {
        self.put(Self::header(name, tar::EntryType::Regular, content.len()), content);
    }

    fn other(&mut self, name: &[u8], kind: tar::EntryType, target: &[u8]) {
        let mut header = Self::header(name, kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        self.put(header, b"");
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("a tar")
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).expect("packed");
    gzip.finish().expect("packed")
}

fn request(payloads: &[&Path], to: &Path) -> ExpandRequest {
    let open = |path: &&Path| Arc::new(Payload::open(path).expect("a payload"));
    ExpandRequest {
        payloads: payloads.iter().map(open).collect(),
        folder: to.to_owned(),
        registry: None,
        baselines: Baselines::default(),
        jobs: 4,
    }
}

async fn expanded(payload: &Path, to: &Path) -> ExpandReport {
    expand(request(&[payload], to), Arc::new(Silent)).await.expect("expanded")
}

fn list(folder: &Path) -> Value {
    let json = fs::read(folder.join("expanded.json")).expect("a list");
    serde_json::from_slice(&json).expect("JSON")
}

/// What the list says of a blob.
fn listed(folder: &Path, blob: &Blob) -> Value {
    let list = list(folder);
    let blobs = list["blobs"].as_array().expect("a list");
    let digest = blob.digest().to_string();
    blobs.iter().find(|blob| blob["digest"] == *digest).expect("it is listed").clone()
}

/// All regular files below a folder. Nothing else may be there, nothing that runs, and nobody else's.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            assert!(metadata.is_file(), "{}", path.display());
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = metadata.permissions().mode();
                assert_eq!(mode & 0o7111, 0, "{} has {mode:o}", path.display());
            }
            let below = path.strip_prefix(folder).expect("below").to_owned();
            files.insert(below, fs::read(&path).expect("a file"));
        }
    }
    files
}

/// `sha256sum -c`, which must know every file.
fn assert_sums(folder: &Path) {
    let sums = fs::read(folder.join("SHA256SUMS")).expect("sums");
    let lines = sums.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(lines, files(folder).len() - 1, "every file but the list itself");
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(folder)
        .output();
    match check {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}

fn tree(folder: &Path, blob: &Blob) -> PathBuf {
    folder.join("layers").join(format!("sha256-{}", blob.digest().hex()))
}

/// The payload of `app:1` with these layers, expanded.
async fn expand_layers(layers: &[Blob]) -> (Job, PathBuf, ExpandReport) {
    let job = Job::new();
    job.source.put("app", "1", &Image::oci(layers));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let folder = job.path("expanded");
    let report = expanded(&packed.path, &folder).await;
    (job, folder, report)
}

/// A sparse file: 512 bytes at 4096, then a hole up to 8192.
fn sparse(tar: &mut Tar) {
    let mut header = Tar::header(b"sparse", tar::EntryType::GNUSparse, 512);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    for (at, (offset, length)) in [(4096, 512), (8192, 0)].into_iter().enumerate() {
        gnu.sparse[at].offset.copy_from_slice(format!("{offset:011o}\0").as_bytes());
        gnu.sparse[at].numbytes.copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
    gnu.realsize.copy_from_slice(format!("{:011o}\0", 8192).as_bytes());
    tar.put(header, &[b'x'; 512]);
}

/// Long names: of GNU's and pax's kind, and one that is too long for a file.
#[cfg(unix)]
struct LongNames {
    gnu: String,
    pax: String,
    endless: String,
}

/// Everything that a tar should not have, and some that it may.
#[cfg(unix)]
fn awkward() -> (Vec<u8>, LongNames) {
    use tar::EntryType;
    let mut tar = Tar::new();
    tar.other(b"./", EntryType::Directory, b"");
    tar.other(b"etc/", EntryType::Directory, b"");
    tar.file(b"etc/passwd", b"root");
    let mut setuid = Tar::header(b"bin/su", EntryType::Regular, 2);
    setuid.set_mode(0o6755);
    setuid.set_uid(12345);
    tar.put(setuid, b"su");
    tar.file(b"../escape", b"one up");
    tar.file(b"/absolute", b"from the root");
    tar.other(b"out", EntryType::Symlink, b"../../..");
    tar.file(b"out/through", b"through a link");
    tar.other(b"pipe", EntryType::Fifo, b"");
    tar.other(b"dev/null", EntryType::Char, b"");
    tar.other(b"dev/sda", EntryType::Block, b"");
    tar.other(b"etc/shadow", EntryType::Link, b"./etc/passwd");
    tar.other(b"lost", EntryType::Link, b"nowhere");
    tar.other(b"flight", EntryType::Link, b"../../../payload.zip");
    tar.other(b"to-folder", EntryType::Link, b"etc");
    tar.file(b"etc/passwd", b"the second");
    tar.file(b"etc/passwd/below", b"below a file");
    tar.file("grün".as_bytes(), b"green");
    tar.file(b"l\xffatin", b"latin");
    tar.file(b"new\nline\\back\rreturn", b"escaped");
    tar.file(b".wh.gone", b"");
    tar.file(b"a/.wh..wh..opq", b"");
    tar.other(b"etc/", EntryType::Directory, b"");
    tar.put(Tar::header(b"strange", EntryType::new(b'Z'), 5), b"what?");
    sparse(&mut tar);
    let gnu = format!("long/{}/gnu", "part/".repeat(60));
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    tar.0.append_data(&mut header, &gnu, &b"gnu"[..]).expect("a tar");
    let pax = format!("pax/{}", "ä".repeat(120));
    tar.0.append_pax_extensions([("path", pax.as_bytes())]).expect("a tar");
    tar.file(b"short", b"pax");
    let endless = "n".repeat(300);
    tar.0.append_pax_extensions([("path", endless.as_bytes())]).expect("a tar");
    tar.file(b"short", b"too long a name");
    (tar.bytes(), LongNames { gnu, pax, endless })
}

#[tokio::test]
#[cfg(unix)]
async fn an_awkward_tar_stays_inside_and_hides_nothing() {
    let (tar, LongNames { gnu, pax, endless }) = awkward();
    let blob = Blob::new(LAYER, gzip(&tar));
    let (job, folder, report) = expand_layers(std::slice::from_ref(&blob)).await;
    assert_eq!(report.exit_code(), ExitCode::Done);
    assert_eq!((report.trees, report.files, report.manifests), (1, 1, 1));
    assert_sums(&folder);
    let mut around: Vec<_> = fs::read_dir(job.folder.path())
        .expect("a folder")
        .map(|e| e.expect("it").file_name())
        .collect();
    around.sort();
    assert_eq!(around, ["expanded", "payload.zip"]);

    let latin: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"l\xffatin");
    let mut sparse = vec![0; 8192];
    sparse[4096..4608].fill(b'x');
    let expected: BTreeMap<PathBuf, &[u8]> = [
        (PathBuf::from("etc/passwd"), &b"root"[..]),
        ("etc/shadow".into(), b"root"),
        ("bin/su".into(), b"su"),
        ("out/through".into(), b"through a link"),
        ("grün".into(), b"green"),
        (latin.into(), b"latin"),
        ("new\nline\\back\rreturn".into(), b"escaped"),
        (".wh.gone".into(), b""),
        ("a/.wh..wh..opq".into(), b""),
        ("sparse".into(), &sparse),
        ((&gnu).into(), b"gnu"),
        ((&pax).into(), b"pax"),
    ]
    .into();
    let tree = tree(&folder, &blob);
    let found = files(&tree);
    let found: BTreeMap<PathBuf, &[u8]> =
        found.iter().map(|(path, content)| (path.clone(), content.as_slice())).collect();
    assert_eq!(found, expected);

    let entry = listed(&folder, &blob);
    assert_eq!(entry["form"], "tree");
    assert_eq!(entry["complete"], true);
    let paths = entry["paths"].as_array().expect("paths");
    let mut odd = Vec::new();
    for (path, kind, why, content) in [
        ("../escape", "file", "leaves-the-folder", "one up"),
        ("/absolute", "file", "leaves-the-folder", "from the root"),
        ("out", "symbolic-link", "kind", ""),
        ("pipe", "named-pipe", "kind", ""),
        ("dev/null", "character-device", "kind", ""),
        ("dev/sda", "block-device", "kind", ""),
        ("lost", "hard-link", "target-missing", ""),
        ("flight", "hard-link", "leaves-the-folder", ""),
        ("to-folder", "hard-link", "target-missing", ""),
        ("etc/passwd", "file", "name-taken", "the second"),
        ("etc/passwd/below", "file", "name-taken", "below a file"),
        ("strange", "other", "kind", "what?"),
        (&endless, "file", "name-not-allowed", "too long a name"),
    ] {
        let is_it = |line: &&Value| line["path"] == path && line["notCreated"] == why;
        let line = paths.iter().find(is_it).unwrap_or_else(|| panic!("no {path} in {paths:#?}"));
        assert_eq!(line["kind"], kind, "{path}");
        if !content.is_empty() {
            let at = line["at"].as_str().expect("it is kept");
            assert_eq!(fs::read(folder.join(at)).expect("a file"), content.as_bytes(), "{path}");
            assert_eq!(line["sha256"], Digest::of(content.as_bytes()).hex(), "{path}");
            odd.push(at.to_owned());
        }
    }
    assert_eq!(
        files(&folder.join(format!("layers/sha256-{}.odd", blob.digest().hex()))).len(),
        odd.len()
    );
    assert_eq!(report.not_created, 13);
    assert_eq!(report.paths, paths.len() as u64);
    let line = |path: &str| paths.iter().find(|line| line["path"] == path).expect(path);
    assert_eq!(line("bin/su")["mode"], "6755");
    assert_eq!(line("out")["target"], "../../..");
    assert_eq!(line("l\u{fffd}atin")["pathBytes"], "6cff6174696e");
    assert_eq!(line("etc/shadow")["sha256"], Digest::of(b"root").hex());
    assert_eq!(line("sparse")["size"], 8192);
}

#[tokio::test]
async fn a_layer_that_is_no_tar_for_everybody_is_one_file_and_not_complete() {
    let good = || {
        let mut tar = Tar::new();
        tar.file(b"first", &[b'a'; 3000]);
        tar
    };
    let mut folder_with_content = good();
    folder_with_content.put(Tar::header(b"f/", tar::EntryType::Directory, 5), b"inner");
    let mut link_with_content = good();
    link_with_content.put(Tar::header(b"l", tar::EntryType::Symlink, 5), b"inner");
    let mut twice = good();
    twice.0.append_pax_extensions([("size", &b"1"[..]), ("size", b"2")]).expect("a tar");
    twice.file(b"x", b"12");
    let mut pax_sparse = good();
    pax_sparse.0.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).expect("a tar");
    pax_sparse.file(b"x", b"12");
    let mut header_bomb = good();
    header_bomb
        .put(Tar::header(b"x", tar::EntryType::GNULongName, 6 << 20), &random_bytes(1, 6 << 20));
    let bomb = {
        let mut tar = Tar::new();
        let mut header = Tar::header(b"sparse", tar::EntryType::GNUSparse, 0);
        let gnu = header.as_gnu_mut().expect("a GNU header");
        gnu.sparse[0].offset.copy_from_slice(format!("{:011o}\0", 1_u64 << 32).as_bytes());
        gnu.sparse[0].numbytes.copy_from_slice(format!("{:011o}\0", 0).as_bytes());
        gnu.realsize.copy_from_slice(format!("{:011o}\0", 1_u64 << 32).as_bytes());
        tar.put(header, b"");
        tar.bytes()
    };
    let mut cut = good().bytes();
    cut.truncate(2000);
    let mut torn_gzip = gzip(&good().bytes());
    torn_gzip.truncate(torn_gzip.len() - 9);
    for (bytes, reason) in [
        (b"no tar at all".to_vec(), "it is no tar"),
        (gzip(&[b'x'; 5000]), "it is no tar"),
        (gzip(&cut), "its tar is broken"),
        (torn_gzip, "its tar is broken"),
        (gzip(&folder_with_content.bytes()), "content of `f/`"),
        (gzip(&link_with_content.bytes()), "content of `l`"),
        (gzip(&twice.bytes()), "says one thing twice"),
        (gzip(&pax_sparse.bytes()), "pax form"),
        (gzip(&header_bomb.bytes()), "a header without end"),
        (gzip(&bomb), "more plain bytes"),
    ] {
        let blob = Blob::new(LAYER, bytes);
        let (_job, folder, report) = expand_layers(std::slice::from_ref(&blob)).await;
        assert_eq!(report.exit_code(), ExitCode::Done, "{reason}");
        assert!(report.packed[0].reason.contains(reason), "{report:?}");
        let entry = listed(&folder, &blob);
        assert_eq!(entry["complete"], false, "{reason}");
        assert_eq!(entry["paths"].as_array().expect("a list").len(), 0, "{reason}");
        let at = folder.join(entry["at"].as_str().expect("a file"));
        assert!(fs::read(at).expect("a file") == blob.bytes, "{reason}");
        assert!(!tree(&folder, &blob).exists(), "{reason}");
        assert_sums(&folder);
    }
}

#[tokio::test]
async fn what_stands_behind_the_end_of_a_tar_is_kept() {
    let mut tar = Tar::new();
    tar.file(b"first", b"1");
    let mut bytes = tar.bytes();
    let mut hidden = Tar::new();
    hidden.file(b"hidden", b"virus");
    let hidden = hidden.bytes();
    bytes.extend(&hidden);
    let blob = Blob::new(LAYER, gzip(&bytes));
    let (_job, folder, report) = expand_layers(std::slice::from_ref(&blob)).await;
    assert_eq!(report.packed, []);
    let entry = listed(&folder, &blob);
    let line = &entry["paths"][1];
    assert_eq!(line["notCreated"], "behind-the-end");
    let kept = fs::read(folder.join(line["at"].as_str().expect("kept"))).expect("a file");
    assert!(kept == hidden);
    assert_sums(&folder);
}

#[tokio::test]
async fn blobs_that_are_no_layers_are_files_and_what_is_elsewhere_is_listed() {
    let job = Job::new();
    let image = Image::oci(&[layer(&[("etc/os", b"linux")])]);
    job.source.put("app", "1", &Image::index(&[image.clone(), Image::attestation(&image)]));
    job.source.put("chart", "1", &Image::helm_chart("chart", "1"));
    job.source.put("base", "1", &Image::oci(&[layer(&[("base", b"1")])]));
    let top = Image::oci(&[layer(&[("base", b"1")]), layer(&[("top", b"1")])]);
    job.source.put("top", "1", &top);
    let already_transferred = names(&job.source, &["base:1"]);
    let request =
        MakeRequest { already_transferred, ..job.request(&["app:1", "chart:1", "top:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    let folder = job.path("expanded");
    let report = expanded(&packed.path, &folder).await;
    assert_eq!(report.exit_code(), ExitCode::Done);
    assert_eq!((report.trees, report.manifests, report.absent), (2, 5, 1));
    assert_eq!(report.packed, []);
    assert_sums(&folder);
    let list = list(&folder);
    let index = packed.open().indexes().next().expect("an index").1.to_string();
    assert_eq!(list["payloads"][0]["index"], index);
    assert_eq!(list["absent"][0]["digest"], top.layers()[0].digest().to_string());
    assert_eq!(list["absent"][0]["why"], "expected");
    for item in list["manifests"].as_array().expect("a list") {
        let at = folder.join(item["at"].as_str().expect("a file"));
        assert_eq!(Digest::of(&fs::read(at).expect("a file")).to_string(), item["digest"]);
        assert_eq!(item["images"].as_array().expect("images").len(), 1);
    }
}

/// `app:1` at both sides, a payload of `app:2` against it and of `other:1`.
async fn upgrade() -> (Job, PathBuf, Blob, Blob) {
    let job = Job::new();
    let (old, new) = (app(None), app(Some(7)));
    for registry in [&job.source, &job.far] {
        registry.put("app", "1", &Image::oci(std::slice::from_ref(&old)));
    }
    job.source.put("app", "2", &Image::oci(std::slice::from_ref(&new)));
    let other = random_layer(9, 20_000);
    job.source.put("other", "1", &Image::oci(std::slice::from_ref(&other)));
    let already_transferred = names(&job.source, &["app:1"]);
    let request = MakeRequest { already_transferred, ..job.request(&["app:2", "other:1"]) };
    let packed = job.pack_as("payload.zip", request).await;
    assert!(packed.open().delta(new.digest()).is_some());
    (job, packed.path, old, new)
}

/// An OCI image layout with one blob.
fn layout_of(job: &Job, blob: &Blob) -> PathBuf {
    let folder = job.path("layout");
    let path = folder.join(blob.digest().blob_path());
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, &blob.bytes).expect("written");
    folder
}

fn with_baseline(job: &Job, payload: &Path, old: &Blob, to: &Path) -> ExpandRequest {
    let folders = vec![layout_of(job, old)];
    let baselines = Baselines { folders, ..Baselines::default() };
    ExpandRequest { baselines, ..request(&[payload], to) }
}

fn scanned(folder: &Path) -> Scanned {
    let mut scanned = Scanned::default();
    scanned.add(&folder.join("expanded.json")).expect("a list");
    scanned
}

fn pushed_if(job: &Job, scanned: Scanned) -> PushRequest {
    PushRequest { scanned: Some(scanned), ..job.push_request() }
}

#[tokio::test]
async fn a_layer_that_travels_as_a_delta_is_the_tree_of_the_original() {
    let (job, payload, old, new) = upgrade().await;
    let folder = job.path("expanded");
    let asked = with_baseline(&job, &payload, &old, &folder);
    let report = expand(asked, Arc::new(Silent)).await.expect("expanded");
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    assert_eq!(report.trees, 2);
    assert_sums(&folder);
    let found = files(&tree(&folder, &new));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&new.bytes[..]));
    let mut originals = 0;
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        assert_eq!(Digest::of(&found[&path]), Digest::of(&content), "{}", path.display());
        originals += 1;
    }
    assert_eq!(found.len(), originals);
    job.push_as(&payload, pushed_if(&job, scanned(&folder))).await;
    job.assert_arrived("app", &["1", "2"]);
    job.assert_arrived("other", &["1"]);
}

#[tokio::test]
async fn what_cannot_be_rebuilt_is_said_and_does_not_count_as_scanned() {
    let (job, payload, _, new) = upgrade().await;
    let folder = job.path("expanded");
    let report = expanded(&payload, &folder).await;
    assert_eq!(report.exit_code(), ExitCode::BaselineMissing);
    assert_eq!(report.not_rebuilt[0].digest, *new.digest());
    assert_eq!(report.trees, 1, "the others are there all the same");
    assert_eq!(listed(&folder, &new)["complete"], false);
    assert_sums(&folder);
    job.far.clear_journal();
    let failed = job.fail_to_push(&payload, pushed_if(&job, scanned(&folder))).await;
    let digest = new.digest().to_string();
    failed.assert(
        ExitCode::PayloadDamaged,
        &["nothing was sent", "found 1 not", &digest, "app:2", "--baseline-dir"],
    );
    assert!(job.far.journal().is_empty());
}

#[tokio::test]
async fn a_damaged_blob_leaves_no_tree_and_the_others_are_there() {
    let job = Job::new();
    let (good, bad) = (random_layer(1, 20_000), random_layer(2, 20_000));
    job.source.put("app", "1", &Image::oci(&[bad.clone(), good.clone()]));
    let packed = job.pack("payload.zip", &["app:1"]).await;
    let mut bytes = packed.bytes();
    let at = bytes.windows(64).position(|part| part == &bad.bytes[10_000..10_064]).expect("it");
    bytes[at] ^= 1;
    fs::write(&packed.path, bytes).expect("written");
    let folder = job.path("expanded");
    let report = expanded(&packed.path, &folder).await;
    assert_eq!(report.exit_code(), ExitCode::PayloadDamaged);
    assert_eq!(report.damaged[0].digest, *bad.digest());
    assert!(!tree(&folder, &bad).exists());
    assert_eq!(files(&tree(&folder, &good)).len(), 1);
    assert_eq!(listed(&folder, &bad)["form"], "nothing");
    assert_sums(&folder);
    let failed = job.fail_to_push(&packed.path, pushed_if(&job, scanned(&folder))).await;
    failed.assert(ExitCode::PayloadDamaged, &[&bad.digest().to_string(), "app:1"]);
}

#[tokio::test]
async fn only_the_payload_that_was_expanded_counts_as_scanned() {
    let job = Job::new();
    for (tag, seed) in [("1", 1), ("2", 2)] {
        job.source.put("app", tag, &Image::oci(&[random_layer(seed, 5000)]));
    }
    let one = job.pack("one.zip", &["app:1"]).await.path;
    let two = job.pack("two.zip", &["app:2"]).await.path;
    let (first, both) = (job.path("first"), job.path("both"));
    expanded(&one, &first).await;
    let report = expand(request(&[&one, &two], &both), Arc::new(Silent)).await.expect("expanded");
    assert_eq!((report.trees, report.manifests), (2, 2));
    assert_sums(&both);
    let failed = job.fail_to_push(&two, pushed_if(&job, scanned(&first))).await;
    failed
        .assert(ExitCode::PayloadDamaged, &["two.zip", "expected its index", "this very payload"]);
    job.push_as(&two, pushed_if(&job, scanned(&both))).await;
    let mut either = scanned(&first);
    either.add(&both.join("expanded.json")).expect("a list");
    job.push_as(&one, pushed_if(&job, either)).await;
    job.assert_arrived("app", &["1", "2"]);
}

#[test]
fn a_file_that_is_no_list_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("list");
    for (text, part) in [
        ("", "found something else"),
        ("{}", "found something else"),
        (
            r#"{"version":1,"payloads":[],"manifests":[],"blobs":[{"digest":"x"}]}"#,
            "found something else",
        ),
        (r#"{"version":2,"payloads":{}}"#, "expected version 1 of `expanded.json`, found 2"),
        (r#"{"version":2,"payloads":[],"manifests":[],"blobs":[]}"#, "found 2"),
    ] {
        fs::write(&path, text).expect("written");
        let failed = Failed::of(Scanned::default().add(&path));
        failed.assert(ExitCode::PayloadDamaged, &[part, "cannot use the list"]);
    }
    let missing = Failed::of(Scanned::default().add(&folder.path().join("missing")));
    missing.assert(ExitCode::Failed, &["cannot use the list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_expands_and_pushes_what_was_scanned() {
    let (job, payload, old, _) = upgrade().await;
    let desk = Desk::new();
    let payload = payload.to_str().expect("text").to_owned();
    let (far, layout) = (job.far.host(), layout_of(&job, &old));
    let expand = ["expand", &payload, "--to", "out", "--json"];
    let with = ["--baseline-dir", layout.to_str().expect("text")];
    let ran = desk.run(&[&expand[..], &with].concat());
    ran.assert(ExitCode::Done);
    assert_eq!(ran.json()["trees"], 2);
    assert!(ran.stderr.contains("expanded into out: 2 layers"), "{}", ran.stderr);
    let again = desk.run(&expand);
    again.assert(ExitCode::Usage);
    assert!(again.stderr.contains("expected an empty folder"), "{}", again.stderr);
    let from_registry = ["expand", &payload, "--to", "far", "-r", &far];
    desk.run(&from_registry).assert(ExitCode::Done);
    let push = ["push-payload", "-f", &payload, "-r", &far, "--scanned", "out/expanded.json"];
    desk.run(&push).assert(ExitCode::Done);
}
