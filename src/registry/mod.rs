//! One registry's verbs over HTTP.

mod bounded_file;
pub mod connection;
mod search_paths;
