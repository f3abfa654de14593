//! Deliveries of metric streams, of either version of the protocol, become what one of today says.

use handfast_proto::otlp::collector::metrics::v1::ExportMetricsServiceRequest;
use handfast_proto::otlp::common::v1::any_value::Value as Any;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, KeyValueList};
use handfast_proto::otlp::metrics::v1::metric::Data;
use handfast_proto::otlp::metrics::v1::summary_data_point::ValueAtQuantile;
use handfast_proto::otlp::metrics::v1::{
    Metric, ResourceMetrics, ScopeMetrics, Summary, SummaryDataPoint,
};
use handfast_proto::otlp::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::RecordKind;
use crate::protocol::claim::claims;
use crate::protocol::view::{MeterValue, MeterView};
use crate::protocol::wire::{put_bytes, put_varint};

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Any::StringValue(value.to_owned()))
}

fn resource() -> Resource {
    let attributes = vec![
        text("cloud.provider", "aws"),
        text("cloud.account.id", "123456789012"),
        text("cloud.region", "us-east-1"),
        text("aws.exporter.arn", "arn:aws:cloudwatch:us-east-1:123456789012:metric-stream/Mine"),
    ];
    Resource { attributes, ..Resource::default() }
}

/// As CloudWatch writes version 1.0.
fn today() -> ExportMetricsServiceRequest {
    let dimensions =
        KeyValueList { values: vec![text("TableName", "T"), text("Operation", "Get")] };
    let point = SummaryDataPoint {
        attributes: vec![
            text("Namespace", "AWS/DynamoDB"),
            text("MetricName", "Reads"),
            pair("Dimensions", Any::KvlistValue(dimensions)),
        ],
        start_time_unix_nano: 60_000_000_000,
        time_unix_nano: 120_000_000_000,
        count: 4,
        sum: 10.0,
        quantile_values: vec![ValueAtQuantile { quantile: 1.0, value: 7.0 }],
        flags: 0,
    };
    let metric = Metric {
        name: "amazonaws.com/AWS/DynamoDB/Reads".to_owned(),
        unit: "1".to_owned(),
        data: Some(Data::Summary(Summary { data_points: vec![point] })),
        ..Metric::default()
    };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics {
        resource: Some(resource()),
        scope_metrics: vec![scope],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

/// The same as it writes version 0.7, and beside it a whole number of each kind that it had.
fn before() -> Vec<u8> {
    fn message(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in parts {
            put_bytes(&mut out, *number, bytes);
        }
        out
    }
    fn fixed(out: &mut Vec<u8>, number: u32, value: u64) {
        put_varint(out, u64::from(number) << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
    let label = |key: &str, value: &str| message(&[(1, key.as_bytes()), (2, value.as_bytes())]);
    let labels = [
        label("Namespace", "AWS/DynamoDB"),
        label("MetricName", "Reads"),
        label("TableName", "T"),
        label("Operation", "Get"),
    ];
    let labels: Vec<_> = labels.iter().map(|label| (1, label.as_slice())).collect();
    let mut summary = message(&labels);
    fixed(&mut summary, 2, 60_000_000_000);
    fixed(&mut summary, 3, 120_000_000_000);
    fixed(&mut summary, 4, 4);
    fixed(&mut summary, 5, 10.0_f64.to_bits());
    let mut quantile = Vec::new();
    fixed(&mut quantile, 1, 1.0_f64.to_bits());
    fixed(&mut quantile, 2, 7.0_f64.to_bits());
    put_bytes(&mut summary, 6, &quantile);
    let metric = |name: &str, number: u32, point: &[u8]| {
        message(&[(1, name.as_bytes()), (3, b"1"), (number, &message(&[(1, point)]))])
    };
    let mut whole = message(&labels);
    fixed(&mut whole, 3, 120_000_000_000);
    fixed(&mut whole, 4, (-3_i64).cast_unsigned());
    let mut histogram = Vec::new();
    fixed(&mut histogram, 4, 2);
    fixed(&mut histogram, 5, (-9_i64).cast_unsigned());
    put_bytes(&mut histogram, 6, &2_u64.to_le_bytes());
    let metrics = [
        metric("amazonaws.com/AWS/DynamoDB/Reads", 11, &summary),
        metric("gauge", 4, &whole),
        metric("sum", 6, &whole),
        metric("histogram", 8, &histogram),
    ];
    let metrics: Vec<_> = metrics.iter().map(|metric| (2, metric.as_slice())).collect();
    let scope = message(&metrics);
    message(&[(1, &message(&[(1, &resource().encode_to_vec()), (2, &scope)]))])
}

/// A delivery of these records, each of these requests behind their lengths.
fn delivery(records: &[Vec<Vec<u8>>]) -> String {
    let records: Vec<_> = records
        .iter()
        .map(|requests| {
            let mut data = Vec::new();
            for request in requests {
                put_varint(&mut data, request.len() as u64);
                data.extend_from_slice(request);
            }
            json!({ "data": STANDARD.encode(data) })
        })
        .collect();
    json!({ "requestId": "ed4acda5", "timestamp": 1_578_090_903_599_i64, "records": records })
        .to_string()
}

fn views(body: &str) -> Vec<MeterView> {
    let records = Delivery::read(body.as_bytes()).records.unwrap();
    let of = |record: &Bytes| MeterView::of(RecordKind::OtlpMetrics, record).unwrap();
    records.iter().flat_map(of).collect()
}

fn refused(body: &str) -> String {
    Delivery::read(body.as_bytes()).records.unwrap_err().to_string()
}

#[test]
fn both_versions_say_the_same() {
    let now = views(&delivery(&[vec![today().encode_to_vec()]]));
    let then = views(&delivery(&[vec![before()]]));
    assert_eq!(now[..], then[..now.len()]);
    let labels: Vec<_> = now[0].labels.iter().map(|tag| (&*tag.key, &*tag.value)).collect();
    let expected = [
        ("Namespace", "AWS/DynamoDB"),
        ("MetricName", "Reads"),
        ("TableName", "T"),
        ("Operation", "Get"),
    ];
    assert_eq!(labels, expected, "a series for each table");
    let rest: Vec<_> = then[now.len()..].iter().map(|view| (&*view.name, &view.value)).collect();
    let single = MeterValue::Single(-3.0);
    assert_eq!(rest[..2], [("gauge", &single), ("sum", &single)]);
    let MeterValue::Histogram { buckets, sum } = rest[2].1 else { panic!("{rest:?}") };
    assert_eq!((buckets[0].count, *sum), (2, Some(-9.0)));
}

#[test]
fn a_stream_claims_to_be_its_account() {
    let Delivery { request_id, records } =
        Delivery::read(delivery(&[vec![today().encode_to_vec()], Vec::new()]).as_bytes());
    assert_eq!(request_id, "ed4acda5");
    let records = records.unwrap();
    let told = claims(RecordKind::OtlpMetrics, &records[0]).unwrap();
    let claim = told.iter().next().unwrap();
    assert_eq!(
        (&*claim.service, claim.instance),
        ("aws-cloudwatch-123456789012", "us-east-1/Mine")
    );
    let told = ResourceMetrics::decode(records[0].clone()).unwrap().resource.unwrap();
    assert_eq!(told.attributes[..4], resource().attributes, "as rules of OAP want it");

    let mut own = today();
    let resource = own.resource_metrics[0].resource.as_mut().unwrap();
    resource.attributes.push(text("service.name", "shop"));
    let records =
        Delivery::read(delivery(&[vec![own.encode_to_vec()]]).as_bytes()).records.unwrap();
    let told = claims(RecordKind::OtlpMetrics, &records[0]).unwrap();
    assert_eq!(told.iter().next().unwrap().service, "shop");
}

#[test]
fn what_is_no_delivery_is_refused_with_the_place() {
    for (body, expected) in [
        ("{}", "Delivery.records, byte 2: expected records"),
        ("{\"records\":[{\"data\":\"*\"}]}", "Record.data, byte 23: expected base64"),
        ("{\"records\":[{\"data\":\"/////wo=\"}]}", "Record.data ends after the message does"),
        ("{\"records\":[{\"data\":\"//////8=\"}]}", "Record.data is a number too large"),
        // A request of two bytes, which end within its field.
        ("{\"records\":[{\"data\":\"AgoF\"}]}", "ExportMetricsServiceRequest.1 ends after"),
        ("[]", "Delivery.(body)"),
        ("{\"records\":[]} {", "more after the end"),
    ] {
        let told = refused(body);
        assert!(told.contains(expected), "{body}: {told}");
    }
    let id = "x".repeat(300);
    assert!(refused(&json!({ "requestId": id }).to_string()).contains("a shorter id"));
    // The id is there for the answer although the rest is not.
    let half = Delivery::read(b"{\"requestId\":\"r\",\"records\":7}");
    assert_eq!((half.request_id.as_str(), half.records.is_err()), ("r", true));
}

#[test]
fn there_are_not_too_many_requests() {
    let data = vec![vec![Vec::new(); MAX_PARTS + 1]];
    assert!(refused(&delivery(&data)).contains("more than 16384"));
    let mut request = Vec::new();
    for _ in 0..=MAX_PARTS {
        put_bytes(&mut request, 1, b"");
    }
    assert!(refused(&delivery(&[vec![request]])).contains("more than 16384"));
}

proptest! {
    #[test]
    fn what_one_of_today_says_is_said_still(names in prop::collection::vec("[a-z/]{0,9}", 0..6), sums in prop::collection::vec(any::<f64>(), 6)) {
        let mut request = today();
        let scope = &mut request.resource_metrics[0].scope_metrics[0];
        let metric = scope.metrics.remove(0);
        for (name, sum) in names.iter().zip(&sums) {
            let mut metric = Metric { name: name.clone(), ..metric.clone() };
            let Some(Data::Summary(summary)) = &mut metric.data else { panic!("is one") };
            // Nothing of it is told anew.
            summary.data_points[0].attributes.truncate(2);
            summary.data_points[0].sum = *sum;
            scope.metrics.push(metric);
        }
        let records = Delivery::read(delivery(&[vec![request.encode_to_vec()]]).as_bytes()).records.unwrap();
        let told = ResourceMetrics::decode(records[0].clone()).unwrap();
        // By their bytes: a sum may be no number.
        let bytes = |scopes: &[ScopeMetrics]| scopes.iter().map(ScopeMetrics::encode_to_vec).collect::<Vec<_>>();
        prop_assert_eq!(bytes(&told.scope_metrics), bytes(&request.resource_metrics[0].scope_metrics));
    }

    #[test]
    fn any_bytes_end_in_what_can_be_read(bytes: Vec<u8>) {
        let _ = Delivery::read(&bytes);
        if let Ok(records) = Delivery::read(delivery(&[vec![bytes]]).as_bytes()).records {
            for record in records {
                let _ = claims(RecordKind::OtlpMetrics, &record);
            }
        }
    }
}
