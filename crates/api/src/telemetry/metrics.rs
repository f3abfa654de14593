//! Metrics that services report, and their newest values.

use std::collections::BTreeMap;

use handfast_telemetry::keep::{KeepError, KeepReader, MetricQuery};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// `GET /v1/metrics`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricSearch {
    /// Of this service.
    pub service: String,
    /// Of this instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Not after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// How many values together; 1000 if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl About for MetricSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// The values of one metric of one instance, with one set of labels.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MetricView {
    /// What it is called.
    pub name: String,
    /// Of which service.
    pub service: String,
    /// Of which instance.
    pub instance: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Times and values, the oldest first.
    pub points: Vec<(Timestamp, f64)>,
}

/// The values in these stores that are wanted.
pub fn metrics(
    readers: &[KeepReader],
    search: &MetricSearch,
) -> Result<Vec<MetricView>, KeepError> {
    let query = MetricQuery {
        from: search.from,
        instance: search.instance.clone(),
        limit: search.limit.unwrap_or_default(),
        name: search.name.clone(),
        service: Some(search.service.clone()),
        to: search.to,
    };
    let mut found = Vec::new();
    for reader in readers {
        found.extend(reader.metrics(&query)?.into_iter().map(|series| MetricView {
            name: series.name,
            service: series.service,
            instance: series.instance,
            labels: series.labels.into_iter().map(|label| (label.key, label.value)).collect(),
            // JSON has no words for what is no number.
            points: series.points.into_iter().filter(|(_, value)| value.is_finite()).collect(),
        }));
    }
    Ok(found)
}
