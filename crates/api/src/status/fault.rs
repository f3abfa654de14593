//! A fault as it is shown: the same one in status, logs, replies and `handfast check`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a connection or an enrolment failed.
///
/// `Display` is several lines for a terminal: what, where, the evidence, the remedy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FaultView {
    /// Stable code, such as `unknown-issuer`.
    pub code: String,
    /// Who is at fault.
    pub side: FaultSide,
    /// Where it happened.
    #[serde(rename = "where")]
    pub place: String,
    /// What happened, in one line.
    pub message: String,
    /// What was expected and presented.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for FaultView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}]", self.message, self.code)?;
        if !self.place.is_empty() {
            writeln!(f, "  where: {}", self.place)?;
        }
        for Evidence { key, value } in &self.evidence {
            writeln!(f, "  {key}: {value}")?;
        }
        write!(f, "  what to do: {}", self.remedy)
    }
}

impl From<&handfast_tls::Fault> for FaultView {
    fn from(fault: &handfast_tls::Fault) -> Self {
        Self {
            code: fault.code().to_string(),
            side: match fault.side() {
                handfast_tls::Side::Either => FaultSide::Either,
                handfast_tls::Side::Ours => FaultSide::Ours,
                handfast_tls::Side::Peer => FaultSide::Peer,
            },
            place: fault.place().to_owned(),
            message: fault.what().to_owned(),
            evidence: fault
                .evidence()
                .iter()
                .map(|(key, value)| Evidence { key: (*key).to_owned(), value: value.clone() })
                .collect(),
            remedy: fault.remedy().to_owned(),
        }
    }
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FaultSide {
    /// It cannot be told from here.
    Either,
    /// This node.
    Ours,
    /// The other end.
    Peer,
}

/// One piece of evidence.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Evidence {
    /// What it is.
    pub key: String,
    /// Its value.
    pub value: String,
}
