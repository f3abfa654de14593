//! Two sites: east enrols with west, and west renews what it signed for east.

use handfast_authority::{
    CredentialState, EnrolmentAnswer, EnrolmentError, GrantOptions, ProblemCode, RenewRefusal,
    Renewed, Selection,
};
use handfast_pki::{Certificate, Purpose, SpiffeId, TrustAnchors, verify_chain};
use handfast_store::{AuditRange, CredentialStore, Kind, Ledger};
use handfast_testkit::authority::TestAuthority;

use crate::site::{Applicant, Site, answer, name, start, state};

const LINK: &str = "link-west";

/// West and an east that is linked to it.
fn linked() -> (Site, Site) {
    let west = Site::new("west");
    west.settled();
    let mut east = Site::edge("east");
    east.settled();
    enrol(&west, &east);
    east.link(LINK);
    let report = east.settled();
    assert_eq!(state(&report, LINK), CredentialState::Ready);
    (west, east)
}

fn enrol(west: &Site, east: &Site) {
    let anchors = west.authority.trust_anchors().unwrap();
    let request = east
        .authority
        .begin_enrolment(&name(LINK), &name(LINK), &name("east"), &anchors, east.now)
        .unwrap();
    let bundle = west.enrol(&GrantOptions::default(), &Applicant::of("east", &request));
    east.authority.complete(&name(LINK), answer(&bundle), east.now).unwrap();
}

fn pass(seconds: i64, west: &mut Site, east: &mut Site) {
    west.pass(seconds);
    east.pass(seconds);
}

fn identity() -> SpiffeId {
    "spiffe://demo.example/site/east".parse().unwrap()
}

fn renew(west: &Site, csr_pem: &str) -> Result<Renewed, RenewRefusal> {
    west.authority.renew_for_peer(&identity(), csr_pem.as_bytes(), west.now)
}

fn taken(renewed: Renewed) -> EnrolmentAnswer {
    EnrolmentAnswer { chain: renewed.chain, anchors: Some(renewed.anchors) }
}

fn leaf(site: &Site) -> Certificate {
    site.live(LINK).leaf().clone()
}

#[test]
fn a_link_credential_is_enrolled_and_then_renewed_over_the_link() {
    let (mut west, mut east) = linked();
    let first = leaf(&east);
    assert_eq!(first.spiffe_id().unwrap(), Some(identity()));

    pass(18 * 3600, &mut west, &mut east);
    west.settled();
    let report = east.settled();
    assert_eq!(report.waiting.len(), 1);
    assert_eq!(state(&report, LINK), CredentialState::Renewing);
    let request = &report.waiting[0];
    assert_eq!((request.link.as_str(), request.send_at), (LINK, east.now));
    assert_eq!(leaf(&east), first, "the old one serves meanwhile");

    let renewed = renew(&west, &request.csr_pem).unwrap();
    assert!(east.authority.still_waits(request).unwrap());
    east.authority.complete(&name(LINK), taken(renewed), east.now).unwrap();
    assert!(!east.authority.still_waits(request).unwrap(), "not asked again by an old report");
    let report = east.settled();
    assert!(report.changed.iter().any(|change| change.name == name(LINK)));
    assert!(report.waiting.is_empty());
    let second = leaf(&east);
    assert_eq!(second.spiffe_id().unwrap(), Some(identity()));
    assert_ne!(second.spki_der(), first.spki_der(), "a new key each time");
    let live = east.live(LINK);
    verify_chain(live.chain(), live.anchors(), Purpose::Client, east.now).unwrap();

    // Recorded at west before it was answered, in the same enrolment.
    let audit = west.authority.ledger().audit_rows(&AuditRange::after(0, 1000)).unwrap();
    let row = audit.iter().find(|row| row.row.action == "certificate.renew").unwrap();
    assert_eq!(row.row.actor, identity().to_string());
    assert!(row.row.detail.contains(&second.serial().to_string()), "{row:?}");
}

#[test]
fn a_lost_answer_is_had_again_even_after_both_were_killed() {
    let (mut west, mut east) = linked();
    pass(18 * 3600, &mut west, &mut east);
    west.settled();
    let request = east.settled().waiting.remove(0);
    let lost = renew(&west, &request.csr_pem).unwrap();
    let issued = west.issued();

    let (west, east) = (west.restarted(), east.restarted());
    west.settled();
    let again = east.settled().waiting.remove(0);
    assert_eq!(again.csr_pem, request.csr_pem);
    assert!(east.authority.still_waits(&request).unwrap());
    let renewed = renew(&west, &again.csr_pem).unwrap();
    assert_eq!(renewed.chain.to_pem(), lost.chain.to_pem());
    assert_eq!(west.issued(), issued, "the same key gets the same certificate");
    east.authority.complete(&name(LINK), taken(renewed.clone()), east.now).unwrap();
    // Killed before it was put to use: found again, and put to use.
    let east = east.restarted();
    east.settled();
    assert_eq!(leaf(&east), *renewed.chain.leaf());
    // The same answer once more changes nothing.
    east.authority.complete(&name(LINK), taken(renewed), east.now).unwrap();
    assert!(east.settled().changed.is_empty());
}

