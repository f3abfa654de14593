//! The probe sees everything about a server, refused or not; the impostor is refused by everything
//! sound and tells how.

use std::time::Duration;

use handfast_tls::probe::{Impostor, Material, Probe};
use handfast_tls::{Attempt, ClientOptions, FaultCode, probe};

use crate::forge::{Ca, Domain, LIMIT, Leaf, now};
use crate::meeting::{link_alpn, link_client, listen, open_client, serve, serving};

/// Probes a sound server of `domain`.
async fn probe_of(
    domain: &Domain,
    prepare: impl FnOnce(&mut Probe<'_>),
    material: Option<&Material>,
    trust: bool,
) -> probe::Report {
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let server = serving(&domain.server());
    let accepting = async move {
        let (socket, _) = listener.accept().await.expect("accept");
        serve(socket, server, Attempt::server(now())).await
    };
    let anchors = domain.anchors();
    let mut probe = Probe::new("127.0.0.1", addr.port(), trust.then_some(&anchors));
    (probe.options, probe.presents) = (open_client(), material);
    (probe.limit, probe.settle) = (LIMIT, LIMIT);
    prepare(&mut probe);
    // The server's view is not the matter here.
    let (_, report) = tokio::join!(accepting, probe::connect(&probe, now()));
    report
}

#[tokio::test]
async fn a_sound_server_is_reported_whole() {
    let domain = Domain::new();
    let east = Material::of(&domain.client()).expect("key");
    let report = probe_of(&domain, |_| (), Some(&east), true).await;
    let report = report.into_result().expect("sound");
    assert_eq!(report.peer.expect("server").label(), "spiffe://demo.example/site/west");
    assert_eq!(report.session.expect("session").group, "X25519MLKEM768");
    assert_eq!(report.chain.len(), 2);
    assert_eq!(report.chain[1].subject(), "CN=handfast-site-ca");
    assert!(report.addr.is_some() && report.took > Duration::ZERO);
}

#[tokio::test]
async fn a_refused_server_is_reported_with_its_chain() {
    let domain = Domain::new();
    let report = probe_of(&domain, |probe| probe.name = "other.example", None, true).await;
    assert_eq!(report.fault.as_ref().expect("refused").code(), FaultCode::WrongName);
    assert_eq!(report.chain.len(), 2);
    assert!(report.session.is_none() && report.peer.is_none());
}

#[tokio::test]
async fn a_refusal_of_our_certificate_is_waited_for() {
    let domain = Domain::new();
    let report = probe_of(&domain, |_| (), None, true).await;
    assert_eq!(report.fault.as_ref().expect("refused").code(), FaultCode::NoCertificate);
    assert!(report.session.is_some(), "our own side was done");
    let stranger = Ca::root("stranger").issue(&Leaf::client("east")).material();
    let report = probe_of(&domain, |_| (), Some(&stranger), true).await;
    assert_eq!(report.fault.expect("refused").code(), FaultCode::UnknownIssuer);
}

#[tokio::test]
async fn without_anchors_any_chain_is_shown() {
    let domain = Domain::new();
    let east = Material::of(&domain.client()).expect("key");
    let report = probe_of(&domain, |probe| probe.name = "whoever", Some(&east), false).await;
    let report = report.into_result().expect("nothing was judged");
    assert_eq!(report.chain.len(), 2);
}

#[tokio::test]
async fn a_probe_is_bounded_in_time_and_says_what_is_missing() {
    let listener = listen().await;
    let port = listener.local_addr().expect("bound").port();
    let anchors = Domain::new().anchors();
    let mut probe = Probe::new("127.0.0.1", port, Some(&anchors));
    probe.limit = Duration::from_millis(100);
    let report = probe::connect(&probe, now()).await;
    assert_eq!(report.fault.expect("silent").code(), FaultCode::TimedOut);
    drop(listener);
    let report = probe::connect(&probe, now()).await;
    assert_eq!(report.fault.expect("gone").code(), FaultCode::Unreachable);
    let mut probe = Probe::new("no such host", 1, Some(&anchors));
    probe.name = "localhost";
    let report = probe::connect(&probe, now()).await;
    assert_eq!(report.fault.expect("no host").code(), FaultCode::HostNotFound);
}

#[tokio::test]
async fn an_impostor_is_refused_by_a_sound_client_and_welcomed_by_a_careless_one() {
    let domain = Domain::new();
    let stranger = Ca::root("stranger").issue(&Leaf::server("west"));
    let any = "127.0.0.1:0".parse().expect("address");
    let impostor =
        Impostor::bind(any, &stranger.material(), link_alpn(), now()).await.expect("bound");
    let port = impostor.local_addr().expect("bound").port();
    let taken = impostor.local_addr().expect("bound");
    let fault =
        Impostor::bind(taken, &stranger.material(), vec![], now()).await.expect_err("taken");
    assert_eq!(fault.code(), FaultCode::PortInUse, "{fault}");

    let anchors = domain.anchors();
    let mut sound = Probe::new("127.0.0.1", port, Some(&anchors));
    sound.options = link_client();
    let mut careless = Probe::new("127.0.0.1", port, None);
    careless.options = ClientOptions { ..open_client() };
    careless.settle = Duration::ZERO;
    let (outcomes, reports) = tokio::join!(impostor.serve(2, LIMIT, now()), async {
        (probe::connect(&sound, now()).await, probe::connect(&careless, now()).await)
    });
    let refused = outcomes[0].as_ref().expect_err("refused");
    assert_eq!(refused.code(), FaultCode::UnknownIssuer, "{refused}");
    let welcome = outcomes[1].as_ref().expect("welcomed");
    assert_eq!(welcome.session.version, "TLSv1.3");
    assert!(welcome.peer.is_none());
    assert_eq!(reports.0.fault.expect("refused").code(), FaultCode::UnknownIssuer);
    assert!(reports.1.fault.is_none());
}
