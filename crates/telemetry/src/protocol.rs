//! What agents say: methods, messages, and who a message claims to come from. Pure: no sockets.

pub mod claim;
pub mod json;
pub mod method;
pub mod sw8;
mod wire;
