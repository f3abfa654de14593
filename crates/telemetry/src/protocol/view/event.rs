//! Events: what happened to a service.

use super::{Room, Tag, push_pair};
use crate::protocol::claim::name;
use crate::protocol::wire::{Fields, Malformed};

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventView {
    /// Unique; the same when it is told again, having ended.
    pub uuid: String,
    /// The service.
    pub service: String,
    /// The instance of the service; empty where it happened to all of them.
    pub instance: String,
    /// The endpoint, likewise.
    pub endpoint: String,
    /// What happened, in a word.
    pub name: String,
    /// Whether it is a fault.
    pub is_error: bool,
    /// What happened, in a sentence.
    pub message: String,
    /// More of it.
    pub parameters: Vec<Tag>,
    /// When it began, in milliseconds since 1970.
    pub start_ms: i64,
    /// When it ended; 0 where it has not.
    pub end_ms: i64,
    /// The layer that the service belongs to.
    pub layer: String,
}

impl EventView {
    /// Of an `Event`. Parameters beyond [`MAX_ITEMS`](super::MAX_ITEMS) are left out.
    pub fn of(body: &[u8]) -> Result<Self, Malformed> {
        let (mut view, mut room) = (Self::default(), Room::new());
        for field in Fields::of("Event", body) {
            let field = field?;
            match field.number {
                1 => view.uuid = field.text("uuid")?.into(),
                2 => view.source(field.nested("source", "Source")?)?,
                3 => view.name = field.text("name")?.into(),
                4 => view.is_error = field.int32("type")? == 1,
                5 => view.message = field.text("message")?.into(),
                6 => {
                    let entry = field.nested("parameters", "ParametersEntry")?;
                    push_pair(&mut view.parameters, entry, &mut room)?;
                }
                7 => view.start_ms = field.int64("startTime")?,
                8 => view.end_ms = field.int64("endTime")?,
                9 => view.layer = field.text("layer")?.into(),
                _ => {}
            }
        }
        Ok(view)
    }

    fn source(&mut self, fields: Fields<'_>) -> Result<(), Malformed> {
        for field in fields {
            let field = field?;
            match field.number {
                1 => self.service = name(&field, "service")?.into(),
                2 => self.instance = name(&field, "serviceInstance")?.into(),
                3 => self.endpoint = field.text("endpoint")?.into(),
                _ => {}
            }
        }
        Ok(())
    }
}
