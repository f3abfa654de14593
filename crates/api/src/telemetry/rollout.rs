//! Who reports and how, as `GET /v1/telemetry/reporters` lists it: what a rollout is steered by.

use handfast_telemetry::census::{Reporter, needs};
use handfast_telemetry::port::Mode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::pairs::Pairs;
use crate::access::{About, Target};
use crate::status::RefusalView;

/// `GET /v1/telemetry/reporters`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutQuestion {
    /// Also say what each would need if the ports changed to this mode: `plaintext`, `tls`,
    /// `permissive` or `mtls`.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub mode: Option<Mode>,
}

impl About for RolloutQuestion {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl<'de> Deserialize<'de> for RolloutQuestion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = Pairs::of(deserializer)?;
        let question = Self { mode: pairs.take("mode")? };
        pairs.end(&["mode"])?;
        Ok(question)
    }
}

/// Everybody who was heard since the collectors and relays started, and who was refused.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Since when each collector and relay listens; of what was before it knows nothing.
    #[serde(default)]
    pub stations: Vec<ListensView>,
    /// By station, service and instance.
    pub reporters: Vec<ReporterView>,
    /// Handshakes and reports that were refused, the latest first; a bounded number of them.
    pub refusals: Vec<RefusalView>,
}

/// How far back the knowledge of a collector or relay goes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ListensView {
    /// `Collector/telemetry`.
    pub station: String,
    /// When it was started: with the node, or anew when its output changed.
    pub since: Timestamp,
}

/// One instance of a service, as it was heard last.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReporterView {
    /// Where it reports: `Collector/telemetry`.
    pub station: String,
    /// The service.
    pub service: String,
    /// The instance; empty where its messages name none.
    pub instance: String,
    /// How its connection is protected: `plaintext`, `tls` or `mtls`.
    pub transport: String,
    /// What its certificate proved; empty without one.
    pub identity: String,
    /// Where from; absent over a Unix socket.
    pub address: Option<String>,
    /// What its agent says it is.
    pub version: String,
    /// When it was heard last.
    pub last_seen: Timestamp,
    /// What it needs before the mode that was asked about; absent if it goes on as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
}

impl ReporterView {
    /// A reporter to `station`, and what it needs for `mode`.
    pub fn of(station: &str, reporter: Reporter, mode: Option<Mode>) -> Self {
        let needs = mode.and_then(|mode| needs(reporter.transport, mode));
        Self {
            station: station.to_owned(),
            needs: needs.map(ToOwned::to_owned),
            service: reporter.service,
            instance: reporter.instance,
            transport: reporter.transport.to_string(),
            identity: reporter.identity,
            address: reporter.address.map(|address| address.to_string()),
            version: reporter.version,
            last_seen: reporter.last_seen,
        }
    }
}
