//! The admin API: HTTP/JSON over the Unix socket of a node's home.
//!
//! | Call | Answer |
//! |---|---|
//! | `GET /v1/status` | [`NodeStatus`](crate::status::NodeStatus) |
//! | `GET /v1/links` | list of [`LinkStatus`](crate::status::LinkStatus) |
//! | `GET /v1/listeners` | list of [`ListenerStatus`](crate::status::ListenerStatus) |
//! | `GET /v1/connectors` | list of [`ConnectorStatus`](crate::status::ConnectorStatus) |
//! | `GET /v1/credentials` | list of [`CredentialStatus`](crate::status::CredentialStatus) |
//! | `GET /v1/authorities` | list of [`AuthorityStatus`] |
//! | `GET /v1/faults` | [`Faults`](crate::status::Faults) |
//! | `GET /v1/telemetry` | list of [`StationView`](crate::telemetry::StationView) |
//! | `GET /v1/telemetry/reporters` | [`RolloutQuestion`](crate::telemetry::RolloutQuestion) -> [`Rollout`](crate::telemetry::Rollout) |
//! | `GET /v1/services` | list of [`ServiceView`](crate::telemetry::ServiceView) |
//! | `GET /v1/instances` | [`OfService`](crate::telemetry::OfService) -> list of [`InstanceView`](crate::telemetry::InstanceView) |
//! | `GET /v1/endpoints` | [`OfService`](crate::telemetry::OfService) -> list of [`EndpointView`](crate::telemetry::EndpointView) |
//! | `GET /v1/traces` | [`TraceSearch`](crate::telemetry::TraceSearch) -> list of [`TraceLine`](crate::telemetry::TraceLine) |
//! | `GET /v1/trace` | [`TraceWanted`](crate::telemetry::TraceWanted) -> [`Trace`](crate::telemetry::Trace) |
//! | `GET /v1/logs` | [`LogSearch`](crate::telemetry::LogSearch) -> list of [`LogLine`](crate::telemetry::LogLine) |
//! | `GET /v1/events` | [`EventSearch`](crate::telemetry::EventSearch) -> list of [`EventLine`](crate::telemetry::EventLine) |
//! | `GET /v1/metrics` | [`MetricSearch`](crate::telemetry::MetricSearch) -> list of [`MetricView`](crate::telemetry::MetricView) |
//! | `GET /v1/metrics/newest` | [`NewestSearch`](crate::telemetry::NewestSearch) -> list of [`NewestMetric`](crate::telemetry::NewestMetric) |
//! | `GET /v1/audit` | [`AuditSearch`] -> list of [`AuditRowView`](crate::audit::AuditRowView) |
//! | `GET /v1/audit/export` | [`ExportAudit`] -> [`ExportPage`] |
//! | `GET /v1/audit/verification` | [`VerifyAudit`] -> [`VerificationView`](crate::audit::VerificationView) |
//! | `GET /v1/certificates` | [`FindIssued`] -> list of [`IssuedView`] |
//! | `GET /v1/approvals` | list of [`PendingApproval`] |
//! | `GET /v1/policies` | [`PolicyListing`] |
//! | `GET /v1/policies/test` | [`TestPolicy`] -> [`PolicyVerdict`] |
//! | `GET /v1/openapi.json` | the description of all of this |
//! | `POST /v1/certificates` | [`IssueCertificate`] -> [`IssuedCertificate`] |
//! | `POST /v1/exports` | [`RecordExport`] -> [`RecordedExport`] |
//! | `POST /v1/authorities/protection` | [`ProtectKeys`] -> [`KeysProtected`] |
//! | `POST /v1/authorities/requests` | [`RequestAuthorities`] -> [`RequestedAuthorities`] |
//! | `POST /v1/authorities/certificates` | [`InstallAuthorities`] -> [`InstalledAuthorities`] |
//! | `POST /v1/tokens` | [`IssueToken`] -> [`IssuedToken`] |
//! | `POST /v1/redemptions` | [`RedeemToken`] -> [`RedeemedToken`] |
//! | `GET /v1/revocations` | list of [`RevokedCertificate`] |
//! | `POST /v1/revocations` | [`Revoke`] -> [`Revoked`] |
//! | `POST /v1/renewals` | [`Renew`] -> [`Renewals`] |
//! | `POST /v1/approvals` | [`Approve`] -> [`Approved`] |
//! | `POST /v1/rotations` | [`Rotate`] -> [`AuthorityStatus`] |
//! | `POST /v1/taints` | [`Taint`] -> [`AuthorityStatus`] |
//! | `POST /v1/rollbacks` | [`RollBack`] -> [`AuthorityStatus`] |
//!
//! Every route has an [`Action`], and whoever calls is asked about before the call is made
//! ([`Node::authorize`]). A call that fails is answered with a [`Refusal`]; one that waits for a second
//! person with a [`PendingApproval`] and status 202. The node implements [`Node`]; [`AdminSocket`]
//! serves it to users of the machine, by the kernel's word on who they are, and [`AdminPort`] to
//! operators elsewhere, by their certificates; [`Client`] calls it over either.

mod actions;
mod approval;
mod audit;
mod ca;
mod ceremony;
mod client;
mod export;
mod issue;
mod issued;
mod listing;
mod message;
mod node;
mod policy;
mod port;
mod remote;
mod revoke;
mod router;
mod routes;
mod schema;
mod socket;

pub use actions::{Action, Group, UnknownAction};
pub use approval::{Approve, Approved, Held, PendingApproval};
pub use audit::{AuditSearch, ExportAudit, ExportPage, VerifyAudit};

pub use ca::{
    AuthorityKey, AuthorityStatus, KeptKey, LaggardStatus, RollBack, Rotate, RotationStatus, Taint,
};
pub use ceremony::{
    InstallAuthorities, InstalledAuthorities, InstalledAuthority, KeysProtected, ProtectKeys,
    ProtectedKeys, RequestAuthorities, RequestedAuthorities, RequestedAuthority,
};
pub use client::{Client, ClientError};
pub use export::{RecordExport, RecordedExport};
pub use issue::{IssueCertificate, IssuedCertificate};
pub use issued::{FindIssued, IssuedView};
pub use message::{
    IssueToken, IssuedToken, RedeemToken, RedeemedToken, Refusal, RefusalCode, Renew, Renewal,
    RenewalOutcome, Renewals,
};
pub use node::{Node, Permit};
pub use policy::{PolicyListing, PolicyVerdict, PolicyView, TestPolicy};
pub use port::{ADMIN_ALPN, AdminPort, AdminPortError};
pub use remote::{NodeUrl, NodeUrlError, Remote};
pub use revoke::{Revoke, Revoked, RevokedCertificate};
pub use router::{list, router};
pub use routes::Route;
pub(crate) use routes::json_fault;
pub use schema::Described;
#[cfg(feature = "schema")]
pub use schema::SchemaOf;
pub use socket::{AdminSocket, SocketError};
