//! What services measured, in the text format of Prometheus (0.0.4, which knows numbers of which nobody said what they
//! are).
//!
//! Whatever services call their metrics, the page is one that can be read: names and labels are made fit, families
//! of one name have one type, no series stands there twice, and nothing looks like handfast's own metrics.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

use handfast_telemetry::keep::Measured;
use handfast_telemetry::protocol::view::{Bucket, MeterNature, MeterValue, Tag};
use jiff::Timestamp;

/// The page. Of several values of one series the newest is taken.
pub fn exposition(measured: &[Measured]) -> String {
    let mut page = Families::of(measured);
    // Of two that end up under one name, numbers stay before what a histogram is made of.
    let (numbers, histograms): (Vec<&Measured>, Vec<&Measured>) =
        measured.iter().partition(|it| matches!(it.value, MeterValue::Single(_)));
    for value in numbers.into_iter().chain(histograms) {
        page.add(value);
    }
    page.written()
}

/// The media type of the page.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The name under which a metric is offered.
pub fn exposed_name(measured: &Measured) -> String {
    let mut name = name(&measured.name, ':');
    if let Some(unit) = unit(&measured.unit) {
        // Of a summary the sum and the count are metrics of their own; the unit stands before what they are.
        let of_summary = measured.nature == MeterNature::Unknown;
        let ends = if of_summary { &["_count", "_sum"][..] } else { &["_total"][..] };
        let end = ends.iter().find(|end| name.ends_with(**end)).copied().unwrap_or_default();
        let begin = name.strip_suffix(end).unwrap_or(&name);
        if !begin.ends_with(unit) {
            name = format!("{begin}_{unit}{end}");
        }
    }
    let is_counter = measured.nature == MeterNature::Counter;
    if is_counter && matches!(measured.value, MeterValue::Single(_)) && !name.ends_with("_total") {
        name.push_str("_total");
    }
    if name.starts_with(OWN) {
        // Who reads alerts about handfast must not be told them by a service.
        name.insert_str(0, "reported_");
    }
    name
}

/// The type of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Type {
    Counter,
    Gauge,
    Histogram,
    Untyped,
}

