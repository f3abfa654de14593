//! Telemetry end to end over real nodes: agents report in the clear to a relay, which carries it over
//! mutual TLS to a collector, where it is found again; who may not is refused, and what was acknowledged is
//! never lost.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_pki::SystemEntropy;
use handfast_proto::skywalking::v3::{
    KeyStringValuePair, SegmentObject, SegmentReference, SpanObject,
};
use handfast_telemetry::grpc::Status;
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use prost::Message as _;
use serde_json::Value;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// A site with a collector, and a relay for the agents of `shop` that reports to it.
struct Scene {
    place: Place,
    west: Site,
    collector: u16,
    relay: u16,
    metrics: u16,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new(mode: &str) -> Self {
        Self::around(|west, collector| {
            west.json(&format!(
                "collector create telemetry --host 127.0.0.1 --hosts localhost --grpc-port {collector} --http-port 0 --mode {mode}"
            ));
        })
    }

    /// The collector is what `collect` makes at this port.
    fn around(collect: impl FnOnce(&Site, u16)) -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.west();
        let (collector, relay, metrics) = (free_port(), free_port(), free_port());
        west.run_with(&["--metrics", &format!("127.0.0.1:{metrics}")]);
        west.start();
        collect(&west, collector);
        west.json(&format!(
            "relay create shop --service shop --backend 127.0.0.1:{collector} --grpc 127.0.0.1:{relay}"
        ));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self { place, west, collector, relay, metrics, runtime }
    }

    fn report(&self, agent: &Upstream, segments: &[Bytes]) -> Result<Bytes, Status> {
        self.runtime.block_on(agent.call(SEGMENTS, segments))
    }

    fn station(&self, verb: &str, name: &str) -> Value {
        let list = self.west.json(&format!("{verb} status {name}"));
        list[0].clone()
    }
}

/// An agent in the clear.
fn agent(port: u16) -> Upstream {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: address.ip().to_string(), port: address.port() }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
}

/// A trace of two services: the shop asks the bank.
fn segment(service: &str, id: &str, cause: Option<&str>) -> Bytes {
    let begin = now().as_millisecond();
    let mut span = SpanObject {
        span_id: 0,
        parent_span_id: -1,
        start_time: begin,
        end_time: begin + 40,
        operation_name: format!("/{service}/buy"),
        tags: [("http.status_code", "200"), ("order", id)]
            .map(|(key, value)| KeyStringValuePair { key: key.to_owned(), value: value.to_owned() })
            .to_vec(),
        ..SpanObject::default()
    };
    span.refs.extend(cause.map(|cause| SegmentReference {
        trace_id: format!("trace-{cause}"),
        parent_trace_segment_id: cause.to_owned(),
        parent_span_id: 0,
        parent_service: "shop".to_owned(),
        ..SegmentReference::default()
    }));
    let segment = SegmentObject {
        trace_id: format!("trace-{}", cause.unwrap_or(id)),
        trace_segment_id: id.to_owned(),
        spans: vec![span],
        service: service.to_owned(),
        service_instance: format!("{service}-1"),
        ..SegmentObject::default()
    };
    segment.encode_to_vec().into()
}

/// An agent of HTTP, in the clear, that says its version: what comes back, nothing if it is cut off.
fn hand_over(port: u16, service: &str, id: &str) -> String {
    use std::io::{Read as _, Write as _};
    let (begin, mut answer) = (now().as_millisecond(), String::new());
    let body = serde_json::json!({
        "traceId": format!("trace-{id}"), "traceSegmentId": id,
        "service": service, "serviceInstance": format!("{service}-1"),
        "spans": [{
            "spanId": 0, "parentSpanId": -1, "startTime": begin, "endTime": begin + 40,
            "operationName": "/post", "spanType": "Entry", "spanLayer": "Http",
        }],
    })
    .to_string();
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "POST /v3/segment HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nagent-version: 9.4.0\r\n\
         user-agent: other/1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A port that speaks TLS only may be gone before all is said.
    drop(socket.write_all(format!("{head}{body}").as_bytes()));
    drop(socket.read_to_string(&mut answer));
    answer
}

