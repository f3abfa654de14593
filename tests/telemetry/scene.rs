//! A site with a collector and a relay before it, and agents that report.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handfast_pki::SystemEntropy;
use handfast_proto::skywalking::v3::{KeyStringValuePair, SegmentReference};
use handfast_telemetry::grpc::Status;
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::agents;
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use prost::Message as _;
use serde_json::Value;

pub(crate) const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// A site with a collector, and a relay for the agents of `shop` that reports to it.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) west: Site,
    pub(crate) collector: u16,
    pub(crate) relay: u16,
    pub(crate) metrics: u16,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Scene {
    pub(crate) fn new(mode: &str) -> Self {
        Self::around(|west, collector| {
            west.json(&format!(
                "collector create telemetry --host 127.0.0.1 --hosts localhost --grpc-port {collector} --http-port 0 --mode {mode}"
            ));
        })
    }

    /// The collector is what `collect` makes at this port.
    pub(crate) fn around(collect: impl FnOnce(&Site, u16)) -> Self {
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

    pub(crate) fn report(&self, agent: &Upstream, segments: &[Bytes]) -> Result<Bytes, Status> {
        self.runtime.block_on(agent.call(SEGMENTS, segments))
    }

    pub(crate) fn station(&self, verb: &str, name: &str) -> Value {
        let list = self.west.json(&format!("{verb} status {name}"));
        list[0].clone()
    }
}

/// An agent in the clear.
pub(crate) fn agent(port: u16) -> Upstream {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: address.ip().to_string(), port: address.port() }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
}

/// A trace of two services: the shop asks the bank.
pub(crate) fn segment(service: &str, id: &str, cause: Option<&str>) -> Bytes {
    let mut segment = agents::segment(service, id);
    let span = &mut segment.spans[0];
    span.operation_name = format!("/{service}/buy");
    span.tags = [("http.status_code", "200"), ("order", id)]
        .map(|(key, value)| KeyStringValuePair { key: key.to_owned(), value: value.to_owned() })
        .to_vec();
    if let Some(cause) = cause {
        segment.trace_id = format!("trace-{cause}");
        span.refs.push(SegmentReference {
            trace_id: format!("trace-{cause}"),
            parent_trace_segment_id: cause.to_owned(),
            parent_span_id: 0,
            parent_service: "shop".to_owned(),
            ..SegmentReference::default()
        });
    }
    segment.encode_to_vec().into()
}

/// An agent of HTTP, in the clear, that says its version: what comes back, nothing if it is cut off.
pub(crate) fn hand_over(port: u16, service: &str, id: &str) -> String {
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
pub(crate) fn scrape(port: u16) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    page
}

/// Reports segment after segment, until told to end; knows which were acknowledged.
pub(crate) struct Reporter {
    ending: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Reporter {
    pub(crate) fn start(scene: &Scene, prefix: &'static str) -> Self {
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

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) fn more(&self, what: &str) {
        let before = self.acknowledged();
        until(what, || self.acknowledged() > before + 20);
    }

    pub(crate) fn end(self, scene: &Scene) -> Vec<String> {
        self.ending.store(true, Ordering::Relaxed);
        scene.runtime.block_on(self.task).unwrap()
    }
}

/// Every acknowledged segment is there, and once.
pub(crate) fn all_there_once(scene: &Scene, acknowledged: &[String]) {
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

/// A process that ends with the test.
pub(crate) struct Killed(pub(crate) std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
