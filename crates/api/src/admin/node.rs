//! What a node must be able to do for the admin API. Implemented by the binary, and by tests.

use std::future::Future;

use super::message::{
    IssueToken, IssuedToken, RedeemToken, RedeemedToken, Refusal, Renew, Renewals,
};
use crate::status::{
    ConnectorStatus, CredentialStatus, Faults, LinkStatus, ListenerStatus, NodeStatus,
};

/// A running node. Write the methods as `async fn`.
///
/// The connection a call came over may be cut while the call runs (the client went away, or
/// [`Limits::lifetime`](crate::serve::Limits::lifetime) is over): the future is dropped then, so work that must be
/// finished belongs into a task of the node's own.
pub trait Node: Send + Sync + 'static {
    /// The node at one glance.
    fn status(&self) -> impl Future<Output = NodeStatus> + Send;

    /// Links in both directions.
    fn links(&self) -> impl Future<Output = Vec<LinkStatus>> + Send;

    /// Listeners.
    fn listeners(&self) -> impl Future<Output = Vec<ListenerStatus>> + Send;

    /// Connectors.
    fn connectors(&self) -> impl Future<Output = Vec<ConnectorStatus>> + Send;

    /// Credentials, signing ones included.
    fn credentials(&self) -> impl Future<Output = Result<Vec<CredentialStatus>, Refusal>> + Send;

    /// What is wrong, and who was refused.
    fn faults(&self) -> impl Future<Output = Faults> + Send;

    /// Makes an access grant and the token for it.
    fn issue_token(
        &self,
        request: IssueToken,
    ) -> impl Future<Output = Result<IssuedToken, Refusal>> + Send;

    /// Redeems another site's token: returns when the credential is stored and the link declared.
    fn redeem_token(
        &self,
        request: RedeemToken,
    ) -> impl Future<Output = Result<RedeemedToken, Refusal>> + Send;

    /// Renews credentials now: returns when each is proven and in use, or has failed.
    fn renew(&self, request: Renew) -> impl Future<Output = Result<Renewals, Refusal>> + Send;
}
