//! The `natv2` command.
fn main() {}
