//! The quickstart does what it says, and notices when it did not.

#[path = "../examples/quickstart.rs"]
#[expect(dead_code, reason = "its `main` only opens stdout")]
mod quickstart;

use std::fs;

const README: &str = include_str!("../README.md");

#[tokio::test]
async fn the_quickstart_carries_a_full_image_and_then_only_what_is_new() {
    let mut output = Vec::new();
    quickstart::run(&mut output).await.expect("everything arrives");
    let text = String::from_utf8(output).expect("text");
    let row = |image: &str| {
        let line = text.lines().find(|line| line.starts_with(image)).expect(image);
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<f64>>()
    };
    let (full, upgrade) = (row("worldclock:v1"), row("worldclock:v2"));
    // Carried, expected, bytes, seconds: the base and the dictionary do not travel twice.
    assert_eq!((full[0], full[1], upgrade[1]), (5.0, 0.0, 2.0), "{text}");
    assert!(upgrade[2] < full[2], "{text}");
    for line in text.lines().skip(2) {
        // Times differ from run to run.
        let steady = line.rsplit_once(' ').filter(|_| line.contains(" blobs"));
        let steady = steady.map_or(line, |(columns, _)| columns.trim_end());
        assert!(README.contains(steady), "README.md does not show `{line}`");
    }
}

#[tokio::test]
async fn the_quickstart_notices_a_far_side_that_differs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [near, far] = ["near/worldclock", "far/worldclock"].map(|name| folder.path().join(name));
    for copy in [&near, &far] {
        quickstart::copy_folder(&quickstart::fixture(), copy).expect("a copy");
    }
    let index = fs::read_to_string(far.join("index.json")).expect("an index");
    let swapped = index.replace("\"v2\"", "\"v3\"").replace("\"v1\"", "\"v2\"");
    fs::write(far.join("index.json"), swapped).expect("another index");
    let near = quickstart::start_registry(&near).await.expect("a registry");
    let far = quickstart::start_registry(&far).await.expect("a registry");
    for (image, found) in [("worldclock:v1", "not"), ("worldclock:v2", "but")] {
        let error = quickstart::check(image, &near, &far).await.expect_err(image);
        assert!(error.to_string().contains(found), "{error}");
    }
}
