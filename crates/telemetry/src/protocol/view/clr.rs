//! The state of a .NET runtime.

use super::Room;
use super::jvm::{RuntimeSeries, numbers};
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
    /// One for each moment, as they came.
    pub samples: Vec<ClrSample>,
}

/// The state at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClrSample {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Use of the processor, in percent.
    pub cpu_percent: f64,
    /// Collections of garbage since the sample before, by generation.
    pub collections: [i64; 3],
    /// The heap, in bytes.
    pub heap_bytes: i64,
    /// Threads of the pool that are free, and how many there may be.
    pub workers: PoolThreads,
    /// The same for what completes input and output.
    pub completion_ports: PoolThreads,
}

/// Threads of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolThreads {
    /// Those that are free.
    pub available: i64,
    /// As many as there may be.
    pub max: i64,
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

impl ClrSample {
    /// Every name that [`Self::series`] gives.
    pub const NAMES: [&str; 5] = [
        "clr_cpu_ratio",
        "clr_gc_collections",
        "clr_heap_memory_bytes",
        "clr_threads_available",
        "clr_threads_max",
    ];

    /// As series of numbers in base units; the pair is the one label that a series has.
    #[expect(clippy::cast_precision_loss, reason = "series are of doubles")]
    pub fn series(&self) -> Vec<RuntimeSeries> {
        let [cpu, collections, heap, available, max] = Self::NAMES;
        let mut series =
            vec![(cpu, None, self.cpu_percent / 100.0), (heap, None, self.heap_bytes as f64)];
        for (generation, count) in ["0", "1", "2"].into_iter().zip(self.collections) {
            series.push((collections, Some(("generation", generation)), count as f64));
        }
        for (pool, threads) in
            [("worker", self.workers), ("completion_port", self.completion_ports)]
        {
            series.push((available, Some(("pool", pool)), threads.available as f64));
            series.push((max, Some(("pool", pool)), threads.max as f64));
        }
        series
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
                sample.collections = [first, second, third];
                sample.heap_bytes = heap;
            }
            4 => {
                let [_, free_ports, free_workers, most_ports, most_workers] =
                    numbers(field.nested("thread", "ClrThread")?)?;
                sample.workers = PoolThreads { available: free_workers, max: most_workers };
                sample.completion_ports = PoolThreads { available: free_ports, max: most_ports };
            }
            _ => {}
        }
    }
    Ok(sample)
}
