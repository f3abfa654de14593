//! Metrics of OpenTelemetry's protocol 0.7 as those of 1.0, field by field, without building messages; those of 1.0
//! stay what they are, but for `Dimensions`, the one attribute in which CloudWatch puts all of its own: each becomes an
//! attribute of its own, as it was in 0.7.
//!
//! Numbers of fields were hardly ever given again, so one reading does for both: what 0.7 calls labels is field 1 of a
//! point, which 1.0 has not, and its whole numbers had kinds of metrics of their own (4, 6, 8).

use bytes::Bytes;

use crate::protocol::otlp::{Attribute, AttributeValue};
use crate::protocol::wire::{Field, Fields, Malformed, put_bytes, put_varint};

/// A `ResourceMetrics`, which names the service that it comes from.
pub(super) fn resource(body: &[u8]) -> Result<Bytes, Malformed> {
    let (mut out, mut described) = (Vec::with_capacity(body.len() + 128), Stream::default());
    let (mut inside, mut is_there) = (Vec::new(), false);
    each(Fields::of("ResourceMetrics", body), |field, raw| {
        match field.number {
            // Twice is one: what was read is put together.
            1 => {
                described.read(field.nested("resource", "Resource")?)?;
                inside.extend_from_slice(field.bytes("resource")?);
                is_there = true;
            }
            2 => {
                let mut scope = Vec::new();
                scope_metrics(field.nested("scopeMetrics", "ScopeMetrics")?, &mut scope)?;
                put_bytes(&mut out, 2, &scope);
            }
            _ => out.extend_from_slice(raw),
        }
        Ok(())
    })?;
    if !described.has_service {
        described.name(&mut inside);
    }
    if is_there || !inside.is_empty() {
        put_bytes(&mut out, 1, &inside);
    }
    Ok(out.into())
}

/// What a stream says of itself.
#[derive(Debug, Default)]
struct Stream<'a> {
    has_service: bool,
    account: &'a str,
    region: &'a str,
    arn: &'a str,
}

impl<'a> Stream<'a> {
    fn read(&mut self, fields: Fields<'a>) -> Result<(), Malformed> {
        each(fields, |field, _| {
            if field.number != 1 {
                return Ok(());
            }
            let pair = Attribute::of(field.nested("attributes", "Resource")?)?;
            let AttributeValue::Text(text) = pair.value else {
                self.has_service |= pair.key == "service.name";
                return Ok(());
            };
            match pair.key {
                "service.name" => self.has_service = true,
                "cloud.account.id" => self.account = text,
                "cloud.region" => self.region = text,
                "aws.exporter.arn" => self.arn = text,
                _ => {}
            }
            Ok(())
        })
    }

    /// Says who it is, where that can be known.
    fn name(&self, resource: &mut Vec<u8>) {
        if self.account.is_empty() {
            return;
        }
        attribute(resource, 1, "service.name", &format!("aws-cloudwatch-{}", self.account));
        let stream = self.arn.rsplit_once("metric-stream/").map_or("", |(_, stream)| stream);
        if !stream.is_empty() {
            let instance = format!("{}/{stream}", self.region);
            attribute(resource, 1, "service.instance.id", &instance);
        }
    }
}

fn scope_metrics(fields: Fields<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    each(fields, |field, raw| {
        if field.number == 2 {
            let mut one = Vec::new();
            metric(field.nested("metrics", "Metric")?, &mut one)?;
            put_bytes(out, 2, &one);
        } else {
            out.extend_from_slice(raw);
        }
        Ok(())
    })
}

/// How the points of a metric are written.
#[derive(Clone, Copy)]
struct Points {
    message: &'static str,
    /// The number that the metric's field has today.
    today: u32,
    /// The number of the attributes of a point.
    attributes: u32,
    /// What 0.7 had for whole numbers.
    whole: bool,
}

impl Points {
    fn of(number: u32) -> Option<Self> {
        let points = |message, today, attributes| Self {
            message,
            today,
            attributes,
            whole: number != today,
        };
        Some(match number {
            4 | 5 => points("NumberDataPoint", 5, 7),
            6 | 7 => points("NumberDataPoint", 7, 7),
            8 | 9 => points("HistogramDataPoint", 9, 9),
            11 => points("SummaryDataPoint", 11, 7),
            _ => return None,
        })
    }
}

fn metric(fields: Fields<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    each(fields, |field, raw| {
        let Some(points) = Points::of(field.number) else {
            out.extend_from_slice(raw);
            return Ok(());
        };
        let mut data = Vec::new();
        each(field.nested("data", "Metric")?, |field, raw| {
            if field.number == 1 {
                let mut told = Vec::new();
                point(points, field.nested("dataPoints", points.message)?, &mut told)?;
                put_bytes(&mut data, 1, &told);
            } else {
                data.extend_from_slice(raw);
            }
            Ok(())
        })?;
        put_bytes(out, points.today, &data);
        Ok(())
    })
}

fn point(points: Points, fields: Fields<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let is_histogram = points.today == 9;
    each(fields, |field, raw| {
        match field.number {
            1 => {
                let (key, value) = label(field.nested("labels", "StringKeyValue")?)?;
                attribute(out, points.attributes, key, value);
            }
            number if number == points.attributes => {
                if !dimensions(field, points.attributes, out)? {
                    out.extend_from_slice(raw);
                }
            }
            4 if points.whole && !is_histogram => fixed64(out, 6, field.fixed64("value")?),
            5 if points.whole && is_histogram => {
                #[expect(clippy::cast_precision_loss, reason = "today's sum is a double")]
                let sum = field.fixed64("sum")?.cast_signed() as f64;
                fixed64(out, 5, sum.to_bits());
            }
            // Examples of whole numbers; CloudWatch sends none.
            5 if points.whole => {}
            8 if points.whole && is_histogram => {}
            _ => out.extend_from_slice(raw),
        }
        Ok(())
    })
}

/// Writes the dimensions that an attribute holds as attributes; false where it holds none.
fn dimensions(field: Field<'_>, number: u32, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let (mut key, mut list) = ("", None);
    for part in field.nested("attributes", "KeyValue")? {
        let part = part?;
        match part.number {
            1 => key = part.text("key")?,
            2 => {
                for value in part.nested("value", "AnyValue")? {
                    let value = value?;
                    list = (value.number == 6).then_some(value);
                }
            }
            _ => {}
        }
    }
    let Some(list) = list.filter(|_| key == "Dimensions") else { return Ok(false) };
    each(list.nested("kvlistValue", "KeyValueList")?, |pair, _| {
        if pair.number == 1 {
            put_bytes(out, number, pair.bytes("values")?);
        }
        Ok(())
    })?;
    Ok(true)
}

fn label(fields: Fields<'_>) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    for field in fields {
        let field = field?;
        match field.number {
            1 => key = field.text("key")?,
            2 => value = field.text("value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn attribute(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    let (mut text, mut pair) = (Vec::new(), Vec::new());
    put_bytes(&mut text, 1, value.as_bytes());
    put_bytes(&mut pair, 1, key.as_bytes());
    put_bytes(&mut pair, 2, &text);
    put_bytes(out, number, &pair);
}

fn fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Goes through the fields of a message, each with its bytes as they came.
fn each<'a>(
    mut fields: Fields<'a>,
    mut told: impl FnMut(Field<'a>, &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    loop {
        let before = fields.rest();
        let Some(field) = fields.next() else { return Ok(()) };
        let field = field?;
        let raw = before.get(..before.len() - fields.rest().len()).unwrap_or_default();
        told(field, raw)?;
    }
}