#[test]
fn an_answer_from_before_west_renewed_its_ca_is_repeated_whole() {
    let (mut west, mut east) = linked();
    pass(18 * 3600, &mut west, &mut east);
    west.settled();
    let request = east.settled().waiting.remove(0);
    let lost = renew(&west, &request.csr_pem).unwrap();
    let ca = Selection::Named(vec![name("handfast-site-ca")]);
    west.authority.renew_now(&west.declared, &ca, west.now).unwrap();
    let again = renew(&west, &request.csr_pem).unwrap();
    assert_eq!(again.chain.to_pem(), lost.chain.to_pem());
    east.authority.complete(&name(LINK), taken(again), east.now).unwrap();
    east.settled();
}

#[test]
fn an_interrupted_redemption_goes_on_with_the_same_key() {
    let west = Site::new("west");
    west.settled();
    let east = Site::edge("east");
    east.settled();
    let anchors = west.authority.trust_anchors().unwrap();
    let begin = |east: &Site| {
        east.authority
            .begin_enrolment(&name(LINK), &name(LINK), &name("east"), &anchors, east.now)
            .unwrap()
    };
    let (grant, code) = west.authority.issue_grant(&GrantOptions::default(), west.now).unwrap();
    let request = begin(&east);
    let lost =
        west.redeem(grant.id.as_str(), code.expose(), &Applicant::of("east", &request)).unwrap();

    let east = east.restarted();
    east.settled();
    let again = begin(&east);
    assert_eq!(again.key_id, request.key_id);
    let bundle =
        west.redeem(grant.id.as_str(), code.expose(), &Applicant::of("east", &again)).unwrap();
    assert_eq!(bundle, lost);
    east.authority.complete(&name(LINK), answer(&bundle), east.now).unwrap();

    // Killed before the link was declared: the token is redeemed a third time.
    let mut east = east.restarted();
    let third = begin(&east);
    assert_eq!(third.key_id, request.key_id);
    let bundle =
        west.redeem(grant.id.as_str(), code.expose(), &Applicant::of("east", &third)).unwrap();
    east.authority.complete(&name(LINK), answer(&bundle), east.now).unwrap();
    east.link(LINK);
    east.settled();
    assert_eq!(leaf(&east), *crate::site::chain(&lost).leaf());
}

#[test]
fn a_link_without_credential_says_what_to_do() {
    let mut east = Site::edge("east");
    east.link(LINK);
    let report = east.reconcile();
    assert_eq!(state(&report, LINK), CredentialState::Pending);
    let problem = &report.problems[0];
    assert_eq!(problem.code, ProblemCode::CredentialMissing);
    assert_eq!(problem.resource.as_ref().unwrap().to_string(), format!("Link/{LINK}"));
    assert!(problem.remedy.contains("handfast token redeem"), "{problem}");
    assert!(report.waiting.is_empty());
}

#[test]
fn answers_that_do_not_fit_are_refused_and_the_request_stays() {
    let (mut west, mut east) = linked();
    pass(18 * 3600, &mut west, &mut east);
    west.settled();
    let request = east.settled().waiting.remove(0);
    let refuse = |answer: EnrolmentAnswer| {
        east.authority.complete(&name(LINK), answer, east.now).unwrap_err()
    };

    // Another CA, though it signs the right name.
    let stranger = TestAuthority::new("demo.example", start());
    let forged = stranger.client("east");
    let refused = refuse(EnrolmentAnswer {
        chain: forged.chain().clone(),
        anchors: Some(forged.anchors().clone()),
    });
    assert!(matches!(refused, EnrolmentError::Chain { .. }), "{refused}");
    // The right CA, but another site.
    let north = west.enrol(&GrantOptions::default(), &Applicant::new("north"));
    let refused = refuse(answer(&north));
    assert!(matches!(refused, EnrolmentError::Identity { .. }), "{refused}");
    assert!(refused.to_string().contains("site/north"), "{refused}");
    // The right site, but another key.
    let other = Applicant::new("east");
    let renewed = west.authority.renew_for_peer(&identity(), &other.csr, west.now).unwrap();
    let refused = refuse(taken(renewed));
    assert!(matches!(refused, EnrolmentError::Credential { .. }), "{refused}");
    // A server certificate.
    let server = west.live("handfast-site-server");
    let refused = refuse(EnrolmentAnswer { chain: server.chain().clone(), anchors: None });
    assert!(matches!(refused, EnrolmentError::Chain { .. }), "{refused}");

    assert_eq!(east.settled().waiting.remove(0).csr_pem, request.csr_pem);
    let renewed = renew(&west, &request.csr_pem).unwrap();
    // Anchors that nobody trusts yet are not taken from an answer.
    let greedy = EnrolmentAnswer { chain: renewed.chain, anchors: Some(stranger.anchors()) };
    east.authority.complete(&name(LINK), greedy, east.now).unwrap();
    east.settled();
    assert_eq!(anchors_of(&east), west.authority.trust_anchors().unwrap().to_pem());
    let refused = refuse(answer(&north));
    assert!(matches!(refused, EnrolmentError::NotPending { .. }), "{refused}");
}

