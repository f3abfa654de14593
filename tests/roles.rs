//! Every route of the admin API by every role, at the admin port of a real node, with certificates of operators.
//! A route of the document that has no entry here fails the test.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::Credential;
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_tls::{Attempt, ClientOptions, client_config};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ROLES: [&str; 6] = ["auditor", "issuer", "operator", "security-admin", "viewer", "nobody"];

/// Who reads what is no secret: everybody with a role.
const VIEW: &[&str] = &["auditor", "issuer", "operator", "security-admin", "viewer"];
const AUDIT: &[&str] = &["auditor", "security-admin"];
const OPERATE: &[&str] = &["operator", "security-admin"];
const SECURE: &[&str] = &["security-admin"];
/// Within its bounds.
const ISSUE: &[&str] = &["issuer", "security-admin"];

/// A request, and who may make it. What is asked for is not there where it would change something: being allowed
/// shows in another answer than 403.
struct Entry(&'static str, &'static str, &'static str, &'static [&'static str]);

const TABLE: &[Entry] = &[
    Entry("GET", "/v1/approvals", "", VIEW),
    Entry("POST", "/v1/approvals", r#"{"id":"nothing"}"#, SECURE),
    Entry("GET", "/v1/aside?station=Collector/nothing", "", VIEW),
    Entry("GET", "/v1/aside/record?station=Collector/nothing&id=1", "", VIEW),
    Entry("POST", "/v1/aside/drops", ASIDE, OPERATE),
    Entry("POST", "/v1/aside/retries", ASIDE, OPERATE),
    Entry("GET", "/v1/audit", "", AUDIT),
    Entry("GET", "/v1/audit/export", "", AUDIT),
    Entry("GET", "/v1/audit/verification", "", AUDIT),
    Entry("GET", "/v1/authorities", "", VIEW),
    Entry("POST", "/v1/authorities/certificates", r#"{"certificates":"nothing"}"#, SECURE),
    Entry("POST", "/v1/authorities/protection", r#"{"keys":"off"}"#, SECURE),
    Entry("POST", "/v1/authorities/requests", r#"{"names":["nothing"]}"#, SECURE),
    Entry("GET", "/v1/certificates", "", VIEW),
    Entry("POST", "/v1/certificates", WEB, ISSUE),
    Entry("POST", "/v1/certificates", DATABASE, SECURE),
    Entry("POST", "/v1/certificates", OPERATOR, SECURE),
    Entry("GET", "/v1/connectors", "", VIEW),
    Entry("GET", "/v1/credentials", "", VIEW),
    Entry("GET", "/v1/endpoints?service=shop", "", VIEW),
    Entry("POST", "/v1/exports", r#"{"name":"nothing","what":"a test","privateKey":true}"#, SECURE),
    Entry("GET", "/v1/events", "", VIEW),
    Entry("GET", "/v1/faults", "", VIEW),
    Entry("GET", "/v1/instances?service=shop", "", VIEW),
    Entry("GET", "/v1/links", "", VIEW),
    Entry("GET", "/v1/listeners", "", VIEW),
    Entry("GET", "/v1/logs", "", VIEW),
    Entry("GET", "/v1/metrics?service=shop", "", VIEW),
    Entry("GET", "/v1/metrics/newest", "", VIEW),
    Entry("GET", "/v1/openapi.json", "", VIEW),
    Entry("GET", "/v1/policies", "", VIEW),
    Entry("GET", "/v1/policies/test?principal=uid:0&action=link.list", "", VIEW),
    Entry("POST", "/v1/redemptions", REDEMPTION, OPERATE),
    Entry("POST", "/v1/renewals", r#"{"names":["nothing"]}"#, OPERATE),
    Entry("GET", "/v1/revocations", "", VIEW),
    Entry("POST", "/v1/revocations", r#"{"serial":"00ff","reason":"superseded"}"#, SECURE),
    Entry("POST", "/v1/rollbacks", r#"{"authority":"nothing","reason":"a test"}"#, SECURE),
    Entry("POST", "/v1/rotations", r#"{"authority":"nothing"}"#, SECURE),
    Entry("GET", "/v1/services", "", VIEW),
    Entry("GET", "/v1/status", "", VIEW),
    Entry("POST", "/v1/taints", r#"{"authority":"nothing","reason":"a test"}"#, SECURE),
    Entry("GET", "/v1/telemetry", "", VIEW),
    Entry("GET", "/v1/telemetry/reporters?mode=mtls&heardWithin=7d", "", VIEW),
    Entry("POST", "/v1/tokens", "{}", OPERATE),
    Entry("GET", "/v1/trace?id=nothing", "", VIEW),
    Entry("GET", "/v1/traces", "", VIEW),
];

const ASIDE: &str = r#"{"station":"Collector/nothing"}"#;
const WEB: &str =
    r#"{"profile":"component","identity":"spiffe://demo.example/component/web-1","csr":"none"}"#;
const DATABASE: &str =
    r#"{"profile":"component","identity":"spiffe://demo.example/component/db","csr":"none"}"#;
const OPERATOR: &str =
    r#"{"profile":"operator","identity":"spiffe://demo.example/operator/web-1","csr":"none"}"#;
const REDEMPTION: &str =
    r#"{"name":"t","url":"https://127.0.0.1:1","code":"nothing","ca":"none","linkCost":1}"#;

/// `west` with an operator for each role, and a collector that keeps what it takes.
struct Desk {
    place: Place,
    west: Site,
    port: u16,
    clients: BTreeMap<&'static str, Arc<ClientConfig>>,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    fn new() -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.site("west");
        let port = free_port();
        let site = format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {{name: west}}\n\
             spec: {{settings: {{trust-domain: demo.example, admin-port: \"{port}\"}}}}\n"
        );
        west.declare("site.yaml", &site);
        let policies = ROLES.iter().filter(|role| **role != "nobody").map(|role| {
            let bounds = if *role == "issuer" {
                "identities: [\"spiffe://demo.example/*/web-*\"]"
            } else {
                ""
            };
            format!(
                "---\napiVersion: handfast.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {role}s}}\n\
                 spec:\n  role: {role}\n  operators: [{role}]\n  {bounds}\n"
            )
        });
        west.declare("roles.yaml", &policies.collect::<String>());
        west.start();
        west.json(&format!(
            "collector create telemetry --host 127.0.0.1 --hosts localhost --grpc-port {} --http-port 0",
            free_port()
        ));
        let mut clients = BTreeMap::new();
        for role in ROLES {
            let out = place.path(role);
            let line =
                format!("cert issue --profile operator --name {role} --out {}", out.display());
            west.json(&line);
            let read = |name: &str| fs::read(out.join(name)).unwrap();
            let (chain, key, ca) = (read("tls.crt"), read("tls.key"), read("ca.crt"));
            let credential = Credential::from_pem(&chain, &key, &ca, None).unwrap();
            let options =
                ClientOptions { alpn: vec![b"http/1.1".to_vec()], ..ClientOptions::default() };
            let config = client_config(Some(&credential), credential.anchors(), &options).unwrap();
            clients.insert(role, config);
        }
        until("the admin port is open", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { place, west, port, clients, runtime }
    }

    /// Makes a request as the operator of a role; the status and the body of the answer.
    fn ask(&self, role: &str, Entry(method, path, body, _): &Entry) -> (u16, String) {
        self.runtime.block_on(async {
            let socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            let config = Arc::clone(&self.clients[role]);
            let attempt = Attempt::client("127.0.0.1", now());
            let mut stream = handfast_tls::connect(socket, config, "127.0.0.1", attempt, PATIENCE)
                .await
                .unwrap();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: west\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
            (status.unwrap_or_else(|| panic!("{role} {method} {path}: {answer:?}")), answer)
        })
    }
}

#[test]
fn every_route_is_open_to_the_roles_that_it_is_meant_for_and_to_nobody_else() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let document: Value = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
    let mut actions = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let action = operation["x-action"].as_str().unwrap().to_owned();
            actions.insert((method.to_uppercase(), path.clone()), action);
        }
    }
    let route = |entry: &Entry| {
        let path = entry.1.split('?').next().unwrap_or_default();
        (entry.0.to_owned(), path.to_owned())
    };
    let listed: BTreeSet<_> = TABLE.iter().map(route).collect();
    assert_eq!(
        listed,
        actions.keys().cloned().collect(),
        "every route, and no other, has an entry"
    );

    let desk = Desk::new();
    let mut denied = BTreeSet::new();
    for entry in TABLE {
        let Entry(method, path, body, allowed) = entry;
        for role in ROLES {
            let (status, answer) = desk.ask(role, entry);
            let may = allowed.contains(&role);
            assert_eq!(status != 403, may, "{role} {method} {path} {body}: {answer}");
            // A body that is not understood would be refused before anybody is asked about.
            assert!(!answer.contains("cannot be read"), "{method} {path}: {answer}");
            assert_ne!(status, 405, "{method} {path}");
            let absent = ["/v1/trace?", "/v1/aside?", "/v1/aside/record?"]
                .iter()
                .any(|one| path.starts_with(one));
            if *method == "GET" && may && !absent {
                assert_eq!(status, 200, "{role} {path}: {answer}");
            }
            if !may {
                let actor = format!("spiffe://demo.example/operator/{role}");
                denied.insert((actor, actions[&route(entry)].clone()));
            }
        }
    }
    // Each of those denials is on record, with who it was and what it was about.
    let rows = desk.west.json("audit list --outcome denied --limit 1000");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let told: BTreeSet<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(row, "actor"), text(row, "action")))
        .collect();
    assert_eq!(denied.difference(&told).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

/// Enforcing writes a file of the home, so nobody does it from elsewhere, whatever his role.
#[test]
fn modes_are_changed_at_the_node_and_by_nobody_elsewhere() {
    let desk = Desk::new();
    for role in ROLES {
        let line = format!(
            "--node https://127.0.0.1:{} --client-cert {} rollout enforce telemetry --to plaintext -o json",
            desk.port,
            desk.place.path(role).display()
        );
        let error = desk.place.run(&line).exits(2).error();
        assert!(error["what"].as_str().unwrap().contains("a home of this machine"), "{error:#}");
    }
    let file = fs::read_to_string(desk.west.path("input/resources/Collector-telemetry.yaml"));
    assert!(!file.unwrap().contains("plaintext"));
    let read = |role: &str, line: &str| {
        let place = desk.place.path(role);
        let node = format!("--node https://127.0.0.1:{}", desk.port);
        desk.place.run(&format!("{node} --client-cert {} {line}", place.display()))
    };
    for line in ["rollout status", "trace ls", "log ls", "service ls", "collector status telemetry"]
    {
        read("viewer", line).ok();
        read("nobody", line).exits(5);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
