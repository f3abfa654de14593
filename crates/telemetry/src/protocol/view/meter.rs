//! Meters: numbers and histograms with a name and labels.

use super::spans::numbered;
use super::{MAX_ITEMS, Room, Tag, ms, push_attribute, push_pair};
use crate::RecordKind;
use crate::protocol::claim::name;
use crate::protocol::otlp::Resource;
use crate::protocol::wire::{Fields, Malformed};

/// One value of one meter.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterView {
    /// The service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// The meter's name.
    pub name: String,
    /// What tells its series from others of the name.
    pub labels: Vec<Tag>,
    /// When it was read, in milliseconds since 1970.
    pub time_ms: i64,
    /// What was read.
    pub value: MeterValue,
    /// What kind of thing was read.
    pub nature: MeterNature,
    /// In what it is measured, where that was said.
    pub unit: String,
    /// What it is, in a sentence, where that was said.
    pub description: String,
}

/// What may be done with a value.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum MeterNature {
    /// It only grows, from when the reporter began.
    Counter,
    /// It was counted since the value before.
    Delta,
    /// It goes up and down.
    Gauge,
    /// Nobody said: SkyWalking's numbers are all alike.
    #[default]
    Unknown,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub enum MeterValue {
    /// How many values fell where.
    Histogram {
        /// By their lower bounds, as they came.
        buckets: Vec<Bucket>,
        /// The sum of the values, where it was sent.
        sum: Option<f64>,
    },
    /// A number.
    Single(f64),
}

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Its lower bound.
    pub from: f64,
    /// How many values fell into it.
    pub count: u64,
}

impl MeterView {
    /// The values of a record of meters: one, or all of a resource up to [`MAX_ITEMS`]; none where the record
    /// holds something else, or names no value.
    pub fn of(kind: RecordKind, body: &[u8]) -> Result<Vec<Self>, Malformed> {
        match kind {
            RecordKind::Meter => Ok(meter(body)?.into_iter().collect()),
            RecordKind::OtlpMetrics => metrics(body),
            _ => Ok(Vec::new()),
        }
    }
}

fn meter(body: &[u8]) -> Result<Option<MeterView>, Malformed> {
    let (mut service, mut instance, mut time_ms, mut metric) = ("", "", 0, None);
    for field in Fields::of("MeterData", body) {
        let field = field?;
        match field.number {
            1 => metric = Some((true, field.nested("singleValue", "MeterSingleValue")?)),
            2 => metric = Some((false, field.nested("histogram", "MeterHistogram")?)),
            3 => service = name(&field, "service")?,
            4 => instance = name(&field, "serviceInstance")?,
            5 => time_ms = field.int64("timestamp")?,
            _ => {}
        }
    }
    let Some((is_single, fields)) = metric else { return Ok(None) };
    let (mut room, mut labels, mut called) = (Room::new(), Vec::new(), "");
    let (mut number, mut buckets) = (0.0, Vec::new());
    for field in fields {
        let field = field?;
        match field.number {
            1 => called = field.text("name")?,
            2 => push_pair(&mut labels, field.nested("labels", "Label")?, &mut room)?,
            3 if is_single => number = field.double("value")?,
            3 if room.take() => buckets.push(bucket(field.nested("values", "MeterBucketValue")?)?),
            _ => {}
        }
    }
    let (value, nature) = if is_single {
        (MeterValue::Single(number), MeterNature::Unknown)
    } else {
        // Agents count in them from their start.
        (MeterValue::Histogram { buckets, sum: None }, MeterNature::Counter)
    };
    Ok(Some(MeterView {
        service: service.to_owned(),
        instance: instance.to_owned(),
        name: called.to_owned(),
        labels,
        time_ms,
        value,
        nature,
        unit: String::new(),
        description: String::new(),
    }))
}

fn bucket(fields: Fields<'_>) -> Result<Bucket, Malformed> {
    let (mut from, mut count, mut is_lowest) = (0.0, 0, false);
    for field in fields {
        let field = field?;
        match field.number {
            1 => from = field.double("bucket")?,
            2 => count = u64::try_from(field.int64("count")?).unwrap_or_default(),
            3 => is_lowest = field.flag("isNegativeInfinity")?,
            _ => {}
        }
    }
    Ok(Bucket { from: if is_lowest { f64::NEG_INFINITY } else { from }, count })
}

