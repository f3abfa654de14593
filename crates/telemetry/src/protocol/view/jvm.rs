//! The state of a Java virtual machine.

use super::Room;
use super::spans::numbered;
use crate::protocol::claim::name;
use crate::protocol::wire::{Fields, Malformed};

/// What an instance measured since it last reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JvmView {
    /// The service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// One for each second, as they came.
    pub samples: Vec<JvmSample>,
}

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JvmSample {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Use of the processor, in percent.
    pub cpu_percent: f64,
    /// The heap.
    pub heap: MemoryUse,
    /// All memory but the heap.
    pub non_heap: MemoryUse,
    /// The pools, by what they are for.
    pub pools: Vec<(&'static str, MemoryUse)>,
    /// Collections of garbage since the sample before.
    pub collections: Vec<Collection>,
    /// Threads by state.
    pub threads: Threads,
    /// Loaded classes.
    pub classes: Classes,
}

/// Use of some memory, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the words of Java's own documentation")]
pub struct MemoryUse {
    pub init: i64,
    /// -1 where there is no limit.
    pub max: i64,
    pub used: i64,
    pub committed: i64,
}

/// Collections of garbage of one generation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Collection {
    /// `new`, `old`, or `normal` where the collector knows no generations.
    pub generation: &'static str,
    /// How many there were.
    pub count: i64,
    /// How long they took together.
    pub time_ms: i64,
}

/// Threads by state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the words of Java's own documentation")]
pub struct Threads {
    pub live: i64,
    pub daemon: i64,
    pub peak: i64,
    pub runnable: i64,
    pub blocked: i64,
    pub waiting: i64,
    pub timed_waiting: i64,
}

/// Loaded classes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the words of Java's own documentation")]
pub struct Classes {
    pub loaded: i64,
    pub total_unloaded: i64,
    pub total_loaded: i64,
}

