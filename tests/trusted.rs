//! Whom a collector trusts beside its own site: agents of other CAs, named in `trust`, that come and go while others
//! are connected.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use bytes::Bytes;
use handfast_pki::{
    Credential, IdentityKind, IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile, Subject,
    SystemEntropy, TrustAnchors,
};
use handfast_proto::skywalking::v3::{SegmentObject, SpanObject};
use handfast_telemetry::grpc::{Code, Status};
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::authority::{TestAuthority, site_ca};
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_tls::{ClientOptions, client_config};
use prost::Message as _;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// `west` with a collector that lets `partner` and `other` in, as far as they are there.
struct Scene {
    west: Site,
    port: u16,
    runtime: tokio::runtime::Runtime,
    place: Place,
}

impl Scene {
    fn new(trust: &str) -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.west();
        let port = free_port();
        west.declare("collector.yaml", &collector(port, trust));
        west.start();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { west, port, runtime, place }
    }

    /// Lays the certificate of a CA where it can be trusted, without its key.
    fn lay(&self, name: &str, ca: &Issuer) {
        self.west.write(&format!("input/issuers/{name}/tls.crt"), ca.certificate().to_pem());
    }

    /// What an agent has to trust to reach the collector.
    fn anchors(&self) -> TrustAnchors {
        let read =
            || std::fs::read(self.west.path("runtime/certs/handfast-collector-telemetry/ca.crt"));
        until("the collector has a certificate", || read().is_ok());
        TrustAnchors::from_pem(&read().unwrap()).unwrap()
    }

    fn caller(&self, credential: &Credential) -> Upstream {
        let options = ClientOptions { alpn: vec![b"h2".to_vec()], ..ClientOptions::default() };
        let config = client_config(Some(credential), &self.anchors(), &options).unwrap();
        let plan = UpstreamPlan {
            authentication: None,
            backends: vec![Backend { host: "localhost".to_owned(), port: self.port }],
            security: Some(Security::Tls { config, server_name: None }),
        };
        Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
    }

    fn report(&self, agent: &Upstream, service: &str) -> Result<Bytes, Status> {
        self.runtime.block_on(agent.call(SEGMENTS, &[segment(service)]))
    }

    fn refusals(&self) -> Vec<String> {
        let status = self.west.json("rollout status");
        let refusals = status["refusals"].as_array().unwrap().iter();
        refusals.map(|one| one["fault"]["code"].as_str().unwrap().to_owned()).collect()
    }
}

fn collector(port: u16, trust: &str) -> String {
    format!(
        "apiVersion: handfast.dev/v1alpha1\nkind: Collector\nmetadata: {{name: telemetry}}\nspec:\n  \
         host: 127.0.0.1\n  hosts: [localhost]\n  grpc: {{port: {port}, mode: mtls}}\n  trust: [{trust}]\n  \
         identities:\n  - identity: spiffe://partner.example/agent/*\n    services: [\"partner-*\"]\n  \
         - identity: spiffe://other.example/agent/*\n    services: [\"other-*\"]\n"
    )
}

/// An agent's credential, of one CA.
fn agent(ca: &Issuer, authority: &TestAuthority, service: &str) -> Credential {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let identity = authority.identity(IdentityKind::Agent, service);
    let subject = Subject::new(service).with_identity(identity);
    let request = IssueRequest::new(Profile::Agent, subject, key.spki_der());
    let leaf = ca.issue(&request, now(), &mut SystemEntropy).unwrap();
    Credential::new(ca.chain_for(leaf), key, ca.anchors().clone()).unwrap()
}

fn segment(service: &str) -> Bytes {
    let begin = now().as_millisecond();
    let span = SpanObject {
        parent_span_id: -1,
        start_time: begin,
        end_time: begin + 1,
        operation_name: "/".to_owned(),
        ..SpanObject::default()
    };
    let id = format!("{service}-{}", now().as_nanosecond());
    let segment = SegmentObject {
        trace_id: id.clone(),
        trace_segment_id: id,
        spans: vec![span],
        service: service.to_owned(),
        service_instance: format!("{service}-1"),
        ..SegmentObject::default()
    };
    segment.encode_to_vec().into()
}

