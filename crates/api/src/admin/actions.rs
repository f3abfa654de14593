//! What can be asked of a node, as stable words: every route of the admin API is one of these, and
//! policies decide by them. Who may do which is not here (see [`access`](crate::access)).

use std::fmt;
use std::str::FromStr;

/// One thing that can be asked of a node. The word never changes its meaning: policies of users
/// hold it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Action {
    /// Read the description of the API.
    ApiDescribe,
    /// Approve what somebody else asked for, under the two-person rule.
    ApprovalGive,
    /// See what waits for a second person.
    ApprovalList,
    /// Take the audit log away, with its proofs.
    AuditExport,
    /// Read the audit log.
    AuditRead,
    /// Check that the audit log was not tampered with.
    AuditVerify,
    /// Put a certificate in place that was signed elsewhere for an authority of this site.
    AuthorityInstall,
    /// Have the keys on disk encrypted, or not any more.
    AuthorityProtect,
    /// Make a request for an authority's certificate, to be signed elsewhere.
    AuthorityRequest,
    /// Take a rotation back.
    AuthorityRollback,
    /// Start or advance the rotation of an authority.
    AuthorityRotate,
    /// See the authorities and their rotations.
    AuthorityStatus,
    /// Declare an authority compromised: what it signed is re-issued at once.
    AuthorityTaint,
    /// Take a certificate and its private key away.
    CertificateExport,
    /// Have a certificate signed.
    CertificateIssue,
    /// Search the issued certificates.
    CertificateList,
    /// Revoke certificates, or end an enrolment.
    CertificateRevoke,
    /// See where services are.
    ConnectorList,
    /// See the credentials in use.
    CredentialList,
    /// Renew credentials now.
    CredentialRenew,
    /// See what is wrong, and who was refused.
    FaultList,
    /// See the links.
    LinkList,
    /// See the listeners.
    ListenerList,
    /// See the policies in force.
    PolicyList,
    /// Ask what the policies say of a case.
    PolicyTest,
    /// See revocations.
    RevocationList,
    /// See the node at one glance.
    StatusRead,
    /// Throw away what a backend refused for good.
    TelemetryDrop,
    /// Read what services report: traces, logs, events, metrics.
    TelemetryRead,
    /// Send again what a backend refused for good.
    TelemetryRetry,
    /// See collectors and relays, and who reports to them.
    TelemetryStatus,
    /// Make a token that lets another site link to this one.
    TokenIssue,
    /// Redeem another site's token.
    TokenRedeem,
}

/// What an action does to the node, by which the built-in roles are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// Reads the audit log.
    Audit,
    /// Signs or revokes certificates of leaves.
    Issue,
    /// Keeps the network going: links, tokens, renewals.
    Operate,
    /// Touches what trust rests on.
    Secure,
    /// Reads what holds no secrets.
    View,
}

impl Group {
    /// Every group, in the order of their names.
    pub const ALL: [Self; 5] = [Self::Audit, Self::Issue, Self::Operate, Self::Secure, Self::View];

    /// The word for it in policies: `Action::"view"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Issue => "issue",
            Self::Operate => "operate",
            Self::Secure => "secure",
            Self::View => "view",
        }
    }
}

impl Action {
    /// Every action, in the order of their words.
    pub const ALL: [Self; 33] = [
        Self::ApiDescribe,
        Self::ApprovalGive,
        Self::ApprovalList,
        Self::AuditExport,
        Self::AuditRead,
        Self::AuditVerify,
        Self::AuthorityInstall,
        Self::AuthorityProtect,
        Self::AuthorityRequest,
        Self::AuthorityRollback,
        Self::AuthorityRotate,
        Self::AuthorityStatus,
        Self::AuthorityTaint,
        Self::CertificateExport,
        Self::CertificateIssue,
        Self::CertificateList,
        Self::CertificateRevoke,
        Self::ConnectorList,
        Self::CredentialList,
        Self::CredentialRenew,
        Self::FaultList,
        Self::LinkList,
        Self::ListenerList,
        Self::PolicyList,
        Self::PolicyTest,
        Self::RevocationList,
        Self::StatusRead,
        Self::TelemetryDrop,
        Self::TelemetryRead,
        Self::TelemetryRetry,
        Self::TelemetryStatus,
        Self::TokenIssue,
        Self::TokenRedeem,
    ];

