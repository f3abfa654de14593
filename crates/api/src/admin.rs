//! The admin API: HTTP/JSON over the Unix socket of a node's home.
//!
//! | Call | Answer |
//! |---|---|
//! | `GET /v1/status` | [`NodeStatus`](crate::status::NodeStatus) |
//! | `GET /v1/links` | list of [`LinkStatus`](crate::status::LinkStatus) |
//! | `GET /v1/listeners` | list of [`ListenerStatus`](crate::status::ListenerStatus) |
//! | `GET /v1/connectors` | list of [`ConnectorStatus`](crate::status::ConnectorStatus) |
//! | `GET /v1/credentials` | list of [`CredentialStatus`](crate::status::CredentialStatus) |
//! | `GET /v1/faults` | [`Faults`](crate::status::Faults) |
//! | `POST /v1/tokens` | [`IssueToken`] -> [`IssuedToken`] |
//! | `POST /v1/redemptions` | [`RedeemToken`] -> [`RedeemedToken`] |
//! | `POST /v1/renewals` | [`Renew`] -> [`Renewals`] |
//!
//! A call that fails is answered with a [`Refusal`]. The node implements [`Node`]; [`AdminSocket`]
//! serves it; [`Client`] calls it. Who may call is decided by the kernel's word on the peer's uid.

mod client;
mod message;
mod node;
mod router;
mod socket;

pub use client::{Client, ClientError};
pub use message::{
    IssueToken, IssuedToken, RedeemToken, RedeemedToken, Refusal, RefusalCode, Renew, Renewal,
    RenewalOutcome, Renewals,
};
pub use node::Node;
pub(crate) use router::json_fault;
pub use router::router;
pub use socket::{AdminSocket, SocketError};