#[test]
fn an_issuer_that_is_trusted_lets_its_own_agents_in_and_nobody_else() {
    let partner = TestAuthority::new("partner.example", now());
    // Another CA under the same root is not the one that was named.
    let sibling = site_ca(partner.root(), "another CA of the partner", now());
    let scene = Scene::new("partner");
    // Nothing fails open: without the CA that is named the port stays closed, and says so.
    until("the missing issuer is told", || {
        scene.west.run("collector status telemetry").stdout.contains("input/issuers/partner")
    });
    scene.lay("partner", partner.site_ca());
    let theirs = scene.caller(&agent(partner.site_ca(), &partner, "partner-shop"));
    until("the partner's agent comes in", || scene.report(&theirs, "partner-shop").is_ok());
    let refused = scene.report(&theirs, "shop").unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");

    let stranger = TestAuthority::new("partner.example", now());
    for (ca, authority) in [(&sibling, &partner), (stranger.site_ca(), &stranger)] {
        let caller = scene.caller(&agent(ca, authority, "partner-shop"));
        let refused = scene.report(&caller, "partner-shop").unwrap_err();
        assert_eq!(refused.code, Code::Unavailable, "{refused}");
    }
    until("the refusal is told", || scene.refusals().contains(&"unknown-issuer".to_owned()));

    // The partner's CA makes no agents of ours, whatever its certificates say.
    let ours = TestAuthority::new("demo.example", now());
    let forged = scene.caller(&agent(partner.site_ca(), &ours, "shop"));
    let refused = scene.report(&forged, "shop").unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    // Ours come in as before.
    let out = scene.place.path("shop");
    scene.west.run(&format!("agent-certs {} --service shop --hosts localhost", out.display())).ok();
    let read = |name: &str| std::fs::read(out.join(name)).unwrap();
    let shop =
        Credential::from_pem(&read("client.crt"), &read("client.pem"), &read("ca.crt"), None);
    scene.report(&scene.caller(&shop.unwrap()), "shop").unwrap();
}

#[test]
fn cas_come_and_go_while_agents_are_connected() {
    let partner = TestAuthority::new("partner.example", now());
    let (other, next) =
        (TestAuthority::new("other.example", now()), TestAuthority::new("other.example", now()));
    let scene = Scene::new("partner, other");
    scene.lay("partner", partner.site_ca());
    scene.lay("other", other.site_ca());
    let stays = scene.caller(&agent(partner.site_ca(), &partner, "partner-shop"));
    let goes = scene.caller(&agent(other.site_ca(), &other, "other-shop"));
    let comes = scene.caller(&agent(next.site_ca(), &next, "other-shop"));
    until("both are in", || {
        scene.report(&stays, "partner-shop").is_ok() && scene.report(&goes, "other-shop").is_ok()
    });
    assert!(scene.report(&comes, "other-shop").is_err(), "its CA is not there yet");
    let before = stays.status().dialled;
    let connected = || {
        let status = scene.west.json("collector status telemetry");
        status[0]["ports"][0]["connections"]["mtls"].as_u64()
    };
    assert_eq!(connected(), Some(2));

    // Broken files change nothing.
    scene.west.write("input/issuers/other/tls.crt", "nonsense");
    until("the broken file is told", || {
        scene.west.run("status").stdout.contains("input/issuers/other/tls.crt")
    });
    scene.report(&goes, "other-shop").unwrap();
    assert!(scene.report(&comes, "other-shop").is_err());

    // Another CA in its place: the connection that it would refuse is cut, the other one is left alone.
    scene.lay("other", next.site_ca());
    until("the agent of the new CA comes in", || scene.report(&comes, "other-shop").is_ok());
    until("the agent of the old CA is cut", || connected() == Some(2));
    let refused = scene.report(&goes, "other-shop").unwrap_err();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    scene.report(&stays, "partner-shop").unwrap();
    assert_eq!(stays.status().dialled, before, "its connection was left alone");

    // One CA less.
    scene.west.declare("collector.yaml", &collector(scene.port, "partner"));
    until("who is not trusted any more is cut", || connected() == Some(1));
    assert!(scene.report(&comes, "other-shop").is_err());
    scene.report(&stays, "partner-shop").unwrap();
    assert_eq!(stays.status().dialled, before, "its connection was left alone");
}
