//! Agents that report as fast as they are answered, or at a steady pace.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_proto::skywalking::v3::{KeyStringValuePair, SegmentObject, SpanObject};
use handfast_telemetry::upstream::{Backend, Security, Upstream, UpstreamPlan};
use prost::Message as _;

use crate::material;
use crate::server::Server;

pub(crate) const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// What was reported, and how long it took.
pub(crate) struct Rate {
    pub(crate) count: u64,
    pub(crate) took: Duration,
}

impl Rate {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// An agent of the service `shop`.
pub(crate) fn agent(place: &Path, server: &Server) -> Upstream {
    let security = if server.mutual {
        Security::Tls { config: material::client(place), server_name: None }
    } else {
        Security::Plaintext
    };
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: "127.0.0.1".to_owned(), port: server.port() }],
        security: Some(security),
    };
    Upstream::new(plan, Arc::new(handfast_testkit::eventually::now), crate::server::dice())
}

/// Eight agents, each with streams of 250 segments, one after the other.
pub(crate) async fn segments(place: &Path, server: &Server, life: Duration) -> Rate {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start = Instant::now();
    let mut agents = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let agent = agent(place, server);
        agents.spawn(async move {
            let mut count = 0;
            let mut batch: Vec<Vec<u8>> = (0..BATCH).map(|_| segment(0)).collect();
            while start.elapsed() < life {
                let first = NEXT.fetch_add(BATCH, Ordering::Relaxed);
                // Each has an id of its own: a store drops what comes twice.
                for (number, segment) in batch.iter_mut().enumerate() {
                    renumber(segment, first + number as u64);
                }
                let messages: Vec<Bytes> =
                    batch.iter().map(|s| Bytes::copy_from_slice(s)).collect();
                agent.call(SEGMENTS, &messages).await.unwrap();
                count += BATCH;
            }
            count
        });
    }
    let mut count = 0;
    while let Some(done) = agents.join_next().await {
        count += done.unwrap();
    }
    Rate { count, took: start.elapsed() }
}

/// One agent that keeps to a pace, in streams of a tenth of a second.
pub(crate) async fn steady(place: &Path, server: &Server, pace: u64, life: Duration) -> Rate {
    let agent = agent(place, server);
    let start = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut count = 0;
    while start.elapsed() < life {
        tick.tick().await;
        let messages: Vec<Bytes> = (0..pace / 10).map(|n| segment(count + n).into()).collect();
        agent.call(SEGMENTS, &messages).await.unwrap();
        count += pace / 10;
    }
    Rate { count, took: start.elapsed() }
}

/// Five spans, as a small web application has them: an entry, three local or database spans, an exit.
pub(crate) fn segment(number: u64) -> Vec<u8> {
    // A store takes what is older than its retention for late.
    let begun = handfast_testkit::eventually::now().as_millisecond();
    let tag = |key: &str, value: &str| KeyStringValuePair { key: key.into(), value: value.into() };
    let span = |id: i32, name: &str, tags| SpanObject {
        span_id: id,
        parent_span_id: id - 1,
        start_time: begun + i64::from(id),
        end_time: begun + 20 - i64::from(id),
        operation_name: name.into(),
        component_id: 7001,
        tags,
        ..Default::default()
    };
    let id = format!("{number:032x}");
    let segment = SegmentObject {
        trace_id: id.clone(),
        trace_segment_id: id,
        spans: vec![
            span(
                0,
                "/checkout",
                vec![
                    tag("http.method", "POST"),
                    tag("url", "http://shop/checkout"),
                    tag("http.status_code", "200"),
                ],
            ),
            span(1, "checkout.validate", vec![]),
            span(
                2,
                "Mysql/JDBI/Statement/execute",
                vec![
                    tag("db.type", "sql"),
                    tag("db.statement", "select * from stock where id = ?"),
                ],
            ),
            span(3, "Redis/get", vec![tag("cache.cmd", "GET"), tag("cache.key", "basket")]),
            span(
                4,
                "/pay",
                vec![
                    tag("http.method", "POST"),
                    tag("url", "http://pay/pay"),
                    tag("http.status_code", "200"),
                ],
            ),
        ],
        service: "shop".into(),
        service_instance: "shop-7c9d8-1".into(),
        is_size_limited: false,
    };
    segment.encode_to_vec()
}

/// Octets of such a segment.
pub(crate) fn size() -> usize {
    segment(0).len()
}

/// Both ids stand first: key, length, 32 digits, twice.
fn renumber(segment: &mut [u8], number: u64) {
    let digits = format!("{number:032x}");
    segment[2..34].copy_from_slice(digits.as_bytes());
    segment[36..68].copy_from_slice(digits.as_bytes());
}

const BATCH: u64 = 250;
