//! What the admin API shows: JSON documents (camelCase) about a running node. Data only.
//!
//! These are the edge's own types; the node fills them from the types of the other crates. Times are
//! RFC 3339 in UTC, counts are numbers, a fault is always the same [`FaultView`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use credential::{
    CredentialSource, CredentialState, CredentialStatus, CredentialSummary, KeyPlace,
};
pub use fault::{Evidence, FaultSide, FaultView};
pub use traffic::{
    ConnectorStatus, EdgeState, LinkDirection, LinkState, LinkStatus, ListenerStatus, PeerView,
    SessionView,
};

mod credential;
mod fault;
mod traffic;

/// `GET /v1/status`: the node at one glance.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The site's name; absent until one is declared.
    pub site: Option<String>,
    /// The trust domain of the identities that this site signs.
    pub trust_domain: Option<String>,
    /// Version of the program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its home directory.
    pub home: String,
    /// When it started.
    pub started_at: Timestamp,
    /// What it is doing.
    pub state: NodeState,
    /// Where other sites can link to it.
    pub accesses: Vec<AccessStatus>,
    /// Links in both directions.
    pub links: Vec<LinkStatus>,
    /// Listeners.
    pub listeners: Vec<ListenerStatus>,
    /// Connectors.
    pub connectors: Vec<ConnectorStatus>,
    /// Why it is not known how accesses, links, listeners and connectors are: none of them is listed then. Absent while it is
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_unknown: Option<String>,
    /// Credentials in figures; `GET /v1/credentials` has each.
    pub credentials: CredentialSummary,
    /// What is wrong, the gravest first.
    pub problems: Vec<ProblemView>,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Something declared does not work; the rest does. See `problems`.
    Degraded,
    /// It finishes what is open and takes nothing new.
    Draining,
    /// Everything declared works.
    Ready,
    /// Not everything has been set up yet.
    Starting,
}

/// Where other sites can link to this one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// Name of the RouterAccess.
    pub name: String,
    /// The link port's address, as bound.
    pub bind: Option<String>,
    /// The hosts under which other sites reach it.
    pub hosts: Vec<String>,
    /// The link port.
    pub port: u16,
    /// Where access tokens are redeemed.
    pub grant_url: Option<String>,
    /// Whether it is open.
    pub state: EdgeState,
    /// Why it is not.
    pub fault: Option<FaultView>,
}

/// Something that needs attention.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// How grave it is.
    pub severity: ProblemSeverity,
    /// What it is about: `Listener/payments`, `credential/handfast-site-server`, ...
    pub subject: String,
    /// The file, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// How grave a problem is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProblemSeverity {
    /// Something declared does not work.
    Error,
    /// Something declared has no effect, or will stop working.
    Warning,
}

impl From<&crate::resources::ResourceFault> for ProblemView {
    fn from(fault: &crate::resources::ResourceFault) -> Self {
        let subject = match (fault.kind, &fault.name) {
            (Some(kind), Some(name)) => format!("{kind}/{name}"),
            (Some(kind), None) => kind.to_string(),
            (None, _) => "resource file".to_owned(),
        };
        Self {
            severity: match fault.severity {
                crate::resources::Severity::Error => ProblemSeverity::Error,
                crate::resources::Severity::Warning => ProblemSeverity::Warning,
            },
            subject,
            file: Some(fault.file.display().to_string()),
            line: fault.line,
            message: fault.what.clone(),
            remedy: fault.remedy.clone(),
        }
    }
}

/// `GET /v1/faults`: everything that is wrong now, and who was refused lately.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Faults {
    /// What is wrong now.
    pub problems: Vec<ProblemView>,
    /// Connections that were refused, the latest first; a bounded number of them.
    pub refusals: Vec<RefusalView>,
}

/// A connection that was refused.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RefusalView {
    /// When.
    pub at: Timestamp,
    /// Where it came from, or where it went to.
    pub peer: String,
    /// On which port or link.
    pub on: String,
    /// Why.
    pub fault: FaultView,
}
