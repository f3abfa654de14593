//! Who reports and how, as `GET /v1/telemetry/reporters` lists it: what a rollout is steered by.

use handfast_telemetry::census::{Reporter, needs};
use handfast_telemetry::port::Mode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

use super::pairs::Pairs;
use crate::access::{About, Target};
use crate::resources::Span;
use crate::status::RefusalView;

/// `GET /v1/telemetry/reporters`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutQuestion {
    /// Also say what each would need if the ports changed to this mode: `plaintext`, `tls`,
    /// `permissive` or `mtls`.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub mode: Option<Mode>,
    /// Only who was heard, or refused, within this time, like `7d`; else everybody since the start.
    #[cfg_attr(feature = "schema", schemars(rename = "heardWithin", with = "Option<String>"))]
    pub heard_within: Option<Span>,
}

impl About for RolloutQuestion {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl<'de> Deserialize<'de> for RolloutQuestion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = Pairs::of(deserializer)?;
        let question = Self { mode: pairs.take("mode")?, heard_within: pairs.take("heardWithin")? };
        pairs.end(&["mode", "heardWithin"])?;
        Ok(question)
    }
}

impl RolloutQuestion {
    /// As the fields of a query.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mode = self.mode.map(|mode| ("mode", mode.to_string()));
        let within = self.heard_within.map(|span| ("heardWithin", span.to_string()));
        mode.into_iter().chain(within).collect()
    }

    /// The moment before which nothing counts, if there is one.
    pub fn heard_from(&self, now: Timestamp) -> Option<Timestamp> {
        let span = SignedDuration::try_from(self.heard_within?.duration());
        // Longer than time is: everything counts.
        Some(now.checked_sub(span.unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MIN))
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
    /// Who was heard last before this moment is left out, and so are refusals before it; absent if nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_from: Option<Timestamp>,
    /// By station, service and instance.
    pub reporters: Vec<ReporterView>,
    /// Handshakes and reports that were refused, the latest first; a bounded number of them.
    pub refusals: Vec<RefusalView>,
}

impl Rollout {
    /// Leaves out what is older than was asked for.
    #[must_use]
    pub fn only_what_counts(mut self, question: RolloutQuestion, now: Timestamp) -> Self {
        self.heard_from = question.heard_from(now);
        if let Some(from) = self.heard_from {
            self.reporters.retain(|one| one.last_seen >= from);
            self.refusals.retain(|one| one.at >= from);
        }
        self
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn heard(service: &str, last_seen: &str) -> ReporterView {
        ReporterView {
            station: "Collector/telemetry".to_owned(),
            service: service.to_owned(),
            instance: String::new(),
            transport: "plaintext".to_owned(),
            identity: String::new(),
            address: None,
            version: String::new(),
            last_seen: at(last_seen),
            needs: None,
        }
    }

    fn question(text: &str) -> RolloutQuestion {
        serde_urlencoded::from_str(text).expect("a question")
    }

    #[test]
    fn who_was_heard_within_the_time_counts_and_without_one_everybody_does() {
        let now = at("2026-11-25T12:00:00Z");
        let all = Rollout {
            reporters: vec![
                heard("gone", "2026-11-18T11:59:59Z"),
                heard("nightly", "2026-11-18T12:00:00Z"),
                heard("shop", "2026-11-25T11:59:58Z"),
                // Whoever is heard while it is looked is heard.
                heard("ahead", "2026-11-25T12:00:01Z"),
            ],
            ..Rollout::default()
        };
        let services = |query| -> Vec<String> {
            let some = all.clone().only_what_counts(question(query), now);
            some.reporters.into_iter().map(|one| one.service).collect()
        };
        assert_eq!(services(""), ["gone", "nightly", "shop", "ahead"]);
        assert_eq!(services("heardWithin=7d"), ["nightly", "shop", "ahead"]);
        assert_eq!(services("heardWithin=1h&mode=mtls"), ["shop", "ahead"]);
        assert_eq!(services("heardWithin=1s"), ["ahead"]);
        assert_eq!(services("heardWithin=36000d"), ["gone", "nightly", "shop", "ahead"]);
        let none = all.clone().only_what_counts(question(""), now);
        assert_eq!(none, all, "nothing is left out, and nothing is said of it");
    }

    #[test]
    fn a_query_reads_back_as_it_was_written() {
        for text in ["", "mode=mtls", "heardWithin=7d", "mode=tls&heardWithin=1h30m"] {
            let written = serde_urlencoded::to_string(question(text).pairs()).expect("a query");
            assert_eq!(question(&written), question(text), "{text}");
        }
        for wrong in
            ["heardWithin=7", "heardWithin=x", "heardWithin=1d&heardWithin=2d", "within=1d"]
        {
            assert!(serde_urlencoded::from_str::<RolloutQuestion>(wrong).is_err(), "{wrong}");
        }
    }
}
