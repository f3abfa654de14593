//! What agents say: methods, messages, and who a message claims to come from. Pure: no sockets.
//!
//! - [`method`] is the table of what agents call, and what becomes of each call.
//! - [`claim`] finds who a message says it comes from; [`carry`] what it leaves out because an earlier
//!   one of its stream said it; [`collection`] takes apart what is several messages in one.
//! - [`json`] is what is posted over HTTP.
//! - [`zipkin`], [`telegraf`] and [`firehose`] are told in OpenTelemetry's words where they come in.
//! - [`otlp_export`] tells what SkyWalking's agents said in OpenTelemetry's words.
//! - [`sw8`] is how traces are handed on, and taken off at the edge.
//! - [`view`] is what is in a record, for those who index and draw it.

pub mod carry;
pub mod claim;
pub mod collection;
pub mod firehose;
pub mod json;
pub mod method;
mod otlp;
pub mod otlp_export;
pub mod sw8;
pub mod telegraf;
pub mod view;
mod wire;
pub mod zipkin;

pub(crate) use otlp::partial_success;
pub use wire::{Fault, Malformed, Place};