/// The page of metrics.
fn scrape(port: u16) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn what_agents_say_in_the_clear_is_carried_over_mutual_tls_and_drawn() {
    let scene = Scene::new("mtls");
    let west = &scene.west;
    let caller = agent(scene.relay);
    scene.report(&caller, &[segment("shop", "s1", None)]).unwrap();
    let traces = eventually("the trace is kept", || {
        let traces = west.json("trace ls --service shop");
        traces.as_array().is_some_and(|list| !list.is_empty()).then_some(traces)
    });
    assert_eq!(
        (&traces[0]["traceId"], &traces[0]["service"]),
        (&"trace-s1".into(), &"shop".into())
    );
    let trace = west.json("trace show trace-s1");
    assert_eq!(trace["segments"][0]["spans"][0]["operation"], "/shop/buy", "{trace:#}");
    let reporter = trace["segments"][0]["reporter"].as_str().unwrap();
    assert!(reporter.ends_with("/agent/shop"), "{trace:#}");
    let text = west.run("trace show trace-s1").ok().stdout;
    assert!(text.contains("shop: /shop/buy") && text.contains("40 ms"), "{text}");
    let absent = west.refused("trace show nothing", 11);
    assert_eq!(absent["error"], "not-found", "{absent:#}");

    let found =
        |filter: &str| west.json(&format!("trace ls --since 1h {filter}")).as_array().map(Vec::len);
    let all = "--service shop --instance shop-1 --endpoint /shop/buy --min-duration 40ms --tag order=s1 \
               --tag http.status_code=200";
    assert_eq!(found(all), Some(1));
    for none in [
        "--errors",
        "--tag order=s2",
        "--min-duration 41ms",
        "--max-duration 39ms",
        "--service bank",
    ] {
        assert_eq!(found(none), Some(0), "{none}");
    }
    assert_eq!(west.run("trace ls --tag order").code, 2);

    assert_eq!(west.json("service ls")[0]["name"], "shop");
    assert_eq!(west.json("service instances shop")[0]["name"], "shop-1");
    assert_eq!(west.json("log ls"), serde_json::json!([]));
    let collector = scene.station("collector", "telemetry");
    assert_eq!(collector["accepted"]["segment"], 1, "{collector:#}");
    assert_eq!(collector["ports"][0]["connections"]["mtls"], 1, "{collector:#}");
    let relay = scene.station("relay", "shop");
    assert_eq!((&relay["forward"]["sent"], &relay["state"]), (&1.into(), &"ready".into()));

    let status = west.json("status");
    assert_eq!(status["stations"].as_array().map(Vec::len), Some(2), "{status:#}");
    let check = west.run("check").ok().stdout;
    assert!(check.contains("all of 2 collectors and relays work"), "{check}");
    let page = scrape(scene.metrics);
    for sample in [
        "handfast_telemetry_accepted_total{station=\"collector\",name=\"telemetry\",kind=\"segment\"} 1.0",
        "handfast_telemetry_connections{station=\"collector\",name=\"telemetry\",transport=\"mtls\"} 1.0",
        "handfast_telemetry_sent_total{station=\"relay\",name=\"shop\"} 1.0",
        "handfast_telemetry_upstream_up{station=\"relay\",name=\"shop\"} 1.0",
        "handfast_telemetry_lag_bytes{station=\"relay\",name=\"shop\"} 0.0",
    ] {
        assert!(page.contains(sample), "no {sample} in\n{page}");
    }
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let documented = std::fs::read_to_string(pages).unwrap();
    for sample in page.lines().filter(|line| line.starts_with("handfast_telemetry_")) {
        let name = sample.split(['{', ' ']).next().unwrap();
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }

    // Plaintext is not taken where mutual TLS is asked for, and that is seen.
    let direct = agent(scene.collector);
    assert!(scene.report(&direct, &[segment("shop", "s2", None)]).is_err());
    let status = eventually("the refusal is listed", || {
        let status = west.json("rollout status");
        status["refusals"].as_array().is_some_and(|list| !list.is_empty()).then_some(status)
    });
    assert!(status["refusals"][0]["fault"]["remedy"].is_string(), "{status:#}");
    let shop = status["reporters"].as_array().unwrap().iter();
    let over: BTreeSet<&str> = shop.map(|one| one["transport"].as_str().unwrap()).collect();
    assert_eq!(over, BTreeSet::from(["mtls", "plaintext"]), "{status:#}");
    assert_eq!(west.run("trace show trace-s2").code, 11);
}

