//! Images as trees of files: what is there, what is not, and that nothing gets out.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kharon::failure::ExitCode;
use kharon::manifest::MediaType;
use serde_json::json;
use tar::EntryType;

use crate::cli::{Desk, Ran};
use crate::support::awkward::{For, LayerTar, Packing, awkward, image, listing, long_name};
use crate::support::fault::{Effect, Fault};
use crate::support::images::{Blob, Image, random_layer};
use crate::support::registry::TestRegistry;

fn extract(desk: &Desk, source: &TestRegistry, arguments: &[&str]) -> Ran {
    desk.run(&[&["extract", "-r", &source.host(), "-i"], arguments].concat())
}

/// A registry with `app:1`, and a desk.
fn scene(image: &Image) -> (TestRegistry, Desk) {
    let source = TestRegistry::start();
    source.put("app", "1", image);
    (source, Desk::new())
}

/// The names below a folder, each with the content of the file that it is.
fn files(root: &Path) -> BTreeMap<String, String> {
    let content = |name: &String| fs::read_to_string(root.join(name)).ok();
    listing(root).into_keys().filter_map(|name| Some((name.clone(), content(&name)?))).collect()
}

#[test]
fn the_tree_is_what_a_container_sees_however_its_layers_are_packed() {
    let (source, desk) = scene(&awkward(Packing::Zstd, For::Everybody));
    source.put("app", "2", &awkward(Packing::Gzip, For::Everybody));
    let ran = extract(&desk, &source, &["app:1", "--to", "tree"]);
    assert_eq!(ran.assert(ExitCode::Done).stdout, "tree\n");
    let tree = desk.path("tree");
    let expected: BTreeMap<String, String> = [
        ("absolute-name", "inside"),
        ("becomes-file", "up"),
        ("becomes-folder/file", "up"),
        ("becomes-real/file", "up"),
        ("bin/sg", "set-group-ID"),
        ("bin/su", "set-user-ID"),
        ("by-link", "kept"),
        ("closed/file", "in it"),
        ("closed/second", "in it"),
        ("dd/y", "another name"),
        ("empty", ""),
        ("escape", "inside"),
        ("escape2", "inside"),
        ("etc/keep", "kept"),
        ("etc/through", "in etc"),
        ("etc/up", "in etc"),
        ("first/new", "up"),
        ("hard", "linked"),
        ("last/both", "up"),
        ("last/new", "up"),
        ("late", "linked"),
        (&long_name(), "200 characters"),
        ("new/place/through", "in new/place"),
        ("note", "adorned"),
        ("n\u{e4}me/\u{540d}", "UTF-8"),
        ("twice", "there"),
    ]
    .map(|(name, content)| (name.to_owned(), content.to_owned()))
    .into();
    // A link is no file of its own, and no pipe is read.
    let lines = listing(&tree);
    let real = |name: &String| fs::symlink_metadata(tree.join(name)).expect("there").is_file();
    let names: Vec<&String> = lines.keys().filter(|name| real(name)).collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>());
    for (name, content) in &expected {
        assert_eq!(&fs::read_to_string(tree.join(name)).expect(name), content, "{name}");
    }
    for (name, part) in [
        ("bin/su", "104755 "),
        ("bin/sg", "102711 "),
        ("tmp", "41777 "),
        ("closed", "40555 "),
        ("etc", "40700 "),
        ("becomes-folder", "40711 "),
        ("pipe", "10640 "),
        ("absolute", " -> /etc"),
        ("late", " is by-link"),
        ("note", " 1234567890.987654321"),
    ] {
        let expected = if name == "late" { " is hard" } else { part };
        assert!(lines[name].contains(expected), "{name}: {}", lines[name]);
    }
    // Folders keep the times that their entries say, whatever was put into them later.
    assert!(lines["first"].contains(" 1000010000."), "{}", lines["first"]);
    assert_eq!(fs::read_dir(desk.folder.path()).expect("a folder").count(), 1);
    extract(&desk, &source, &["app:2", "--to", "other"]).assert(ExitCode::Done);
    assert_eq!(listing(&desk.path("other")), lines);
}

