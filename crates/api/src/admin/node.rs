//! What a node must be able to do for the admin API. Implemented by the binary, and by tests.

use std::future::Future;
use std::sync::Arc;

use handfast_telemetry::forward::Forwarder;
use handfast_telemetry::keep::KeepReader;
use jiff::Timestamp;

use super::actions::Action;
use super::approval::{Held, PendingApproval};
use super::audit::{AuditSearch, ExportAudit, ExportPage, VerifyAudit};
use super::ca::{AuthorityStatus, RollBack, Rotate, Taint};
use super::ceremony::{
    InstallAuthorities, InstalledAuthorities, KeysProtected, ProtectKeys, RequestAuthorities,
    RequestedAuthorities,
};
use super::export::{RecordExport, RecordedExport};
use super::issue::{IssueCertificate, IssuedCertificate};
use super::issued::{FindIssued, IssuedView};
use super::message::{
    IssueToken, IssuedToken, RedeemToken, RedeemedToken, Refusal, Renew, Renewals,
};
use super::policy::{PolicyListing, PolicyVerdict, TestPolicy};
use super::revoke::{Revoke, Revoked, RevokedCertificate};
use crate::access::{Caller, Target};
use crate::audit::{AuditRowView, VerificationView};
use crate::status::{
    ConnectorStatus, CredentialStatus, Faults, LinkStatus, ListenerStatus, NodeStatus,
};
use crate::telemetry::{AsideChoice, AsideDealt, Rollout, RolloutQuestion, StationView};

