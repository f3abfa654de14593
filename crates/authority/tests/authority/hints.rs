//! Agents that ask when to renew: told of rotations by what is in the ledger, waited for as long as they ask, and told nothing
//! that is not about themselves.

use handfast_authority::hint::{HintReason, RenewalHint};
use handfast_authority::rotation::{AGENTS_GRACE, Laggard, Phase};
use handfast_authority::{
    GrantOptions, PresentedAgent, Redeemer, Renewed, Revocable, RevokeRequest, RotateOrder,
};
use handfast_pki::{
    Certificate, Csr, KeyAlgorithm, PrivateKey, Purpose, RevocationReason, Subject, TrustAnchors,
    verify_chain,
};
use handfast_store::{Audience, AuditRange, IssuedBundle, Ledger};
use proptest::prelude::*;

use crate::site::{Applicant, Site, anchors, chain, name};

/// `west`, in a trust domain with a root or alone, with agents of `shop`.
fn west(alone: bool) -> Site {
    let mut site = Site::new("west");
    if alone {
        site.declared.trust_domain = None;
    }
    site.settled();
    site
}

fn enrol(site: &Site) -> IssuedBundle {
    let options =
        GrantOptions { audience: Audience::Agent(name("shop")), ..GrantOptions::default() };
    let (grant, code) = site.authority.issue_grant(&options, site.now).unwrap();
    let applicant = Applicant { site: "shop".into(), csr: request() };
    site.redeem_as(Redeemer::Agent, grant.id.as_str(), code.expose(), &applicant).unwrap()
}

fn request() -> Vec<u8> {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    Csr::create(&key, &Subject::new("shop")).unwrap().der().to_vec()
}

fn presented(leaf: &Certificate) -> PresentedAgent {
    PresentedAgent { identity: leaf.spiffe_id().unwrap().unwrap(), serial: leaf.serial().clone() }
}

fn hint(site: &Site, leaf: &Certificate) -> RenewalHint {
    site.authority.renewal_hint(&presented(leaf), site.now).unwrap()
}

/// Renews, a second after whatever was before.
fn renew(site: &mut Site, leaf: &Certificate) -> Renewed {
    site.pass(1);
    site.authority.renew_for_agent(&presented(leaf), &request(), site.now).unwrap()
}

fn rotate(site: &Site, authority: &str, forced: bool) {
    let order = RotateOrder {
        authority: name(authority),
        forced,
        without_laggards: false,
        by: "uid:0".to_owned(),
        why: "a test".to_owned(),
    };
    site.authority.rotate(&site.declared, &order, site.now).unwrap();
    site.settled();
}

/// Where the rotation of an authority stands, and whom it waits for.
fn standing(site: &Site, authority: &str) -> (Phase, Vec<Laggard>) {
    let all = site.authority.authorities(&site.declared, site.now).unwrap();
    let standing = all.into_iter().find(|each| each.name == name(authority)).unwrap();
    (standing.rotation.unwrap().phase, standing.laggards)
}

fn roots(renewed: &Renewed) -> usize {
    renewed.anchors.iter().count()
}

#[test]
fn in_peace_it_is_told_its_time_and_nothing_is_signed_or_written() {
    let site = west(false);
    let leaf = chain(&enrol(&site)).leaf().clone();
    let ledger = site.authority.ledger();
    let count = || (site.issued(), ledger.audit_rows(&AuditRange::after(0, 1000)).unwrap().len());
    let before = count();
    let told = hint(&site, &leaf);
    assert_eq!(told.why, HintReason::Life);
    let usual = handfast_authority::renewal_window(leaf.not_before(), leaf.not_after());
    assert_eq!((told.start, told.end), usual);
    assert_eq!(hint(&site, &leaf), told, "asking again changes nothing");
    assert_eq!(count(), before);
}

