//! The newest value of each metric.

use std::collections::BTreeMap;

use handfast_telemetry::keep::{KeepError, KeepReader, Measured, NewestQuery};
use handfast_telemetry::protocol::view::{MeterNature, MeterValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::exposition::exposed_name;
use crate::access::{About, Target};

/// `GET /v1/metrics/newest`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NewestSearch {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Of this name, as it was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With a value that is not older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// How many; 1000 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl About for NewestSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// The newest value of one metric of one instance, with one set of labels.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewestMetric {
    /// What it is called by whoever reports it.
    pub name: String,
    /// What it is called where Prometheus reads it.
    pub exposed: String,
    /// `counter`, `gauge`, `histogram`; `delta` for what was counted since the value before, `unknown` where nobody
    /// said.
    #[serde(rename = "type")]
    pub kind: String,
    /// In what it is measured, where that was said.
    pub unit: String,
    /// Of which service.
    pub service: String,
    /// Of which instance.
    pub instance: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was measured.
    pub time: Timestamp,
    /// The number; of a histogram the sum, where that is known. Absent where it is none (NaN, infinite).
    pub value: Option<f64>,
    /// Of a histogram: how many values fell where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<BucketView>,
}

/// A bucket of a histogram.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BucketView {
    /// Its lower bound; absent where there is none.
    pub from: Option<f64>,
    /// How many values fell into it.
    pub count: u64,
}

/// The newest values in these stores that are wanted, by name, service, instance and labels.
pub fn newest(
    readers: &[KeepReader],
    search: &NewestSearch,
) -> Result<Vec<NewestMetric>, KeepError> {
    let query = NewestQuery {
        from: search.from,
        instance: search.instance.clone(),
        name: search.name.clone(),
        service: search.service.clone(),
    };
    let mut found: BTreeMap<_, NewestMetric> = BTreeMap::new();
    for reader in readers {
        for measured in reader.newest(&query)? {
            let new = view(measured);
            let key =
                (new.name.clone(), new.service.clone(), new.instance.clone(), new.labels.clone());
            match found.get_mut(&key) {
                Some(known) if known.time >= new.time => {}
                Some(known) => *known = new,
                None => drop(found.insert(key, new)),
            }
        }
    }
    let limit = search.limit.filter(|limit| *limit > 0).unwrap_or(USUAL);
    Ok(found.into_values().take(limit).collect())
}

fn view(measured: Measured) -> NewestMetric {
    let exposed = exposed_name(&measured);
    let kind = match (&measured.value, measured.nature) {
        (_, MeterNature::Delta) => "delta",
        (MeterValue::Histogram { .. }, _) => "histogram",
        (_, MeterNature::Counter) => "counter",
        (_, MeterNature::Gauge) => "gauge",
        (_, MeterNature::Unknown) => "unknown",
    };
    let (value, buckets) = match measured.value {
        MeterValue::Single(number) => (Some(number), Vec::new()),
        MeterValue::Histogram { buckets, sum } => {
            let buckets = buckets.into_iter().map(|bucket| BucketView {
                from: Some(bucket.from).filter(|from| from.is_finite()),
                count: bucket.count,
            });
            (sum, buckets.collect())
        }
    };
    NewestMetric {
        name: measured.name,
        exposed,
        kind: kind.to_owned(),
        unit: measured.unit,
        service: measured.service,
        instance: measured.instance,
        labels: measured.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        time: measured.at,
        // JSON has no words for the others.
        value: value.filter(|value| value.is_finite()),
        buckets,
    }
}

/// Metrics if nobody says how many.
const USUAL: usize = 1000;
