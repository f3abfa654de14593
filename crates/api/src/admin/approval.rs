//! What waits for a second person: messages, and the call that is kept until then.

use hyper::body::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::actions::Action;
use crate::access::{About, Caller, Target};

/// A call that is not made before a second person approves it.
#[derive(Clone, Debug)]
pub struct Held {
    /// What it does.
    pub action: Action,
    /// What it is about.
    pub targets: Vec<Target>,
    /// The path it was sent to.
    pub path: String,
    /// Its body.
    pub body: Bytes,
    /// Who asked.
    pub requested_by: Caller,
}

/// A call that waits for a second person. The answer to such a call (with status 202), and an entry of
/// `GET /v1/approvals`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PendingApproval {
    /// By which it is approved.
    pub id: String,
    /// What will be done, in the word of policies.
    pub action: String,
    /// To what.
    pub targets: Vec<String>,
    /// Who asked for it, and so cannot approve it.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// After this it is forgotten.
    pub expires_at: Timestamp,
}

/// `POST /v1/approvals`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Approve {
    /// Which one.
    pub id: String,
}

impl About for Approve {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// The answer to [`Approve`]: it was done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// Which one.
    pub id: String,
    /// What was done.
    pub action: String,
    /// Who had asked for it.
    pub requested_by: String,
    /// Who approved it.
    pub approved_by: String,
    /// What the one who asked would have been answered, had no second person been needed.
    pub answer: serde_json::Value,
}
