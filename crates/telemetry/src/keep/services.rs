//! What there is: services, their instances, their endpoints. Told from the summaries of the chunks, so that it
//! costs the same whatever was reported how often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::KeepError;
use super::index::{Names, Summary};
use super::part::Part;
use super::reader::{KeepReader, Records, present};
use super::scan::time;
use crate::RecordKind;
use crate::protocol::view::{InstanceView, Tag};

/// A service that reported something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptService {
    /// Segments with an error.
    pub errors: u64,
    /// When the oldest of what is kept was.
    pub first_seen: Timestamp,
    /// How many instances it has.
    pub instances: usize,
    /// When the newest was.
    pub last_seen: Timestamp,
    /// Its name.
    pub name: String,
    /// Records of any kind.
    pub records: u64,
    /// Segments, and traces of OpenTelemetry's messages.
    pub segments: u64,
}

/// An instance of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptInstance {
    /// Segments with an error.
    pub errors: u64,
    /// When the oldest of what is kept was.
    pub first_seen: Timestamp,
    /// When it last said that it is alive.
    pub last_ping: Option<Timestamp>,
    /// When the newest was.
    pub last_seen: Timestamp,
    /// What it is a part of, if it said so.
    pub layer: String,
    /// Its name.
    pub name: String,
    /// What it last said of itself.
    pub properties: Vec<Tag>,
    /// Segments, and traces of OpenTelemetry's messages.
    pub segments: u64,
}

/// Where requests enter a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptEndpoint {
    /// Segments with an error.
    pub errors: u64,
    /// When it was last used.
    pub last_seen: Timestamp,
    /// Its name.
    pub name: String,
    /// Segments that began there.
    pub segments: u64,
}

impl KeepReader {
    /// The services, by name.
    pub fn services(&self) -> Result<Vec<KeptService>, KeepError> {
        let mut services: BTreeMap<String, (KeptService, BTreeSet<String>)> = BTreeMap::new();
        self.summaries(|_, names, summary| {
            let name = names.at(summary.group.service);
            if name.is_empty() {
                return;
            }
            if !services.contains_key(name) {
                let new = KeptService {
                    errors: 0,
                    first_seen: time(summary.first),
                    instances: 0,
                    last_seen: time(summary.last),
                    name: name.to_owned(),
                    records: 0,
                    segments: 0,
                };
                services.insert(name.to_owned(), (new, BTreeSet::new()));
            }
            let Some((service, instances)) = services.get_mut(name) else { return };
            service.first_seen = service.first_seen.min(time(summary.first));
            service.last_seen = service.last_seen.max(time(summary.last));
            service.records += summary.count;
            if is_traffic(summary) {
                service.segments += summary.count;
                service.errors += summary.errors;
            }
            let instance = names.at(summary.group.instance);
            if !instance.is_empty() && !instances.contains(instance) {
                instances.insert(instance.to_owned());
            }
        })?;
        let with_instances = services
            .into_values()
            .map(|(service, instances)| KeptService { instances: instances.len(), ..service });
        Ok(with_instances.collect())
    }

    /// The instances of a service, by name, with what they said of themselves.
    pub fn instances(&self, service: &str) -> Result<Vec<KeptInstance>, KeepError> {
        struct Found {
            instance: KeptInstance,
            /// Where the newest properties are, and from when.
            properties: Option<(i64, Arc<Part>, u32)>,
        }
        let mut instances: BTreeMap<String, Found> = BTreeMap::new();
        self.summaries(|part, names, summary| {
            let name = names.at(summary.group.instance);
            if name.is_empty() || names.at(summary.group.service) != service {
                return;
            }
            let found = instances.entry(name.to_owned()).or_insert_with(|| Found {
                instance: KeptInstance {
                    errors: 0,
                    first_seen: time(summary.first),
                    last_ping: None,
                    last_seen: time(summary.last),
                    layer: String::new(),
                    name: name.to_owned(),
                    properties: Vec::new(),
                    segments: 0,
                },
                properties: None,
            });
            let instance = &mut found.instance;
            instance.first_seen = instance.first_seen.min(time(summary.first));
            instance.last_seen = instance.last_seen.max(time(summary.last));
            if is_traffic(summary) {
                instance.segments += summary.count;
                instance.errors += summary.errors;
            }
            if summary.group.kind == RecordKind::InstancePing as u8 {
                instance.last_ping = instance.last_ping.max(Some(time(summary.last)));
            }
            let newer = found.properties.as_ref().is_none_or(|(at, ..)| summary.last >= *at);
            let said = summary.group.kind == RecordKind::InstanceProperties as u8
                || RecordKind::try_from(summary.group.kind).is_ok_and(RecordKind::is_otlp);
            if said && newer {
                found.properties = Some((summary.last, Arc::clone(part), summary.last_at));
            }
        })?;
        let mut records = Records::default();
        let mut kept = Vec::new();
        for Found { mut instance, properties } in instances.into_values() {
            if let Some((_, part, at)) = properties
                && let Some(record) = records.record(&part, at)?
                && let Ok(Some(said)) = InstanceView::of(record.kind, &record.body)
            {
                instance.layer = said.layer;
                instance.properties = said.properties;
            }
            kept.push(instance);
        }
        Ok(kept)
    }

    /// The endpoints of a service whose name has a word in it (any, if it is empty), the most used first.
    pub fn endpoints(&self, service: &str, keyword: &str) -> Result<Vec<KeptEndpoint>, KeepError> {
        let keyword = keyword.to_lowercase();
        let mut endpoints: BTreeMap<String, KeptEndpoint> = BTreeMap::new();
        self.summaries(|_, names, summary| {
            let name = names.at(summary.group.subject);
            let wanted = is_traffic(summary)
                && summary.group.entry
                && names.at(summary.group.service) == service
                && (keyword.is_empty() || name.to_lowercase().contains(&keyword));
            if !wanted {
                return;
            }
            let endpoint = endpoints.entry(name.to_owned()).or_insert_with(|| KeptEndpoint {
                errors: 0,
                last_seen: time(summary.last),
                name: name.to_owned(),
                segments: 0,
            });
            endpoint.errors += summary.errors;
            endpoint.segments += summary.count;
            endpoint.last_seen = endpoint.last_seen.max(time(summary.last));
        })?;
        let mut endpoints: Vec<KeptEndpoint> = endpoints.into_values().collect();
        endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.segments));
        endpoints.truncate(MOST_ENDPOINTS);
        Ok(endpoints)
    }

    pub(super) fn summaries(
        &self,
        mut found: impl FnMut(&Arc<Part>, &Names<'_>, &Summary),
    ) -> Result<(), KeepError> {
        let floor = self.parts.floor();
        for part in self.parts.newest_first() {
            present(part.with_summaries_since(floor, |names, summaries| {
                for summary in summaries {
                    found(&part, names, summary);
                }
            }))?;
        }
        Ok(())
    }
}

fn is_traffic(summary: &Summary) -> bool {
    let kind = summary.group.kind;
    kind == RecordKind::Segment as u8 || kind == RecordKind::OtlpTraces as u8
}

/// Endpoints in a list. A service that makes one of each request's path has more than anybody reads.
const MOST_ENDPOINTS: usize = 10_000;
