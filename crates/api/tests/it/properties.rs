//! What holds for every text and every resource.

use std::path::Path;

use handfast_api::grants::{HintReply, HintWhy, SuggestedWindow};
use handfast_api::resources::{
    AccessGrant, Connector, Endpoint, Link, Listener, Resource, Resources, RoutingKey, ServiceType,
    Spec, edit,
};
use handfast_api::secret::Secret;
use handfast_pki::{Host, Name};
use proptest::prelude::*;

/// Text that is hard on YAML: quotes, colons, hashes, line breaks, words that look like values.
fn awkward_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("yes".to_owned()),
        Just("null".to_owned()),
        Just("~".to_owned()),
        Just("0x1F".to_owned()),
        Just("1e3".to_owned()),
        Just("---".to_owned()),
        Just("a\n---\nb".to_owned()),
        Just(" leading and trailing ".to_owned()),
        Just("trailing newline\n".to_owned()),
        "[ -~]{0,40}",
        "[a-z:#'\"\\\\\\[\\]{}&*!|>%@`,\\n\\t -]{0,40}",
        "\\PC{0,20}",
    ]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|text| text.parse().expect("a name"))
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<std::net::IpAddr>().prop_map(Host::Ip),
        "[a-z][a-z0-9]{0,10}(\\.[a-z]{2,8})?".prop_map(|text| text.parse().expect("a host")),
    ]
}

fn routing_key() -> impl Strategy<Value = RoutingKey> {
    "[!-~]{1,40}".prop_map(|text| text.parse().expect("a routing key"))
}

fn settings() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map(awkward_text(), awkward_text(), 0..4)
}

fn port() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

prop_compose! {
    fn listener()(routing_key in routing_key(), host in host(), port in port(), settings in settings()) -> Listener {
        Listener {
            routing_key,
            host,
            port,
            tls_credentials: None,
            service_type: ServiceType::Tcp,
            observer: None,
            expose_pods_by_name: port % 2 == 0,
            settings,
        }
    }
}

prop_compose! {
    fn connector()(routing_key in routing_key(), host in host(), port in port()) -> Connector {
        Connector {
            routing_key,
            host: Some(host),
            selector: None,
            port,
            tls_credentials: None,
            use_client_cert: false,
            verify_hostname: port % 2 == 0,
            service_type: ServiceType::Tcp,
            expose_pods_by_name: false,
            include_not_ready_pods: false,
            settings: std::collections::BTreeMap::new(),
        }
    }
}

prop_compose! {
    fn link()(host in host(), port in port(), cost in 1..=u32::MAX, group in prop::option::of(awkward_text()), tls in prop::option::of(name())) -> Link {
        let endpoint = Endpoint { name: Some("inter-router".to_owned()), host, port, group };
        Link { endpoints: vec![endpoint], tls_credentials: tls, cost, settings: std::collections::BTreeMap::new() }
    }
}

prop_compose! {
    fn grant()(redemptions_allowed in 1..=u32::MAX, code in "\\PC{20,40}", site in prop::option::of(name())) -> AccessGrant {
        AccessGrant {
            redemptions_allowed,
            code: Some(Secret::new(code)),
            settings: site.map(|site| ("site".to_owned(), site.to_string())).into_iter().collect(),
            ..AccessGrant::default()
        }
    }
}