#[test]
fn a_root_that_is_rotated_waits_for_an_agent_and_the_agent_hears_of_it() {
    for (alone, anchor) in [(false, "handfast-root"), (true, "handfast-service-ca")] {
        let mut site = west(alone);
        let first = chain(&enrol(&site)).leaf().clone();
        assert_eq!(hint(&site, &first).why, HintReason::Life);
        site.pass(60);
        rotate(&site, anchor, false);
        let (phase, laggards) = standing(&site, anchor);
        assert_eq!((phase, laggards.len()), (Phase::Draining, 1), "{laggards:?}");
        let told = hint(&site, &first);
        assert_eq!((told.why, told.start), (HintReason::Rotation, site.now));
        let second = renew(&mut site, &first);
        assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Life, "{anchor}");
        site.settled();
        assert_eq!(standing(&site, anchor), (Phase::Revoked, Vec::new()), "{anchor}");
        // In peace nobody is hurried to forget the old one.
        assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Life, "{anchor}");
    }
}

#[test]
fn by_force_an_agent_that_asks_is_taken_along_step_by_step_and_forgets_the_old_root() {
    let anchor = "handfast-root";
    let mut site = west(false);
    let enrolled = enrol(&site);
    let first = chain(&enrolled).leaf().clone();
    // Another one that asks for nothing, and is not waited for.
    enrol(&site);
    hint(&site, &first);
    site.pass(60);
    rotate(&site, anchor, true);
    let (phase, laggards) = standing(&site, anchor);
    assert_eq!((phase, laggards.len()), (Phase::Prepared, 1), "{laggards:?}");
    assert!(laggards[0].reachable);

    // It learns the new root before that signs: nobody could vouch for it afterwards.
    assert_eq!(hint(&site, &first).why, HintReason::Taint);
    let second = renew(&mut site, &first);
    assert_eq!((roots(&second), anchors(&enrolled).iter().count()), (2, 1));
    assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Life);
    site.settled();
    assert_eq!(standing(&site, anchor).0, Phase::Draining);
    let server = site.live("handfast-site-server");
    let knows = |anchors: &TrustAnchors| {
        verify_chain(server.chain(), anchors, Purpose::Server, site.now).is_ok()
    };
    assert!(knows(&second.anchors) && !knows(&anchors(&enrolled)));

    // Then it moves to it, and then it forgets the old one.
    assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Taint);
    let third = renew(&mut site, second.chain.leaf());
    site.pass(1);
    site.settled();
    assert_eq!(standing(&site, anchor), (Phase::Revoked, Vec::new()));
    assert_eq!(hint(&site, third.chain.leaf()).why, HintReason::Taint);
    let last = renew(&mut site, third.chain.leaf());
    assert_eq!((roots(&third), roots(&last)), (2, 1));
    assert_eq!(hint(&site, last.chain.leaf()).why, HintReason::Life);
}

#[test]
fn by_force_an_agent_that_falls_silent_is_waited_for_so_long_and_no_longer() {
    let mut site = west(false);
    let first = chain(&enrol(&site)).leaf().clone();
    hint(&site, &first);
    site.pass(60);
    rotate(&site, "handfast-root", true);
    site.pass(i64::try_from(AGENTS_GRACE.as_secs()).unwrap() - 1);
    site.settled();
    assert_eq!(standing(&site, "handfast-root").0, Phase::Prepared);
    site.pass(1);
    site.settled();
    // It asked once more than it is waited for here, so the next step waits as long.
    assert_eq!(standing(&site, "handfast-root").0, Phase::Draining);
    site.pass(i64::try_from(AGENTS_GRACE.as_secs()).unwrap());
    site.settled();
    assert_eq!(standing(&site, "handfast-root").0, Phase::Revoked);
}

#[test]
fn by_force_who_asked_before_a_restart_is_not_forgotten_over_it() {
    let mut site = west(false);
    let first = chain(&enrol(&site)).leaf().clone();
    hint(&site, &first);
    site.pass(60);
    rotate(&site, "handfast-root", true);
    site.pass(1);
    let mut site = site.restarted();
    site.settled();
    let (phase, laggards) = standing(&site, "handfast-root");
    assert_eq!((phase, laggards.len()), (Phase::Prepared, 1), "{laggards:?}");
    let second = renew(&mut site, &first);
    site.settled();
    renew(&mut site, second.chain.leaf());
    site.settled();
    assert_eq!(standing(&site, "handfast-root").0, Phase::Revoked);
    // One that begins in this process waits for nobody who is silent.
    site.pass(26 * 60);
    rotate(&site, "handfast-root", true);
    assert_eq!(standing(&site, "handfast-root").0, Phase::Revoked);
}

