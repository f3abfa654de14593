//! Deliveries of Firehose, and the messages of either version in them: whatever is taken can be read by the first
//! who looks at it.
#![no_main]

use handfast_telemetry::RecordKind;
use handfast_telemetry::protocol::claim::claims;
use handfast_telemetry::protocol::firehose::{Delivery, requests};
use handfast_telemetry::protocol::view::MeterView;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let delivery = Delivery::read(bytes);
    assert!(delivery.request_id.len() <= 256);
    // What is in base64 is hardly ever hit upon: the messages are tried by themselves too.
    for records in [delivery.records, requests(bytes)].into_iter().flatten() {
        for record in records {
            let _ = claims(RecordKind::OtlpMetrics, &record);
            let _ = MeterView::of(RecordKind::OtlpMetrics, &record);
        }
    }
});
