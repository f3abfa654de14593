//! What is sent: documented in docs/book/monitoring.md, and a promise to receivers.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A sort of trouble that one can be told of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The clock was set, or disagrees with what was issued.
    Clock,
    /// A credential has expired, or will soon and nothing renews it.
    CredentialExpiring,
    /// Handshakes are refused more often than now and then.
    FaultRate,
    /// Nothing can be written to the home.
    HomeNotWritable,
    /// A renewal fails time and again.
    RenewalFailing,
    /// A rotation waits for somebody who has not taken up the new anchors.
    RotationLaggard,
}

impl Condition {
    /// Every one, alphabetically.
    pub const ALL: [Self; 6] = [
        Self::Clock,
        Self::CredentialExpiring,
        Self::FaultRate,
        Self::HomeNotWritable,
        Self::RenewalFailing,
        Self::RotationLaggard,
    ];

    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::CredentialExpiring => "credential-expiring",
            Self::FaultRate => "fault-rate",
            Self::HomeNotWritable => "home-not-writable",
            Self::RenewalFailing => "renewal-failing",
            Self::RotationLaggard => "rotation-laggard",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is wrong now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Which sort.
    pub condition: Condition,
    /// What it is about: `credential handfast-site-server`, `link port`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Alert {
    /// What tells it from every other alert of this node.
    pub(super) fn key(&self) -> (Condition, String) {
        (self.condition, self.subject.clone())
    }
}

/// The body of one notice.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Version of this body: 1. Fields may be added within a version.
    pub version: u32,
    /// Stable for one trouble, from its first notice to the one that ends it.
    pub id: String,
    /// Whether it is so, or is over.
    pub status: NoticeStatus,
    /// The sort of trouble.
    pub condition: Condition,
    /// The site that tells.
    pub site: String,
    /// What it is about.
    pub subject: String,
    /// What is wrong, or was.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// When it began, as far as this process knows.
    pub since: Timestamp,
    /// When this was sent.
    pub sent_at: Timestamp,
    /// The page of the book about it.
    pub page: String,
}

/// Whether a trouble is there or over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeStatus {
    /// It is so.
    Firing,
    /// It was so.
    Resolved,
}
