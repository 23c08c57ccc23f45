//! The `kharon` command.

use std::{env, process};

fn main() -> process::ExitCode {
    process::ExitCode::from(kharon::cli::start(env::args_os()))
}
