//! The writer, judged by the `zip` crate and by every zip tool that is installed.

mod payload_kit;

use payload_kit::{open, parts};

#[test]
fn a_written_payload_opens_and_verifies() {
    let payload = open(&parts().write()).expect("a good payload opens");
    let report = kharon::verify::verify(&payload, &kharon::progress::Silent);
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.entries, 11);
}
