//! kharon carries container images across an air gap.
//!
//! ```text
//! registry ─┐                                                            ┌─ registry
//!           ├─ make-payload ── payload.zip (only what is missing) ── push-payload
//! baseline ─┘                                                            │
//! ```

pub mod digest;
pub mod failure;
pub mod inspect;
pub mod layout;
pub mod make;
pub mod manifest;
pub mod names;
pub mod payload;
pub mod plan;
pub mod platform;
pub mod progress;
pub mod push;
pub mod reference;
pub mod registry;
pub mod serve;
pub mod terminal;
pub mod units;
pub mod verify;
