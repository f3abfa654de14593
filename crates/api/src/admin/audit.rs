//! The audit log over the admin API: the rows that are wanted, and whether all of it is whole. For auditors who have no
//! account on the machine.

use handfast_store::AuditFilter;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{Client, ClientError};
use super::listing;
use crate::access::{About, Target};
use crate::audit::{AuditRowView, ExportEnd, ExportedRow, VerificationView};

/// `GET /v1/audit`: the newest rows that fit, in the order they were written. Conditions add up.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditSearch {
    /// Only rows of this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only what this actor did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only what was done to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Only rows before this number: the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many, and never more than 1000; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl AuditSearch {
    /// The most rows of one answer.
    pub const MOST: u32 = listing::MOST;

    /// The same in the words of the ledger.
    pub fn filter(&self) -> AuditFilter {
        AuditFilter {
            since: self.since,
            actor: self.actor.clone(),
            action: self.action.clone(),
            subject: self.subject.clone(),
            outcome: self.outcome.clone(),
            before: self.before,
            ..AuditFilter::newest(listing::answered(self.limit))
        }
    }
}

impl About for AuditSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// `GET /v1/audit/export`: every row of the log in order, page by page, those that fit in full and the others by their hash; and the
/// signed head over them. Conditions add up.
///
/// The first page is asked for without `size`, and brings the head over all of the export; each further one with the `size` of that head and
/// `after` the last row that is there. The log only grows, so pages fit together whatever is written meanwhile.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExportAudit {
    /// In full only rows of this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// In full only what this actor did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// In full only this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// In full only what was done to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// In full only this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Only rows after this number: the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many rows there are in the whole export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl ExportAudit {
    /// The most rows of one page.
    pub const MOST: u32 = 1_000;

    /// Which rows are there in full, in the words of the ledger.
    pub fn filter(&self) -> AuditFilter {
        AuditFilter {
            since: self.since,
            actor: self.actor.clone(),
            action: self.action.clone(),
            subject: self.subject.clone(),
            outcome: self.outcome.clone(),
            ..AuditFilter::newest(0)
        }
    }
}

impl From<&AuditFilter> for ExportAudit {
    fn from(filter: &AuditFilter) -> Self {
        Self {
            since: filter.since,
            actor: filter.actor.clone(),
            action: filter.action.clone(),
            subject: filter.subject.clone(),
            outcome: filter.outcome.clone(),
            after: None,
            size: None,
        }
    }
}

impl About for ExportAudit {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// The answer to [`ExportAudit`].
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportPage {
    /// The rows, in order; none is left out.
    pub rows: Vec<ExportedRow>,
    /// Whether rows come after these.
    pub more: bool,
    /// What comes after the last row: the head that is the newest now, and the keys. Absent while the log is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ExportEnd>,
    /// How many rows that head covers.
    pub size: u64,
}

/// `GET /v1/audit/verification`: reads the whole log.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VerifyAudit {
    /// A head that was kept elsewhere, as a signed note, to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

impl About for VerifyAudit {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl Client {
    /// Rows of the audit log.
    pub async fn audit_rows(&self, search: &AuditSearch) -> Result<Vec<AuditRowView>, ClientError> {
        self.find("/v1/audit", search).await
    }

    /// A page of an export.
    pub async fn export_audit(&self, question: &ExportAudit) -> Result<ExportPage, ClientError> {
        self.find_slowly("/v1/audit/export", question).await
    }

    /// Whether the audit log is whole.
    pub async fn verify_audit(
        &self,
        question: &VerifyAudit,
    ) -> Result<VerificationView, ClientError> {
        self.find_slowly("/v1/audit/verification", question).await
    }
}
