//! Instances: what they say of themselves.

use super::spans::numbered;
use super::{Room, Tag, push_attribute, push_pair};
use crate::RecordKind;
use crate::protocol::claim::name;
use crate::protocol::otlp::Resource;
use crate::protocol::wire::{Fields, Malformed};

/// An instance of a service, as it says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InstanceView {
    /// The service.
    pub service: String,
    /// The instance.
    pub instance: String,
    /// The layer that the service belongs to.
    pub layer: String,
    /// Its language, host, process and whatever else; empty in a sign of life.
    pub properties: Vec<Tag>,
}

impl InstanceView {
    /// Of a record of properties or a sign of life, or the resource of OpenTelemetry's records; none where
    /// the record holds something else. Properties beyond [`MAX_ITEMS`](super::MAX_ITEMS) are left out.
    pub fn of(kind: RecordKind, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let (message, layer) = match kind {
            RecordKind::InstanceProperties => ("InstanceProperties", 4),
            RecordKind::InstancePing => ("InstancePingPkg", 3),
            _ if kind.is_otlp() => return Self::of_resource(body).map(Some),
            _ => return Ok(None),
        };
        let (mut view, mut room) = (Self::default(), Room::new());
        for field in Fields::of(message, body) {
            let field = field?;
            match field.number {
                1 => view.service = name(&field, "service")?.into(),
                2 => view.instance = name(&field, "serviceInstance")?.into(),
                number if number == layer => view.layer = field.text("layer")?.into(),
                3 => {
                    let property = field.nested("properties", "KeyStringValuePair")?;
                    push_pair(&mut view.properties, property, &mut room)?;
                }
                _ => {}
            }
        }
        Ok(Some(view))
    }

    fn of_resource(body: &[u8]) -> Result<Self, Malformed> {
        let resource = Resource::of("(resource)", body)?;
        let (mut properties, mut room) = (Vec::new(), Room::new());
        for field in numbered(Fields::of("(resource)", body), 1) {
            for attribute in numbered(field?.nested("resource", "Resource")?, 1) {
                let attribute = attribute?.nested("attributes", "KeyValue")?;
                push_attribute(&mut properties, attribute, &mut room)?;
            }
        }
        let (service, instance) = (resource.service().into_owned(), resource.instance.to_owned());
        Ok(Self { service, instance, layer: String::new(), properties })
    }
}
