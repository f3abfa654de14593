//! Events: what happened to a service, from when to when. Its end may be reported after its beginning,
//! under the same id; together they are one event.

use std::collections::HashMap;

use jiff::Timestamp;

use super::reader::{KeepReader, Records};
use super::scan::Wanted;
use super::{KeepError, MOST_LISTED};
use crate::RecordKind;
use crate::protocol::view::EventView;

/// Which events are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventQuery {
    /// Only faults, or only what is none.
    pub errors: Option<bool>,
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

impl KeepReader {
    /// The events that are wanted, the newest first.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<EventView>, KeepError> {
        let limit = if query.limit == 0 { USUAL } else { query.limit.min(MOST_LISTED) };
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
        let mut events: HashMap<String, EventView> = HashMap::new();
        let mut unnamed = Vec::new();
        for part in self.parts.newest_first() {
            let mut rows = Vec::new();
            wanted.each(&self.parts, &part, |_, row| rows.push(row.at))?;
            for at in rows.into_iter().rev() {
                let Some(record) = records.record(&part, at)? else { continue };
                let Ok(event) = EventView::of(&record.body) else { continue };
                if event.uuid.is_empty() {
                    unnamed.push(event);
                } else if let Some(newer) = events.get_mut(&event.uuid) {
                    complete(newer, event);
                } else {
                    events.insert(event.uuid.clone(), event);
                }
            }
            if events.len() + unnamed.len() >= MOST_LISTED {
                break;
            }
        }
        if query.from.is_some() {
            let earlier = Wanted { from: None, to: query.from, ..wanted };
            self.begin(&earlier, &mut events, &mut records)?;
        }
        let mut events: Vec<EventView> = events.into_values().chain(unnamed).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.start_ms.max(event.end_ms)));
        events.retain(|event| query.errors.is_none_or(|errors| errors == event.is_error));
        events.truncate(limit);
        Ok(events)
    }
}

impl KeepReader {
    /// Looks for the beginnings of events that ended in the time that is wanted, and began before it.
    fn begin(
        &self,
        earlier: &Wanted<'_>,
        events: &mut HashMap<String, EventView>,
        records: &mut Records,
    ) -> Result<(), KeepError> {
        let mut missing = events.values().filter(|event| event.start_ms == 0).count();
        for part in self.parts.newest_first() {
            if missing == 0 {
                break;
            }
            let mut rows = Vec::new();
            earlier.each(&self.parts, &part, |_, row| rows.push(row.at))?;
            for at in rows.into_iter().rev() {
                let Some(record) = records.record(&part, at)? else { continue };
                let Ok(event) = EventView::of(&record.body) else { continue };
                if let Some(newer) = events.get_mut(&event.uuid)
                    && newer.start_ms == 0
                {
                    missing -= usize::from(event.start_ms != 0);
                    complete(newer, event);
                }
            }
        }
        Ok(())
    }
}

/// Adds what an earlier report said and the newer one left out.
fn complete(newer: &mut EventView, earlier: EventView) {
    if newer.start_ms == 0 {
        newer.start_ms = earlier.start_ms;
    }
    if newer.end_ms == 0 {
        newer.end_ms = earlier.end_ms;
    }
    if newer.message.is_empty() {
        newer.message = earlier.message;
    }
    if newer.parameters.is_empty() {
        newer.parameters = earlier.parameters;
    }
}

/// Events in a list if nobody says how many.
const USUAL: usize = 100;
