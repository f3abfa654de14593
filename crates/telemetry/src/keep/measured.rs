//! What was measured, read out of a record of whichever protocol: meters as they are named, the state of a runtime
//! under the names that Prometheus' clients give it.

use jiff::Timestamp;

use super::scan::time;
use crate::protocol::view::{
    ClrSample, ClrView, JvmSample, JvmView, MeterNature, MeterValue, MeterView, RuntimeSeries, Tag,
};
use crate::{Record, RecordKind};

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// When, by whoever measured it; or when it was received, if he did not say.
    pub at: Timestamp,
    /// What it is, in a sentence, where that was said.
    pub description: String,
    /// Of which instance.
    pub instance: String,
    /// What tells its series from others of the name.
    pub labels: Vec<Tag>,
    /// What it is called.
    pub name: String,
    /// What may be done with it.
    pub nature: MeterNature,
    /// Of which service.
    pub service: String,
    /// In what it is measured, where that was said.
    pub unit: String,
    /// What was measured.
    pub value: MeterValue,
}

/// The kinds of records in which something was measured.
pub(super) const MEASURED: [RecordKind; 4] =
    [RecordKind::Meter, RecordKind::OtlpMetrics, RecordKind::JvmMetrics, RecordKind::ClrMetrics];

/// The names of what a runtime reports, all at once; none for other kinds.
pub(super) fn runtime_names(kind: RecordKind) -> &'static [&'static str] {
    match kind {
        RecordKind::JvmMetrics => &JvmSample::NAMES,
        RecordKind::ClrMetrics => &ClrSample::NAMES,
        _ => &[],
    }
}

/// Calls `found` with each value in a record; what cannot be read has none.
pub(super) fn measured(record: &Record, found: &mut dyn FnMut(Measured)) {
    match record.kind {
        RecordKind::JvmMetrics => {
            let Ok(view) = JvmView::of(&record.body) else { return };
            for sample in &view.samples {
                let of = Runtime::new(record, &view.service, &view.instance, sample.time_ms);
                sample.series().into_iter().for_each(|series| found(of.value(series)));
            }
        }
        RecordKind::ClrMetrics => {
            let Ok(view) = ClrView::of(&record.body) else { return };
            for sample in &view.samples {
                let of = Runtime::new(record, &view.service, &view.instance, sample.time_ms);
                sample.series().into_iter().for_each(|series| found(of.value(series)));
            }
        }
        _ => {
            for meter in MeterView::of(record.kind, &record.body).unwrap_or_default() {
                found(Measured {
                    at: moment(record, meter.time_ms),
                    description: meter.description,
                    instance: meter.instance,
                    labels: meter.labels,
                    name: meter.name,
                    nature: meter.nature,
                    service: meter.service,
                    unit: meter.unit,
                    value: meter.value,
                });
            }
        }
    }
}

/// Whose state is told, and of when.
struct Runtime<'a> {
    at: Timestamp,
    service: &'a str,
    instance: &'a str,
}

impl<'a> Runtime<'a> {
    fn new(record: &Record, service: &'a str, instance: &'a str, time_ms: i64) -> Self {
        Self { at: moment(record, time_ms), service, instance }
    }

    fn value(&self, (name, label, value): RuntimeSeries) -> Measured {
        let label = label.map(|(key, value)| Tag { key: key.to_owned(), value: value.to_owned() });
        Measured {
            at: self.at,
            description: String::new(),
            instance: self.instance.to_owned(),
            labels: label.into_iter().collect(),
            name: name.to_owned(),
            nature: MeterNature::Gauge,
            service: self.service.to_owned(),
            unit: String::new(),
            value: MeterValue::Single(value),
        }
    }
}

fn moment(record: &Record, time_ms: i64) -> Timestamp {
    if time_ms > 0 { time(time_ms) } else { record.received }
}
