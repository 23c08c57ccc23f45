//! Images as files: what is in a tar or folder, and what a failure leaves behind.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Output;

use kharon::digest::Digest;
use kharon::failure::ExitCode;
use serde_json::Value;

use crate::cli::{Desk, Ran};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Image, random_layer};
use crate::support::registry::TestRegistry;

/// The files of a tar by their names; none may stand there twice.
pub fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("read");
        assert!(files.insert(name.clone(), content).is_none(), "`{name}` stands there twice");
    }
    files
}

pub fn json(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).expect("JSON")
}

/// Every blob of the image must be there as it is, and be named as such.
fn assert_whole(files: &BTreeMap<String, Vec<u8>>, image: &Image) {
    assert_eq!(files[&image.digest().blob_path()], image.manifest.raw);
    for blob in image.all_blobs() {
        assert_eq!(files[&blob.digest().blob_path()], blob.bytes);
    }
    for (name, content) in files.iter().filter(|(name, _)| name.starts_with("blobs/sha256/")) {
        assert!(name.ends_with('/') || *name == Digest::of(content).blob_path(), "{name}");
    }
}

fn read(path: &Path) -> BTreeMap<String, Vec<u8>> {
    files(&std::fs::read(path).expect("a file"))
}

fn save(desk: &Desk, source: &TestRegistry, arguments: &[&str]) -> Ran {
    desk.run(&[&["save", "-r", &source.host(), "-i"], arguments].concat())
}

/// What is in the desk's folder.
fn left(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.folder.path()).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries.map(|entry| name(entry).display().to_string()).collect()
}

#[test]
fn a_tar_holds_several_images_each_blob_once_for_every_reader() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let twice = random_layer(1, 3000);
    let (one, other) = (Image::oci(&[twice.clone(), twice.clone()]), Image::docker(&[twice]));
    source.put("team/one", "1", &one);
    source.put("other", "1", &other);
    save(&desk, &source, &["team/one:1", "other:1", "-o", "x.tar"]).assert(ExitCode::Done);
    let found = read(&desk.path("x.tar"));
    assert_whole(&found, &one);
    assert_whole(&found, &other);
    let docker = json(&found, "manifest.json");
    assert_eq!(docker[0]["RepoTags"][0], format!("{}/team/one:1", source.host()));
    assert_eq!(docker[0]["Layers"].as_array().map(Vec::len), Some(2));
    assert_eq!(docker[1]["Config"], other.blobs[0].digest().blob_path());
    let named = &json(&found, "index.json")["manifests"][1]["annotations"];
    assert_eq!(named["io.containerd.image.name"], format!("{}/other:1", source.host()));
    // Another run, with other concurrency and to stdout, gives the same bytes.
    let host = source.host();
    let arguments = ["save", "-i", "-r", &host, "-j", "1", "team/one:1,other:1", "-o", "-"];
    let Output { stdout, .. } = desk.kharon(&arguments).output().expect("it runs");
    assert_eq!(stdout, std::fs::read(desk.path("x.tar")).expect("a file"));
}

#[test]
fn of_an_index_one_platform_is_saved_or_everything() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let amd64 = Image::oci_for("linux/amd64", &[random_layer(1, 1000)]);
    let s390x = Image::oci_for("linux/s390x", &[random_layer(2, 1000)]);
    let attestation = Image::attestation(&s390x);
    let index = Image::index(&[amd64.clone(), s390x.clone(), attestation]);
    source.put("app", "1", &index);
    let ran = save(&desk, &source, &["app:1", "--platform", "linux/s390x", "-o", "one.tar"]);
    ran.assert(ExitCode::Done);
    let found = read(&desk.path("one.tar"));
    assert_whole(&found, &s390x);
    assert!(!found.contains_key(&amd64.digest().blob_path()));
    save(&desk, &source, &["app:1", "--platform", "all", "-o", "all.tar"]).assert(ExitCode::Done);
    assert_whole(&read(&desk.path("all.tar")), &index);
    let ran = save(&desk, &source, &["app:1", "--platform", "linux/riscv64"]);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("has no linux/riscv64; it has linux/amd64, linux/s390x"));
}

#[test]
fn an_index_within_an_index_gives_old_engines_the_image_of_this_machine() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let machine = kharon::save::machine_platform().to_string();
    let machine = Image::oci_for(&machine, &[random_layer(1, 1000)]);
    let other = Image::oci_for("linux/s390x", &[random_layer(2, 1000)]);
    let inner = Image::index(&[other.clone(), machine.clone()]);
    for (tag, index) in
        [("1", Image::index(&[other, inner.clone()])), ("2", Image::index(&[inner]))]
    {
        source.put("app", tag, &index);
        let name = format!("app:{tag}");
        let ran = save(&desk, &source, &[&name, "--platform", "all", "-o", "x.tar", "--force"]);
        ran.assert(ExitCode::Done);
        let found = read(&desk.path("x.tar"));
        assert_whole(&found, &index);
        let docker = json(&found, "manifest.json");
        assert_eq!(docker[0]["Config"], machine.blobs[0].digest().blob_path(), "{tag}");
    }
}

#[test]
fn a_layer_that_lies_leaves_no_file_and_no_folder() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let image = Image::oci(&[random_layer(1, 300_000)]);
    source.put("app", "1", &image);
    let layer = image.layers()[0].digest().clone();
    for target in [["-o", "x.tar"], ["--to", "x"], ["-o", "-"]] {
        source.heal();
        source.fail(Fault::on("GET", layer.hex(), Effect::Corrupt(1000)).times(1000));
        let ran = save(&desk, &source, &[&["app:1"][..], &target].concat());
        ran.assert(ExitCode::Registry);
        assert!(ran.stderr.contains(layer.hex()), "{}", ran.stderr);
        assert_eq!(left(&desk), Vec::<String>::new());
    }
}

