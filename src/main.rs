//! The `kharon` command.

fn main() {}
