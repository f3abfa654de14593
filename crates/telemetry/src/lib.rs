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
//! port -> call -> claim judged against the caller -> record -> journal (durable, then answered)
//!                                                                |-> index -> query
//!                                                                '-> forwarder -> upstream
//! ```
//!
//! - [`station`] puts a relay or a collector together: a plan in, a status out.
//! - [`port`] lets connections in, [`caller`] is who they are, [`rules`] and [`quota`] what they may report.
//! - [`desk`] answers their calls; [`protocol`] is what agents say, [`grpc`] how it travels.
//! - [`journal`] is where accepted records lie: appended, flushed together, repaired after a crash.
//! - [`keep`] is the embedded store over it, [`forward`] the way to an [`upstream`].
//!
//! It never decides about certificates: configurations of TLS come from the caller.

pub mod caller;
pub mod census;
pub mod counts;
pub mod desk;
pub mod forward;
pub mod grpc;
pub mod journal;
pub mod keep;
pub mod port;
pub mod protocol;
pub mod quota;
mod record;
mod remedy;
pub mod rules;
pub mod sink;
pub mod station;
pub mod upstream;
mod workshop;

pub use crate::record::{Record, RecordKind, UnknownRecordKind};
