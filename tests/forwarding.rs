//! A node that forwards to somebody else's backend over mutual TLS: what OpenTelemetry's collectors are told and by which
//! token, and what becomes of what a backend refuses for good.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use handfast_pki::{Credential, SystemEntropy};
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::skywalking::v3::SegmentObject;
use handfast_telemetry::grpc::{
    Body, Code, Coding, MESSAGE_LIMIT, Messages, Status, failed, message,
};
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::agents;
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_tls::{Attempt, ClientAuth, Floor, ServerOptions, server_config};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::Value;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// What a backend was asked.
struct Call {
    path: String,
    headers: HeaderMap,
    messages: Vec<Bytes>,
}

type Calls = Arc<Mutex<Vec<Call>>>;
type Script = Arc<dyn Fn(&Call) -> Result<Bytes, Status> + Send + Sync>;

/// A backend of somebody else's domain, that asks for a certificate of it.
struct Played {
    port: u16,
    calls: Calls,
    script: Arc<Mutex<Script>>,
}

impl Played {
    fn start(
        runtime: &tokio::runtime::Runtime,
        authority: &TestAuthority,
        script: impl Fn(&Call) -> Result<Bytes, Status> + Send + Sync + 'static,
    ) -> Self {
        let options = ServerOptions {
            alpn: vec![b"h2".to_vec()],
            client_auth: ClientAuth::Required,
            floor: Floor::Tls12,
            ..ServerOptions::default()
        };
        let server = authority.server("backend", &["localhost"]);
        let config = server_config(&server, &options).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let calls = Calls::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(script)));
        let (noted, asked) = (Arc::clone(&calls), Arc::clone(&script));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (config, noted, asked) =
                    (Arc::clone(&config), Arc::clone(&noted), Arc::clone(&asked));
                tokio::spawn(async move {
                    let attempt = Attempt::server(now());
                    let limit = Duration::from_secs(10);
                    let Ok(stream) = handfast_tls::accept(socket, config, attempt, limit).await
                    else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request| {
                        let (noted, asked) = (Arc::clone(&noted), Arc::clone(&asked));
                        async move { Ok::<_, Infallible>(answer(request, &asked, &noted).await) }
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // Whoever goes away ends it; the test looks at what was asked.
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { port, calls, script }
    }

    fn answers(&self, script: impl Fn(&Call) -> Result<Bytes, Status> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    fn each<T>(&self, read: impl Fn(&Call) -> T) -> Vec<T> {
        self.calls.lock().unwrap().iter().map(read).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    script: &Mutex<Script>,
    calls: &Mutex<Vec<Call>>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let coding = Coding::of(&parts.headers).unwrap();
    let mut body = Messages::new(body, coding, MESSAGE_LIMIT, Duration::from_secs(10));
    let mut messages = Vec::new();
    while body.next(&mut messages).await.unwrap_or_default() {}
    let call = Call { path: parts.uri.path().to_owned(), headers: parts.headers, messages };
    let script = Arc::clone(&*script.lock().unwrap());
    let answer = script(&call);
    calls.lock().unwrap().push(call);
    answer.map_or_else(|status| failed(&status), |bytes| message(&bytes))
}

/// A node with a collector that forwards.
struct Scene {
    west: Site,
    agents: u16,
    runtime: tokio::runtime::Runtime,
    _place: Place,
}

impl Scene {
    /// `forward` is what stands in the collector's `forward` besides TLS.
    fn new(
        authority: &TestAuthority,
        backend: impl FnOnce(&tokio::runtime::Runtime) -> (u16, &'static str),
    ) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (port, forward) = backend(&runtime);
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.west();
        supply(&west, "backend", &authority.client("forwarder"));
        let agents = free_port();
        west.declare(
            "collector.yaml",
            &format!(
                "apiVersion: handfast.dev/v1alpha1\nkind: Collector\nmetadata:\n  name: away\nspec:\n  host: 127.0.0.1\n  \
                 grpc:\n    port: {agents}\n    mode: plaintext\n  forward:\n    backends: [\"localhost:{port}\"]\n    \
                 tls:\n      tlsCredentials: backend\n{forward}"
            ),
        );
        west.start();
        let opens = || std::net::TcpStream::connect(("127.0.0.1", agents)).is_ok();
        until("agents may report", opens);
        Self { west, agents, runtime, _place: place }
    }

    fn report(&self, service: &str, ids: &[&str]) -> Result<Bytes, Status> {
        let plan = UpstreamPlan {
            authentication: None,
            backends: vec![Backend { host: "127.0.0.1".to_owned(), port: self.agents }],
            security: Some(Security::Plaintext),
        };
        let agent = Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy));
        let segments: Vec<Bytes> = ids.iter().map(|id| segment(service, id)).collect();
        self.runtime.block_on(agent.call(SEGMENTS, &segments))
    }

    fn forward(&self) -> Value {
        self.west.json("collector status away")[0]["forward"].clone()
    }
}

fn supply(site: &Site, name: &str, credential: &Credential) {
    let pem = credential.to_pem();
    site.write(&format!("input/certs/{name}/tls.crt"), &pem.tls_crt);
    site.write(&format!("input/certs/{name}/ca.crt"), &pem.ca_crt);
    site.write(&format!("input/certs/{name}/tls.key"), pem.tls_key.as_bytes());
    let key = site.path(&format!("input/certs/{name}/tls.key"));
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn segment(service: &str, id: &str) -> Bytes {
    agents::segment(service, id).encode_to_vec().into()
}

fn denied(why: &str) -> Status {
    Status::new(Code::PermissionDenied, why)
}

#[test]
fn a_collector_of_opentelemetry_gets_spans_over_mutual_tls_with_a_bearer_token() {
    let authority = TestAuthority::new("backend.example", now());
    let mut played = None;
    let scene = Scene::new(&authority, |runtime| {
        // As the extension `bearertokenauth` does.
        let backend = Played::start(runtime, &authority, |call| {
            match call.headers.get("authorization").map(HeaderValue::as_bytes) {
                Some(b"Bearer s3cret") => Ok(Bytes::new()),
                _ => {
                    Err(Status::new(Code::Unauthenticated, "missing or empty authorization header"))
                }
            }
        });
        let port = backend.port;
        played = Some(backend);
        (port, "    protocol: otlp\n    authentication: s3cret\n")
    });
    let played = played.unwrap();
    scene.report("shop", &["s1", "s2"]).unwrap();
    until("both were taken", || scene.forward()["sent"] == 2);
    assert!(scene.forward()["trouble"].is_null(), "{:#}", scene.forward());
    let calls =
        played.each(|call| (call.path.clone(), call.headers.contains_key("authentication")));
    assert!(calls.iter().all(|call| *call == (EXPORT.to_owned(), false)), "{calls:?}");
    let spans: usize = played
        .each(|call| {
            let export = ExportTraceServiceRequest::decode(call.messages[0].clone()).unwrap();
            let scopes = export.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            scopes.map(|scope| scope.spans.len()).sum::<usize>()
        })
        .iter()
        .sum();
    assert_eq!(spans, 2);
    // Another token is refused there, said here, and loses nothing.
    played.answers(|call| match call.headers.get("authorization").map(HeaderValue::as_bytes) {
        Some(b"Bearer another") => Ok(Bytes::new()),
        _ => Err(Status::new(Code::Unauthenticated, "scheme or token does not match")),
    });
    scene.report("shop", &["s3"]).unwrap();
    until("it is said", || {
        let trouble = scene.forward()["trouble"].as_str().unwrap_or_default().to_owned();
        trouble.contains("the token is wrong") && trouble.contains("forward.authentication")
    });
    let file = scene.west.path("input/resources/collector.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("s3cret", "another");
    std::fs::write(&file, text).unwrap();
    until("what waited was taken", || scene.forward()["sent"] == 3);
    assert!(!scene.west.log().contains("s3cret"), "a token is in the log");
}

#[test]
fn what_was_refused_for_good_is_shown_sent_again_and_thrown_away_on_record() {
    let authority = TestAuthority::new("backend.example", now());
    let mut played = None;
    let scene = Scene::new(&authority, |runtime| {
        let backend = Played::start(runtime, &authority, |call| {
            let refused = call.messages.iter().any(|message| {
                let segment = SegmentObject::decode(message.clone()).unwrap();
                segment.service == "bank" || segment.service == "mint"
            });
            if refused { Err(denied("wrong-identity: no")) } else { Ok(Bytes::new()) }
        });
        let port = backend.port;
        played = Some(backend);
        (port, "    authentication: word\n")
    });
    let (played, west) = (played.unwrap(), &scene.west);
    assert_eq!(west.run("collector aside ls away -o json").ok().json(), serde_json::json!([]));
    west.refused("collector aside ls nowhere", 11);
    west.refused("collector aside show away 1", 11);
    west.refused("collector aside retry away", 11);
    west.run("collector aside drop away").exits(2);
    west.run("collector aside ls away --kind nonsense").exits(2);
    for service in ["shop", "bank", "mint"] {
        scene.report(service, &[&format!("{service}-1"), &format!("{service}-2")]).unwrap();
    }
    until("four lie aside", || scene.forward()["aside"] == 4);
    let bank = west.json("collector aside ls away --service bank");
    let one = &bank[0];
    assert_eq!((bank.as_array().unwrap().len(), &one["kind"]), (2, &"segment".into()), "{bank:#}");
    assert_eq!(one["reason"], "PERMISSION_DENIED: wrong-identity: no");
    // As times: a fraction's last zeros are not written.
    let time = |field: &str| one[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("at") >= time("received"), "{one:#}");
    let table = west.run("collector aside ls away --limit 3").ok();
    assert!(table.stdout.contains("wrong-identity"), "{}", table.stdout);
    assert!(table.stderr.contains("showing the oldest 3") && table.stderr.contains("--after"));
    assert_eq!(west.run("collector aside ls away --limit 4").ok().stderr, "");
    let shown = west.json(&format!("collector aside show away {}", one["id"]));
    assert_eq!(shown["record"], *one);
    assert!(!shown["message"].as_str().unwrap().is_empty());
    west.run(&format!("collector aside show away {}", one["id"])).ok();
    // It may report now, and is sent by one word.
    played.answers(|_| Ok(Bytes::new()));
    assert_eq!(west.json("collector aside retry away --service bank")["records"], 2);
    until("they have arrived", || scene.forward()["sent"] == 4);
    let dropped = west.json("collector aside drop away --all");
    assert_eq!((&dropped["records"], &scene.forward()["aside"]), (&2.into(), &0.into()));
    let rows = west.json("audit list");
    let row = |action: &str, done: &str| {
        rows.as_array().unwrap().iter().any(|row| {
            let detail = row["detail"].as_str().unwrap_or_default();
            (&row["action"], &row["subject"], &row["outcome"])
                == (&action.into(), &"Collector/away".into(), &"ok".into())
                && detail.contains(done)
        })
    };
    let retried = "put back into the spool (of the services bank)";
    assert!(
        row("telemetry.retry", &format!("2 records, {} bytes {retried}", 2 * size(one))),
        "{rows:#}"
    );
    assert!(row("telemetry.drop", "2 records"), "{rows:#}");
}

fn size(line: &Value) -> u64 {
    line["bytes"].as_u64().unwrap()
}
