//! Flows between two real sites over loopback sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod flows;
mod links;
mod pair;