/// One number of a runtime's: the name of its series, the one label that it may have, and the number.
pub type RuntimeSeries = (&'static str, Option<(&'static str, &'static str)>, f64);

impl JvmView {
    /// Of a `JVMMetricCollection`. Samples beyond [`MAX_ITEMS`](super::MAX_ITEMS) are left out.
    pub fn of(body: &[u8]) -> Result<Self, Malformed> {
        let (mut view, mut room) = (Self::default(), Room::new());
        for field in Fields::of("JVMMetricCollection", body) {
            let field = field?;
            match field.number {
                1 if room.take() => {
                    view.samples.push(sample(field.nested("metrics", "JVMMetric")?, &mut room)?);
                }
                2 => view.service = name(&field, "service")?.into(),
                3 => view.instance = name(&field, "serviceInstance")?.into(),
                _ => {}
            }
        }
        Ok(view)
    }
}

impl JvmSample {
    /// Every name that [`Self::series`] gives.
    pub const NAMES: [&str; 11] = [
        "jvm_classes_loaded",
        "jvm_cpu_ratio",
        "jvm_gc_collections",
        "jvm_gc_seconds",
        "jvm_memory_max_bytes",
        "jvm_memory_pool_used_bytes",
        "jvm_memory_used_bytes",
        "jvm_threads_daemon",
        "jvm_threads_live",
        "jvm_threads_peak",
        "jvm_threads_state",
    ];

    /// As series of numbers in base units, with the names that Prometheus' Java client gives to what it has too;
    /// the pair is the one label that a series has. What is counted is counted since the sample before.
    #[expect(clippy::cast_precision_loss, reason = "series are of doubles")]
    pub fn series(&self) -> Vec<RuntimeSeries> {
        let area = |area| Some(("area", area));
        let state = |state| Some(("state", state));
        let mut series = vec![
            ("jvm_cpu_ratio", None, self.cpu_percent / 100.0),
            ("jvm_memory_used_bytes", area("heap"), self.heap.used as f64),
            ("jvm_memory_max_bytes", area("heap"), self.heap.max as f64),
            ("jvm_memory_used_bytes", area("nonheap"), self.non_heap.used as f64),
            ("jvm_threads_live", None, self.threads.live as f64),
            ("jvm_threads_daemon", None, self.threads.daemon as f64),
            ("jvm_threads_peak", None, self.threads.peak as f64),
            ("jvm_threads_state", state("runnable"), self.threads.runnable as f64),
            ("jvm_threads_state", state("blocked"), self.threads.blocked as f64),
            ("jvm_threads_state", state("waiting"), self.threads.waiting as f64),
            ("jvm_threads_state", state("timed_waiting"), self.threads.timed_waiting as f64),
            ("jvm_classes_loaded", None, self.classes.loaded as f64),
        ];
        for (pool, memory) in &self.pools {
            series.push(("jvm_memory_pool_used_bytes", Some(("pool", *pool)), memory.used as f64));
        }
        for Collection { generation, count, time_ms } in &self.collections {
            let generation = Some(("generation", *generation));
            series.push(("jvm_gc_collections", generation, *count as f64));
            series.push(("jvm_gc_seconds", generation, *time_ms as f64 / 1000.0));
        }
        series
    }
}

fn sample(fields: Fields<'_>, room: &mut Room) -> Result<JvmSample, Malformed> {
    let mut sample = JvmSample::default();
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
                let (kind, memory) = memory(field.nested("memory", "Memory")?)?;
                *if kind == 1 { &mut sample.heap } else { &mut sample.non_heap } = memory;
            }
            4 if room.take() => {
                let (kind, memory) = memory(field.nested("memoryPool", "MemoryPool")?)?;
                sample.pools.push((pool(kind), memory));
            }
            5 if room.take() => sample.collections.push(collection(field.nested("gc", "GC")?)?),
            6 => {
                let [_, live, daemon, peak, runnable, blocked, waiting, timed_waiting] =
                    numbers(field.nested("thread", "Thread")?)?;
                sample.threads =
                    Threads { live, daemon, peak, runnable, blocked, waiting, timed_waiting };
            }
            7 => {
                let [_, loaded, total_unloaded, total_loaded] =
                    numbers(field.nested("clazz", "Class")?)?;
                sample.classes = Classes { loaded, total_unloaded, total_loaded };
            }
            _ => {}
        }
    }
    Ok(sample)
}

/// The numbers of a message that has nothing else, each at its field's number.
pub(super) fn numbers<const N: usize>(fields: Fields<'_>) -> Result<[i64; N], Malformed> {
    let mut numbers = [0; N];
    for field in fields {
        let field = field?;
        if let Some(number) = numbers.get_mut(field.number as usize) {
            *number = field.int64("(number)")?;
        }
    }
    Ok(numbers)
}

/// Of `Memory` and `MemoryPool`, which are alike but for what their first field means.
fn memory(fields: Fields<'_>) -> Result<(i64, MemoryUse), Malformed> {
    let [_, kind, init, max, used, committed] = numbers(fields)?;
    Ok((kind, MemoryUse { init, max, used, committed }))
}

fn pool(kind: i64) -> &'static str {
    match kind {
        0 => "code_cache",
        1 => "newgen",
        2 => "oldgen",
        3 => "survivor",
        4 => "permgen",
        5 => "metaspace",
        6 => "zheap",
        7 => "compressed_class_space",
        8 => "codeheap_non_nmethods",
        9 => "codeheap_profiled_nmethods",
        10 => "codeheap_non_profiled_nmethods",
        _ => "other",
    }
}

fn collection(fields: Fields<'_>) -> Result<Collection, Malformed> {
    let [_, phase, count, time_ms] = numbers(fields)?;
    let generation = match phase {
        0 => "new",
        1 => "old",
        _ => "normal",
    };
    Ok(Collection { generation, count, time_ms })
}
