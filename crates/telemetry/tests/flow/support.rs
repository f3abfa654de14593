//! A place with a certificate authority, in which collectors and relays are started and agents played.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use handfast_pki::{Credential, IdentityKind, Profile, Subject, SystemEntropy};
use handfast_proto::skywalking::v3::{SegmentObject, SpanObject};
use handfast_telemetry::caller::OwnDomain;
use handfast_telemetry::desk::{Denial, DeskPlan};
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::{Code, Status};
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::{Mode, Place, PortTls, Protection, Protocol};
use handfast_telemetry::station::{Output, PortPlan, Station, StationPlan};
use handfast_telemetry::upstream::{Backend, Clock, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::authority::TestAuthority;
use handfast_tls::{
    ClientAuth, ClientOptions, Floor, RevocationCheck, Revocations, ServerOptions, client_config,
    server_config,
};
use prost::Message as _;
use rustls::ClientConfig;

pub(crate) const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

pub(crate) struct Scene {
    pub(crate) authority: TestAuthority,
    pub(crate) revocations: Revocations,
    pub(crate) denials: Arc<Mutex<Vec<Denial>>>,
    directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            authority: TestAuthority::new("shop.example", handfast_testkit::eventually::now()),
            revocations: Revocations::new(),
            denials: Arc::default(),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A credential of the agent of a service.
    pub(crate) fn agent(&self, service: &str) -> Credential {
        let identity = self.authority.identity(IdentityKind::Agent, service);
        self.authority.issue(Profile::Agent, Subject::new(service).with_identity(identity))
    }

    pub(crate) fn client(&self, credential: Option<&Credential>) -> Arc<ClientConfig> {
        let options =
            ClientOptions { alpn: vec![b"h2".to_vec()], floor: Floor::Tls12, ..Default::default() };
        client_config(credential, &self.authority.anchors(), &options).expect("a configuration")
    }

    pub(crate) fn protection(&self, mode: Mode) -> Protection {
        let client_auth = match mode {
            Mode::Mtls => ClientAuth::Required,
            _ => ClientAuth::Optional,
        };
        let options = ServerOptions {
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            client_auth,
            floor: Floor::Tls12,
            revocation: RevocationCheck::by(self.revocations.clone()),
            ..ServerOptions::default()
        };
        let server = self.authority.server("west", &["localhost", "127.0.0.1"]);
        let tls = PortTls {
            config: server_config(&server, &options).expect("a configuration"),
            anchors: self.authority.anchors(),
            own: Some(OwnDomain {
                trust_domain: self.authority.trust_domain().clone(),
                anchors: self.authority.anchors(),
            }),
        };
        Protection { mode, tls: Some(tls) }
    }

    pub(crate) fn keep(&self, name: &str) -> Output {
        Output::Keep {
            directory: self.path(name),
            settings: handfast_telemetry::keep::KeepSettings::default(),
        }
    }

    /// One port, in a mode.
    pub(crate) fn plan(&self, name: &str, mode: Mode, output: Output) -> StationPlan {
        let place = Place::Tcp(([127, 0, 0, 1], 0).into());
        let port = |protocol| PortPlan {
            place: place.clone(),
            protection: self.protection(mode),
            protocol,
        };
        let ports = BTreeMap::from([
            ("grpc".to_owned(), port(Protocol::Grpc)),
            ("http".to_owned(), port(Protocol::Http)),
        ]);
        StationPlan { desk: DeskPlan::default(), name: name.to_owned(), output, ports }
    }

    /// Lets clients of another CA in at every port.
    pub(crate) fn trust_too(&self, plan: &mut StationPlan, other: &TestAuthority) {
        let both = other
            .anchors()
            .iter()
            .fold(self.authority.anchors(), |all, anchor| all.with(anchor.clone()));
        let options = ServerOptions {
            alpn: vec![b"h2".to_vec()],
            revocation: RevocationCheck::by(self.revocations.clone()),
            trust: Some(both.clone()),
            ..ServerOptions::default()
        };
        let server = self.authority.server("west", &["localhost", "127.0.0.1"]);
        for port in plan.ports.values_mut() {
            let tls = port.protection.tls.as_mut().expect("TLS");
            tls.config = server_config(&server, &options).expect("a configuration");
            tls.anchors = both.clone();
        }
    }

    pub(crate) fn start(&self, plan: StationPlan) -> Station {
        let denials = Arc::clone(&self.denials);
        let witness = Arc::new(move |denial| denials.lock().expect("no panic").push(denial));
        let (station, faults) =
            Station::start(plan, self.revocations.clone(), clock(), dice(), witness)
                .expect("a station");
        assert!(faults.is_empty(), "{faults:?}");
        station
    }

    pub(crate) fn collector(&self, mode: Mode) -> Station {
        self.start(self.plan("collector", mode, self.keep("collector")))
    }

    /// A relay in the clear, towards `collector`, with the certificate of `service`'s agent.
    pub(crate) fn relay(&self, collector: SocketAddr, service: &str) -> Station {
        let upstream = self.upstream_plan(collector, Some(&self.agent(service)));
        let output = Output::Forward {
            dialect: Dialect::SkyWalking,
            directory: self.path("relay"),
            spool: JournalSettings::default(),
            upstream,
        };
        self.start(self.plan("relay", Mode::Plaintext, output))
    }

    /// Towards backends that speak OpenTelemetry.
    pub(crate) fn forward_otlp(&self, upstream: UpstreamPlan) -> Output {
        Output::Forward {
            dialect: Dialect::Otlp,
            directory: self.path("forward"),
            spool: JournalSettings::default(),
            upstream,
        }
    }

    /// Towards backends that speak what agents of SkyWalking do.
    pub(crate) fn forward(&self, upstream: UpstreamPlan) -> Output {
        Output::Forward {
            dialect: Dialect::SkyWalking,
            directory: self.path("forward"),
            spool: JournalSettings::default(),
            upstream,
        }
    }

    pub(crate) fn plain_upstream(to: &[SocketAddr]) -> UpstreamPlan {
        let backend = |to: &SocketAddr| Backend { host: to.ip().to_string(), port: to.port() };
        UpstreamPlan {
            authentication: None,
            backends: to.iter().map(backend).collect(),
            security: Some(Security::Plaintext),
        }
    }

    pub(crate) fn upstream_plan(
        &self,
        to: SocketAddr,
        credential: Option<&Credential>,
    ) -> UpstreamPlan {
        UpstreamPlan {
            authentication: None,
            backends: vec![Backend { host: "localhost".to_owned(), port: to.port() }],
            security: Some(Security::Tls { config: self.client(credential), server_name: None }),
        }
    }

    /// An agent with a certificate, or over TLS without one.
    pub(crate) fn caller(&self, to: SocketAddr, credential: Option<&Credential>) -> Upstream {
        Upstream::new(self.upstream_plan(to, credential), clock(), dice())
    }
}

/// An agent without TLS.
pub(crate) fn plain_caller(to: SocketAddr) -> Upstream {
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: to.ip().to_string(), port: to.port() }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, clock(), dice())
}

