//! Metrics of Telegraf: what is taken is JSON to serde_json too, and a `ResourceMetrics` of a host, of which a view
//! shows all.
#![no_main]

use handfast_telemetry::RecordKind;
use handfast_telemetry::protocol::claim::claims;
use handfast_telemetry::protocol::telegraf::read;
use handfast_telemetry::protocol::view::MeterView;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(records) = read(bytes) else { return };
    if let Err(fault) = serde_json::from_slice::<serde_json::Value>(bytes) {
        // A number that no double holds is passed over by us where nobody wants it.
        assert!(fault.to_string().contains("out of range"), "{fault}");
    }
    for record in records {
        let views = MeterView::of(RecordKind::OtlpMetrics, &record);
        let told = claims(RecordKind::OtlpMetrics, &record);
        // A name too long is refused.
        let (Ok(views), Ok(told)) = (views, told) else { continue };
        assert!(!views.is_empty());
        let claim = told.iter().next().expect("one");
        assert!(!claim.service.is_empty());
        assert!(views.iter().all(|view| view.service == claim.service));
    }
});