#[test]
fn another_services_name_is_refused_and_recorded() {
    let scene = Scene::new("mtls");
    let caller = agent(scene.relay);
    scene.report(&caller, &[segment("shop", "own", None)]).unwrap();
    // The relay answers for its collector: at first it does not know that bank is not allowed.
    drop(scene.report(&caller, &[segment("bank", "stolen", None)]));
    until("the collector has refused it", || {
        scene.station("collector", "telemetry")["refused"]["segment"].as_u64() >= Some(1)
    });
    until("it is set aside", || scene.station("relay", "shop")["forward"]["setAside"] == 1);
    let row = eventually("it is in the audit log", || {
        let rows = scene.west.json("audit list --action telemetry.report");
        rows.as_array().and_then(|rows| rows.first().cloned())
    });
    assert_eq!((&row["outcome"], &row["action"]), (&"denied".into(), &"telemetry.report".into()));
    assert!(row["actor"].as_str().unwrap().ends_with("/agent/shop"), "{row:#}");
    assert!(row["subject"].as_str().unwrap().starts_with("bank at Collector/telemetry"), "{row:#}");
    assert_eq!(scene.west.run("trace show trace-stolen").code, 11);
    assert_eq!(scene.west.run("trace show trace-own").code, 0);
}

#[test]
fn a_revoked_relay_is_cut_within_a_second() {
    let scene = Scene::new("mtls");
    let caller = agent(scene.relay);
    scene.report(&caller, &[segment("shop", "s1", None)]).unwrap();
    until("the relay is connected", || {
        scene.station("collector", "telemetry")["ports"][0]["connections"]["mtls"] == 1
    });
    let revoke =
        "cert revoke --identity spiffe://demo.example/agent/shop --reason key-compromise --yes";
    scene.west.json(revoke);
    let revoked = Instant::now();
    until("the connection is cut", || {
        scene.station("collector", "telemetry")["connectionsCut"].as_u64() >= Some(1)
    });
    let took = revoked.elapsed();
    assert!(took < Duration::from_secs(1), "cut after {took:?}");
}

#[test]
fn a_rollout_is_planned_enforced_and_taken_back() {
    let mut scene = Scene::new("permissive");
    // Nobody was heard: whoever would be shut out is not known, and that is no yes.
    let plan = scene.west.run("rollout plan --to mtls -o json").exits(9).json();
    assert_eq!((&plan["ready"], &plan["shutOut"]), (&0.into(), &0.into()), "{plan:#}");
    let since = plan["heardSince"].as_str().unwrap().to_owned();
    let said = scene.west.run("rollout plan --to mtls --collector telemetry").exits(9).stdout;
    assert!(said.contains("Nobody has reported since"), "{said}");
    let said = scene.west.run("rollout plan --to mtls --collector other").exits(9).stdout;
    assert!(said.contains("No collector other runs"), "{said}");
    let west = &scene.west;
    let (relayed, direct) = (agent(scene.relay), agent(scene.collector));
    scene.report(&relayed, &[segment("shop", "s1", None)]).unwrap();
    scene.report(&direct, &[segment("bank", "b1", Some("s1"))]).unwrap();
    until("both were heard", || west.json("service ls").as_array().map(Vec::len) == Some(2));
    let text = west.run("trace show trace-s1").ok().stdout;
    assert!(text.contains("└ bank: /bank/buy"), "{text}");

    let plan = west.run("rollout plan --to mtls -o json").exits(9).json();
    assert_eq!((&plan["ready"], &plan["shutOut"]), (&1.into(), &1.into()), "{plan:#}");
    let bank = plan["reporters"].as_array().unwrap().iter().find(|one| one["service"] == "bank");
    assert!(bank.unwrap()["needs"].as_str().unwrap().contains("relay"), "{plan:#}");
    assert_eq!(plan["heardSince"], since.as_str(), "{plan:#}");
    let said = west.run("rollout plan --to permissive").ok().stdout;
    assert!(said.contains("Heard since 20"), "{said}");

    let done = west.json("rollout enforce telemetry --port grpc --to mtls");
    assert_eq!(done["changed"][0]["from"], "permissive", "{done:#}");
    assert_eq!(done["shutOut"], 1, "{done:#}");
    assert!(scene.report(&agent(scene.collector), &[segment("bank", "b2", None)]).is_err());
    scene.report(&relayed, &[segment("shop", "s3", None)]).unwrap();
    until("who is ready goes on", || west.run("trace show trace-s3").code == 0);
    let file =
        std::fs::read_to_string(west.path("input/resources/Collector-telemetry.yaml")).unwrap();
    assert!(file.contains("handfast.dev/mode-before: grpc=permissive"), "{file}");

    let back = west.json("rollout enforce telemetry --back");
    assert_eq!(back["changed"][0]["to"], "permissive", "{back:#}");
    scene.report(&direct, &[segment("bank", "b4", None)]).unwrap();
    west.refused("rollout enforce telemetry --back", 1);
    west.refused("rollout enforce nobody --to mtls", 3);
    west.refused("rollout enforce telemetry --port smtp --to mtls", 2);

    // After a restart nobody was heard yet; one who is ready is enough, and all who were heard must be.
    scene.west.stop();
    scene.west.start();
    let plan = scene.west.run("rollout plan --to mtls -o json").exits(9).json();
    assert!(plan["heardSince"].as_str() > Some(&since), "{plan:#}");
    scene.report(&agent(scene.relay), &[segment("shop", "s5", None)]).unwrap();
    until("who is ready was heard", || scene.west.run("rollout plan --to mtls").code == 0);
    scene.report(&agent(scene.collector), &[segment("bank", "b5", None)]).unwrap();
    scene.west.run("rollout plan --to mtls").exits(9);
}

