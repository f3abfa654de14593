//! The settings of SkyWalking's Java agent as our types, for a relay: its environment variables, and the files beside it.
//! Whoever has them keeps them.
//!
//! What is decided is pure ([`AgentEnvironment`], [`Material::decide`]); the environment comes in as a map. [`MaterialFiles`] looks at the files and keeps looking. Where SkyWalking's programs go on without TLS because
//! something is missing or broken, this does not.

mod environment;
mod files;
mod material;

pub use environment::{AgentEnvironment, EnvironmentFault};
pub use files::{MaterialFiles, NamedFiles};
pub use material::{Material, MaterialFault, MaterialTrust, Seen, Sighted, Sought};
