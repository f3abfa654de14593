//! Resources as fingerprints: enough to say later which of their fields changed, and nothing of what
//! was in them.

use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use super::envelope::Document;
use super::{Resource, Resources, Spec};
use crate::configuration::{InForce, Part};

impl Resources {
    /// Adds every resource, by its reference, to what is in force.
    pub fn fingerprint(&self, in_force: &mut InForce) {
        add(in_force, self.site.iter());
        add(in_force, self.access_grants.values());
        add(in_force, self.access_tokens.values());
        add(in_force, self.certificates.values());
        add(in_force, self.collectors.values());
        add(in_force, self.connectors.values());
        add(in_force, self.links.values());
        add(in_force, self.listeners.values());
        add(in_force, self.multi_key_listeners.values());
        add(in_force, self.notifications.values());
        add(in_force, self.policies.values());
        add(in_force, self.relays.values());
        add(in_force, self.router_accesses.values());
    }
}

fn add<'a, S: Spec + 'a>(in_force: &mut InForce, resources: impl Iterator<Item = &'a Resource<S>>) {
    for resource in resources {
        let origin = &resource.origin;
        let mut part = Part::new(&origin.file, (origin.line > 0).then_some(origin.line));
        for (name, mut value) in fields(resource) {
            // Always in the order of the types, never in that of the file.
            let text = Zeroizing::new(value.to_string());
            erase(&mut value);
            part = part.with(&name, text.as_bytes());
        }
        in_force.parts.insert(resource.reference(), part);
    }
}

/// The fields of the specification, labels and annotations.
fn fields<S: Spec>(resource: &Resource<S>) -> Map<String, Value> {
    let document = Document::of(resource);
    let spec = serde_json::to_value(&document.spec);
    let mut fields = match spec {
        Ok(Value::Object(fields)) => fields,
        // No kind is anything but a map with texts for keys.
        other => Map::from_iter([("spec".to_owned(), other.unwrap_or_default())]),
    };
    for (name, pairs) in [("labels", &resource.labels), ("annotations", &resource.annotations)] {
        if !pairs.is_empty() {
            let pairs = pairs.iter().map(|(key, value)| (key.clone(), value.clone().into()));
            fields.insert(name.to_owned(), Value::Object(pairs.collect()));
        }
    }
    fields
}

/// A field may hold a secret.
fn erase(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(erase),
        Value::Object(fields) => fields.values_mut().for_each(erase),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
