//! The options of `kharon serve --web`.

use std::process::Command;

#[test]
fn options_of_the_page_and_of_a_registry_do_not_mix() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, part) in [
        (&["-r", "x"][..], "--web"),
        (&["-r", "x", "--dir", "d"], "--web"),
        (&["-i", "--dir", "d"], "--web"),
        (&["--mirror", "docker.io=x", "--dir", "d"], "--web"),
        (&["--downloads", "3", "--dir", "d"], "--web"),
        (&["--web", "--dir", "d"], "serves no folder and no payload"),
        (&["--web", "--payload", "p"], "serves no folder and no payload"),
        (&["--web", "--read-only"], "serves no folder and no payload"),
        (&["--web", "--strict"], "--strict"),
        (&["--web", "--downloads", "0"], "--downloads"),
        (&["--web", "--public-name", "http://x"], "leave out `http://`"),
    ] {
        let mut kharon = Command::new(assert_cmd::cargo::cargo_bin!("kharon"));
        kharon.arg("serve").args(arguments).current_dir(folder.path()).env("HOME", folder.path());
        let output = kharon.output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}
