//! What is posted: whatever is taken is the JSON that serde_json takes too, and the protobuf that
//! prost reads.
#![no_main]

use handfast_proto::skywalking::v3::{Event, LogData, SegmentObject};
use handfast_telemetry::RecordKind;
use handfast_telemetry::protocol::claim::claims;
use handfast_telemetry::protocol::json::Endpoint;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    for endpoint in Endpoint::all() {
        let Ok(records) = endpoint.read(bytes) else { continue };
        if let Err(fault) = serde_json::from_slice::<serde_json::Value>(bytes) {
            // A number that no double holds is passed over by us where nobody wants it.
            assert!(fault.to_string().contains("out of range"), "{fault}");
        }
        for record in records {
            let read = match endpoint.kind {
                RecordKind::Segment => SegmentObject::decode(record.clone()).map(drop),
                RecordKind::Log => LogData::decode(record.clone()).map(drop),
                RecordKind::Event => Event::decode(record.clone()).map(drop),
                _ => Ok(()),
            };
            read.expect("what we write can be read");
            // Refused perhaps, for a name too long; never unreadable.
            let _ = claims(endpoint.kind, &record);
        }
    }
});
