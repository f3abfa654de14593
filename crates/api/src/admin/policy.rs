//! Policies over the admin API: which are in force, and what they say of a case.

use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// `GET /v1/policies`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyListing {
    /// Those in force.
    pub policies: Vec<PolicyView>,
    /// Why what lies in the home is not what is in force; empty when it is.
    pub faults: Vec<String>,
}

/// One policy in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// By which verdicts and the audit log name it.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Where it is from: `built in`, a resource, or a file.
    pub source: String,
}

/// `GET /v1/policies/test`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TestPolicy {
    /// Who would ask: `uid:1000`, or an operator's SPIFFE ID.
    pub principal: String,
    /// For what, such as `certificate.issue`.
    pub action: String,
    /// Of what, such as `site` or `authority/root`; the site when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl About for TestPolicy {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// What the policies say of a case.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyVerdict {
    /// Whether it would be allowed.
    pub allowed: bool,
    /// The policies that decided: those that permit it, or those that forbid it. Empty when no policy
    /// permits it.
    pub policies: Vec<String>,
    /// In words.
    pub reason: String,
    /// Whether a second person would have to approve it.
    pub needs_second_person: bool,
}