fn metrics(body: &[u8]) -> Result<Vec<MeterView>, Malformed> {
    let resource = Resource::of("ResourceMetrics", body)?;
    let (mut views, mut room) = (Vec::new(), Room::new());
    for scope in numbered(Fields::of("ResourceMetrics", body), 2) {
        for metric in numbered(scope?.nested("scopeMetrics", "ScopeMetrics")?, 2) {
            let metric = metric?.nested("metrics", "Metric")?;
            let mut said = Said::default();
            for field in metric.clone() {
                let field = field?;
                match field.number {
                    1 => said.name = field.text("name")?,
                    2 => said.description = field.text("description")?,
                    3 => said.unit = field.text("unit")?,
                    _ => {}
                }
            }
            for data in metric {
                let data = data?;
                let Some(kind) = Points::of(data.number) else { continue };
                let points = data.nested("data", kind.message())?;
                said.nature = nature(data.number, points.clone())?;
                for point in numbered(points, 1) {
                    if !room.take() {
                        return Ok(views);
                    }
                    let point =
                        Point::read(kind, point?.nested("dataPoints", kind.point())?, &mut room)?;
                    point.tell(&resource, &said, &mut views);
                }
            }
        }
    }
    Ok(views)
}

/// What a metric says of all its points.
#[derive(Clone, Copy, Debug, Default)]
struct Said<'a> {
    name: &'a str,
    description: &'a str,
    unit: &'a str,
    nature: MeterNature,
}

/// Of a `Gauge`, a `Sum`, or one of the histograms, which say it in the same fields.
fn nature(field: u32, points: Fields<'_>) -> Result<MeterNature, Malformed> {
    let (mut temporality, mut is_monotonic) = (0, false);
    for field in points {
        let field = field?;
        match field.number {
            2 => temporality = field.int32("aggregationTemporality")?,
            3 => is_monotonic = field.flag("isMonotonic")?,
            _ => {}
        }
    }
    Ok(match (field, temporality) {
        (5, _) => MeterNature::Gauge,
        (7 | 9 | 10, 1) => MeterNature::Delta,
        (7, _) if !is_monotonic => MeterNature::Gauge,
        (7 | 9 | 10, _) => MeterNature::Counter,
        _ => MeterNature::Unknown,
    })
}

/// Which points a metric has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Points {
    Exponential,
    Histogram,
    Number,
    Summary,
}

impl Points {
    fn of(field: u32) -> Option<Self> {
        match field {
            5 | 7 => Some(Self::Number),
            9 => Some(Self::Histogram),
            10 => Some(Self::Exponential),
            11 => Some(Self::Summary),
            _ => None,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Exponential => "ExponentialHistogram",
            Self::Histogram => "Histogram",
            Self::Number => "Gauge",
            Self::Summary => "Summary",
        }
    }

    fn point(self) -> &'static str {
        match self {
            Self::Exponential => "ExponentialHistogramDataPoint",
            Self::Histogram => "HistogramDataPoint",
            Self::Number => "NumberDataPoint",
            Self::Summary => "SummaryDataPoint",
        }
    }

    /// The number of the field with the attributes.
    fn attributes(self) -> u32 {
        match self {
            Self::Exponential => 1,
            Self::Histogram => 9,
            Self::Number | Self::Summary => 7,
        }
    }
}

/// A point of any of the four.
#[derive(Debug, Default)]
struct Point {
    labels: Vec<Tag>,
    time_ms: i64,
    values: Vec<(&'static str, Option<f64>, MeterValue)>,
}

impl Point {
    fn read(kind: Points, fields: Fields<'_>, room: &mut Room) -> Result<Self, Malformed> {
        let mut point = Self::default();
        for field in fields.clone() {
            let field = field?;
            if field.number == 3 {
                point.time_ms = ms(field.fixed64("timeUnixNano")?);
            } else if field.number == kind.attributes() {
                push_attribute(&mut point.labels, field.nested("attributes", "KeyValue")?, room)?;
            }
        }
        match kind {
            Points::Number => point.values.push(("", None, MeterValue::Single(number(fields)?))),
            Points::Histogram => point.values.push(("", None, histogram(fields, room)?)),
            Points::Exponential => point.values.push(("", None, exponential(fields, room)?)),
            Points::Summary => summary(fields, room, &mut point.values)?,
        }
        Ok(point)
    }