#[test]
fn what_is_there_is_not_replaced_by_accident() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    source.put("app", "1", &Image::oci(&[random_layer(1, 1000)]));
    let host = source.host().replace(':', "_");
    let (named, folder) = (format!("{host}_app_1.tar"), desk.path("full"));
    let full = source.reference("app:1");
    desk.run(&["save", "--plain-http", &source.host(), &full]).assert(ExitCode::Done);
    assert_eq!(left(&desk), [named.as_str()]);
    std::fs::write(desk.path("app_1.tar"), "mine").expect("written");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("file"), "mine").expect("written");
    for arguments in [
        &["app:1"][..],
        &["app:1", "--to", "full"],
        &["app:1", "--to", "full", "--layout", "merged"],
    ] {
        save(&desk, &source, arguments).assert(ExitCode::Usage);
    }
    assert_eq!(std::fs::read(desk.path("app_1.tar")).expect("a file"), b"mine");
    save(&desk, &source, &["app:1", "--force"]).assert(ExitCode::Done);
    assert!(read(&desk.path("app_1.tar")).contains_key("manifest.json"));
}

#[test]
fn an_empty_folder_that_is_there_is_filled_when_all_is_whole() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let image = Image::oci(&[random_layer(1, 300_000)]);
    source.put("app", "1", &image);
    let layer = image.layers()[0].digest().clone();
    std::fs::create_dir(desk.path("here")).expect("a folder");
    let names = || {
        let entries = std::fs::read_dir(desk.path("here")).expect("a folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    };
    let arguments = ["app:1", "--to", "here", "--layout", "docker"];
    source.fail(Fault::on("GET", layer.hex(), Effect::Corrupt(1000)).times(1000));
    save(&desk, &source, &arguments).assert(ExitCode::Registry);
    assert!(names().is_empty());
    source.heal();
    save(&desk, &source, &arguments).assert(ExitCode::Done);
    assert_eq!(names(), ["blobs", "index.json", "manifest.json", "oci-layout"]);
    let blob = std::fs::read(desk.path("here").join(layer.blob_path())).expect("a file");
    assert_eq!(Digest::of(&blob), layer);
}

#[test]
fn a_merged_folder_fetches_no_layer_twice_and_gives_each_image_back() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let shared = random_layer(1, 3000);
    let old = Image::oci(std::slice::from_ref(&shared));
    let new = Image::oci(&[shared.clone(), random_layer(2, 1000)]);
    source.put("app", "1", &old);
    source.put("app", "2", &new);
    let merged = ["--to", "mg", "--layout", "merged"];
    save(&desk, &source, &[&["app:1"][..], &merged].concat()).assert(ExitCode::Done);
    source.clear_journal();
    save(&desk, &source, &[&["app:2"][..], &merged].concat()).assert(ExitCode::Done);
    assert_eq!(source.count("GET", shared.digest().hex()), 0);
    for (tag, image) in [("1", &old), ("2", &new)] {
        let (name, direct) = (format!("app:{tag}"), format!("direct{tag}.tar"));
        let again = format!("again{tag}.tar");
        desk.run(&["recreate", "mg", &name, "-o", &again]).assert(ExitCode::Done);
        save(&desk, &source, &[&name, "-o", &direct]).assert(ExitCode::Done);
        assert_whole(&read(&desk.path(&again)), image);
        let bytes = |name: &str| std::fs::read(desk.path(name)).expect("a file");
        assert_eq!(bytes(&again), bytes(&direct));
    }
    std::fs::write(desk.path("mg/catalog.json"), "{").expect("written");
    let ran = desk.run(&["recreate", "mg", "app:1", "-o", "x.tar"]);
    ran.assert(ExitCode::PayloadDamaged);
    assert!(ran.stderr.contains("catalog.json` is damaged"), "{}", ran.stderr);
}

#[test]
fn payloads_and_layouts_give_the_tar_that_their_registry_gives() {
    let (source, desk) = (TestRegistry::start(), Desk::new());
    let host = source.host();
    let shared = random_layer(1, 3000);
    source.put("app", "1", &Image::oci(std::slice::from_ref(&shared)));
    source.put("app", "2", &Image::oci(&[shared, random_layer(2, 1000)]));
    let make = |arguments: &[&str]| {
        desk.run(&[&["make-payload", "-i", "-r", &host], arguments].concat())
            .assert(ExitCode::Done);
    };
    make(&["-f", "1.zip", "app:1"]);
    make(&["-f", "2.zip", "--against", "1.zip", "app:2"]);
    save(&desk, &source, &["app:1", "-o", "1.tar"]).assert(ExitCode::Done);
    save(&desk, &source, &["app:2", "-o", "2.tar"]).assert(ExitCode::Done);
    save(&desk, &source, &["app:2", "--to", "layout"]).assert(ExitCode::Done);
    let ran = desk.run(&["save", "--from", "2.zip", "-o", "alone.tar"]);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("expects at the far side"), "{}", ran.stderr);
    let bytes = |name: &str| std::fs::read(desk.path(name)).expect("a file");
    for (tag, arguments) in [
        ("1", &["--from", "1.zip", "-o", "a.tar"][..]),
        ("2", &["--from", "2.zip", "-r", &host, "-i", "-o", "b.tar"]),
        ("2", &["--from", "layout", "-o", "c.tar"]),
    ] {
        desk.run(&[&["save"], arguments].concat()).assert(ExitCode::Done);
        let name = arguments.last().expect("a name");
        assert_eq!(bytes(name), bytes(&format!("{tag}.tar")), "{arguments:?}");
    }
}
