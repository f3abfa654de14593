//! The state of a .NET runtime.

use super::Room;
use super::jvm::numbers;
use super::spans::numbered;
use crate::protocol::claim::name;
use crate::protocol::wire::{Fields, Malformed};

/// What an instance measured since it last reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClrView {
    /// The service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// As they came.
    pub samples: Vec<ClrSample>,
}

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClrSample {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Use of the processor, in percent.
    pub cpu_percent: f64,
    /// Collections of garbage of each generation since the sample before.
    pub collections: [i64; 3],
    /// Bytes of the managed heap in use.
    pub heap_bytes: i64,
    /// Threads of the pool that wait for the completion of input and output, and those that work: how many
    /// are idle.
    pub available: [i64; 2],
    /// The same: how many there may be.
    pub limits: [i64; 2],
}

impl ClrView {
    /// Of a `CLRMetricCollection`. Samples beyond [`MAX_ITEMS`](super::MAX_ITEMS) are left out.
    pub fn of(body: &[u8]) -> Result<Self, Malformed> {
        let (mut view, mut room) = (Self::default(), Room::new());
        for field in Fields::of("CLRMetricCollection", body) {
            let field = field?;
            match field.number {
                1 if room.take() => {
                    view.samples.push(sample(field.nested("metrics", "CLRMetric")?)?);
                }
                2 => view.service = name(&field, "service")?.into(),
                3 => view.instance = name(&field, "serviceInstance")?.into(),
                _ => {}
            }
        }
        Ok(view)
    }
}

fn sample(fields: Fields<'_>) -> Result<ClrSample, Malformed> {
    let mut sample = ClrSample::default();
    for field in fields {
        let field = field?;
        match field.number {
            1 => sample.time_ms = field.int64("time")?,
            2 => {
                for usage in numbered(field.nested("cpu", "CPU")?, 2) {
                    sample.cpu_percent = usage?.double("usagePercent")?;
                }
            }
            3 => {
                let [_, first, second, third, heap] = numbers(field.nested("gc", "ClrGC")?)?;
                (sample.collections, sample.heap_bytes) = ([first, second, third], heap);
            }
            4 => {
                let [_, completing, working, most_completing, most_working] =
                    numbers(field.nested("thread", "ClrThread")?)?;
                sample.available = [completing, working];
                sample.limits = [most_completing, most_working];
            }
            _ => {}
        }
    }
    Ok(sample)
}
