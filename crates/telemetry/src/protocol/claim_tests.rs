//! That a claim is found where prost puts it, and that nothing can be said twice to be read once.

use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value::Value};
use handfast_proto::otlp::logs::v1::ResourceLogs;
use handfast_proto::otlp::resource::v1;
use handfast_proto::otlp::trace::v1::ResourceSpans;
use handfast_proto::skywalking::v3::{self, service_mesh_metrics::Metrics};
use handfast_proto::skywalking::v10;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::protocol::method::Method;

fn found(claimed: Claimed, message: &impl Message) -> Vec<(String, String)> {
    told(claimed.claims(&message.encode_to_vec()).unwrap())
}

fn told(claims: Claims<'_>) -> Vec<(String, String)> {
    claims.iter().map(|claim| (claim.service.to_string(), claim.instance.to_owned())).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value }
}

fn resource(attributes: Vec<KeyValue>) -> v1::Resource {
    v1::Resource { attributes, ..v1::Resource::default() }
}

/// Every message that agents send, made to claim the same.
fn all_of(service: &str, service_instance: &str) -> Vec<(&'static str, RecordKind, Vec<u8>)> {
    macro_rules! message {
        ($kind:ident, $message:ident { $service:ident, $instance:ident $(, $field:ident: $value:expr)* }) => {
            (
                stringify!($message),
                RecordKind::$kind,
                v3::$message {
                    $service: service.to_owned(),
                    $instance: service_instance.to_owned(),
                    $($field: $value,)*
                    ..v3::$message::default()
                }
                .encode_to_vec(),
            )
        };
    }
    let span = v3::SpanObject { operation_name: "GET:/".into(), ..v3::SpanObject::default() };
    let source = v3::Source {
        service: service.to_owned(),
        service_instance: service_instance.to_owned(),
        endpoint: "e".into(),
    };
    let event = v3::Event { source: Some(source), name: "Start".into(), ..v3::Event::default() };
    let attributes = vec![
        attribute("service.instance.id", service_instance),
        attribute("service.name", service),
    ];
    let spans =
        ResourceSpans { resource: Some(resource(attributes.clone())), ..ResourceSpans::default() };
    let logs = ResourceLogs { resource: Some(resource(attributes)), ..ResourceLogs::default() };
    vec![
        message!(Segment, SegmentObject { service, service_instance, spans: vec![span] }),
        message!(JvmMetrics, JvmMetricCollection { service, service_instance }),
        message!(ClrMetrics, ClrMetricCollection { service, service_instance }),
        message!(Meter, MeterData { service, service_instance, timestamp: 9 }),
        message!(Log, LogData { service, service_instance, endpoint: "e".into() }),
        message!(InstanceProperties, InstanceProperties { service, service_instance }),
        message!(InstancePing, InstancePingPkg { service, service_instance }),
        message!(ProfileTaskFinish, ProfileTaskFinishReport { service, service_instance }),
        message!(BrowserPerf, BrowserPerfData { service, service_version, time: 8 }),
        message!(BrowserWebVitals, BrowserWebVitalsPerfData { service, service_version }),
        message!(BrowserResourcePerf, BrowserResourcePerfData { service, service_version }),
        message!(
            BrowserWebInteraction,
            BrowserWebInteractionsPerfData { service, service_version }
        ),
        message!(
            BrowserErrorLog,
            BrowserErrorLog { service, service_version, unique_id: "u".into() }
        ),
        ("Event", RecordKind::Event, event.encode_to_vec()),
        ("ResourceSpans", RecordKind::OtlpTraces, spans.encode_to_vec()),
        ("ResourceLogs", RecordKind::OtlpLogs, logs.encode_to_vec()),
    ]
}

proptest! {
    #[test]
    fn a_claim_is_where_prost_puts_it(service in "\\PC{1,40}", instance in "\\PC{0,40}") {
        for (message, kind, encoded) in all_of(&service, &instance) {
            let found = told(claims(kind, &encoded).unwrap());
            prop_assert_eq!(found, vec![(service.clone(), instance.clone())], "{}", message);
        }
    }

    #[test]
    fn arbitrary_bytes_end(bytes: Vec<u8>) {
        for method in Method::all() {
            if let Ok(claims) = method.claimed.claims(&bytes) {
                prop_assert!(claims.iter().count() <= MAX_CLAIMS);
            }
        }
    }

    /// Whatever we read, prost reads too, and finds the same service: nobody behind us is told another.
    #[test]
    fn prost_finds_the_same_in_a_mangled_segment(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let segment = v3::SegmentObject {
            trace_id: "t".into(),
            service: "shop".into(),
            service_instance: "shop-1".into(),
            ..v3::SegmentObject::default()
        };
        let mut bytes = segment.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        if let (Ok(ours), Ok(theirs)) =
            (claims(RecordKind::Segment, &bytes), v3::SegmentObject::decode(bytes.as_slice()))
        {
            prop_assert_eq!(told(ours), vec![(theirs.service, theirs.service_instance)]);
        }
    }
}

#[test]
fn of_a_field_that_is_there_twice_the_last_counts() {
    let mut bytes =
        v3::InstancePingPkg { service: "mine".into(), ..Default::default() }.encode_to_vec();
    v3::InstancePingPkg { service: "yours".into(), ..Default::default() }
        .encode(&mut bytes)
        .unwrap();
    assert_eq!(told(claims(RecordKind::InstancePing, &bytes).unwrap())[0].0, "yours");
    assert_eq!(v3::InstancePingPkg::decode(bytes.as_slice()).unwrap().service, "yours");
}

