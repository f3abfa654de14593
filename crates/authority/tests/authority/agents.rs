//! Agents: enrolled by a token that is for them, renewed by the certificate in hand, and ended like everybody else.

use handfast_authority::{
    GrantOptions, PresentedAgent, RedeemRefusal, Redeemer, RenewRefusal, Renewed, Revocable,
    RevokeRequest,
};
use handfast_pki::{
    Certificate, Chain, Csr, Eku, KeyAlgorithm, PrivateKey, Profile, Purpose, RevocationReason,
    Subject, verify_chain,
};
use handfast_store::{Audience, AuditRange, IssuedBundle, IssuedFilter, Ledger};

use crate::site::{Applicant, Site, anchors, chain, name};

fn west() -> Site {
    let site = Site::new("west");
    site.settled();
    site
}

fn for_agents(service: &str) -> GrantOptions {
    GrantOptions {
        audience: Audience::Agent(name(service)),
        redemptions_allowed: 3,
        ..GrantOptions::default()
    }
}

/// A key, and a request of it that asks for whatever it likes.
fn asked(subject: &Subject) -> (PrivateKey, Vec<u8>) {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let csr = Csr::create(&key, subject).unwrap();
    (key, csr.der().to_vec())
}

fn enrol(site: &Site, service: &str) -> IssuedBundle {
    let (grant, code) = site.authority.issue_grant(&for_agents(service), site.now).unwrap();
    let applicant = Applicant { site: service.into(), csr: asked(&Subject::new(service)).1 };
    site.redeem_as(Redeemer::Agent, grant.id.as_str(), code.expose(), &applicant).unwrap()
}

fn presented(leaf: &Certificate) -> PresentedAgent {
    PresentedAgent { identity: leaf.spiffe_id().unwrap().unwrap(), serial: leaf.serial().clone() }
}

fn renew(site: &Site, leaf: &Certificate, subject: &Subject) -> Result<Renewed, RenewRefusal> {
    site.authority.renew_for_agent(&presented(leaf), &asked(subject).1, site.now)
}

fn greedy() -> Subject {
    Subject::new("root").with_hosts(["127.0.0.1".parse().unwrap(), "west.example".parse().unwrap()])
}

fn is_a_certificate_of_shop(chain: &Chain) {
    let leaf = chain.leaf();
    assert_eq!(leaf.spiffe_id().unwrap().unwrap().to_string(), "spiffe://demo.example/agent/shop");
    assert_eq!(leaf.common_name(), Some("shop"));
    assert_eq!(leaf.extended_key_usage(), Some(vec![Eku::ClientAuth]));
    assert!(leaf.dns_names().is_empty() && leaf.ip_addresses().is_empty() && !leaf.is_ca());
}

#[test]
fn a_token_for_agents_gives_the_certificate_of_its_service_whatever_is_asked_for() {
    let site = west();
    let (grant, code) = site.authority.issue_grant(&for_agents("shop"), site.now).unwrap();
    let (key, csr) = asked(&greedy());
    let applicant = Applicant { site: "shop".into(), csr };
    let redeem =
        || site.redeem_as(Redeemer::Agent, grant.id.as_str(), code.expose(), &applicant).unwrap();
    let bundle = redeem();
    let chain = chain(&bundle);
    is_a_certificate_of_shop(&chain);
    assert_eq!(chain.leaf().spki_der(), key.spki_der());
    verify_chain(&chain, &anchors(&bundle), Purpose::Client, site.now).unwrap();
    assert!(verify_chain(&chain, &anchors(&bundle), Purpose::Server, site.now).is_err());
    let agents = site.authority.agent_anchors().unwrap();
    assert_eq!(anchors(&bundle).to_pem(), agents.to_pem());
    assert_eq!(bundle.issued.profile, Profile::Agent);
    assert_eq!(redeem(), bundle, "the same key gets the same answer");
    let audit = site.authority.ledger().audit_rows(&AuditRange::after(0, 1000)).unwrap();
    let row = audit.iter().find(|row| row.row.action == "grant.redeem").unwrap();
    assert!(row.row.detail.contains("agent of shop"), "{row:?}");
}

