//! The main job, from one registry to another: through the library, and through the binary as people
//! type it. Both registries are test registries, whose journals say what was really sent.

#[path = "../support/mod.rs"]
mod support;

mod kit;
mod lying_source;

mod bad_input;
mod baseline;
mod cli;
mod deltas;
mod expanded;
mod extract;
mod hostile;
mod inventory;
mod kills;
mod lists;
mod mirrors;
mod nothing_lost;
mod platforms;
mod push;
mod queue;
mod receipts;
mod referrers;
mod repositories;
mod resume;
mod resume_push;
mod rewritten;
mod save;
mod schema1;
mod served;
mod served_copies;
mod served_folder;
mod served_names;
mod signals;
mod signed;
mod sweeps;
mod transfer;
mod volumes;
