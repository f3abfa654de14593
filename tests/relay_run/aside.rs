//! What a relay by itself has set aside, in its directory: seen while it runs, sent again or thrown away while it does not.

use std::collections::BTreeSet;
use std::path::Path;

use handfast_testkit::agents;
use handfast_testkit::eventually::until;
use handfast_testkit::place::free_port;
use prost::Message as _;
use serde_json::Value;

use crate::FILES;
use crate::scene::{Process, SEGMENTS, Scene, agent};

/// A relay in whose directory lie two records of `bank` and one of `mint`, which its collector does not take from it.
fn refused() -> Scene {
    let mut scene = Scene::new("mtls");
    scene.relay(FILES);
    until("it takes reports", || scene.reports("s1"));
    let caller = agent(scene.relay_port);
    for (service, ids) in [("bank", &["b1", "b2"][..]), ("mint", &["m1"])] {
        let segments: Vec<_> =
            ids.iter().map(|id| agents::segment(service, id).encode_to_vec().into()).collect();
        scene.runtime.block_on(caller.call(SEGMENTS, &segments)).unwrap();
    }
    until("three lie aside", || aside(&scene, "").len() == 3);
    scene
}

fn aside(scene: &Scene, more: &str) -> Vec<Value> {
    let list = scene.place.run(&format!("relay aside ls --data relay-spool -o json {more}"));
    list.ok().json().as_array().unwrap().clone()
}

/// The files there and what is in them.
fn content(directory: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn what_is_refused_for_good_is_seen_while_a_relay_runs_and_dealt_with_while_it_does_not() {
    let mut scene = refused();
    let bank = aside(&scene, "--service bank");
    assert_eq!((bank.len(), &bank[0]["kind"]), (2, &"segment".into()), "{bank:#?}");
    assert!(bank[0]["reason"].as_str().unwrap().contains("wrong-identity"), "{bank:#?}");
    let first = scene.place.run("relay aside ls --data relay-spool --limit 2 -o json").ok();
    assert_eq!(first.json().as_array().map(Vec::len), Some(2));
    assert!(first.stderr.starts_with("note: showing the oldest 2"), "{}", first.stderr);
    let last = first.json()[1]["id"].clone();
    assert_eq!(aside(&scene, &format!("--after {last}")).len(), 1);
    let all = scene.place.run("relay aside ls --data relay-spool --limit 3").ok();
    assert_eq!(all.stderr, "", "that is all of it");
    let id = bank[0]["id"].as_u64().unwrap();
    let shown = scene.place.run(&format!("relay aside show --data relay-spool {id} -o json"));
    assert_eq!(shown.ok().json()["record"], bank[0]);
    scene.place.run("relay aside show --data relay-spool 1").exits(11);

    // While it runs nobody else changes anything, and it is said what to do.
    let there = content(&scene.place.path("relay-spool/aside"));
    for verb in ["retry --data relay-spool", "drop --data relay-spool --all"] {
        let error = scene.place.run(&format!("relay aside {verb} -o json")).exits(6).error();
        assert!(error["remedy"].as_str().unwrap().contains("stop it"), "{error:#}");
    }
    assert_eq!(content(&scene.place.path("relay-spool/aside")), there);

    scene.relay = None;
    scene.place.run("relay aside drop --data relay-spool").exits(2);
    scene.place.run("relay aside drop --data relay-spool shop").exits(2);
    scene.place.run("relay aside show --data relay-spool").exits(2);
    scene.place.run("relay aside retry --data relay-spool --service nobody").exits(11);
    let dropped = scene.place.run("relay aside drop --data relay-spool --service mint -o json");
    assert_eq!(dropped.ok().json()["records"], 1);
    let line = format!("relay aside retry --data relay-spool {id}");
    let said = scene.place.run(&line).ok().stdout;
    assert!(said.starts_with("1 record, ") && said.contains("when the relay runs"), "{said}");
    assert_eq!(aside(&scene, ""), bank[1..], "the other stays");

    // It may report as that from now on: what was put back arrives, once, and what was not stays.
    scene.collector = None;
    let collector = format!(
        "collector run --data kept --grpc 127.0.0.1:{} --http 127.0.0.1:{} --cert certs/server.crt --key certs/server.pem \
         --client-ca certs/ca.crt --trust-domain demo.example --allow *=*",
        scene.collector_port,
        free_port()
    );
    scene.collector = Some(Process::start(&scene.place, &collector, "collector.log"));
    scene.relay(FILES);
    let kept = |scene: &Scene| -> BTreeSet<String> {
        let id = |trace: &Value| trace["traceId"].as_str().unwrap().to_owned();
        scene.kept().iter().map(id).collect()
    };
    let wanted = BTreeSet::from(["trace-s1", "trace-b1"].map(ToOwned::to_owned));
    until("it has arrived", || kept(&scene) == wanted);
    scene.relay = None;
    assert_eq!(
        scene.place.run("relay aside retry --data relay-spool -o json").ok().json()["records"],
        1
    );
    scene.relay(FILES);
    until("the other has arrived, too", || kept(&scene).contains("trace-b2"));
    assert_eq!(kept(&scene).len(), 3, "and what was thrown away has not");
    assert!(scene.kept().iter().all(|trace| trace["segments"] == 1), "{:#?}", scene.kept());
    assert!(aside(&scene, "").is_empty());
}

#[test]
fn where_nothing_lies_aside_nothing_is_made_and_what_is_another_users_stays_his() {
    let scene = refused();
    let error = scene.place.run("collector aside ls --data kept -o json").exits(11).error();
    assert!(error["why"].as_str().unwrap().contains("--forward"), "{error:#}");
    assert!(!scene.place.path("kept/aside").exists());
    scene.place.run("collector aside ls --data nowhere").exits(3);
    assert!(!scene.place.path("nowhere").exists());
    scene.place.run("relay aside ls").exits(2);

    let mut scene = scene;
    scene.relay = None;
    let directory = scene.place.path("relay-spool/aside");
    if std::os::unix::fs::chown(&directory, Some(4242), None).is_err() {
        eprintln!("skipped: only root can give a directory away");
        return;
    }
    let there = content(&directory);
    for verb in ["retry --data relay-spool", "drop --data relay-spool --all"] {
        let error = scene.place.run(&format!("relay aside {verb} -o json")).exits(6).error();
        assert!(error["remedy"].as_str().unwrap().contains("'#4242'"), "{error:#}");
    }
    assert_eq!(content(&directory), there);
    assert_eq!(aside(&scene, "").len(), 3);
}