#[test]
fn two_sources_are_two_claims() {
    let source = |service: &str| {
        let source = v3::Source { service: service.into(), ..Default::default() };
        v3::Event { source: Some(source), ..Default::default() }.encode_to_vec()
    };
    let bytes = [source("mine"), source("yours")].concat();
    let found = told(claims(RecordKind::Event, &bytes).unwrap());
    assert_eq!(
        found.iter().map(|(service, _)| service.as_str()).collect::<Vec<_>>(),
        ["mine", "yours"]
    );
}

#[test]
fn what_a_mesh_saw_is_claimed_by_the_side_that_saw_it() {
    let call = |detect_point: v3::DetectPoint| v3::HttpServiceMeshMetric {
        source_service_name: "front".into(),
        source_service_instance: "front-1".into(),
        dest_service_name: "cart".into(),
        dest_service_instance: "cart-1".into(),
        detect_point: detect_point.into(),
        ..Default::default()
    };
    let metrics = vec![
        call(v3::DetectPoint::Client),
        call(v3::DetectPoint::Server),
        call(v3::DetectPoint::Server),
    ];
    let http = v3::ServiceMeshMetrics {
        metrics: Some(Metrics::HttpMetrics(v3::HttpServiceMeshMetrics { metrics })),
    };
    let pair = |service: &str, instance: &str| (service.to_owned(), instance.to_owned());
    assert_eq!(found(Claimed::Mesh, &http), [pair("front", "front-1"), pair("cart", "cart-1")]);
    let connection = v3::TcpServiceMeshMetric {
        dest_service_name: "cart".into(),
        detect_point: v3::DetectPoint::Server.into(),
        ..Default::default()
    };
    let tcp = v3::ServiceMeshMetrics {
        metrics: Some(Metrics::TcpMetrics(v3::TcpServiceMeshMetrics { metrics: vec![connection] })),
    };
    assert_eq!(found(Claimed::Mesh, &tcp), [pair("cart", "")]);
}

#[test]
fn profiles_claim_in_their_first_message() {
    let claimed = Method::at("/skywalking.v10.PprofTask/collect").unwrap().claimed;
    let metadata = v10::PprofMetaData {
        service: "shop".into(),
        service_instance: "s1".into(),
        ..Default::default()
    };
    let first = v10::PprofData { metadata: Some(metadata), result: None };
    assert_eq!(found(claimed, &first), [("shop".to_owned(), "s1".to_owned())]);
    let content = v10::pprof_data::Result::Content(vec![0; 64].into());
    assert_eq!(found(claimed, &v10::PprofData { metadata: None, result: Some(content) }), []);
}

#[test]
fn a_name_is_unique_only_within_its_namespace() {
    let spans =
        |attributes| ResourceSpans { resource: Some(resource(attributes)), ..Default::default() };
    let named =
        spans(vec![attribute("service.name", "cart"), attribute("service.namespace", "shop")]);
    assert_eq!(found(Claimed::of(RecordKind::OtlpTraces), &named)[0].0, "shop/cart");
    assert_eq!(found(Claimed::of(RecordKind::OtlpTraces), &ResourceSpans::default())[0].0, "");
}

#[test]
fn a_resource_with_two_names_is_refused() {
    let twice = |second: KeyValue| {
        let resource = resource(vec![attribute("service.name", "mine"), second]);
        ResourceSpans { resource: Some(resource), ..Default::default() }.encode_to_vec()
    };
    let refused = |bytes: &[u8]| claims(RecordKind::OtlpTraces, bytes).unwrap_err().to_string();
    let yours = twice(attribute("service.name", "yours"));
    assert_eq!(refused(&yours), "Resource.service.name is there twice, with different values");
    // Also where it is spread over two resources, which a reader merges.
    let mut spread = twice(attribute("host.name", "h"));
    spread.extend(
        ResourceSpans {
            resource: Some(resource(vec![attribute("service.name", "yours")])),
            ..Default::default()
        }
        .encode_to_vec(),
    );
    assert_eq!(refused(&spread), "Resource.service.name is there twice, with different values");
    let number = KeyValue {
        key: "service.name".into(),
        value: Some(AnyValue { value: Some(Value::IntValue(1)) }),
    };
    assert_eq!(refused(&twice(number)), "Resource.service.name is encoded as another type");
    assert!(claims(RecordKind::OtlpTraces, &twice(attribute("service.name", "mine"))).is_ok());
}

#[test]
fn names_are_not_endless() {
    let ping = |length| {
        v3::InstancePingPkg { service: "s".repeat(length), ..Default::default() }.encode_to_vec()
    };
    assert!(claims(RecordKind::InstancePing, &ping(MAX_NAME)).is_ok());
    let told = claims(RecordKind::InstancePing, &ping(MAX_NAME + 1)).unwrap_err().to_string();
    assert_eq!(told, "InstancePingPkg.service is longer than 1024 bytes");
}

#[test]
fn claims_of_one_message_are_bounded() {
    let call = |service: usize| v3::TcpServiceMeshMetric {
        source_service_name: service.to_string(),
        ..Default::default()
    };
    let metrics = (0..=MAX_CLAIMS).map(call).collect();
    let mesh = v3::ServiceMeshMetrics {
        metrics: Some(Metrics::TcpMetrics(v3::TcpServiceMeshMetrics { metrics })),
    };
    let told = claims(RecordKind::ServiceMesh, &mesh.encode_to_vec()).unwrap_err().to_string();
    assert_eq!(told, "ServiceMeshMetrics.metrics holds more than 1024");
}