/// Writes the resource and reads it back.
fn round_trip<S: Spec>(
    name: Name,
    spec: S,
    labels: std::collections::BTreeMap<String, String>,
    made_by: &str,
) -> Result<(), TestCaseError> {
    let mut resource = Resource::new(name, spec);
    resource.labels = labels;
    let text = edit::to_yaml(&resource, made_by).expect("written");
    let (resources, faults) = Resources::parse(Path::new("x.yaml"), &text);
    let errors: Vec<_> = faults
        .iter()
        .filter(|fault| fault.severity == handfast_api::resources::Severity::Error)
        .collect();
    prop_assert!(errors.is_empty(), "{errors:?}\n{text}");
    let read = resources.find::<S>(&resource.name);
    prop_assert!(read.is_some(), "{text}");
    if let Some(read) = read {
        prop_assert_eq!(&read.spec, &resource.spec, "{}", text);
        prop_assert_eq!(&read.labels, &resource.labels, "{}", text);
        prop_assert!(!read.origin.shared, "one document\n{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_reads_back(
        name in name(),
        listener in listener(),
        connector in connector(),
        link in link(),
        grant in grant(),
        labels in settings(),
        made_by in awkward_text(),
    ) {
        round_trip(name.clone(), listener, labels.clone(), &made_by)?;
        round_trip(name.clone(), connector, labels.clone(), &made_by)?;
        round_trip(name.clone(), link, labels.clone(), &made_by)?;
        round_trip(name, grant, labels, &made_by)?;
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,400}") {
        Resources::parse(Path::new("x.yaml"), &text);
    }

    #[test]
    fn no_yaml_like_text_makes_the_reader_panic(text in "([a-z]{1,6}: |- |\\[|\\]|\\{|\\}|\"|'|&a|\\*a|!|\\||>|\n|\n  |---\n|\\.\\.\\.|\t|#|,|é|\u{1f600}|0){0,80}") {
        Resources::parse(Path::new("x.yaml"), &text);
    }

    /// Real documents with something cut, doubled or overwritten: every fault must name a line that
    /// the file has.
    #[test]
    fn damaged_documents_are_reported_inside_the_file(at in 0_usize..700, length in 0_usize..40, with in awkward_text()) {
        let good = "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata:\n  name: west\nspec:\n  linkAccess: default\n  settings:\n    trust-domain: demo.example\n---\napiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata:\n  name: payments\n  labels: {a: b}\nspec:\n  routingKey: payments\n  host: 127.0.0.1\n  port: 9090\n---\napiVersion: skupper.io/v2alpha1\nkind: Link\nmetadata:\n  name: east\nspec:\n  cost: 3\n  endpoints:\n  - name: inter-router\n    host: east.example\n    port: \"55671\"\n";
        let at = at.min(good.len());
        let end = (at + length).min(good.len());
        let damaged = format!("{}{with}{}", &good[..at], &good[end..]);
        let lines = damaged.lines().count() as u64;
        let (_, faults) = Resources::parse(Path::new("x.yaml"), &damaged);
        for fault in faults {
            let line = fault.line.unwrap_or(1);
            prop_assert!((1..=lines + 1).contains(&line), "{fault} of {lines} lines\n{damaged}");
        }
    }
}

proptest! {
    #[test]
    fn an_answer_when_to_renew_reads_back_as_it_was_and_is_a_window_or_none(
        start in any::<i32>(),
        end in any::<i32>(),
        retry_after_seconds in any::<u64>(),
        why in prop::sample::select(vec![HintWhy::Life, HintWhy::Rotation, HintWhy::Taint]),
    ) {
        let at = |second: i32| jiff::Timestamp::from_second(second.into()).expect("in range");
        let suggested_window = SuggestedWindow { start: at(start), end: at(end) };
        let reply = HintReply { suggested_window, why, retry_after_seconds };
        let bytes = serde_json::to_vec(&reply).expect("written");
        let read: HintReply = serde_json::from_slice(&bytes).expect("read");
        prop_assert_eq!(&read, &reply);
        prop_assert_eq!(read.checked().is_ok(), start <= end);
    }

    #[test]
    fn whatever_comes_instead_of_an_answer_when_to_renew_is_an_error_and_no_panic(
        text in "\\PC{0,80}",
        why in "[a-z-]{0,20}",
        number in any::<i64>(),
    ) {
        let shaped = format!(
            "{{\"suggestedWindow\":{{\"start\":\"{text}\",\"end\":{number}}},\"why\":\"{why}\",\"retryAfterSeconds\":{number}}}"
        );
        for text in [text.as_str(), shaped.as_str()] {
            prop_assert!(serde_json::from_str::<HintReply>(text).is_err());
        }
        // A reason of a later version is none to refuse the rest for.
        let later = format!(
            "{{\"suggestedWindow\":{{\"start\":\"2026-11-21T12:00:00Z\",\"end\":\"2026-11-21T12:00:00Z\"}},\"why\":\"x{why}\",\"retryAfterSeconds\":0}}"
        );
        let reply: HintReply = serde_json::from_str(&later).expect("read");
        prop_assert_eq!(reply.why, HintWhy::Unrecognised);
    }
}