/// A running node. Write the methods as `async fn`.
///
/// The connection a call came over may be cut while the call runs (the client went away, or
/// [`Limits::lifetime`](crate::serve::Limits::lifetime) is over): the future is dropped then, so work that must be
/// finished belongs into a task of the node's own.
pub trait Node: Send + Sync + 'static {
    /// The node at one glance.
    fn status(&self) -> impl Future<Output = NodeStatus> + Send;

    /// Links in both directions.
    fn links(&self) -> impl Future<Output = Result<Vec<LinkStatus>, Refusal>> + Send;

    /// Listeners.
    fn listeners(&self) -> impl Future<Output = Result<Vec<ListenerStatus>, Refusal>> + Send;

    /// Connectors.
    fn connectors(&self) -> impl Future<Output = Result<Vec<ConnectorStatus>, Refusal>> + Send;

    /// Collectors and relays.
    fn stations(&self) -> impl Future<Output = Vec<StationView>> + Send;

    /// Who reports to them, and who was refused.
    fn rollout(&self, question: RolloutQuestion) -> impl Future<Output = Rollout> + Send;

    /// The stores of its collectors.
    fn kept(&self) -> impl Future<Output = Vec<KeepReader>> + Send;

    /// The way on of a collector or relay (`Collector/oap`) that forwards.
    fn forwarder(
        &self,
        station: &str,
    ) -> impl Future<Output = Result<Arc<Forwarder>, Refusal>> + Send;

    /// Has what lies aside there sent again: it is in the spool when this returns.
    fn retry_aside(
        &self,
        caller: &Caller,
        request: AsideChoice,
    ) -> impl Future<Output = Result<AsideDealt, Refusal>> + Send;

    /// Throws away what lies aside there.
    fn drop_aside(
        &self,
        caller: &Caller,
        request: AsideChoice,
    ) -> impl Future<Output = Result<AsideDealt, Refusal>> + Send;

    /// Credentials, signing ones included.
    fn credentials(&self) -> impl Future<Output = Result<Vec<CredentialStatus>, Refusal>> + Send;

    /// What the site has issued.
    fn issued(
        &self,
        search: FindIssued,
    ) -> impl Future<Output = Result<Vec<IssuedView>, Refusal>> + Send;

    /// Rows of the audit log.
    fn audit_rows(
        &self,
        search: AuditSearch,
    ) -> impl Future<Output = Result<Vec<AuditRowView>, Refusal>> + Send;

    /// A page of an export of the audit log.
    fn export_audit(
        &self,
        question: ExportAudit,
    ) -> impl Future<Output = Result<ExportPage, Refusal>> + Send;

    /// Whether the audit log is whole.
    fn verify_audit(
        &self,
        question: VerifyAudit,
    ) -> impl Future<Output = Result<VerificationView, Refusal>> + Send;

    /// The authorities of this site, and their rotations.
    fn authorities(&self) -> impl Future<Output = Result<Vec<AuthorityStatus>, Refusal>> + Send;

    /// Begins to rotate an authority, or makes a rotation urgent: returns when the order is recorded
    /// and the first steps are made.
    fn rotate(
        &self,
        caller: &Caller,
        request: Rotate,
    ) -> impl Future<Output = Result<AuthorityStatus, Refusal>> + Send;

    /// Rotates an authority whose key is in the wrong hands.
    fn taint(
        &self,
        caller: &Caller,
        request: Taint,
    ) -> impl Future<Output = Result<AuthorityStatus, Refusal>> + Send;

    /// Takes a rotation back that has not ended.
    fn roll_back(
        &self,
        caller: &Caller,
        request: RollBack,
    ) -> impl Future<Output = Result<AuthorityStatus, Refusal>> + Send;

    /// What is wrong, and who was refused.
    fn faults(&self) -> impl Future<Output = Faults> + Send;

    /// Whether `caller` may do `action` to every one of `targets`. Denials are in the audit log when
    /// this returns, and so are permissions for what acts; what cannot be recorded is refused.
    fn authorize(
        &self,
        caller: &Caller,
        action: Action,
        targets: &[Target],
    ) -> impl Future<Output = Result<Permit, Refusal>> + Send;

    /// The node's clock, for faults.
    fn now(&self) -> Timestamp;

    /// Keeps a call until a second person approves it.
    fn hold(&self, held: Held) -> impl Future<Output = Result<PendingApproval, Refusal>> + Send;

    /// What waits for a second person.
    fn approvals(&self) -> impl Future<Output = Vec<PendingApproval>> + Send;

    /// Hands over what waits under `id`, once, if `second` may approve it: somebody else than who
    /// asked for it, who might have asked for it too.
    fn approve(
        &self,
        second: &Caller,
        id: &str,
    ) -> impl Future<Output = Result<Held, Refusal>> + Send;

    /// The policies in force.
    fn policies(&self) -> impl Future<Output = PolicyListing> + Send;

    /// What the policies in force say of a case. Nothing is recorded.
    fn test_policy(
        &self,
        request: TestPolicy,
    ) -> impl Future<Output = Result<PolicyVerdict, Refusal>> + Send;

    /// Issues a certificate for the holder of a key: it is in the ledger when this returns.
    fn issue_certificate(
        &self,
        caller: &Caller,
        request: IssueCertificate,
    ) -> impl Future<Output = Result<IssuedCertificate, Refusal>> + Send;

    /// Records that parts of a credential are taken out of the home: in the audit log when this returns.
    fn record_export(
        &self,
        caller: &Caller,
        request: RecordExport,
    ) -> impl Future<Output = Result<RecordedExport, Refusal>> + Send;

    /// Makes an access grant and the token for it.
    fn issue_token(
        &self,
        caller: &Caller,
        request: IssueToken,
    ) -> impl Future<Output = Result<IssuedToken, Refusal>> + Send;

    /// Redeems another site's token: returns when the credential is stored and the link declared.
    fn redeem_token(
        &self,
        caller: &Caller,
        request: RedeemToken,
    ) -> impl Future<Output = Result<RedeemedToken, Refusal>> + Send;

    /// Has the keys on disk encrypted, or not any more.
    fn protect_keys(
        &self,
        caller: &Caller,
        request: ProtectKeys,
    ) -> impl Future<Output = Result<KeysProtected, Refusal>> + Send;

    /// Makes requests for certificates of authorities, to be signed elsewhere.
    fn request_authorities(
        &self,
        caller: &Caller,
        request: RequestAuthorities,
    ) -> impl Future<Output = Result<RequestedAuthorities, Refusal>> + Send;

    /// Puts certificates of authorities to use that were signed elsewhere.
    fn install_authorities(
        &self,
        caller: &Caller,
        request: InstallAuthorities,
    ) -> impl Future<Output = Result<InstalledAuthorities, Refusal>> + Send;

    /// Renews credentials now: returns when each is proven and in use, or has failed.
    fn renew(
        &self,
        caller: &Caller,
        request: Renew,
    ) -> impl Future<Output = Result<Renewals, Refusal>> + Send;

    /// Everything that this node knows to be revoked and that has not expired, the newest first.
    fn revocations(&self) -> impl Future<Output = Result<Vec<RevokedCertificate>, Refusal>> + Send;

    /// Revokes certificates: returns when that is on disk and enforced on this node.
    fn revoke(
        &self,
        caller: &Caller,
        request: Revoke,
    ) -> impl Future<Output = Result<Revoked, Refusal>> + Send;
}

/// What a caller is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Permit {
    /// To do it.
    Alone,
    /// To have it done as soon as a second person approves.
    WithSecond,
}
