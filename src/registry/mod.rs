//! One registry's verbs over HTTP.

mod bounded_file;
pub mod connection;
pub mod credentials;
mod search_paths;
