use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn names(path: &str) -> Vec<OsString> {
    path.split('/').map(OsString::from).collect()
}

#[test]
fn links_lead_to_where_they_would_if_the_folder_were_the_root() {
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().join("root");
    fs::create_dir_all(folder.join("a/b")).expect("folders");
    fs::create_dir(outside.path().join("etc")).expect("a folder");
    for (name, target) in [
        ("absolute", "/a"),
        ("up", "../../../../a"),
        ("a/beside", "../a/./b"),
        ("out", outside.path().join("etc").to_str().expect("text")),
        ("loop", "loop"),
        ("far", "absolute/beside"),
        ("top", "/"),
    ] {
        symlink(target, folder.join(name)).expect("a link");
    }
    fs::write(folder.join("file"), "").expect("a file");
    let root = Root::open(&folder).expect("a root");
    for (path, place) in [
        ("absolute/b", "a/b"),
        ("up", "a"),
        ("a/beside", "a/b"),
        ("far", "a/b"),
        ("top/up/b", "a/b"),
    ] {
        let found = root.folder(&names(path), Missing::Left).expect(path).expect(path);
        assert_eq!(found.path().to_str(), Some(place), "{path}");
    }
    assert!(root.folder(&names("out"), Missing::Left).expect("no error").is_none());
    let created = root.folder(&names("out/new"), Missing::Created).expect("created");
    created.expect("a folder").create_file(OsStr::new("file")).expect("a file");
    assert_eq!(fs::read_dir(outside.path().join("etc")).expect("a folder").count(), 0);
    for path in ["loop", "file", "file/x"] {
        assert!(root.folder(&names(path), Missing::Created).is_err(), "{path}");
    }
    let deep = vec![OsString::from("d"); DEPTH_MAX + 1];
    assert!(root.folder(&deep, Missing::Created).is_err());
    assert!(root.folder(&deep[1..], Missing::Created).expect("deep").is_some());
}

#[test]
fn removing_goes_through_no_link() {
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().join("root");
    fs::create_dir_all(folder.join("gone/deep")).expect("folders");
    fs::write(outside.path().join("file"), "stays").expect("a file");
    symlink(outside.path(), folder.join("gone/deep/link")).expect("a link");
    let top = Root::open(&folder).and_then(|root| root.top()).expect("a root");
    for name in ["gone", "gone"] {
        top.remove(OsStr::new(name)).expect("removed");
    }
    assert_eq!(top.find(OsStr::new("gone")).expect("no error"), None);
    assert!(outside.path().join("file").exists());
}
