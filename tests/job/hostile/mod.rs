//! Registries that lie or misbehave, as tables: what a user sees of each, and that nothing is lost.
//!
//! All messages stand in `golden/hostile_registries.txt`; run with `KHARON_BLESS=1` to write them anew, and
//! read the difference. After each row: a former payload is as it was, a tag names what it named or the
//! new image, and never something that is not there; and when the registry has come to its senses, the
//! same request goes through.

mod far;
mod scene;
mod source;

use std::fmt::Write as _;
use std::path::Path;

/// What stands in the golden file under one heading.
struct Section {
    heading: &'static str,
    rows: Vec<(&'static str, String)>,
}

#[tokio::test]
async fn every_lie_of_a_registry_ends_with_a_message_and_nothing_is_lost() {
    let sections = [
        Section { heading: "make-payload", rows: source::all().await },
        Section { heading: "push-payload", rows: far::all().await },
        Section { heading: "inventory", rows: far::all_inventories().await },
    ];
    let mut text = String::new();
    for Section { heading, rows } in &sections {
        writeln!(text, "# {heading}\n").expect("a string");
        for (name, said) in rows {
            writeln!(text, "{name}:\n{said}").expect("a string");
        }
    }
    assert!(sections.iter().map(|section| section.rows.len()).sum::<usize>() >= 60);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hostile_registries.txt");
    if std::env::var_os("KHARON_BLESS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file is there");
    for (found, expected) in text.split("\n\n").zip(golden.split("\n\n")) {
        assert_eq!(found, expected);
    }
    assert_eq!(text.len(), golden.len());
}
