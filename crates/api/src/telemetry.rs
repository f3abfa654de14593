//! Telemetry as the admin API shows it: what collectors and relays are up to, who reports to them, and
//! what is kept. The edge's own types, and how they are made from a store.
//!
//! What is asked of a store blocks for as long as its disk takes: not for a thread that serves.

mod aside;
mod events;
mod exposition;
mod logs;
mod metrics;
mod newest;
mod pairs;
mod rollout;
mod services;
mod stations;
mod trace;
mod traces;

pub use aside::{
    AsideChoice, AsideDealt, AsideLine, AsideRecord, AsideSearch, AsideWanted, aside, aside_record,
};
pub use events::{EventLine, EventSearch, EventType, events};
pub use exposition::{TEXT_FORMAT, exposed_name, exposition};
pub use logs::{LogLine, LogSearch, logs};
pub use metrics::{MetricSearch, MetricView, metrics};
pub use newest::{BucketView, NewestMetric, NewestSearch, newest};
pub use rollout::{ReporterView, Rollout, RolloutQuestion};
pub use services::{
    EndpointView, InstanceView, OfService, ServiceView, endpoints, instances, services,
};
pub use stations::{ConnectionCounts, ForwardView, PortView, StationKind, StationView, StoreView};
pub use trace::{RefView, SegmentView, SpanLogView, SpanView, TagView, Trace, TraceWanted, trace};
pub use traces::{TraceLine, TraceSearch, traces};
