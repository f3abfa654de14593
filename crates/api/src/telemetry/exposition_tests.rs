//! Pages of ordinary metrics, and of what nobody should call one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn single(name: &str, nature: MeterNature, number: f64) -> Measured {
    Measured {
        at: Timestamp::UNIX_EPOCH,
        description: String::new(),
        instance: "shop-1".to_owned(),
        labels: Vec::new(),
        name: name.to_owned(),
        nature,
        service: "shop".to_owned(),
        unit: String::new(),
        value: MeterValue::Single(number),
    }
}

fn histogram(name: &str, bounds: &[(f64, u64)], sum: Option<f64>) -> Measured {
    let buckets = bounds.iter().map(|(from, count)| Bucket { from: *from, count: *count });
    let value = MeterValue::Histogram { buckets: buckets.collect(), sum };
    Measured { value, ..single(name, MeterNature::Counter, 0.0) }
}

fn tags(of: &[(&str, &str)]) -> Vec<Tag> {
    of.iter().map(|(key, value)| Tag { key: (*key).into(), value: (*value).into() }).collect()
}

#[test]
fn each_kind_of_metric_is_told_as_what_it_is() {
    let page = exposition(&[
        single("jvm_threads_live", MeterNature::Gauge, 12.0),
        single("queue.depth", MeterNature::Unknown, 3.5),
        Measured {
            labels: tags(&[("http.route", "/pay"), ("empty", "")]),
            description: "Requests\nserved".to_owned(),
            ..single("http.requests", MeterNature::Counter, 7.0)
        },
        Measured { unit: "ms".to_owned(), ..single("wait", MeterNature::Gauge, f64::INFINITY) },
        histogram("latency", &[(f64::NEG_INFINITY, 1), (0.5, 2), (1.0, 4)], Some(5.25)),
    ]);
    assert_eq!(
        page,
        "\
# HELP http_requests_total Requests served
# TYPE http_requests_total counter
http_requests_total{service=\"shop\",instance=\"shop-1\",http_route=\"/pay\"} 7.0
# HELP jvm_threads_live jvm_threads_live, as services report it
# TYPE jvm_threads_live gauge
jvm_threads_live{service=\"shop\",instance=\"shop-1\"} 12.0
# HELP latency latency, as services report it
# TYPE latency histogram
latency_bucket{service=\"shop\",instance=\"shop-1\",le=\"0.5\"} 1
latency_bucket{service=\"shop\",instance=\"shop-1\",le=\"1.0\"} 3
latency_bucket{service=\"shop\",instance=\"shop-1\",le=\"+Inf\"} 7
latency_sum{service=\"shop\",instance=\"shop-1\"} 5.25
latency_count{service=\"shop\",instance=\"shop-1\"} 7
# HELP queue_depth queue.depth, as services report it
# TYPE queue_depth untyped
queue_depth{service=\"shop\",instance=\"shop-1\"} 3.5
# HELP wait_milliseconds wait, as services report it
# TYPE wait_milliseconds gauge
wait_milliseconds{service=\"shop\",instance=\"shop-1\"} +Inf
"
    );
}

#[test]
fn units_stand_where_the_conventions_have_them() {
    let name = |name: &str, unit: &str, nature| {
        exposed_name(&Measured { unit: unit.to_owned(), ..single(name, nature, 0.0) })
    };
    for (reported, unit, nature, exposed) in [
        ("took", "s", MeterNature::Counter, "took_seconds_total"),
        ("took_total", "s", MeterNature::Counter, "took_seconds_total"),
        ("took.seconds", "s", MeterNature::Gauge, "took_seconds"),
        ("took", "s", MeterNature::Unknown, "took_seconds"),
        ("took_count", "s", MeterNature::Unknown, "took_seconds_count"),
        ("took_sum", "s", MeterNature::Unknown, "took_seconds_sum"),
        ("files", "{file}", MeterNature::Counter, "files_total"),
        ("9.lives", "1", MeterNature::Gauge, "_9_lives"),
        ("", "", MeterNature::Unknown, "_"),
    ] {
        assert_eq!(name(reported, unit, nature), exposed);
    }
}

#[test]
fn nothing_that_a_service_says_is_taken_for_handfasts_or_prometheus_own() {
    let spoof = Measured {
        labels: tags(&[
            ("job", "handfast"),
            ("instance", "other"),
            ("service", "bank"),
            ("__name__", "up"),
            ("le", "1"),
            ("a.b", "x"),
            ("a-b", "y\"\\\n"),
        ]),
        ..single("handfast_credential_renewal_failures", MeterNature::Counter, 9.0)
    };
    let page = exposition(&[spoof]);
    let line = page.lines().last().unwrap();
    assert_eq!(
        line,
        "reported_handfast_credential_renewal_failures_total{service=\"shop\",instance=\"shop-1\",\
         a_b=\"y\\\"\\\\\\n;x\",exported___name__=\"up\",exported_instance=\"other\",\
         exported_job=\"handfast\",exported_le=\"1\",exported_service=\"bank\"} 9.0"
    );
}

#[test]
fn a_name_has_one_type_and_a_series_one_value() {
    let later = Timestamp::from_second(60).unwrap();
    let page = exposition(&[
        single("a.b", MeterNature::Gauge, 1.0),
        Measured { at: later, ..single("a_b", MeterNature::Gauge, 2.0) },
        single("mixed_total", MeterNature::Counter, 1.0),
        Measured { service: "bank".into(), ..single("mixed_total", MeterNature::Gauge, 1.0) },
        histogram("x", &[(0.0, 1)], None),
        single("x_count", MeterNature::Gauge, 4.0),
        histogram("x_bucket", &[(0.0, 2)], None),
        Measured { nature: MeterNature::Delta, ..histogram("d", &[(0.0, 2)], Some(1.0)) },
    ]);
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("a_b")).collect();
    assert_eq!(lines, ["a_b{service=\"shop\",instance=\"shop-1\"} 2.0"], "{page}");
    assert!(page.contains("# TYPE mixed_total untyped"), "{page}");
    assert!(!page.contains("histogram"), "{page}");
    for name in ["x_bucket", "x_bucket_bucket", "x_bucket_count", "x_count", "d_sum", "d_count"] {
        assert!(page.contains(&format!("# TYPE {name} untyped")), "{name} in\n{page}");
    }
    // The number that came under that name, not the histogram's.
    assert!(page.contains("x_count{service=\"shop\",instance=\"shop-1\"} 4.0"), "{page}");
    check(&page);
}

/// What Prometheus' parser wants of a page.
fn check(page: &str) {
    let mut types: HashMap<String, String> = HashMap::new();
    let mut series = HashSet::new();
    let mut of = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let owner = PARTS.iter().find_map(|part| types.get(name.strip_suffix(part)?));
            assert_ne!(owner.map(String::as_str), Some("histogram"), "{name} is another's part");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice {name}");
            name.clone_into(&mut of);
        } else if !line.starts_with("# HELP ") {
            let (id, number) = line.rsplit_once(' ').unwrap();
            let name = id.split('{').next().unwrap();
            let mut letters = name.chars();
            assert!(letters.next().is_some_and(|it| !it.is_ascii_digit()), "{line}");
            assert!(
                name.chars().all(|it| it.is_ascii_alphanumeric() || "_:".contains(it)),
                "{line}"
            );
            assert!(!name.starts_with(OWN), "{line}");
            let part = name.strip_prefix(of.as_str()).expect("below its family");
            let is_histogram = types[&of] == "histogram";
            assert!(if is_histogram { PARTS.contains(&part) } else { part.is_empty() }, "{line}");
            assert!(
                number == "+Inf" || number == "-Inf" || number.parse::<f64>().is_ok(),
                "{line}"
            );
            assert!(series.insert(id.to_owned()), "twice {id}");
        }
    }
}

prop_compose! {
    /// Names that get in each other's way, and any others.
    fn value()(
        name in prop_oneof!["(handfast_)?[ab](_bucket|_count|_sum|_total|.b){0,2}", "\\PC{0,6}"],
        nature in prop::sample::select(vec![
            MeterNature::Counter, MeterNature::Delta, MeterNature::Gauge, MeterNature::Unknown,
        ]),
        unit in prop::sample::select(vec!["", "s", "By", "1"]),
        service in "[st]?",
        labels in prop::collection::vec(("(\\PC{0,3}|le|job|a.b)", "\\PC{0,3}"), 0..4),
        number: f64,
        buckets in prop::option::of(prop::collection::vec((any::<f64>(), any::<u64>()), 0..4)),
        second in 0..3_i64,
    ) -> Measured {
        let value = match buckets {
            None => MeterValue::Single(number),
            Some(buckets) => {
                let buckets = buckets.into_iter().map(|(from, count)| Bucket { from, count });
                MeterValue::Histogram { buckets: buckets.collect(), sum: Some(number) }
            }
        };
        Measured {
            at: Timestamp::from_second(second).unwrap(),
            description: name.clone(),
            labels: labels.into_iter().map(|(key, value)| Tag { key, value }).collect(),
            service,
            unit: unit.to_owned(),
            value,
            ..single(&name, nature, number)
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_measured_makes_a_page_that_can_be_read(
        values in prop::collection::vec(value(), 0..12),
    ) {
        check(&exposition(&values));
    }

    #[test]
    fn buckets_grow_in_bound_and_count(
        bounds in prop::collection::vec((any::<f64>(), 0..9_u64), 0..8),
    ) {
        let buckets: Vec<Bucket> =
            bounds.iter().map(|(from, count)| Bucket { from: *from, count: *count }).collect();
        let told = cumulative(&buckets);
        prop_assert!(told.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{told:?}");
        let valid = buckets.iter().filter(|it| !it.from.is_nan());
        prop_assert_eq!(told.last().map(|it| it.1), valid.map(|it| it.count).reduce(|a, b| a + b));
    }
}
