//! The `handfast` binary.
fn main() {}
