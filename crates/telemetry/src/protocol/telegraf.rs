//! What Telegraf posts (`outputs.http` with `data_format = "json"`), told in OpenTelemetry's words: from then on it
//! is judged, kept and passed on as everything else that comes in them.
//!
//! A metric of Telegraf has several fields; each becomes a gauge with the name that OAP's receiver gives it,
//! `<name>_<field>`, and with all tags. Who it comes from is its tag `host`, as OAP's rules have it
//! (`service(['host'], Layer.OS_LINUX)`): Telegraf watches a machine, and knows no services. Instances there are none.
//! Text has no number and is left out; what is true is 1.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use handfast_proto::otlp::common::v1::{InstrumentationScope, KeyValue};
use handfast_proto::otlp::metrics::v1::metric::Data;
use handfast_proto::otlp::metrics::v1::number_data_point::Value;
use handfast_proto::otlp::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use handfast_proto::otlp::resource::v1::Resource;
use prost::Message as _;

use super::collection::MAX_PARTS;
use super::json::message::number;
use super::json::reader::{Fail, Read, Reader};
use super::json::{BodyError, JsonError, JsonFault, MAX_BODY};
use super::otlp_export::attributes::Attributes;

/// The records that a body holds, one metric or `{"metrics": [...]}`: a `ResourceMetrics` for each host, and
/// several where one would say too much.
///
/// # Errors
/// It cannot be read, names no host, or holds more than anybody sends at once.
pub fn read(body: &[u8]) -> Result<Vec<Bytes>, BodyError> {
    let text = str::from_utf8(body).map_err(|fault| JsonError {
        message: "Metric",
        field: "(body)",
        at: fault.valid_up_to(),
        fault: JsonFault::Utf8,
    })?;
    let (mut reader, mut told) = (Reader::of(text), Told::default());
    let read = match reader.peek() {
        Some(b'[') => told.batch(&mut reader),
        _ => told.outermost(&mut reader),
    };
    let read = read.and_then(|()| reader.end());
    match (read, told.full.take()) {
        (_, Some(error)) => Err(error),
        (Err(fail), None) => Err(fail.error("Metric", "(body)").into()),
        (Ok(()), None) => Ok(told.finish()),
    }
}

/// What Telegraf measured at one moment.
#[derive(Debug, Default)]
struct Measured<'a> {
    name: Cow<'a, str>,
    fields: Vec<(String, f64)>,
    tags: Vec<(String, Cow<'a, str>)>,
    timestamp: Option<i64>,
}

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    hosts: BTreeMap<String, Host>,
    done: Vec<Bytes>,
    metrics: usize,
    bytes: usize,
    /// Why it ended, where there was too much.
    full: Option<BodyError>,
}

/// What one host says, as far as it is in no record yet.
#[derive(Debug, Default)]
struct Host {
    metrics: BTreeMap<String, Vec<NumberDataPoint>>,
    items: usize,
}

impl Told {
    /// One metric, or an object that holds several.
    fn outermost(&mut self, reader: &mut Reader<'_>) -> Read<()> {
        let (mut alone, mut is_batch) = (Measured::default(), false);
        reader.object(|reader, name| {
            if name == "metrics" && reader.peek() == Some(b'[') {
                is_batch = true;
                return self.batch(reader);
            }
            alone.member(reader, name, &mut self.full)
        })?;
        if is_batch { Ok(()) } else { self.add(reader, alone) }
    }

    fn batch(&mut self, reader: &mut Reader<'_>) -> Read<()> {
        reader.array(|reader| {
            let mut measured = Measured::default();
            reader.object(|reader, name| measured.member(reader, name, &mut self.full))?;
            self.add(reader, measured)
        })
    }

    fn add(&mut self, reader: &Reader<'_>, measured: Measured<'_>) -> Read<()> {
        let Measured { name, fields, tags, timestamp } = measured;
        let expected = |what, field| reader.expected(what).within("Metric", field);
        if name.is_empty() {
            return Err(expected("a metric to have one", "name"));
        }
        let Some(timestamp) = timestamp else {
            return Err(expected("a metric to have one", "timestamp"));
        };
        let host = tags.iter().find(|(key, value)| key == "host" && !value.is_empty());
        let Some((_, host)) = host else {
            return Err(expected(
                "the tag `host`, which says whose metric it is (`omit_hostname` of the agent takes it off)",
                "tags",
            ));
        };
        let host = host.clone().into_owned();
        let size: usize = tags.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        self.metrics += 1;
        self.bytes += (size + name.len() + POINT).saturating_mul(fields.len());
        if self.metrics > MAX_PARTS {
            return Err(stop(reader, &mut self.full, BodyError::TooMany(MAX_PARTS)));
        }
        if self.bytes > MAX_BODY {
            return Err(stop(reader, &mut self.full, BodyError::TooMuch(MAX_BODY)));
        }
        let mut attributes = Attributes::default();
        let items = 1 + tags.len();
        for (key, value) in tags {
            attributes.text(&key, value);
        }
        let attributes = attributes.finish();
        for (field, value) in fields {
            self.point(
                &host,
                format!("{name}_{field}"),
                point(timestamp, value, &attributes),
                items,
            );
        }
        Ok(())
    }