#[test]
fn a_token_for_agents_links_no_site_and_one_for_sites_enrols_no_agent() {
    let site = west();
    let (grant, code) = site.authority.issue_grant(&for_agents("shop"), site.now).unwrap();
    let redeem = |redeemer, id: &str, code: &str, who: &str| {
        site.redeem_as(redeemer, id, code, &Applicant::new(who)).unwrap_err()
    };
    let id = grant.id.as_str();
    assert_eq!(redeem(Redeemer::Site, id, code.expose(), "shop").code(), "for-agents");
    assert_eq!(redeem(Redeemer::Site, id, code.expose(), "east").code(), "for-agents");
    assert_eq!(redeem(Redeemer::Agent, id, code.expose(), "cart").code(), "wrong-service");
    for audience in [Audience::AnySite, Audience::Site(name("shop"))] {
        let options = GrantOptions { audience, ..GrantOptions::default() };
        let (grant, code) = site.authority.issue_grant(&options, site.now).unwrap();
        let id = grant.id.as_str();
        assert_eq!(redeem(Redeemer::Agent, id, code.expose(), "shop").code(), "for-sites");
    }
    // None of it used anything.
    assert!(site.authority.ledger().redemptions(&grant.id).unwrap().is_empty());
    let profile = |issued: &handfast_store::Issued| issued.profile;
    let issued = site.authority.ledger().issued(&IssuedFilter::default()).unwrap();
    assert!(
        !issued.iter().map(profile).any(|it| it == Profile::Agent || it == Profile::LinkClient)
    );
}

#[test]
fn a_token_for_agents_is_spent_and_expires() {
    let mut site = west();
    let options = GrantOptions { redemptions_allowed: 1, ..for_agents("shop") };
    let (grant, code) = site.authority.issue_grant(&options, site.now).unwrap();
    let redeem = |site: &Site, id: &str, code: &str| {
        site.redeem_as(Redeemer::Agent, id, code, &Applicant::new("shop"))
    };
    redeem(&site, grant.id.as_str(), code.expose()).unwrap();
    let refused = redeem(&site, grant.id.as_str(), code.expose()).unwrap_err();
    assert!(matches!(refused, RedeemRefusal::Spent), "{refused}");
    let (late, code) = site.authority.issue_grant(&for_agents("shop"), site.now).unwrap();
    site.pass(15 * 60);
    let refused = redeem(&site, late.id.as_str(), code.expose()).unwrap_err();
    assert!(matches!(refused, RedeemRefusal::Expired), "{refused}");
}

#[test]
fn an_agent_renews_its_own_enrolment_and_stays_who_it_is() {
    let mut site = west();
    let first = chain(&enrol(&site, "shop"));
    // Another agent of the same service, enrolled later: it is not the one that renews.
    let other = enrol(&site, "shop");
    site.pass(16 * 3600);
    site.settled();
    let renewed = renew(&site, first.leaf(), &greedy()).unwrap();
    is_a_certificate_of_shop(&renewed.chain);
    verify_chain(&renewed.chain, &renewed.anchors, Purpose::Client, site.now).unwrap();
    let lineage = |leaf: &Certificate| {
        let filter =
            IssuedFilter { serial: Some(leaf.serial().clone()), ..IssuedFilter::default() };
        site.authority.ledger().issued(&filter).unwrap().remove(0).lineage
    };
    assert_eq!(lineage(renewed.chain.leaf()), lineage(first.leaf()));
    assert_ne!(lineage(renewed.chain.leaf()), other.issued.lineage);

    // The same request again is answered alike, and signs nothing.
    let (_, csr) = asked(&Subject::new("shop"));
    let again =
        || site.authority.renew_for_agent(&presented(first.leaf()), &csr, site.now).unwrap();
    let (one, count) = (again(), site.issued());
    assert_eq!((again().chain.to_pem(), site.issued()), (one.chain.to_pem(), count));
}