#[test]
fn each_layer_has_a_tree_of_its_own_with_its_whiteouts() {
    let (source, desk) = scene(&awkward(Packing::Gzip, For::Everybody));
    extract(&desk, &source, &["app:1", "--to", "whole"]).assert(ExitCode::Done);
    let ran = extract(&desk, &source, &["app:1", "--to", "all", "--each-layer", "--json"]);
    let json = ran.json();
    assert_eq!(json["merged"], "all/merged");
    assert_eq!(json["layers"][2]["folder"], "all/layers/3");
    // In a layer alone, what its hard links mean is missing.
    ran.assert(ExitCode::Failed);
    let lacking = json["notCreated"].as_array().expect("a list");
    let lacking: Vec<_> =
        lacking.iter().map(|it| (&it["layer"], &it["path"], &it["why"])).collect();
    let missing = json!("target-missing");
    let (late, by_link) = (json!("late"), json!("by-link"));
    assert_eq!(lacking, [(&json!(3), &late, &missing), (&json!(3), &by_link, &missing)]);
    assert_eq!(listing(&desk.path("all/merged")), listing(&desk.path("whole")));
    let third = files(&desk.path("all/layers/3"));
    for name in ["etc/.wh.gone", ".wh.d", "first/.wh..wh..opq", "last/.wh..wh..opq", "escape"] {
        assert!(third.contains_key(name), "{name} of {third:?}");
    }
    assert!(!third.contains_key("etc/keep"));
    extract(&desk, &source, &["app:1", "--to", "third", "--layer", "3"]).assert(ExitCode::Failed);
    // Folders that no entry describes have the times of their making.
    assert_eq!(files(&desk.path("third")), third);
    let ran = extract(&desk, &source, &["app:1", "--to", "none", "--layer", "6"]);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("has no layer 6, it has 5 layers"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_created_is_listed_and_the_rest_is_there() {
    let mut layer = LayerTar::default();
    layer
        .file("file", "content")
        .file("file/below", "lost")
        .hard_link("link", "missing")
        .hard_link("file", "file")
        .hard_link("folder-link", "folder")
        .file(".wh.", "")
        .file(".wh...", "")
        .file(".wh..wh.plnk", "")
        .node("odd", EntryType::new(b'V'), (0, 0))
        .file(&format!("{}x", "deep/".repeat(300)), "lost")
        .file(&"x".repeat(300), "lost")
        .link("loop", "loop")
        .file("loop/x", "lost")
        .file("last", "content");
    let (source, desk) = scene(&image(&[(&layer, Packing::Gzip)]));
    let ran = extract(&desk, &source, &["app:1", "--to", "tree", "--json"]);
    ran.assert(ExitCode::Failed);
    let json = ran.json();
    let lacking = json["notCreated"].as_array().expect("a list");
    let whys: Vec<&str> = lacking.iter().map(|it| it["why"].as_str().expect("text")).collect();
    let expected = [
        "no-folder",
        "target-missing",
        "target-missing",
        "whiteout-of-nothing",
        "whiteout-of-nothing",
        "no-kind",
        "name-too-long",
        "name-too-long",
        "too-many-links",
    ];
    assert_eq!(whys, expected, "{json:#}");
    assert!(ran.stderr.contains("hard link `link` of layer 1: what it links to is not there"));
    let there = files(&desk.path("tree"));
    assert_eq!((there["file"].as_str(), there["last"].as_str()), ("content", "content"));
}

#[test]
fn nothing_outside_is_touched_by_links_that_lead_there() {
    let desk = Desk::new();
    let outside = desk.path("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("victim"), "mine").expect("written");
    let outside_name = outside.to_str().expect("text");
    let mut layer = LayerTar::default();
    layer
        .link("out", outside_name)
        .link("near", "../outside")
        .file("out/victim", "changed")
        .file("near/victim", "changed")
        .file("out/.wh.victim", "")
        .file("near/.wh..wh..opq", "")
        .hard_link("stolen", "out/victim")
        .hard_link("stolen2", &format!("{outside_name}/victim"))
        .hard_link("stolen3", "../outside/victim")
        .file("stolen", "changed")
        .file("../outside/victim", "changed")
        .file(&format!("{outside_name}/new"), "new");
    let mut upper = LayerTar::default();
    upper
        .file("out/.wh.victim", "")
        .file("near/.wh..wh..opq", "")
        .file(".wh.out", "")
        .folder("near/", 0o700)
        .file("near/x", "");
    let source = TestRegistry::start();
    source.put("app", "1", &image(&[(&layer, Packing::Gzip), (&upper, Packing::Gzip)]));
    let before = listing(&outside);
    for more in [&[][..], &["--each-layer"], &["--layer", "1"]] {
        let arguments = [&["app:1", "--to", "tree"], more].concat();
        extract(&desk, &source, &arguments);
        assert!(desk.path("tree").exists(), "{more:?}");
        assert_eq!(listing(&outside), before, "{more:?}");
        fs::remove_dir_all(desk.path("tree")).expect("removed");
    }
}

#[test]
fn a_failure_leaves_no_tree() {
    let good = awkward(Packing::Gzip, For::Everybody);
    let (source, desk) = scene(&good);
    let layer = good.layers()[2].digest().clone();
    let broken = {
        let mut tar = LayerTar::default().file("file", "content").bytes();
        tar.truncate(700);
        let layers = vec![Blob::new("application/vnd.oci.image.layer.v1.tar", tar)];
        let config = good.blobs[0].clone();
        Image::of_blobs(MediaType::OCI_MANIFEST, config, layers, &json!({}))
    };
    source.put("broken", "1", &broken);
    let left = || fs::read_dir(desk.folder.path()).expect("a folder").count();
    for effect in [Effect::Corrupt(20), Effect::Corrupt(0)] {
        source.heal();
        source.fail(Fault::on("GET", layer.hex(), effect).times(1000));
        let ran = extract(&desk, &source, &["app:1", "--to", "tree", "--each-layer"]);
        ran.assert(ExitCode::Registry);
        assert!(ran.stderr.contains(layer.hex()), "{}", ran.stderr);
        assert_eq!(left(), 0);
    }
    source.heal();
    let ran = extract(&desk, &source, &["broken:1", "--to", "tree"]);
    ran.assert(ExitCode::Failed);
    assert!(ran.stderr.contains("its tar is broken: it ends too soon"), "{}", ran.stderr);
    let ran = extract(&desk, &source, &["missing:1", "--to", "tree"]);
    ran.assert(ExitCode::Registry);
    assert_eq!(left(), 0);
    fs::create_dir(desk.path("tree")).expect("a folder");
    extract(&desk, &source, &["broken:1", "--to", "tree"]).assert(ExitCode::Failed);
    assert_eq!(fs::read_dir(desk.path("tree")).expect("a folder").count(), 0);
    extract(&desk, &source, &["app:1", "--to", "tree"]).assert(ExitCode::Done);
    assert!(desk.path("tree/etc/keep").is_file());
    let ran = extract(&desk, &source, &["app:1", "--to", "tree"]);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("expected an empty folder"), "{}", ran.stderr);
}

#[test]
fn payloads_and_layouts_give_the_same_tree_and_artifacts_none() {
    let (source, desk) = scene(&awkward(Packing::Zstd, For::Everybody));
    let host = source.host();
    source.put("chart", "1", &Image::helm_chart("chart", "1"));
    let ran = desk.run(&["make-payload", "-i", "-r", &host, "-f", "x.zip", "app:1"]);
    ran.assert(ExitCode::Done);
    desk.run(&["save", "-i", "-r", &host, "--to", "layout", "app:1"]).assert(ExitCode::Done);
    extract(&desk, &source, &["app:1", "--to", "0"]).assert(ExitCode::Done);
    desk.run(&["extract", "--from", "x.zip", "--to", "1"]).assert(ExitCode::Done);
    desk.run(&["extract", "--from", "layout", "--to", "2"]).assert(ExitCode::Done);
    let tree = listing(&desk.path("0"));
    assert_eq!(listing(&desk.path("1")), tree);
    assert_eq!(listing(&desk.path("2")), tree);
    let ran = extract(&desk, &source, &["chart:1", "--to", "3"]);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("is no image of a container"), "{}", ran.stderr);
    assert!(!desk.path("3").exists());
}

#[test]
fn of_an_index_one_platform_is_extracted() {
    let amd64 = Image::oci_for("linux/amd64", &[random_layer(1, 1000)]);
    let mut layer = LayerTar::default();
    layer.file("for-s390x", "");
    let s390x = Image::oci_for("linux/s390x", &[layer.packed(Packing::Gzip).0]);
    // What names no platform is for nobody.
    let nameless = Image { platform: None, ..Image::oci(&[random_layer(2, 1000)]) };
    let attestation = Image::attestation(&s390x);
    let (source, desk) = scene(&Image::index(&[nameless, attestation, amd64, s390x]));
    let arguments = ["app:1", "--to", "tree", "--platform", "linux/s390x"];
    extract(&desk, &source, &arguments).assert(ExitCode::Done);
    assert!(desk.path("tree/for-s390x").is_file());
    let arguments = ["app:1", "--to", "none", "--platform", "linux/riscv64"];
    let ran = extract(&desk, &source, &arguments);
    ran.assert(ExitCode::Usage);
    assert!(ran.stderr.contains("it has linux/amd64, linux/s390x"), "{}", ran.stderr);
}
