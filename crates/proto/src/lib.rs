//! The wire between nodes: message definitions and their committed Rust. No logic.