impl Type {
    fn of(measured: &Measured) -> Self {
        match (&measured.value, measured.nature) {
            (MeterValue::Histogram { .. }, _) => Self::Histogram,
            (_, MeterNature::Counter) => Self::Counter,
            (_, MeterNature::Delta | MeterNature::Gauge) => Self::Gauge,
            (_, MeterNature::Unknown) => Self::Untyped,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

#[derive(Debug, Default)]
struct Families {
    all: BTreeMap<String, Family>,
    /// Histograms that are told as what they are made of.
    apart: HashSet<String>,
}

#[derive(Debug)]
struct Family {
    kind: Type,
    help: String,
    /// By labels; with how new it is, its lines: what follows the family's name, and the number.
    series: BTreeMap<String, (Timestamp, Vec<(String, String)>)>,
}

impl Families {
    /// A histogram takes four names. Where another metric has one of them, it is told as plain numbers, since a page
    /// with two types for one name is no page. The same where it does not count from the beginning.
    fn of(measured: &[Measured]) -> Self {
        let (mut plain, mut histograms) = (BTreeSet::new(), BTreeSet::new());
        let mut broken = Vec::new();
        for value in measured {
            let name = exposed_name(value);
            match Type::of(value) {
                Type::Histogram => {
                    if value.nature == MeterNature::Delta {
                        broken.push(name.clone());
                    }
                    histograms.insert(name);
                }
                _ => drop(plain.insert(name)),
            }
        }
        for name in &histograms {
            let parts = PARTS.map(|part| format!("{name}{part}"));
            let taken = |it: &String| plain.contains(it) || histograms.contains(it);
            if plain.contains(name) || parts.iter().any(taken) {
                broken.push(name.clone());
            }
        }
        let mut apart = HashSet::new();
        while let Some(name) = broken.pop() {
            // Its parts have names of their own now, which may be those of other histograms.
            if histograms.contains(&name) && apart.insert(name.clone()) {
                broken.extend(PARTS.map(|part| format!("{name}{part}")));
            }
        }
        Self { all: BTreeMap::new(), apart }
    }

    fn add(&mut self, value: &Measured) {
        let name = exposed_name(value);
        let labels = labels(value);
        match &value.value {
            MeterValue::Single(number) => {
                let line = (braced(&labels, None), float(*number));
                self.put(name, Type::of(value), value, &labels, vec![line]);
            }
            MeterValue::Histogram { buckets, sum } => {
                let buckets = cumulative(buckets);
                let Some((_, count)) = buckets.last().copied() else { return };
                let of_buckets = buckets
                    .iter()
                    .map(|(le, count)| (braced(&labels, Some(*le)), count.to_string()));
                let sum = sum.map(|sum| (braced(&labels, None), float(sum)));
                let count = (braced(&labels, None), count.to_string());
                if self.apart.contains(&name) {
                    for (le, number) in of_buckets.collect::<Vec<_>>() {
                        let line = vec![(le.clone(), number)];
                        self.put(format!("{name}_bucket"), Type::Untyped, value, &le, line);
                    }
                    if let Some(sum) = sum {
                        self.put(format!("{name}_sum"), Type::Untyped, value, &labels, vec![sum]);
                    }
                    self.put(format!("{name}_count"), Type::Untyped, value, &labels, vec![count]);
                } else {
                    let named = |part, (rest, number)| (format!("{part}{rest}"), number);
                    let mut lines: Vec<_> = of_buckets.map(|it| named("_bucket", it)).collect();
                    lines.extend(sum.map(|sum| named("_sum", sum)));
                    lines.push(named("_count", count));
                    self.put(name, Type::Histogram, value, &labels, lines);
                }
            }
        }
    }

    fn put(
        &mut self,
        name: String,
        kind: Type,
        of: &Measured,
        labels: &str,
        lines: Vec<(String, String)>,
    ) {
        let family = self.all.entry(name).or_insert_with(|| Family {
            kind,
            help: help(of),
            series: BTreeMap::new(),
        });
        if family.kind != kind {
            family.kind = Type::Untyped;
        }
        match family.series.get_mut(labels) {
            Some((at, _)) if *at >= of.at => {}
            Some(known) => *known = (of.at, lines),
            None => drop(family.series.insert(labels.to_owned(), (of.at, lines))),
        }
    }

    fn written(self) -> String {
        let mut page = String::new();
        for (name, Family { kind, help, series }) in self.all {
            // Writing to a string does not fail.
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
            for (rest, number) in series.into_values().flat_map(|(_, lines)| lines) {
                let _ = writeln!(page, "{name}{rest} {number}");
            }
        }
        page
    }
}

/// What it is; where nobody said, what its name was.
fn help(of: &Measured) -> String {
    let text = match of.description.trim() {
        "" => format!("{}, as services report it", of.name),
        said => said.to_owned(),
    };
    text.replace('\\', r"\\").replace(['\n', '\r'], " ")
}

/// Bucket by bucket: up to which value, and how many values are not above it.
fn cumulative(buckets: &[Bucket]) -> Vec<(f64, u64)> {
    let mut buckets: Vec<&Bucket> = buckets.iter().filter(|it| !it.from.is_nan()).collect();
    buckets.sort_by(|a, b| a.from.total_cmp(&b.from));
    let mut told: Vec<(f64, u64)> = Vec::with_capacity(buckets.len());
    let mut count = 0_u64;
    for (number, bucket) in buckets.iter().enumerate() {
        count = count.saturating_add(bucket.count);
        // One ends where the next begins; 0 and -0 are one bound.
        let le = buckets.get(number + 1).map_or(f64::INFINITY, |next| next.from + 0.0);
        match told.last_mut() {
            Some(last) if last.0.total_cmp(&le).is_eq() => last.1 = count,
            _ if le == f64::NEG_INFINITY => {}
            _ => told.push((le, count)),
        }
    }
    told
}

/// The labels as they are written, without braces: whose it is, then what was reported.
fn labels(of: &Measured) -> String {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut sorted: Vec<&Tag> = of.labels.iter().filter(|tag| !tag.value.is_empty()).collect();
    sorted.sort();
    for Tag { key, value } in sorted {
        let key = label_name(key);
        labels
            .entry(key)
            .and_modify(|known| {
                known.push(';');
                known.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    let own = [("service", &of.service), ("instance", &of.instance)];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    let mut text = String::new();
    for (key, value) in own.chain(labels.iter().map(|(key, value)| (key.as_str(), value))) {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let _ = write!(text, "{comma}{key}=\"{value}\"");
    }
    text
}

fn braced(labels: &str, le: Option<f64>) -> String {
    match le {
        Some(le) if labels.is_empty() => format!("{{le=\"{}\"}}", float(le)),
        Some(le) => format!("{{{labels},le=\"{}\"}}", float(le)),
        None if labels.is_empty() => String::new(),
        None => format!("{{{labels}}}"),
    }
}

/// The name of a label. Those that mean something to the page, or to Prometheus, are ours.
fn label_name(text: &str) -> String {
    let name = name(text, '_');
    let is_taken = name.starts_with("__")
        || ["instance", "job", "le", "quantile", "service"].contains(&name.as_str());
    // A quantile is said by OpenTelemetry of what it is there.
    if is_taken && name != "quantile" { format!("exported_{name}") } else { name }
}

/// A text as a name: whatever cannot stand in one is `_`.
fn name(text: &str, also: char) -> String {
    let mut name: String = text
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || it == also { it } else { '_' })
        .collect();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == also)
    {
        name.insert(0, '_');
    }
    name
}

/// The word that the conventions have for a unit of OpenTelemetry.
fn unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "min" => "minutes",
        "h" => "hours",
        "d" => "days",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "J" => "joules",
        "V" => "volts",
        "W" => "watts",
        "%" => "percent",
        _ => return None,
    })
}

fn float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        (if number > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        // The shortest that reads back, with an exponent where it is long.
        format!("{number:?}")
    }
}

/// What a histogram's lines end with.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// What handfast's own metrics begin with.
const OWN: &str = "handfast_";

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
