//! The main job as people do it: the built program between registries and clients that others wrote.
//!
//! Every test is ignored unless asked for, as it needs programs that are not Rust's; `.ci/run` installs
//! them and asks. What needs more than Debian's packages stands in a module with that program's name.

mod access;
mod artifacts;
mod charon;
mod chunks;
mod content;
#[cfg(unix)]
mod engine;
mod expected;
mod extracted;
mod kit;
mod layouts;
#[cfg(unix)]
mod loaded;
mod payloads_served;
mod pipes;
mod receipts;
mod referrers;
mod resume;
mod saved;
mod schema1;
mod served;
mod signed;
mod sparse;
mod transfer;
mod volumes;

#[cfg(unix)]
#[path = "../support/awkward.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod awkward;
#[path = "../support/fixtures.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod fixtures;
#[path = "../support/images.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod images;
#[path = "../support/schema1.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod old_images;
#[path = "../support/real.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod real;