fn anchors_of(site: &Site) -> String {
    TrustAnchors::to_pem(site.live(LINK).anchors())
}

#[test]
fn failures_to_ask_are_counted_and_told() {
    let (_west, mut east) = linked();
    east.pass(18 * 3600);
    let mut last = east.settled().waiting.remove(0).send_at;
    for _ in 0..4 {
        east.authority.request_failed(&name(LINK), "the link is down", east.now);
        let report = east.reconcile();
        let request = &report.waiting[0];
        assert!(request.send_at > last, "{} then {}", last, request.send_at);
        assert!(report.next_wake <= request.send_at);
        last = request.send_at;
        let problem = &report.problems[0];
        assert_eq!(problem.code, ProblemCode::RenewalUnanswered);
        assert!(problem.what.contains("the link is down"), "{problem}");
        assert_eq!(state(&report, LINK), CredentialState::Expiring);
        east.now = last;
    }
    east.pass(24 * 3600);
    let report = east.reconcile();
    assert_eq!(state(&report, LINK), CredentialState::Expired);
    let problem = report.problems.iter().find(|p| p.code == ProblemCode::CredentialExpired);
    assert!(problem.unwrap().remedy.contains("token"), "{problem:?}");
}

#[test]
fn only_the_enrolled_are_renewed_and_only_as_themselves() {
    let (mut west, _east) = linked();
    let greedy = Applicant::new("north");
    let renewed = west.authority.renew_for_peer(&identity(), &greedy.csr, west.now).unwrap();
    assert_eq!(renewed.chain.leaf().spiffe_id().unwrap(), Some(identity()));
    assert_eq!(renewed.chain.leaf().common_name(), Some("east"));

    for stranger in [
        "spiffe://demo.example/site/north",
        "spiffe://demo.example/site/west",
        "spiffe://demo.example/component/east",
        "spiffe://other.example/site/east",
        "spiffe://demo.example/any/thing/else",
    ] {
        let refused = west
            .authority
            .renew_for_peer(&stranger.parse().unwrap(), &greedy.csr, west.now)
            .unwrap_err();
        assert!(matches!(refused, RenewRefusal::NotEnrolled { .. }), "{stranger}: {refused}");
    }
    let refused = west.authority.renew_for_peer(&identity(), b"nonsense", west.now).unwrap_err();
    assert_eq!(refused.code(), "bad-request");

    west.pass(25 * 3600);
    west.settled();
    let refused = west.authority.renew_for_peer(&identity(), &Applicant::new("east").csr, west.now);
    assert!(matches!(refused, Err(RenewRefusal::Ended { .. })), "{refused:?}");
}

#[test]
fn a_peer_cannot_fill_the_ledger() {
    let (west, _east) = linked();
    let mut refused = None;
    for _ in 0..300 {
        let applicant = Applicant::new("east");
        if let Err(error) = west.authority.renew_for_peer(&identity(), &applicant.csr, west.now) {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(RenewRefusal::TooMany { .. })), "{refused:?}");
}

#[test]
fn renew_now_asks_for_links_too_and_tells_a_prover_that_refuses() {
    let (west, east) = linked();
    let report = east.authority.renew_now(&east.declared, &Selection::All, east.now).unwrap();
    let request = report.waiting[0].clone();
    let renewed = renew(&west, &request.csr_pem).unwrap();
    east.authority.complete(&name(LINK), taken(renewed.clone()), east.now).unwrap();
    east.refuse(Some("the other site does not answer"));
    let before = leaf(&east);
    let report = east.reconcile();
    assert_eq!(leaf(&east), before);
    assert!(report.problems[0].what.contains("does not answer"), "{:?}", report.problems);
    east.refuse(None);
    let mut east = east;
    east.now = report.next_wake;
    east.settled();
    assert_eq!(leaf(&east), *renewed.chain.leaf());
    // Asked once, it was renewed once.
    assert!(east.settled().waiting.is_empty());
}

#[test]
fn a_supplied_credential_under_the_name_is_never_replaced() {
    let west = Site::new("west");
    west.settled();
    let east = Site::edge("east");
    let theirs = TestAuthority::new("demo.example", start()).client("east");
    crate::site::write_credential(&east.input("certs", LINK), &theirs);
    let anchors = west.authority.trust_anchors().unwrap();
    let refused = east
        .authority
        .begin_enrolment(&name(LINK), &name(LINK), &name("east"), &anchors, east.now)
        .unwrap_err();
    assert!(matches!(refused, EnrolmentError::Supplied { .. }), "{refused}");
    assert!(east.authority.store().staged(Kind::Certificate, &name(LINK)).unwrap().is_none());
}
