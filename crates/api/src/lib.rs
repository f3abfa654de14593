//! The admin surface: resources, the admin API and its client, token redemption over HTTP.
//!
//! This crate is the edge: it turns bytes that people and peers send (YAML, JSON, HTTP) into types,
//! and types back into what they read. It decides nothing about certificates (that is
//! `handfast-authority`) and carries no traffic (that is `handfast-network`).

pub mod access;
pub mod admin;
pub mod audit;
pub mod configuration;
pub mod distribution;
mod exchange;
mod gate;
pub mod grants;
pub mod health;
pub mod lookup;
pub mod notify;
pub mod resources;
pub mod secret;
pub mod serve;
pub mod skywalking;
pub mod status;
pub mod telemetry;
