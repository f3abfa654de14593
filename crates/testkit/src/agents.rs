//! What agents say.

use handfast_proto::skywalking::v3::{SegmentObject, SpanObject};

use crate::eventually::now;

/// A segment of a service, just now: one span, in a trace that is named after it.
pub fn segment(service: &str, id: &str) -> SegmentObject {
    let begin = now().as_millisecond();
    let span = SpanObject {
        parent_span_id: -1,
        start_time: begin,
        end_time: begin + 40,
        operation_name: "/buy".to_owned(),
        ..SpanObject::default()
    };
    SegmentObject {
        trace_id: format!("trace-{id}"),
        trace_segment_id: id.to_owned(),
        spans: vec![span],
        service: service.to_owned(),
        service_instance: format!("{service}-1"),
        ..SegmentObject::default()
    }
}
