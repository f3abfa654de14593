//! Telemetry end to end over real nodes: agents report in the clear to a relay, which carries it over
//! mutual TLS to a collector, where it is found again; who may not is refused, and what was acknowledged is
//! never lost.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "telemetry/rollout.rs"]
mod rollout;
#[path = "telemetry/scene.rs"]
mod scene;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_pki::SystemEntropy;
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::place::{Place, free_port};

use crate::scene::{Killed, Reporter, SEGMENTS, Scene, agent, all_there_once, scrape, segment};

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
    // It is kept there before the relay hears so.
    let relay = eventually("the relay knows that it has arrived", || {
        let relay = scene.station("relay", "shop");
        (relay["forward"]["sent"] == 1 && relay["forward"]["lagBytes"] == 0).then_some(relay)
    });
    assert_eq!(relay["state"], "ready", "{relay:#}");

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
    // Looked at without a process for each look, which would be most of the time that is measured.
    let cut =
        "handfast_telemetry_connections_cut_total{station=\"collector\",name=\"telemetry\"} 1.0";
    until("the connection is cut", || scrape(scene.metrics).contains(cut));
    let took = revoked.elapsed();
    assert!(took < Duration::from_secs(1), "cut after {took:?}");
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

/// Prometheus scrapes whenever it likes, and a station that ends takes its time: for calls that are open.
#[test]
fn a_scrape_has_every_station_also_while_one_stops() {
    let scene = Scene::new("mtls");
    let (west, port) = (&scene.west, free_port());
    west.json(&format!(
        "collector create other --host 127.0.0.1 --grpc-port {port} --http-port 0 --mode plaintext"
    ));
    let (messages, body) = handfast_telemetry::grpc::stream(4);
    let caller = agent(port);
    let open = scene.runtime.spawn(async move {
        caller.request(SEGMENTS, &hyper::HeaderMap::new(), body).await.map(drop)
    });
    let mut message = bytes::BytesMut::new();
    handfast_telemetry::grpc::encode(&segment("shop", "s1", None), &mut message);
    scene.runtime.block_on(messages.send(hyper::body::Frame::data(message.freeze()))).unwrap();
    until("a call is open", || {
        scene.station("collector", "other")["accepted"]["segment"].as_u64() == Some(1)
    });
    let mut scrapes = 0;
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| west.json("collector delete other"));
        while !deleting.is_finished() {
            let page = scrape(scene.metrics);
            for station in
                ["station=\"collector\",name=\"telemetry\"", "station=\"relay\",name=\"shop\""]
            {
                assert!(page.contains(station), "no {station} in\n{page}");
            }
            scrapes += 1;
        }
    });
    assert!(scrapes > 5, "it took its time: {scrapes}");
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("what is deleted has ended");
    drop(messages);
    drop(scene.runtime.block_on(open).unwrap());
}
