//! For tests only: a test authority, clocks, and a harness for whole nodes.
#![expect(
    clippy::missing_panics_doc,
    reason = "a failed helper fails its test; that is its report"
)]

pub mod agents;
pub mod authority;
pub mod eventually;
pub mod faults;
pub mod files;
pub mod hook;
pub mod lists;
pub mod openssl;
pub mod place;
pub mod site;
pub mod traffic;