#[test]
fn by_force_the_ca_of_agents_takes_along_who_asks_and_nobody_else() {
    let ca = "handfast-service-ca";
    let mut site = west(false);
    let first = chain(&enrol(&site)).leaf().clone();
    site.pass(60);
    // In peace what it signed is good until it ends; the agent is moved in its own time.
    rotate(&site, ca, false);
    assert_eq!(standing(&site, ca), (Phase::Revoked, Vec::new()));
    assert_eq!(hint(&site, &first).why, HintReason::Rotation);
    let second = renew(&mut site, &first);
    assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Life);
    site.pass(60);
    rotate(&site, ca, true);
    let (phase, laggards) = standing(&site, ca);
    assert_eq!((phase, laggards.len()), (Phase::Draining, 1), "{laggards:?}");
    assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Taint);
    let third = renew(&mut site, second.chain.leaf());
    site.settled();
    assert_eq!(standing(&site, ca), (Phase::Revoked, Vec::new()));
    assert_eq!(hint(&site, third.chain.leaf()).why, HintReason::Life);
}

#[test]
fn of_a_site_alone_the_anchor_of_the_port_waits_for_agents_too() {
    let ca = "handfast-site-ca";
    let mut site = west(true);
    let first = chain(&enrol(&site)).leaf().clone();
    site.pass(60);
    rotate(&site, ca, false);
    let (phase, laggards) = standing(&site, ca);
    assert_eq!((phase, laggards.len()), (Phase::Draining, 1), "{laggards:?}");
    assert_eq!(hint(&site, &first).why, HintReason::Rotation);
    let second = renew(&mut site, &first);
    site.settled();
    assert_eq!(standing(&site, ca), (Phase::Revoked, Vec::new()));
    assert_eq!(hint(&site, second.chain.leaf()).why, HintReason::Life);
}

#[test]
fn what_is_revoked_or_was_never_enrolled_is_told_nothing() {
    let mut site = west(false);
    let bundle = enrol(&site);
    let leaf = chain(&bundle).leaf().clone();
    site.pass(60);
    let revoke = RevokeRequest {
        what: Revocable::Lineage(bundle.issued.lineage.clone()),
        reason: RevocationReason::KeyCompromise,
        actor: "test".to_owned(),
        why: String::new(),
    };
    site.authority.revoke(&revoke, site.now).unwrap();
    site.pass(1);
    let refused = site.authority.renewal_hint(&presented(&leaf), site.now).unwrap_err();
    assert_eq!(refused.code(), "revoked", "{refused}");
    let other = chain(&enrol(&site)).leaf().clone();
    let site_of = |identity: &str| PresentedAgent {
        identity: identity.parse().unwrap(),
        serial: other.serial().clone(),
    };
    for identity in ["spiffe://demo.example/agent/cart", "spiffe://other.example/agent/shop"] {
        let refused = site.authority.renewal_hint(&site_of(identity), site.now).unwrap_err();
        assert_eq!(refused.code(), "not-enrolled", "{identity}");
    }
    site.pass(25 * 3600);
    let refused = site.authority.renewal_hint(&presented(&other), site.now).unwrap_err();
    assert_eq!(refused.code(), "enrolment-ended", "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever is shown: a serial of ours under another name, and one of nobody's, are told apart by nothing.
    #[test]
    fn a_made_up_serial_is_answered_like_one_that_exists(bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
        let site = west(false);
        let leaf = chain(&enrol(&site)).leaf().clone();
        let identity: handfast_pki::SpiffeId = "spiffe://demo.example/agent/cart".parse().unwrap();
        let ask = |serial| {
            let presented = PresentedAgent { identity: identity.clone(), serial };
            site.authority.renewal_hint(&presented, site.now).unwrap_err().to_string()
        };
        let made_up = handfast_pki::Serial::from_der_integer(&bytes);
        prop_assert_eq!(ask(made_up), ask(leaf.serial().clone()));
    }
}
