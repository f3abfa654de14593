//! `POST /v1/exports`: the record that parts of a credential are taken out of the home. The files
//! themselves do not go this way: whoever may read the home takes them, once this is on record.

use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// What is about to be exported, or could not be.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RecordExport {
    /// The name of the credential.
    pub name: String,
    /// Which parts, in which form, and where to: in words.
    pub what: String,
    /// Whether the private key is among them.
    pub private_key: bool,
    /// Why, in the words of whoever exports; may be empty.
    pub reason: String,
    /// Why nothing came of one that was recorded before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The answer to [`RecordExport`]: it is in the audit log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecordedExport {
    /// The number of its row.
    pub sequence: u64,
}

impl About for RecordExport {
    fn about(&self) -> Vec<Target> {
        vec![Target::Credential(self.name.clone())]
    }
}
