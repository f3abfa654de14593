//! What agents say: methods, messages, and who a message claims to come from. Pure: no sockets.

pub mod claim;
pub mod method;
mod wire;
