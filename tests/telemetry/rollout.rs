//! From plaintext to mutual TLS: plans, modes that are enforced and taken back, and relays that never do with less.

use handfast_testkit::eventually::{eventually, until};
use handfast_testkit::place::{Place, free_port};
use serde_json::Value;

use crate::scene::{SEGMENTS, Scene, agent, all_there_once, hand_over, segment};

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
    // Who was heard just now counts for a week; who was not within a second does not.
    let week = west.run("rollout plan --to mtls --heard-within 7d -o json").exits(9).json();
    assert_eq!((&week["ready"], &week["shutOut"]), (&1.into(), &1.into()), "{week:#}");
    assert!(week["heardFrom"].as_str() < week["heardSince"].as_str(), "{week:#}");
    let said = west.run("rollout plan --to mtls --heard-within 7d").exits(9).stdout;
    assert!(said.contains("later than was asked for"), "{said}");
    until("nobody was heard within a second", || {
        // Where the one that is ready was heard and the other one was not, the answer is yes for a moment.
        let plan = west.run("rollout plan --to mtls --heard-within 1s -o json").json();
        plan["reporters"] == serde_json::json!([])
    });
    west.run("rollout plan --to mtls --heard-within 1s").exits(9);
    assert_eq!(west.json("rollout status --heard-within 1s")["reporters"], serde_json::json!([]));
    assert!(
        west.json("rollout status --heard-within 1h")["reporters"].as_array().unwrap().len() > 1
    );
    assert!(plan["heardFrom"].is_null(), "nobody asked for it");
    west.run("rollout plan --to mtls --heard-within soon").exits(2);

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
    west.refused("rollout enforce nobody --to mtls", 11);
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