    /// The stable word, as policies and the audit log hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiDescribe => "api.describe",
            Self::ApprovalGive => "approval.give",
            Self::ApprovalList => "approval.list",
            Self::AuditExport => "audit.export",
            Self::AuditRead => "audit.read",
            Self::AuditVerify => "audit.verify",
            Self::AuthorityInstall => "authority.install",
            Self::AuthorityProtect => "authority.protect",
            Self::AuthorityRequest => "authority.request",
            Self::AuthorityRollback => "authority.rollback",
            Self::AuthorityRotate => "authority.rotate",
            Self::AuthorityStatus => "authority.status",
            Self::AuthorityTaint => "authority.taint",
            Self::CertificateExport => "certificate.export",
            Self::CertificateIssue => "certificate.issue",
            Self::CertificateList => "certificate.list",
            Self::CertificateRevoke => "certificate.revoke",
            Self::ConnectorList => "connector.list",
            Self::CredentialList => "credential.list",
            Self::CredentialRenew => "credential.renew",
            Self::FaultList => "fault.list",
            Self::LinkList => "link.list",
            Self::ListenerList => "listener.list",
            Self::PolicyList => "policy.list",
            Self::PolicyTest => "policy.test",
            Self::RevocationList => "revocation.list",
            Self::StatusRead => "status.read",
            Self::TelemetryDrop => "telemetry.drop",
            Self::TelemetryRead => "telemetry.read",
            Self::TelemetryRetry => "telemetry.retry",
            Self::TelemetryStatus => "telemetry.status",
            Self::TokenIssue => "token.issue",
            Self::TokenRedeem => "token.redeem",
        }
    }

    /// What it does to the node.
    pub fn group(self) -> Group {
        match self {
            Self::AuditExport | Self::AuditRead | Self::AuditVerify => Group::Audit,
            Self::CertificateIssue | Self::CertificateRevoke => Group::Issue,
            Self::CredentialRenew
            | Self::TelemetryDrop
            | Self::TelemetryRetry
            | Self::TokenIssue
            | Self::TokenRedeem => Group::Operate,
            Self::ApprovalGive
            | Self::AuthorityInstall
            | Self::AuthorityProtect
            | Self::AuthorityRequest
            | Self::AuthorityRollback
            | Self::AuthorityRotate
            | Self::AuthorityTaint
            | Self::CertificateExport => Group::Secure,
            Self::ApiDescribe
            | Self::ApprovalList
            | Self::AuthorityStatus
            | Self::CertificateList
            | Self::ConnectorList
            | Self::CredentialList
            | Self::FaultList
            | Self::LinkList
            | Self::ListenerList
            | Self::PolicyList
            | Self::PolicyTest
            | Self::RevocationList
            | Self::StatusRead
            | Self::TelemetryRead
            | Self::TelemetryStatus => Group::View,
        }
    }

    /// Whether it changes something or takes a secret away, so that it is recorded also when it is
    /// allowed.
    pub fn acts(self) -> bool {
        !matches!(self.group(), Group::Audit | Group::View)
    }

    /// Whether it is one of those that the two-person rule is about, when they concern the root.
    pub fn moves_trust(self) -> bool {
        matches!(
            self,
            Self::AuthorityInstall
                | Self::AuthorityRollback
                | Self::AuthorityRotate
                | Self::AuthorityTaint
                | Self::CertificateRevoke
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| UnknownAction { text: text.chars().take(80).collect() })
    }
}

/// A text that names no action.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "there is no action {text:?}; see the list in docs/book/access.md, for example certificate.issue"
)]
pub struct UnknownAction {
    /// The text, shortened to 80 characters.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_in_order_and_read_back() {
        let words: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
        let mut sorted = words.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(words, sorted);
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        assert!("root".parse::<Action>().is_err());
    }

    /// The groups of actions and the actions themselves share one name space in policies.
    #[test]
    fn no_group_has_the_name_of_an_action() {
        for group in Group::ALL {
            assert!(group.as_str().parse::<Action>().is_err());
        }
    }
}
