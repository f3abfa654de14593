//! The `handfast` command as its users meet it: the real binary, what it prints, and how it exits.
//!
//! No node runs here; where an answer of one is needed, a stub serves the admin socket. Whole nodes are in `tests/`.

mod agent_certs;
mod certificates;
mod desk;
mod errors;
mod exchange;
mod records;
mod reference;
mod resources;
mod stations;
mod with_node;