    fn point(&mut self, host: &str, name: String, point: NumberDataPoint, items: usize) {
        let known = self.hosts.entry(host.to_owned()).or_default();
        let new = usize::from(!known.metrics.contains_key(&name));
        if known.items + items > RECORD_ITEMS || known.metrics.len() + new > RECORD_NAMES {
            let full = std::mem::take(known);
            self.done.push(full.tell(host));
        }
        known.items += items;
        known.metrics.entry(name).or_default().push(point);
    }

    fn finish(mut self) -> Vec<Bytes> {
        for (name, host) in self.hosts {
            if host.items > 0 {
                self.done.push(host.tell(&name));
            }
        }
        self.done
    }
}

impl Host {
    fn tell(self, name: &str) -> Bytes {
        let gauge = |(name, data_points)| Metric {
            name,
            data: Some(Data::Gauge(Gauge { data_points })),
            ..Metric::default()
        };
        let scope =
            InstrumentationScope { name: "telegraf".to_owned(), ..InstrumentationScope::default() };
        let mut attributes = Attributes::default();
        attributes.text("service.name", name);
        attributes.text("host.name", name);
        let told = ResourceMetrics {
            resource: Some(Resource { attributes: attributes.finish(), ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics: self.metrics.into_iter().map(gauge).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        };
        told.encode_to_vec().into()
    }
}

impl<'a> Measured<'a> {
    fn member(
        &mut self,
        reader: &mut Reader<'a>,
        name: &str,
        full: &mut Option<BodyError>,
    ) -> Read<()> {
        let (field, read) = match name {
            "name" => ("name", reader.string().map(|name| self.name = name)),
            "timestamp" => {
                let read = number(reader, "a time in seconds (or finer: `json_timestamp_units`)");
                ("timestamp", read.map(|time| self.timestamp = Some(time)))
            }
            "fields" => {
                let read = reader.object(|reader, key| {
                    let value = value(reader)?;
                    if self.fields.len() == MAX_FIELDS {
                        let (message, field, limit) = ("Metric", "fields", MAX_FIELDS);
                        let error = BodyError::TooManyIn { message, field, limit };
                        return Err(stop(reader, full, error));
                    }
                    self.fields.extend(value.map(|value| (key.to_owned(), value)));
                    Ok(())
                });
                ("fields", read)
            }
            "tags" => {
                let read = reader.object(|reader, key| {
                    let value = reader.string()?;
                    if self.tags.len() == MAX_TAGS {
                        let (message, field, limit) = ("Metric", "tags", MAX_TAGS);
                        let error = BodyError::TooManyIn { message, field, limit };
                        return Err(stop(reader, full, error));
                    }
                    self.tags.push((key.to_owned(), value));
                    Ok(())
                });
                ("tags", read)
            }
            _ => return reader.pass_over(),
        };
        read.map_err(|fail| fail.within("Metric", field))
    }
}

/// A field's number, if it is one.
fn value(reader: &mut Reader<'_>) -> Read<Option<f64>> {
    Ok(match reader.peek() {
        Some(b'"' | b'{' | b'[' | b'n') => {
            reader.pass_over()?;
            None
        }
        Some(b't') => reader.word("true").map(|()| Some(1.0))?,
        Some(b'f') => reader.word("false").map(|()| Some(0.0))?,
        _ => {
            let number: Option<f64> = reader.number()?.parse().ok();
            let finite = number.filter(|number| number.is_finite());
            Some(finite.ok_or_else(|| reader.expected("a number that a double holds"))?)
        }
    })
}

/// Remembers that there was too much, and ends the reading.
fn stop(reader: &Reader<'_>, full: &mut Option<BodyError>, error: BodyError) -> Fail {
    *full = Some(error);
    reader.expected("less")
}

fn point(timestamp: i64, value: f64, attributes: &[KeyValue]) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: nanos(timestamp),
        attributes: attributes.to_vec(),
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// Seconds, unless the agent was told to write finer ones, which shows in how many there are: as seconds they would
/// be of the year 5138, and finer ones of 1973 or before.
fn nanos(timestamp: i64) -> u64 {
    let scale = match timestamp.unsigned_abs() {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1000,
        _ => 1,
    };
    u64::try_from(timestamp).unwrap_or_default().saturating_mul(scale)
}

/// Tags of one metric.
pub const MAX_TAGS: usize = 256;

/// Fields of one metric.
pub const MAX_FIELDS: usize = 4096;

/// Points of one record with their tags: fewer than a view of it shows.
const RECORD_ITEMS: usize = 8192;

/// Names in one record: fewer than it has rows in an index.
const RECORD_NAMES: usize = 1000;

/// About what a point takes beside its tags.
const POINT: usize = 64;

#[cfg(test)]
#[path = "telegraf_tests.rs"]
mod tests;