#[test]
fn a_sharing_listener_has_ports_and_modes_of_its_own() {
    let (grpc, sharing_http) = (free_port(), free_port());
    let mut scene = Scene::around(|west, sharing_grpc| {
        let document = format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Collector\nmetadata: {{name: telemetry}}\nspec:\n  \
             host: 127.0.0.1\n  hosts: [localhost]\n  grpc: {{port: {grpc}, mode: plaintext}}\n  sharing:\n    \
             grpc: {{port: {sharing_grpc}, mode: mtls}}\n    http: {{port: {sharing_http}, mode: plaintext}}\n"
        );
        west.declare("Collector-telemetry.yaml", &document);
    });
    until("all of its ports are open", || {
        let ports = scene.station("collector", "telemetry")["ports"].clone();
        ports.as_array().is_some_and(|ports| ports.len() == 3)
    });
    let modes = |scene: &Scene| -> Vec<(String, String)> {
        let collector = scene.station("collector", "telemetry");
        let port = |one: &Value| {
            let text = |field: &str| one[field].as_str().unwrap().to_owned();
            (text("name"), text("mode"))
        };
        collector["ports"].as_array().unwrap().iter().map(port).collect()
    };
    let are = |grpc: &str, sharing_grpc: &str, sharing_http: &str| {
        [("grpc", grpc), ("sharing-grpc", sharing_grpc), ("sharing-http", sharing_http)]
            .map(|(name, mode)| (name.to_owned(), mode.to_owned()))
            .to_vec()
    };
    assert_eq!(modes(&scene), are("plaintext", "mtls", "plaintext"));
    let said = |word: &str| format!("handfast/{word}");
    let product = said(env!("CARGO_PKG_VERSION"));

    // One over each port; the relay dials the one with mutual TLS.
    scene.report(&agent(grpc), &[segment("bank", "b1", None)]).unwrap();
    scene.report(&agent(scene.relay), &[segment("shop", "s1", None)]).unwrap();
    let answer = hand_over(sharing_http, "post", "p1");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for id in ["b1", "s1", "p1"] {
        until(id, || scene.west.run(&format!("trace show trace-{id}")).code == 0);
    }
    let status = scene.west.json("rollout status");
    let heard = |service: &str| -> Vec<(&str, &str)> {
        let all = status["reporters"].as_array().unwrap().iter();
        let of_it =
            all.filter(|one| one["station"] == "Collector/telemetry" && one["service"] == service);
        let how = |one| -> (&str, &str) {
            let one: &Value = one;
            (one["transport"].as_str().unwrap(), one["version"].as_str().unwrap())
        };
        of_it.map(how).collect()
    };
    assert_eq!(heard("bank"), [("plaintext", &*product)], "{status:#}");
    assert_eq!(heard("shop"), [("mtls", &*product)], "{status:#}");
    assert_eq!(heard("post"), [("plaintext", "9.4.0")], "what it says itself comes first");
    let text = scene.west.run("rollout status").ok().stdout;
    assert!(text.contains("9.4.0") && text.contains("sharing-http"), "{text}");
    // The other ports' strangers stay out of it.
    let plain = agent(scene.collector);
    assert!(scene.report(&plain, &[segment("bank", "b2", None)]).is_err());

    // One port is enforced, and nothing else changes.
    let done = scene.west.json("rollout enforce telemetry --port sharing-http --to tls");
    assert_eq!(done["changed"].as_array().map(Vec::len), Some(1), "{done:#}");
    assert_eq!(done["changed"][0]["port"], "sharing-http", "{done:#}");
    assert_eq!(modes(&scene), are("plaintext", "mtls", "tls"));
    let answer = hand_over(sharing_http, "post", "p2");
    assert!(!answer.contains("200"), "{answer}");
    scene.report(&agent(grpc), &[segment("bank", "b3", None)]).unwrap();
    scene.report(&agent(scene.relay), &[segment("shop", "s3", None)]).unwrap();
    for id in ["b3", "s3"] {
        until(id, || scene.west.run(&format!("trace show trace-{id}")).code == 0);
    }
    // It is so after a restart, and is taken back.
    scene.west.stop();
    scene.west.start();
    until("all of its ports are open", || modes(&scene).len() == 3);
    assert_eq!(modes(&scene), are("plaintext", "mtls", "tls"));
    scene.west.json("rollout enforce telemetry --back");
    assert_eq!(modes(&scene), are("plaintext", "mtls", "plaintext"));
    let answer = hand_over(sharing_http, "post", "p4");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for id in ["b2", "p2"] {
        assert_eq!(scene.west.run(&format!("trace show trace-{id}")).code, 11, "{id}");
    }
}

