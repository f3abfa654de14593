//! Events: what happened to a service, from when to when. Its end may be reported after its beginning,
//! under the same id; together they are one event.

use std::collections::HashMap;

use handfast_proto::skywalking::v3::{Event, Type};
use jiff::Timestamp;
use prost::Message;

use super::KeepError;
use super::reader::{KeepReader, Records};
use super::scan::{Wanted, time};
use crate::RecordKind;

/// Which events are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventQuery {
    /// Not over before.
    pub from: Option<Timestamp>,
    /// Of this instance.
    pub instance: Option<String>,
    /// How many; 0 is 100.
    pub limit: usize,
    /// Of this name.
    pub name: Option<String>,
    /// Of this service.
    pub service: Option<String>,
    /// Begun not later.
    pub to: Option<Timestamp>,
}

/// An event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptEvent {
    /// When it was over, if that was reported.
    pub end: Option<Timestamp>,
    /// At which endpoint, if at one.
    pub endpoint: String,
    /// It is a failure.
    pub error: bool,
    /// Of which instance, if of one.
    pub instance: String,
    /// What was said of it.
    pub message: String,
    /// What it is.
    pub name: String,
    /// What else was said.
    pub parameters: Vec<(String, String)>,
    /// Of which service.
    pub service: String,
    /// When it began, if that was reported.
    pub start: Option<Timestamp>,
    /// Its id.
    pub uuid: String,
}

impl KeepReader {
    /// The events that are wanted, the newest first.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<KeptEvent>, KeepError> {
        let limit = if query.limit == 0 { USUAL } else { query.limit.min(MOST) };
        let wanted = Wanted {
            kinds: &[RecordKind::Event],
            service: query.service.as_deref(),
            instance: query.instance.as_deref(),
            subject: query.name.as_deref(),
            from: query.from,
            to: query.to,
            ..Wanted::default()
        };
        let mut records = Records::default();
        let mut events: HashMap<String, KeptEvent> = HashMap::new();
        let mut unnamed = Vec::new();
        for part in self.parts.newest_first() {
            let mut rows = Vec::new();
            wanted.each(&self.parts, &part, |_, row| rows.push(row.at))?;
            for at in rows.into_iter().rev() {
                let Some(record) = records.record(&part, at)? else { continue };
                let Ok(event) = Event::decode(record.body.as_ref()) else { continue };
                let event = read(event);
                if event.uuid.is_empty() {
                    unnamed.push(event);
                } else if let Some(newer) = events.get_mut(&event.uuid) {
                    newer.complete(event);
                } else {
                    events.insert(event.uuid.clone(), event);
                }
            }
            if events.len() + unnamed.len() >= MOST {
                break;
            }
        }
        let mut events: Vec<KeptEvent> = events.into_values().chain(unnamed).collect();
        events.sort_by(|one, other| {
            (other.start.or(other.end), &one.uuid).cmp(&(one.start.or(one.end), &other.uuid))
        });
        events.truncate(limit);
        Ok(events)
    }
}

impl KeptEvent {
    /// Adds what an earlier report said and this one left out.
    fn complete(&mut self, earlier: Self) {
        self.start = self.start.or(earlier.start);
        self.end = self.end.or(earlier.end);
        if self.message.is_empty() {
            self.message = earlier.message;
        }
        if self.parameters.is_empty() {
            self.parameters = earlier.parameters;
        }
    }
}

fn read(event: Event) -> KeptEvent {
    let of = event.source.unwrap_or_default();
    let at = |milliseconds: i64| (milliseconds > 0).then(|| time(milliseconds));
    KeptEvent {
        end: at(event.end_time),
        endpoint: of.endpoint,
        error: event.r#type == Type::Error as i32,
        instance: of.service_instance,
        message: event.message,
        name: event.name,
        parameters: event.parameters.into_iter().collect(),
        service: of.service,
        start: at(event.start_time),
        uuid: event.uuid,
    }
}

/// Events in a list if nobody says how many, and at most.
const USUAL: usize = 100;
const MOST: usize = 10_000;
