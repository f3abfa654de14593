//! Connections we trust: configurations of rustls from credentials, swapped live; who is at the
//! other end; and faults, which say why a connection did not come about, whose fault it is and
//! what to do.
//!
//! This is the only crate of the house that builds rustls configurations. It knows nothing of
//! sites or services, keeps no credentials, and trusts only what it is given: the system's store is
//! read where a caller asks for [`SystemTrust`], and nowhere else. Time comes from the caller, or from the [`Clock`] of the options.
//!
//! - [`server_config`] and [`client_config`] build; [`check`] proves a credential before it goes
//!   live; [`Live`] swaps it without touching open connections.
//! - [`Revocations`] is what is revoked, looked up by every verifier built with it at every handshake.
//! - [`Peer::of`] and [`Session::of`] read a completed handshake, over any kind of rustls connection.
//! - [`fault_of`] and [`fault_of_io`] turn errors into a [`Fault`]; [`watched`] keeps the precise
//!   reason without spoiling the TLS alert.
//! - [`accept`] and [`connect`] do it all over tokio sockets; [`probe`] looks at any server, and plays an
//!   impostor to try refusals out.

mod check;
mod config;
mod diagnosis;
mod fault;
mod first_bytes;
mod handshake;
mod identity;
mod live;
mod options;
mod peer;
pub mod probe;
mod provider;
mod refusal;
mod revocation;
mod session;
mod staple;
mod trust;
mod unchecked;
mod verifier;

pub use crate::check::check;
pub use crate::config::{client_config, client_config_trusting, server_config};
pub use crate::fault::{
    Attempt, Fault, FaultCode, Role, Side, UnknownFaultCode, fault_of, fault_of_credential,
    fault_of_file, fault_of_io, timed_out,
};
pub use crate::first_bytes::{FirstBytes, SNIFF_LIMIT, sniff};
pub use crate::handshake::{LINGER, accept, connect, server_name};
pub use crate::identity::IdentityRule;
pub use crate::live::Live;
pub use crate::options::{ClientAuth, ClientOptions, Clock, Floor, LINK_ALPN, ServerOptions};
pub use crate::peer::Peer;
pub use crate::provider::provider;
pub use crate::refusal::{Refusal, watched, watched_async};
pub use crate::revocation::{
    RevocationCheck, RevocationList, Revocations, Revoked, RevokedInfo, Unknown,
};
pub use crate::session::Session;
pub use crate::staple::Staple;
pub use crate::trust::{ClientTrust, SystemTrust};
pub use crate::verifier::MAX_PRESENTED;
