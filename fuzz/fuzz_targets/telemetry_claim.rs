//! Who a message says it comes from: whatever we and prost both read, we read the same of, and a
//! message that was completed says what the one before it said.
#![no_main]

use handfast_proto::skywalking::v3::{InstancePingPkg, LogData, MeterData, SegmentObject};
use handfast_telemetry::RecordKind;
use handfast_telemetry::protocol::carry::Carry;
use handfast_telemetry::protocol::claim::{MAX_CLAIMS, claims};
use handfast_telemetry::protocol::collection::{MAX_PARTS, Parts};
use handfast_telemetry::protocol::method::Method;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    for method in Method::all() {
        if let Ok(claims) = method.claimed.claims(bytes) {
            assert!(claims.iter().count() <= MAX_CLAIMS);
        }
    }
    let _ = std::str::from_utf8(bytes).map(Method::at);
    same::<SegmentObject>(RecordKind::Segment, bytes, |it| (it.service, it.service_instance));
    same::<MeterData>(RecordKind::Meter, bytes, |it| (it.service, it.service_instance));
    same::<LogData>(RecordKind::Log, bytes, |it| (it.service, it.service_instance));
    same::<InstancePingPkg>(RecordKind::InstancePing, bytes, |it| {
        (it.service, it.service_instance)
    });

    let mut carry = Carry::default();
    let parts = Parts::of("MeterDataCollection", bytes.to_vec().into());
    let mut said = String::new();
    for (count, part) in parts.flatten().enumerate() {
        assert!(count < MAX_PARTS);
        let Ok(whole) = carry.complete(RecordKind::Meter, part.clone()) else { break };
        assert!(whole.starts_with(&part));
        if let Ok(claims) = claims(RecordKind::Meter, &whole) {
            let claim = claims.iter().next().expect("a meter makes one claim");
            assert!(said.is_empty() || !claim.service.is_empty());
            said = claim.service.to_string();
        }
    }
});

fn same<M: Message + Default>(
    kind: RecordKind,
    bytes: &[u8],
    told: impl Fn(M) -> (String, String),
) {
    if let (Ok(ours), Ok(theirs)) = (claims(kind, bytes), M::decode(bytes)) {
        let ours = ours.iter().next().expect("makes one claim");
        assert_eq!((ours.service.to_string(), ours.instance.to_owned()), told(theirs));
    }
}