#[test]
fn a_relay_for_mutual_tls_sends_nothing_to_a_collector_in_the_clear() {
    let scene = Scene::new("plaintext");
    let west = &scene.west;
    let caller = agent(scene.relay);
    let mut ids: Vec<String> = Vec::new();
    let mut report = |id: String| {
        scene.report(&caller, &[segment("shop", &id, None)]).unwrap();
        ids.push(id);
    };
    (0..20).for_each(|number| report(format!("before{number}")));
    let relay = eventually("the relay says why nothing moves", || {
        let relay = scene.station("relay", "shop");
        relay["forward"]["fault"].is_object().then_some(relay)
    });
    assert_eq!(relay["forward"]["fault"]["code"], "tls-to-plaintext", "{relay:#}");
    let remedy = relay["forward"]["fault"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("`mode: permissive` or `mtls`"), "{relay:#}");
    assert_eq!((&relay["state"], &relay["forward"]["sent"]), (&"waiting".into(), &0.into()));
    // It tries again and again, and never in another way.
    until("the collector has refused several", || {
        let collector = scene.station("collector", "telemetry");
        let refused = &collector["handshakesRefused"]["tls-to-plaintext"];
        assert_eq!(collector["accepted"], serde_json::json!({}), "{collector:#}");
        refused.as_u64() >= Some(4)
    });
    (0..10).for_each(|number| report(format!("later{number}")));
    let relay = scene.station("relay", "shop");
    assert_eq!(relay["forward"]["sent"], 0, "{relay:#}");
    assert_eq!(relay["forward"]["connected"], Value::Null, "{relay:#}");
    let collector = scene.station("collector", "telemetry");
    assert_eq!(collector["accepted"], serde_json::json!({}), "{collector:#}");
    assert_eq!(west.json("trace ls"), serde_json::json!([]));

    west.json("rollout enforce telemetry --port grpc --to mtls");
    all_there_once(&scene, &ids);
    let relay = scene.station("relay", "shop");
    let forward = &relay["forward"];
    assert_eq!((&relay["state"], &forward["fault"]), (&"ready".into(), &Value::Null), "{relay:#}");
    assert_eq!((&forward["sent"], &forward["setAside"]), (&30.into(), &0.into()), "{relay:#}");
}

