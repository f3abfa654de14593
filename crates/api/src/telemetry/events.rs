//! Events of services: which are wanted, and what was found.

use std::collections::BTreeMap;

use handfast_telemetry::keep::{EventQuery, KeepError, KeepReader};
use handfast_telemetry::protocol::view;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// `GET /v1/events`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EventSearch {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Of this name, such as `Start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<EventType>,
    /// Not over before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Begun not later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// How many; 100 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl About for EventSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// Whether an event is a fault.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// It is one.
    Error,
    /// It is none.
    Normal,
}

/// Something that happened to a service, as `GET /v1/events` lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// Its id; empty where whoever reported it gave none.
    pub id: String,
    /// To which service.
    pub service: String,
    /// To which instance; empty if to all of them.
    pub instance: String,
    /// At which endpoint, likewise.
    pub endpoint: String,
    /// What happened, in a word.
    pub name: String,
    /// Whether it is a fault.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// What happened, in a sentence.
    pub message: String,
    /// More of it.
    pub parameters: BTreeMap<String, String>,
    /// When it began, as far as that was said.
    pub start: Option<Timestamp>,
    /// When it ended, if it has.
    pub end: Option<Timestamp>,
    /// The layer that the service belongs to.
    pub layer: String,
}

/// The events in these stores that are wanted, the newest first.
pub fn events(readers: &[KeepReader], search: &EventSearch) -> Result<Vec<EventLine>, KeepError> {
    let limit = search.limit.filter(|limit| *limit > 0).unwrap_or(USUAL);
    let query = EventQuery {
        errors: search.kind.map(|kind| kind == EventType::Error),
        from: search.from,
        instance: search.instance.clone(),
        limit,
        name: search.name.clone(),
        service: search.service.clone(),
        to: search.to,
    };
    let mut events = Vec::new();
    for reader in readers {
        events.extend(reader.events(&query)?.into_iter().map(line));
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.start.max(event.end)));
    events.truncate(limit);
    Ok(events)
}

fn line(event: view::EventView) -> EventLine {
    let moment = |ms: i64| (ms > 0).then(|| Timestamp::from_millisecond(ms).ok()).flatten();
    EventLine {
        id: event.uuid,
        service: event.service,
        instance: event.instance,
        endpoint: event.endpoint,
        name: event.name,
        kind: if event.is_error { EventType::Error } else { EventType::Normal },
        message: event.message,
        parameters: event.parameters.into_iter().map(|it| (it.key, it.value)).collect(),
        start: moment(event.start_ms),
        end: moment(event.end_ms),
        layer: event.layer,
    }
}

/// Events if nobody says how many.
const USUAL: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reads_back_as_it_was_written() {
        let search = EventSearch {
            service: Some("shop & co".to_owned()),
            kind: Some(EventType::Error),
            from: "2026-11-25T12:00:00Z".parse().ok(),
            limit: Some(7),
            ..EventSearch::default()
        };
        let text = serde_urlencoded::to_string(&search).expect("a query");
        assert!(text.contains("type=error"), "{text}");
        assert_eq!(serde_urlencoded::from_str::<EventSearch>(&text).expect("the same"), search);
        for wrong in
            ["type=fatal", "limit=x", "limit=-1", "from=now", "uuid=3", "type=error&type=error"]
        {
            assert!(serde_urlencoded::from_str::<EventSearch>(wrong).is_err(), "{wrong}");
        }
    }
}