pub(crate) fn clock() -> Clock {
    Arc::new(handfast_testkit::eventually::now)
}

pub(crate) fn dice() -> Dice {
    Dice::new(SystemEntropy)
}

pub(crate) fn grpc(station: &Station) -> SocketAddr {
    station.address("grpc").expect("a port")
}

pub(crate) fn http(station: &Station) -> SocketAddr {
    station.address("http").expect("a port")
}

/// A segment of a service, with an id that is unique to the test.
pub(crate) fn segment(service: &str, id: &str) -> Bytes {
    let span = SpanObject {
        span_id: 0,
        parent_span_id: -1,
        start_time: just_now(),
        end_time: just_now() + 10,
        operation_name: "/buy".to_owned(),
        ..Default::default()
    };
    let segment = SegmentObject {
        trace_id: format!("trace-{id}"),
        trace_segment_id: id.to_owned(),
        spans: vec![span],
        service: service.to_owned(),
        service_instance: format!("{service}-1"),
        ..Default::default()
    };
    segment.encode_to_vec().into()
}

/// When all segments begin, in milliseconds since 1970: young enough to be shown by a store, and the same throughout.
fn just_now() -> i64 {
    static NOW: OnceLock<i64> = OnceLock::new();
    *NOW.get_or_init(|| handfast_testkit::eventually::now().as_millisecond())
}

pub(crate) async fn report(caller: &Upstream, segments: &[Bytes]) -> Result<Bytes, Status> {
    caller.call(SEGMENTS, segments).await
}

/// What somebody is refused with whose connection was just cut. While its own end has not come to know that, it hears only
/// that the connection is lost; it is never taken.
pub(crate) async fn refused_anew(caller: &Upstream, message: &Bytes) -> Status {
    let refusing = async {
        loop {
            let refused = report(caller, std::slice::from_ref(message)).await;
            let refused = refused.expect_err("it is taken");
            if refused.code != Code::Unavailable {
                return refused;
            }
            tokio::time::sleep(STEP).await;
        }
    };
    tokio::time::timeout(LIMIT, refusing).await.expect("it is refused by whoever judges it")
}

pub(crate) fn accepted(station: &Station, kind: &str) -> u64 {
    station.status().counted.accepted.get(kind).copied().unwrap_or_default()
}

/// Waits for a condition without holding up the runtime.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(STEP).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "never happened: {what}");
}

/// Nothing takes longer on a machine that works.
const LIMIT: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);