#[test]
fn enforcing_what_the_node_cannot_do_says_what_is_written_and_how_it_is_undone() {
    let scene = Scene::new("plaintext");
    let west = &scene.west;
    let file = west.path("input/resources/Collector-telemetry.yaml");
    let read = || std::fs::read_to_string(&file).unwrap();
    // In the clear nobody asks whose CA is trusted; with mutual TLS it is missed.
    let text = read();
    std::fs::write(&file, text.replacen("spec:", "spec:\n  trust: [nobody]", 1)).unwrap();
    let error = west.refused("rollout enforce telemetry --port grpc --to mtls", 1);
    let what = error["what"].as_str().unwrap();
    assert!(what.contains("Collector/telemetry grpc is written as `mtls`"), "{error:#}");
    assert!(error["why"].as_str().unwrap().contains("nobody"), "{error:#}");
    assert!(error["where"].as_str().unwrap().contains("Collector-telemetry.yaml"), "{error:#}");
    let remedy = error["remedy"].as_str().unwrap();
    assert!(remedy.contains("rollout enforce telemetry --back"), "{error:#}");
    assert!(read().contains("handfast.dev/mode-before: grpc=plaintext"), "{}", read());
    west.json("rollout enforce telemetry --back");
    scene.report(&agent(scene.collector), &[segment("shop", "s1", None)]).unwrap();

    // A document that no node would take is left as it is.
    let broken = read().replacen("spec:", "spec:\n  colour: green", 1);
    std::fs::write(&file, &broken).unwrap();
    let error = west.refused("rollout enforce telemetry --port grpc --to mtls", 3);
    assert!(error["what"].as_str().unwrap().contains("nothing was written"), "{error:#}");
    assert!(error["why"].as_str().unwrap().contains("colour"), "{error:#}");
    assert_eq!(read(), broken);
}

#[test]
fn a_relay_that_the_collector_elsewhere_does_not_know_is_told_how_to_enrol() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let (collector, relay) = (free_port(), free_port());
    west.json(&format!(
        "collector create telemetry --host 127.0.0.1 --hosts localhost --grpc-port {collector} --http-port 0"
    ));
    let create = format!(
        "relay create shop --service shop --backend 127.0.0.1:{collector} --grpc 127.0.0.1:{relay}"
    );
    let said = east.run(&create).ok().stdout;
    assert!(said.contains("handfast token issue FILE --agent shop"), "{said}");
    assert!(said.contains("handfast enrol DIR --token FILE"), "{said}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let caller = agent(relay);
    runtime.block_on(caller.call(SEGMENTS, &[segment("shop", "s1", None)])).unwrap();
    let shown = || east.json("relay status shop")[0].clone();
    let problem = eventually("the relay has a problem", || {
        shown()["problems"].as_array().and_then(|problems| problems.first().cloned())
    });
    assert!(problem["message"].as_str().unwrap().contains("unknown-issuer"), "{problem:#}");
    let remedy = problem["remedy"].as_str().unwrap();
    for words in ["token issue FILE --agent shop", "enrol DIR --token", "--tls-credentials"] {
        assert!(remedy.contains(words), "{problem:#}");
    }
    assert_eq!((&shown()["state"], &problem["severity"]), (&"waiting".into(), &"warning".into()));
    let status = east.run("status").ok().stdout;
    assert!(status.contains("of another trust domain"), "{status}");

    // What it was told helps.
    let token = place.path("shop.token").display().to_string();
    west.json(&format!("token issue {token} --agent shop"));
    let directory = east.path("input/certs/shop-agent").display().to_string();
    place.run(&format!("enrol {directory} --token {token}")).ok();
    east.json("relay delete shop");
    let said = east.run(&format!("{create} --tls-credentials shop-agent")).ok().stdout;
    assert!(!said.contains("handfast enrol"), "{said}");
    until("what was spooled arrives", || west.run("trace show trace-s1").code == 0);
    assert_eq!(shown()["problems"], serde_json::json!([]));
}