#[test]
fn what_is_revoked_is_renewed_no_more() {
    let mut site = west();
    let (first, second) = (enrol(&site, "shop"), enrol(&site, "shop"));
    let held = site.authority.issue_grant(&for_agents("shop"), site.now).unwrap();
    site.pass(60);
    let revoke = |what| RevokeRequest {
        what,
        reason: RevocationReason::KeyCompromise,
        actor: "test".to_owned(),
        why: String::new(),
    };
    let lineage = Revocable::Lineage(first.issued.lineage.clone());
    site.authority.revoke(&revoke(lineage), site.now).unwrap();
    let refused = renew(&site, chain(&first).leaf(), &Subject::new("shop")).unwrap_err();
    assert_eq!(refused.code(), "revoked", "{refused}");
    // The other agent of the service goes on.
    let next = renew(&site, chain(&second).leaf(), &Subject::new("shop")).unwrap();
    // A token from before the revocation does not undo it.
    let (grant, code) = held;
    let applicant = Applicant::new("shop");
    let refused =
        site.redeem_as(Redeemer::Agent, grant.id.as_str(), code.expose(), &applicant).unwrap_err();
    assert_eq!(refused.code(), "revoked", "{refused}");

    // One certificate: it renews nothing, its enrolment goes on with another.
    let serial = Revocable::Serial(second.issued.serial.clone());
    site.authority.revoke(&revoke(serial), site.now).unwrap();
    let refused = renew(&site, chain(&second).leaf(), &Subject::new("shop")).unwrap_err();
    assert_eq!(refused.code(), "revoked", "{refused}");
    renew(&site, next.chain.leaf(), &Subject::new("shop")).unwrap();
}

#[test]
fn only_agents_that_a_token_enrolled_are_renewed() {
    let mut site = west();
    // Issued for a time of somebody's choosing: it ends when it ends.
    let (_, csr) = asked(&Subject::new("shop"));
    let order = handfast_authority::IssueFor {
        profile: Profile::Agent,
        csr,
        identity: Some("spiffe://demo.example/agent/shop".parse().unwrap()),
        hosts: Vec::new(),
        common_name: None,
        ttl: None,
        issuer: None,
        actor: "test".to_owned(),
        why: String::new(),
    };
    let issued = site.authority.issue_for(&order, site.now).unwrap();
    let refused = renew(&site, issued.chain.leaf(), &Subject::new("shop")).unwrap_err();
    assert_eq!(refused.code(), "not-enrolled", "{refused}");
    // A site's link certificate, and an agent of another trust domain or with another's serial.
    let bundle = site.enrol(&GrantOptions::default(), &Applicant::new("east"));
    let link = chain(&bundle);
    let agent = chain(&enrol(&site, "shop"));
    let serial = agent.leaf().serial().clone();
    for (identity, serial) in [
        ("spiffe://demo.example/site/east", link.leaf().serial().clone()),
        ("spiffe://demo.example/agent/cart", serial.clone()),
        ("spiffe://other.example/agent/shop", serial.clone()),
        ("spiffe://demo.example/agent/shop", link.leaf().serial().clone()),
    ] {
        let presented = PresentedAgent { identity: identity.parse().unwrap(), serial };
        let csr = asked(&Subject::new("shop")).1;
        let refused = site.authority.renew_for_agent(&presented, &csr, site.now).unwrap_err();
        assert_eq!(refused.code(), "not-enrolled", "{identity}: {refused}");
    }
    site.pass(25 * 3600);
    let refused = renew(&site, agent.leaf(), &Subject::new("shop")).unwrap_err();
    assert_eq!(refused.code(), "enrolment-ended", "{refused}");
}
