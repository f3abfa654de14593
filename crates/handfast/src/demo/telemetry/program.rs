//! What an instrumented program reports of one checkout: a request comes in, stock is read, a payment goes out, and a
//! worker thread of the same program sends the mail.

use bytes::Bytes;
use handfast_proto::skywalking::v3::{
    KeyStringValuePair, RefType, SegmentObject, SegmentReference, SpanLayer, SpanObject, SpanType,
};
use jiff::Timestamp;
use prost::Message as _;

/// Where agents report segments.
pub(super) const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// The trace's id, and its two segments as messages.
pub(super) fn checkout(service: &str, now: Timestamp) -> (String, Vec<Bytes>) {
    let start = now.as_millisecond() - 180;
    let trace = format!("{service}.{}", now.as_microsecond());
    let instance = format!("{service}-1");
    let request = SegmentObject {
        trace_id: trace.clone(),
        trace_segment_id: format!("{trace}.request"),
        spans: vec![
            span(0, -1, (start, start + 180), "POST:/checkout", SpanType::Entry, SpanLayer::Http)
                .tagged("http.status_code", "200"),
            span(
                1,
                0,
                (start + 8, start + 41),
                "select stock",
                SpanType::Exit,
                SpanLayer::Database,
            )
            .to("stock-db:5432"),
            span(2, 0, (start + 44, start + 158), "POST:/pay", SpanType::Exit, SpanLayer::Http)
                .to("payments:8080"),
        ]
        .into_iter()
        .map(|span| span.0)
        .collect(),
        service: service.to_owned(),
        service_instance: instance.clone(),
        is_size_limited: false,
    };
    let mut mail = span(
        0,
        -1,
        (start + 120, start + 176),
        "send receipt",
        SpanType::Local,
        SpanLayer::Unknown,
    )
    .0;
    mail.refs = vec![SegmentReference {
        ref_type: RefType::CrossThread.into(),
        trace_id: trace.clone(),
        parent_trace_segment_id: request.trace_segment_id.clone(),
        parent_span_id: 0,
        parent_service: service.to_owned(),
        parent_service_instance: instance.clone(),
        parent_endpoint: "POST:/checkout".to_owned(),
        ..Default::default()
    }];
    let worker = SegmentObject {
        trace_id: trace.clone(),
        trace_segment_id: format!("{trace}.worker"),
        spans: vec![mail],
        service: service.to_owned(),
        service_instance: instance,
        is_size_limited: false,
    };
    let messages = [request, worker].map(|segment| Bytes::from(segment.encode_to_vec()));
    (trace, messages.into())
}

/// A span that is being described.
struct Span(SpanObject);

fn span(
    id: i32,
    parent: i32,
    at: (i64, i64),
    name: &str,
    kind: SpanType,
    layer: SpanLayer,
) -> Span {
    Span(SpanObject {
        span_id: id,
        parent_span_id: parent,
        start_time: at.0,
        end_time: at.1,
        operation_name: name.to_owned(),
        span_type: kind.into(),
        span_layer: layer.into(),
        ..Default::default()
    })
}

impl Span {
    fn to(mut self, peer: &str) -> Self {
        peer.clone_into(&mut self.0.peer);
        self
    }

    fn tagged(mut self, key: &str, value: &str) -> Self {
        self.0.tags.push(KeyStringValuePair { key: key.to_owned(), value: value.to_owned() });
        self
    }
}
