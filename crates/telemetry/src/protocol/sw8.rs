//! Interim.
/// Headers.
pub const HEADERS: &[&str] = &["sw8", "sw8-x", "sw8-correlation"];
