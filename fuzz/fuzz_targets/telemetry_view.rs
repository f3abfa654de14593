//! What is in a record: facts and views agree, and neither holds more than it may.
#![no_main]

use handfast_telemetry::RecordKind;
use handfast_telemetry::protocol::sw8::Context;
use handfast_telemetry::protocol::view::{
    AttachedEventView, ClrView, EventView, InstanceView, JvmView, LogView, MAX_ITEMS, MeterView, SegmentFacts, SegmentView,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for kind in RecordKind::ALL {
        if let (Ok(facts), Ok(views)) =
            (SegmentFacts::of(kind, bytes), SegmentView::of(kind, bytes))
        {
            assert_eq!(facts.len(), views.len());
            for (facts, view) in facts.iter().zip(&views) {
                assert_eq!(
                    (&*facts.trace_id, &*facts.segment_id),
                    (&*view.trace_id, &*view.segment_id)
                );
                assert_eq!((&*facts.service, facts.instance), (&*view.service, &*view.instance));
                assert_eq!((facts.start_ms, facts.end_ms), (view.start_ms, view.end_ms));
                assert!(facts.tags.len() <= SegmentFacts::MAX_TAGS);
            }
            let spans = views.iter().flat_map(|view| &view.spans);
            let kept = |span: &handfast_telemetry::protocol::view::SpanView| {
                1 + span.tags.len() + span.logs.len() + span.refs.len()
            };
            assert!(spans.map(kept).sum::<usize>() <= MAX_ITEMS);
        }
        let _ = LogView::of(kind, bytes);
        let _ = MeterView::of(kind, bytes);
        let _ = InstanceView::of(kind, bytes);
    }
    let _ = (EventView::of(bytes), AttachedEventView::of(bytes));
    let _ =
        JvmView::of(bytes).map(|view| view.samples.iter().map(|s| s.series().len()).sum::<usize>());
    let _ =
        ClrView::of(bytes).map(|view| view.samples.iter().map(|s| s.series().len()).sum::<usize>());
    let _ = std::str::from_utf8(bytes).map(str::parse::<Context>);
});
