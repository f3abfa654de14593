//! Services, their instances and endpoints, from what is kept.

use std::collections::BTreeMap;

use handfast_telemetry::keep::{KeepError, KeepReader};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// A service, as `GET /v1/services` lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// How many instances it has.
    pub instances: usize,
    /// Segments of traces.
    pub segments: u64,
    /// Segments with an error.
    pub errors: u64,
    /// Records of any kind.
    pub records: u64,
    /// When the oldest of what is kept was.
    pub first_seen: Timestamp,
    /// When the newest was.
    pub last_seen: Timestamp,
}

/// Of which service: `GET /v1/instances` and `GET /v1/endpoints`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OfService {
    /// The service.
    pub service: String,
}

impl About for OfService {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// An instance, as `GET /v1/instances` lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// What it is a part of, if it said so.
    pub layer: String,
    /// Segments of traces.
    pub segments: u64,
    /// Segments with an error.
    pub errors: u64,
    /// When the oldest of what is kept was.
    pub first_seen: Timestamp,
    /// When the newest was.
    pub last_seen: Timestamp,
    /// When it last said that it is alive.
    pub last_ping: Option<Timestamp>,
    /// What it last said of itself.
    pub properties: BTreeMap<String, String>,
}

/// An endpoint, as `GET /v1/endpoints` lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// Segments that began there.
    pub segments: u64,
    /// Segments with an error.
    pub errors: u64,
    /// When it was last used.
    pub last_seen: Timestamp,
}

/// The services in these stores, by name.
pub fn services(readers: &[KeepReader]) -> Result<Vec<ServiceView>, KeepError> {
    let mut all: BTreeMap<String, ServiceView> = BTreeMap::new();
    for reader in readers {
        for service in reader.services()? {
            let view = ServiceView {
                name: service.name.clone(),
                instances: service.instances,
                segments: service.segments,
                errors: service.errors,
                records: service.records,
                first_seen: service.first_seen,
                last_seen: service.last_seen,
            };
            all.entry(service.name)
                .and_modify(|known| {
                    known.instances = known.instances.max(view.instances);
                    known.segments += view.segments;
                    known.errors += view.errors;
                    known.records += view.records;
                    known.first_seen = known.first_seen.min(view.first_seen);
                    known.last_seen = known.last_seen.max(view.last_seen);
                })
                .or_insert(view);
        }
    }
    Ok(all.into_values().collect())
}

/// The instances of a service, by name.
pub fn instances(readers: &[KeepReader], of: &OfService) -> Result<Vec<InstanceView>, KeepError> {
    let mut all: BTreeMap<String, InstanceView> = BTreeMap::new();
    for reader in readers {
        for instance in reader.instances(&of.service)? {
            let view = InstanceView {
                name: instance.name.clone(),
                layer: instance.layer,
                segments: instance.segments,
                errors: instance.errors,
                first_seen: instance.first_seen,
                last_seen: instance.last_seen,
                last_ping: instance.last_ping,
                properties: instance.properties.into_iter().map(|p| (p.key, p.value)).collect(),
            };
            all.entry(instance.name)
                .and_modify(|known| {
                    known.segments += view.segments;
                    known.errors += view.errors;
                    known.first_seen = known.first_seen.min(view.first_seen);
                    known.last_seen = known.last_seen.max(view.last_seen);
                    known.last_ping = known.last_ping.max(view.last_ping);
                    known.properties.extend(view.properties.clone());
                })
                .or_insert(view);
        }
    }
    Ok(all.into_values().collect())
}

/// The endpoints of a service, the most used first.
pub fn endpoints(readers: &[KeepReader], of: &OfService) -> Result<Vec<EndpointView>, KeepError> {
    let mut all: BTreeMap<String, EndpointView> = BTreeMap::new();
    for reader in readers {
        for endpoint in reader.endpoints(&of.service, "")? {
            let view = EndpointView {
                name: endpoint.name.clone(),
                segments: endpoint.segments,
                errors: endpoint.errors,
                last_seen: endpoint.last_seen,
            };
            all.entry(endpoint.name)
                .and_modify(|known| {
                    known.segments += view.segments;
                    known.errors += view.errors;
                    known.last_seen = known.last_seen.max(view.last_seen);
                })
                .or_insert(view);
        }
    }
    let mut all: Vec<EndpointView> = all.into_values().collect();
    all.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.segments));
    Ok(all)
}