    fn tell(self, resource: &Resource<'_>, said: &Said<'_>, views: &mut Vec<MeterView>) {
        for (suffix, quantile, value) in self.values {
            let mut labels = self.labels.clone();
            if let Some(quantile) = quantile {
                labels.push(Tag { key: "quantile".to_owned(), value: quantile.to_string() });
            }
            views.push(MeterView {
                service: resource.service().into_owned(),
                instance: resource.instance.to_owned(),
                name: format!("{}{suffix}", said.name),
                labels,
                time_ms: self.time_ms,
                value,
                nature: said.nature,
                unit: said.unit.to_owned(),
                description: said.description.to_owned(),
            });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a meter is a double")]
fn number(fields: Fields<'_>) -> Result<f64, Malformed> {
    let mut number = 0.0;
    for field in fields {
        let field = field?;
        match field.number {
            4 => number = field.double("asDouble")?,
            6 => number = field.fixed64("asInt")?.cast_signed() as f64,
            _ => {}
        }
    }
    Ok(number)
}

fn histogram(fields: Fields<'_>, room: &mut Room) -> Result<MeterValue, Malformed> {
    let (mut sum, mut counts, mut bounds) = (None, Vec::new(), vec![f64::NEG_INFINITY]);
    for field in fields {
        let field = field?;
        match field.number {
            5 => sum = Some(field.double("sum")?),
            6 => counts.extend(field.fixed64s("bucketCounts")?.take_while(|_| room.take())),
            7 => {
                let more = field.fixed64s("explicitBounds")?.take_while(|_| room.take());
                bounds.extend(more.map(f64::from_bits));
            }
            _ => {}
        }
    }
    let buckets = bounds.into_iter().zip(counts).map(|(from, count)| Bucket { from, count });
    Ok(MeterValue::Histogram { buckets: buckets.collect(), sum })
}

/// Bucket `i` holds what is above `base^i`, up to `base^(i + 1)`; base is 2^(2^-scale).
fn exponential(fields: Fields<'_>, room: &mut Room) -> Result<MeterValue, Malformed> {
    let (mut sum, mut scale, mut zeros, mut threshold) = (None, 0, 0, 0.0);
    let (mut positive, mut negative) = (Ladder::default(), Ladder::default());
    for field in fields {
        let field = field?;
        match field.number {
            5 => sum = Some(field.double("sum")?),
            6 => scale = field.sint32("scale")?,
            7 => zeros = field.fixed64("zeroCount")?,
            8 => positive = Ladder::of(field.nested("positive", "Buckets")?, room)?,
            9 => negative = Ladder::of(field.nested("negative", "Buckets")?, room)?,
            14 => threshold = field.double("zeroThreshold")?,
            _ => {}
        }
    }
    let step = f64::from(scale).mul_add(-1.0, 0.0).exp2();
    let rung = |at: f64| (at * step).exp2();
    // The lowest first: of what is negative, the furthest from zero.
    let mut buckets: Vec<Bucket> =
        negative.rungs().map(|(at, count)| Bucket { from: -rung(at + 1.0), count }).collect();
    buckets.reverse();
    if zeros > 0 {
        buckets.push(Bucket { from: -threshold, count: zeros });
    }
    buckets.extend(positive.rungs().map(|(at, count)| Bucket { from: rung(at), count }));
    Ok(MeterValue::Histogram { buckets, sum })
}

/// Buckets in a row, from an offset.
#[derive(Debug, Default)]
struct Ladder {
    offset: i32,
    counts: Vec<u64>,
}

impl Ladder {
    fn of(fields: Fields<'_>, room: &mut Room) -> Result<Self, Malformed> {
        let mut ladder = Self::default();
        for field in fields {
            let field = field?;
            match field.number {
                1 => ladder.offset = field.sint32("offset")?,
                2 => {
                    let counts = field.varints("bucketCounts", MAX_ITEMS)?;
                    ladder.counts.extend(counts.into_iter().take_while(|_| room.take()));
                }
                _ => {}
            }
        }
        Ok(ladder)
    }

    fn rungs(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut at = f64::from(self.offset) - 1.0;
        self.counts.iter().map(move |count| {
            at += 1.0;
            (at, *count)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a meter is a double")]
fn summary(
    fields: Fields<'_>,
    room: &mut Room,
    values: &mut Vec<(&'static str, Option<f64>, MeterValue)>,
) -> Result<(), Malformed> {
    for field in fields {
        let field = field?;
        match field.number {
            4 => {
                let count = field.fixed64("count")? as f64;
                values.push(("_count", None, MeterValue::Single(count)));
            }
            5 => values.push(("_sum", None, MeterValue::Single(field.double("sum")?))),
            6 if room.take() => {
                let (mut quantile, mut value) = (0.0, 0.0);
                for field in field.nested("quantileValues", "ValueAtQuantile")? {
                    let field = field?;
                    match field.number {
                        1 => quantile = field.double("quantile")?,
                        2 => value = field.double("value")?,
                        _ => {}
                    }
                }
                values.push(("", Some(quantile), MeterValue::Single(value)));
            }
            _ => {}
        }
    }
    Ok(())
}
