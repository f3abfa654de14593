//! What a backend refused for good and lies aside: which is wanted, what is known of it, and what becomes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handfast_telemetry::RecordKind;
use handfast_telemetry::forward::{Chosen, Dealt, Forwarder, SetAside};
use handfast_telemetry::journal::ReadError;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::pairs::Pairs;
use crate::access::{About, Target};
use crate::admin::{Refusal, RefusalCode};

/// `GET /v1/aside`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename_all = "camelCase", default))]
pub struct AsideSearch {
    /// Of this collector or relay: `Collector/oap`, `Relay/shop`.
    pub station: String,
    /// Of this service; may be given several times.
    pub service: Vec<String>,
    /// Of this kind, as in `handfast_telemetry_accepted_total`; may be given several times.
    pub kind: Vec<String>,
    /// Only what came after the record with this id.
    pub after: Option<u64>,
    /// How many; 100 if nothing is said, 1000 at most.
    pub limit: Option<usize>,
}

/// `GET /v1/aside/record`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AsideWanted {
    /// Of this collector or relay: `Collector/oap`, `Relay/shop`.
    pub station: String,
    /// The record.
    pub id: u64,
}

/// `POST /v1/aside/retries` and `POST /v1/aside/drops`: all that lies aside, where nothing more is said.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AsideChoice {
    /// Of this collector or relay: `Collector/oap`, `Relay/shop`.
    pub station: String,
    /// Only these records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u64>,
    /// Only of these services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Only of these kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
}

/// A record that lies aside.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AsideLine {
    /// Names it.
    pub id: u64,
    /// Since when it lies there.
    pub at: Option<Timestamp>,
    /// What the backend said of it.
    pub reason: String,
    /// The first service that it names.
    pub service: String,
    /// Which message it is: `segment`, `log`, `meter`, ...
    pub kind: String,
    /// Bytes of the message.
    pub bytes: u64,
    /// When it was accepted.
    pub received: Timestamp,
    /// From whom; empty where nobody was asked for a certificate.
    pub reporter: String,
}

/// A record that lies aside, with what it says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AsideRecord {
    /// What is known of it.
    pub record: AsideLine,
    /// The message in protobuf, in base64; its first 64 KiB.
    pub message: String,
}

/// What became of those that were chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AsideDealt {
    /// Records that do not lie aside any more.
    pub records: u64,
    /// Bytes of their messages.
    pub bytes: u64,
}

const FIELDS: &[&str] = &["station", "service", "kind", "after", "limit"];

impl<'de> Deserialize<'de> for AsideSearch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = Pairs::of(deserializer)?;
        let search = Self {
            station: pairs
                .take("station")?
                .ok_or_else(|| serde::de::Error::missing_field("station"))?,
            service: pairs.take_all("service")?,
            kind: pairs.take_all("kind")?,
            after: pairs.take("after")?,
            limit: pairs.take("limit")?,
        };
        pairs.end(FIELDS)?;
        Ok(search)
    }
}

impl AsideSearch {
    /// As the fields of a query.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("station", self.station.clone())];
        pairs.extend(self.service.iter().map(|service| ("service", service.clone())));
        pairs.extend(self.kind.iter().map(|kind| ("kind", kind.clone())));
        pairs.extend(self.after.map(|after| ("after", after.to_string())));
        pairs.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        pairs
    }
}

impl AsideChoice {
    /// Which records that are.
    ///
    /// # Errors
    /// A kind that there is not.
    pub fn chosen(&self) -> Result<Chosen, Refusal> {
        let kinds = kinds(&self.kinds)?;
        Ok(Chosen { ids: self.ids.clone(), kinds, services: self.services.clone() })
    }
}

impl About for AsideSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl About for AsideWanted {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl About for AsideChoice {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// What of it lies aside, the oldest first. Blocks while the disk is read.
///
/// # Errors
/// A kind that there is not; a disk that cannot be read.
pub fn aside(forwarder: &Forwarder, search: &AsideSearch) -> Result<Vec<AsideLine>, Refusal> {
    let chosen =
        Chosen { ids: Vec::new(), kinds: kinds(&search.kind)?, services: search.service.clone() };
    let limit = search.limit.unwrap_or(USUAL).min(MOST);
    let found = forwarder.aside(&chosen, search.after, limit).map_err(|e| unreadable(&e))?;
    Ok(found.into_iter().map(AsideLine::from).collect())
}

/// One of those that lie aside. Blocks while the disk is read.
///
/// # Errors
/// There is none of that id; a disk that cannot be read.
pub fn aside_record(forwarder: &Forwarder, wanted: &AsideWanted) -> Result<AsideRecord, Refusal> {
    let found = forwarder.aside_one(wanted.id).map_err(|error| unreadable(&error))?;
    let (facts, message) = found.ok_or_else(|| {
        Refusal::new(
            RefusalCode::NotFound,
            format!("no record {} lies aside", wanted.id),
            "list them; one that was sent again, thrown away or refused again is not there any more under its id",
        )
    })?;
    Ok(AsideRecord::of(facts, &message))
}

impl AsideRecord {
    /// What is known of it, and as much of its message as is shown.
    pub fn of(facts: SetAside, message: &[u8]) -> Self {
        let shown = &message[..message.len().min(SHOWN)];
        Self { record: facts.into(), message: STANDARD.encode(shown) }
    }
}

impl From<SetAside> for AsideLine {
    fn from(one: SetAside) -> Self {
        let SetAside { id, at, reason, service, kind, bytes, received, reporter } = one;
        Self { id, at, reason, service, kind: kind.to_string(), bytes, received, reporter }
    }
}

impl From<Dealt> for AsideDealt {
    fn from(dealt: Dealt) -> Self {
        Self { records: dealt.records, bytes: dealt.bytes }
    }
}

fn kinds(words: &[String]) -> Result<Vec<RecordKind>, Refusal> {
    let kind = |word: &String| {
        RecordKind::ALL.into_iter().find(|kind| kind.as_str() == word.as_str()).ok_or_else(|| {
            let known: Vec<&str> = RecordKind::ALL.iter().map(|kind| kind.as_str()).collect();
            let word: String = word.chars().take(40).collect();
            Refusal::new(
                RefusalCode::Invalid,
                format!("there is no kind {word:?} of records"),
                format!("choose of: {}", known.join(", ")),
            )
        })
    };
    words.iter().map(kind).collect()
}

fn unreadable(error: &ReadError) -> Refusal {
    Refusal::new(RefusalCode::Internal, error.to_string(), "see the node's log and its disk")
}

/// Lines, if nothing is said.
const USUAL: usize = 100;

/// Lines at most: the next page begins behind the last.
const MOST: usize = 1000;

/// Bytes of a message that are shown.
const SHOWN: usize = 64 << 10;
