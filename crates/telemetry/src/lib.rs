//! Telemetry over mutual TLS: what agents report is received from whoever may report it, made
//! durable, kept or passed on.
//!
//! Two things are made of the same parts. A **relay** stands beside agents, takes what they say in
//! the clear on loopback and carries it over mutual TLS; a **collector** stands at the far end, knows by
//! its certificate who is speaking, and keeps what was said or forwards it to an OAP or an OTLP backend.
//!
//! One flow runs through both:
//!
//! ```text
//! port -> call -> claim judged against the peer -> record -> journal (durable, then answered)
//!                                                              |-> index -> query
//!                                                              '-> forwarder -> upstream
//! ```
//!
//! - [`protocol`] is what agents say: methods, messages, who a message claims to come from. Pure.
//! - [`grpc`] is how it travels: messages and statuses over HTTP/2.
//! - [`journal`] is where accepted records lie: appended, flushed together, repaired after a crash.
//!
//! It never decides about certificates: configurations of TLS come from the caller.

pub mod grpc;
pub mod journal;
pub mod protocol;
mod record;

pub use crate::record::{Record, RecordKind, UnknownRecordKind};
