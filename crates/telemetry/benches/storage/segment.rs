//! A segment of five spans as a web service's agent reports it: about 1 KB.

use bytes::Bytes;
use handfast_proto::skywalking::v3::{
    KeyStringValuePair, SegmentObject, SegmentReference, SpanObject,
};
use handfast_telemetry::{Record, RecordKind};
use jiff::Timestamp;
use prost::Message;

/// The `n`th segment: three to a trace, 20 services of 5 instances with 12 endpoints each, an error in 100.
pub(crate) fn segment(n: u64) -> Record {
    let (trace, place) = (n / 3, n % 3);
    let service = (trace * 7 + place) % 20;
    let start = 1_800_000_000_000 + i64::try_from(n / 30).unwrap();
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let duration = 5 + i64::try_from(mixed % 900).unwrap();
    let error = n.is_multiple_of(100);
    let mut entry = span(0, start, duration, &format!("GET:/api/v1/orders/kind-{}", mixed % 12));
    entry.parent_span_id = -1;
    entry.is_error = error;
    entry.tags = vec![
        tag("http.method", "GET"),
        tag("url", &format!("http://orders.shop.example/api/v1/orders/{mixed}")),
        tag("http.status_code", if error { "500" } else { "200" }),
    ];
    if place > 0 {
        entry.refs = vec![SegmentReference {
            trace_id: format!("{trace:032x}.71.1800000000000000"),
            parent_trace_segment_id: format!("{:032x}.71.1800000000000000", n - 1),
            parent_span_id: 4,
            parent_service: format!("service-{}", (service + 19) % 20),
            parent_service_instance: "instance-0@10.0.0.1".to_owned(),
            parent_endpoint: "GET:/api/v1/carts".to_owned(),
            network_address_used_at_peer: "10.1.2.3:8080".to_owned(),
            ..SegmentReference::default()
        }];
    }
    let mut spans = vec![entry];
    for (id, name, kind) in [
        (1, "OrderService.find", 2),
        (2, "Mysql/JDBI/PreparedStatement/execute", 1),
        (3, "Lettuce/GET", 1),
        (4, "/stock/reserve", 1),
    ] {
        let mut inner = span(id, start + i64::from(id), duration / 5, name);
        inner.span_type = kind;
        if kind == 1 {
            "mysql-0.shop.svc:3306".clone_into(&mut inner.peer);
            inner.tags = vec![
                tag("db.type", "sql"),
                tag("db.instance", "orders"),
                tag("db.statement", "select id, state, total from orders where customer = ?"),
            ];
        }
        spans.push(inner);
    }
    let object = SegmentObject {
        trace_id: format!("{trace:032x}.71.1800000000000000"),
        trace_segment_id: format!("{n:032x}.71.1800000000000000"),
        spans,
        service: format!("service-{service}"),
        service_instance: format!("instance-{}@10.0.0.{service}", mixed % 5),
        is_size_limited: false,
    };
    Record {
        body: object.encode_to_vec().into(),
        kind: RecordKind::Segment,
        received: Timestamp::from_millisecond(start + duration).unwrap(),
        reporter: Bytes::from_static(b"spiffe://shop.example/agent/service"),
    }
}

fn span(id: i32, start: i64, duration: i64, name: &str) -> SpanObject {
    SpanObject {
        span_id: id,
        parent_span_id: 0,
        start_time: start,
        end_time: start + duration,
        operation_name: name.to_owned(),
        component_id: 14,
        ..SpanObject::default()
    }
}

fn tag(key: &str, value: &str) -> KeyStringValuePair {
    KeyStringValuePair { key: key.to_owned(), value: value.to_owned() }
}
