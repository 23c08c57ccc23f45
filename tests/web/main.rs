//! `kharon serve --web`: what is downloaded, what is refused, and that the API is what its document says.

#[path = "../support/mod.rs"]
mod support;

mod kit;

mod api;
mod cli;
mod downloads;
mod logins;
mod reach;