/// Reports segment after segment, until told to end; knows which were acknowledged.
struct Reporter {
    ending: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Reporter {
    fn start(scene: &Scene, prefix: &'static str) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (told, count) = (Arc::clone(&ending), Arc::clone(&acknowledged));
        let caller = agent(scene.relay);
        let task = scene.runtime.spawn(async move {
            let mut done = Vec::new();
            for number in 0_u64.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{prefix}{number}");
                if caller.call(SEGMENTS, &[segment("shop", &id, None)]).await.is_ok() {
                    done.push(id);
                    count.fetch_add(1, Ordering::Relaxed);
                } else {
                    // Nobody is there at the moment.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            done
        });
        Self { ending, acknowledged, task }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn more(&self, what: &str) {
        let before = self.acknowledged();
        until(what, || self.acknowledged() > before + 20);
    }

    fn end(self, scene: &Scene) -> Vec<String> {
        self.ending.store(true, Ordering::Relaxed);
        scene.runtime.block_on(self.task).unwrap()
    }
}

/// Every acknowledged segment is there, and once.
fn all_there_once(scene: &Scene, acknowledged: &[String]) {
    let wanted: BTreeSet<String> = acknowledged.iter().map(|id| format!("trace-{id}")).collect();
    assert!(wanted.len() > 20, "{}", wanted.len());
    let kept = || -> Vec<Value> {
        let list = scene.west.json("trace ls --service shop --limit 10000");
        list.as_array().unwrap().clone()
    };
    until("everything acknowledged is kept", || {
        let there: BTreeSet<String> =
            kept().iter().map(|one| one["traceId"].as_str().unwrap().to_owned()).collect();
        wanted.is_subset(&there)
    });
    for trace in kept() {
        assert_eq!(trace["segments"], 1, "{trace:#}");
    }
}

#[test]
fn renewal_and_a_rotation_of_the_authority_lose_nothing() {
    let scene = Scene::new("mtls");
    let reporter = Reporter::start(&scene, "r");
    reporter.more("segments flow");
    let (collector, relay) = ("handfast-collector-telemetry", "handfast-relay-shop");
    let before = (scene.west.serial(collector), scene.west.serial(relay));
    scene.west.json("cert renew --all");
    assert_ne!(before.0, scene.west.serial(collector));
    assert_ne!(before.1, scene.west.serial(relay));
    reporter.more("segments flow after the renewal");
    scene.west.json("ca rotate service --wait --timeout 60s");
    reporter.more("segments flow after the rotation");
    let acknowledged = reporter.end(&scene);
    all_there_once(&scene, &acknowledged);
    assert_eq!(scene.station("relay", "shop")["forward"]["setAside"], 0);
}

#[test]
fn a_killed_node_has_every_acknowledged_segment_once_when_it_is_back() {
    let mut scene = Scene::new("mtls");
    let reporter = Reporter::start(&scene, "k");
    for _ in 0..3 {
        reporter.more("segments flow");
        scene.west.kill();
        scene.west.start();
    }
    reporter.more("segments flow after the last start");
    let acknowledged = reporter.end(&scene);
    all_there_once(&scene, &acknowledged);
}

#[test]
fn a_collector_by_itself_takes_up_new_files_and_its_directory_is_read() {
    let scene = Scene::new("mtls");
    let place = &scene.place;
    let port = free_port();
    let (data, certs) = (place.path("alone"), place.path("alone-certs"));
    let line =
        format!("agent-certs {} --service bank --hosts localhost,127.0.0.1", certs.display());
    scene.west.run(&line).ok();
    let path = |name: &str| certs.join(name).display().to_string();
    let (grpc, http) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()));
    let (cert, key, ca) = (path("server.crt"), path("server.pem"), path("ca.crt"));
    let directory = data.display().to_string();
    let words = [
        "collector",
        "run",
        "--data",
        &directory,
        "--grpc",
        &grpc,
        "--http",
        &http,
        "--cert",
        &cert,
        "--key",
        &key,
        "--client-ca",
        &ca,
        "--mode",
        "permissive",
    ];
    let log = std::fs::File::create(place.path("alone.log")).unwrap();
    let said = || std::fs::read_to_string(place.path("alone.log")).unwrap();
    let mut command = place.command(&words);
    let mut child = Killed(command.stderr(log).spawn().unwrap());
    let caller = agent(port);
    until("it takes reports", || scene.report(&caller, &[segment("bank", "b1", None)]).is_ok());
    let list = format!("trace ls --data {directory} -o json");
    let found = eventually("its directory is read", || {
        let found = place.run(&list).ok().json();
        found.as_array().is_some_and(|list| !list.is_empty()).then_some(found)
    });
    assert_eq!(found[0]["service"], "bank", "{found:#}");
    place.run(&format!("trace show trace-b1 --data {directory}")).ok();
    place.run(&format!("trace show other --data {directory}")).exits(11);

    let good = std::fs::read(&cert).unwrap();
    std::fs::write(&cert, "nonsense").unwrap();
    until("what is broken is said", || said().contains("the last good certificate stays in use"));
    scene.report(&caller, &[segment("bank", "b2", None)]).unwrap();
    std::fs::write(&cert, good).unwrap();
    until("what is good is taken up", || said().contains("certificates were read again"));
    assert!(child.0.try_wait().unwrap().is_none(), "{}", said());

    // Broken from the start is no start.
    std::fs::write(path("broken.crt"), "nonsense").unwrap();
    let broken = path("broken.crt");
    let line = format!(
        "collector run --data {directory}-2 --grpc 127.0.0.1:{} --cert {broken} --key {key} -o json",
        free_port()
    );
    let error = place.run(&line).exits(3).error();
    assert_eq!(error["where"], broken.as_str(), "{error:#}");
}

#[test]
fn the_example_of_a_collector_by_itself_works_with_the_files_of_agent_certs() {
    let scene = Scene::new("mtls");
    let place = &scene.place;
    let certs = place.path("example-certs");
    let line =
        format!("agent-certs {} --service shop --hosts localhost,127.0.0.1", certs.display());
    scene.west.run(&line).ok();
    let help = place.run("collector run --help").ok().stdout;
    // Help is broken into lines to fit the terminal.
    let begin = help.find("handfast collector run --data /var/lib/collector").unwrap();
    let data = place.path("example").display().to_string();
    let example = help[begin..].replace("/var/lib/collector", &data);
    let words: Vec<&str> =
        example.split_whitespace().skip(1).take_while(|word| *word != "handfast").collect();
    assert_eq!(words[words.len() - 2..], ["--client-ca", "ca.crt"], "{help}");
    let port = free_port();
    let log = std::fs::File::create(place.path("example.log")).unwrap();
    let mut command = place.command(&words);
    // Where the files are; the ports of the example may be taken.
    command.current_dir(&certs);
    command
        .env("SW_RECEIVER_GRPC_HOST", "127.0.0.1")
        .env("SW_RECEIVER_GRPC_PORT", port.to_string());
    command.env("SW_RECEIVER_SHARING_REST_HOST", "127.0.0.1");
    command.env("SW_RECEIVER_SHARING_REST_PORT", free_port().to_string());
    let _collector = Killed(command.stderr(log).spawn().unwrap());

    let read = |name: &str| std::fs::read(certs.join(name)).unwrap();
    let (chain, key, ca) = (read("client.crt"), read("client.pem"), read("ca.crt"));
    let credential = handfast_pki::Credential::from_pem(&chain, &key, &ca, None).unwrap();
    let options = handfast_tls::ClientOptions {
        alpn: vec![b"h2".to_vec()],
        ..handfast_tls::ClientOptions::default()
    };
    let anchors = credential.anchors().clone();
    let config = handfast_tls::client_config(Some(&credential), &anchors, &options).unwrap();
    let caller = Upstream::new(
        UpstreamPlan {
            authentication: None,
            backends: vec![Backend { host: "127.0.0.1".to_owned(), port }],
            security: Some(Security::Tls { config, server_name: None }),
        },
        Arc::new(now),
        Dice::new(SystemEntropy),
    );
    let said = || std::fs::read_to_string(place.path("example.log")).unwrap();
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let taken = scene.report(&caller, &[segment("shop", "s1", None)]);
    assert!(taken.is_ok(), "{taken:?}\n{}", said());
    let refused = scene.report(&caller, &[segment("bank", "b1", None)]).unwrap_err();
    assert_eq!(refused.code, handfast_telemetry::grpc::Code::PermissionDenied, "{refused}");
    assert!(refused.to_string().contains("may-report-as=shop"), "{refused}");
    assert!(!said().contains("--trust-domain"), "{}", said());
}

#[test]
fn a_port_that_another_program_holds_is_said_by_the_exit_code() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let mut west = place.west();
    west.start();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    for (line, what) in [
        (
            format!("collector create one --host 127.0.0.1 --grpc-port {port} --http-port 0"),
            "Collector/one",
        ),
        (
            format!(
                "collector create two --host 127.0.0.1 --grpc-port {port} --http-port {} --mode plaintext",
                free_port()
            ),
            "Collector/two",
        ),
        (
            format!(
                "relay create three --service shop --backend 127.0.0.1:1 --grpc 127.0.0.1:{port}"
            ),
            "Relay/three",
        ),
    ] {
        let error = west.refused(&line, 8);
        assert_eq!(error["error"], "port-in-use", "{error:#}");
        assert!(error["what"].as_str().unwrap().contains(what), "{error:#}");
        assert!(error["why"].as_str().unwrap().contains(&port.to_string()), "{error:#}");
    }
    let closed = west.json("collector status one")[0]["closed"].clone();
    assert_eq!(closed[0]["code"], "port-in-use", "{closed:#}");
    drop(held);
    for (kind, name) in [("collector", "two"), ("relay", "three")] {
        west.json(&format!("{kind} delete {name}"));
    }
    until("it opens when the port is free", || {
        let one = west.json("collector status one")[0].clone();
        one["state"] == "ready" && one["closed"] == serde_json::json!([])
    });
}

/// A process that ends with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
