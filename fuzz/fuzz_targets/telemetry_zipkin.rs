//! Spans of Zipkin, however written: what is taken is a `ResourceSpans` that can be read, of one trace, and no span
//! is lost or made up.
#![no_main]

use handfast_proto::otlp::trace::v1::ResourceSpans;
use handfast_telemetry::RecordKind;
use handfast_telemetry::protocol::claim::claims;
use handfast_telemetry::protocol::view::SegmentFacts;
use handfast_telemetry::protocol::zipkin::{Encoding, read};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    for encoding in [Encoding::JsonOne, Encoding::JsonTwo, Encoding::Protobuf] {
        let Ok(records) = read(encoding, bytes, jiff::Timestamp::UNIX_EPOCH) else { continue };
        for record in records {
            let told = ResourceSpans::decode(record.clone()).expect("what we write can be read");
            let spans = told.scope_spans.iter().flat_map(|scope| &scope.spans);
            assert!(spans.clone().all(|span| span.trace_id.len() == 16 && span.span_id.len() == 8));
            let facts = SegmentFacts::of(RecordKind::OtlpTraces, &record).expect("readable");
            assert_eq!(facts.len(), 1);
            assert_eq!(facts[0].spans, spans.count());
            // Refused perhaps, for a name too long; never unreadable.
            let _ = claims(RecordKind::OtlpTraces, &record);
        }
    }
});
