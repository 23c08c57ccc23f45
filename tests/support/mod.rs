//! What integration tests share: a registry inside of the test, and content to put into it.
#![expect(dead_code, reason = "each test binary uses its own part of this")]

pub mod access;
#[cfg(unix)]
pub mod awkward;
pub mod fault;
pub mod images;
pub mod journal;
pub mod old_registry;
pub mod registry;
pub mod schema1;
pub mod served;
pub mod tls;
