//! `collector create` and `relay create`: what the options write is what the file form says.

use handfast_api::resources::{Collector, Relay, Resources};

use crate::desk::Desk;

/// What a directory of resources declares.
fn declared(desk: &Desk, directory: &str) -> (Vec<Collector>, Vec<Relay>) {
    let (resources, faults) = Resources::load(&desk.path(directory));
    assert!(faults.is_empty(), "{faults:?}");
    (
        resources.collectors.values().map(|one| one.spec.clone()).collect(),
        resources.relays.values().map(|one| one.spec.clone()).collect(),
    )
}

#[track_caller]
fn same(options: &str, document: &str) {
    let desk = Desk::new();
    desk.write("word", "s3cret\n");
    desk.write("other", "another\n");
    let ran = desk.run(&format!("--home h {options}"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let document = format!("apiVersion: handfast.dev/v1alpha1\n{document}");
    desk.write("by-hand/one.yaml", &document);
    let (made, meant) = (declared(&desk, "h/input/resources"), declared(&desk, "by-hand"));
    assert_eq!(made, meant);
}

#[test]
fn a_collector_that_keeps_is_declared_whole_by_options() {
    same(
        "collector create t --host 127.0.0.1 --hosts a.example,b.example --tls-credentials own --trust one,two --grpc-port 1 \
         --http-port 0 --mode permissive --identity /agent/relay-*=shop,pay-* --identity dns:*.legacy.example=legacy;instances=*@hall-2,a-? \
         --quota-messages 5000 --quota-bytes 8Mi --quota-streams 64 --authentication word --retention 3d --max-size 20Gi",
        r#"
kind: Collector
metadata: {name: t}
spec:
  host: 127.0.0.1
  hosts: [a.example, b.example]
  tlsCredentials: own
  trust: [one, two]
  grpc: {port: 1, mode: permissive}
  identities:
    - {identity: "/agent/relay-*", services: [shop, "pay-*"]}
    - {identity: "dns:*.legacy.example", services: [legacy], instances: ["*@hall-2", "a-?"]}
  quotas: {messagesPerSecond: 5000, bytesPerSecond: 8Mi, streams: 64}
  authentication: s3cret
  store: {retention: 3d, maxSize: 20Gi}
"#,
    );
}

#[test]
fn a_collector_that_forwards_is_declared_whole_by_options() {
    let pin = "04:67:B9:41:12:1D:CC:77:CC:CA:61:20:A5:FB:97:48:D6:55:A8:0C:60:25:4A:E7:61:7F:76:AA:CD:62:4E:2A";
    same(
        &format!(
            "collector create t --grpc-port 1 --http-port 2 --forward one:11800 --forward two:11800 --forward-protocol otlp \
             --forward-credentials away --forward-server-name oap.example --forward-pin {pin} --forward-authentication word \
             --authentication other --spool-size 20Gi --when-full drop-oldest"
        ),
        &format!(
            r#"
kind: Collector
metadata: {{name: t}}
spec:
  grpc: {{port: 1}}
  http: {{port: 2}}
  authentication: another
  forward:
    protocol: otlp
    backends: ["one:11800", "two:11800"]
    tls: {{tlsCredentials: away, serverName: oap.example, pin: ["{pin}"]}}
    authentication: s3cret
    spool: {{maxSize: 20Gi, whenFull: dropOldest}}
"#
        ),
    );
}

#[test]
fn a_relay_is_declared_whole_by_options() {
    same(
        "relay create r --service shop --backend one:11800 --backend two:11800 --grpc 127.0.0.1:1 --http 127.0.0.1:2 --unix \
         /run/shop.sock --server-name c.example --tls-credentials own --mode tls --authentication word --spool-size 1Gi \
         --when-full refuse",
        r#"
kind: Relay
metadata: {name: r}
spec:
  service: shop
  backends: ["one:11800", "two:11800"]
  listen: {grpc: "127.0.0.1:1", http: "127.0.0.1:2", unix: /run/shop.sock}
  serverName: c.example
  tlsCredentials: own
  mode: tls
  authentication: s3cret
  spool: {maxSize: 1Gi, whenFull: refuse}
"#,
    );
}

#[test]
fn what_is_not_said_is_not_written() {
    same(
        "collector create t",
        "kind: Collector\nmetadata: {name: t}\nspec: {grpc: {port: 11800}, http: {port: 12800}}\n",
    );
    same(
        "relay create r --service shop --backend one:11800",
        "kind: Relay\nmetadata: {name: r}\nspec: {service: shop, backends: [\"one:11800\"]}\n",
    );
}

#[test]
fn what_contradicts_itself_is_not_written_at_all() {
    let desk = Desk::new();
    desk.write("empty", "");
    for (options, code) in [
        ("collector create t --spool-size 1Gi", 2),
        ("collector create t --grpc-port 0 --http-port 0", 2),
        ("collector create t --forward-authentication word", 2),
        ("collector create t --forward one:1 --retention 3d", 2),
        ("collector create t --quota-messages 0", 2),
        ("collector create t --identity shop", 2),
        ("collector create t --identity /agent/a=shop;instance=a", 2),
        ("collector create t --authentication nowhere", 3),
        ("collector create t --authentication empty", 3),
        ("relay create r --service shop --backend one:1 --when-full wait", 2),
        ("relay create r --service shop --backend one:1 --authentication nowhere", 3),
    ] {
        let ran = desk.run(&format!("--home h {options}"));
        assert_eq!(ran.code, code, "{options}: {ran:?}");
        assert!(!desk.path("h").exists(), "{options}");
    }
}
