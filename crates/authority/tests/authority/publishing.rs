//! CRLs and OCSP answers from the ledger's rows.

use handfast_authority::{
    CredentialState, ForeignError, KeyPlace, OcspAnswer, Published, Publisher, Revocable,
    RevokeForeign, RevokeRequest, RotateOrder,
};
use handfast_pki::ocsp::{CertId, CertStatus, IdHash, OcspRequest, OcspResponse};
use handfast_pki::{Certificate, CertificateId, Crl, CrlNumber, CrlView, RevocationReason};
use handfast_store::{AuditRange, CredentialStore, IssuedFilter, Kind, Ledger};

use crate::site::Site;

const BASE: &str = "http://west.example:8889";

/// A site that hands revocation out, settled, with what it published first.
fn site() -> (Site, Publisher) {
    let mut site = Site::new("west");
    site.declared.distribution = Some(BASE.to_owned());
    site.settled();
    let publisher = Publisher::new(Publisher::INTERVAL);
    let report = site.authority.publish_revocation(&publisher, site.now);
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(report.next, site.now + Publisher::INTERVAL);
    (site, publisher)
}

fn server(site: &Site) -> Certificate {
    site.live("handfast-site-server").leaf().clone()
}

fn lists(published: &Published) -> (Certificate, Crl, Crl) {
    let issuer = published.issuer("handfast-site-ca").unwrap();
    let read = |der: &[u8]| {
        let crl = Crl::from_der(der).unwrap();
        assert_eq!(crl.verify_signed_by(&issuer.certificate), Ok(()));
        crl
    };
    (issuer.certificate.clone(), read(&issuer.full.der), read(&issuer.delta.der))
}

fn revoke(site: &Site, certificate: &Certificate) {
    let request = RevokeRequest {
        what: Revocable::Serial(certificate.serial().clone()),
        reason: RevocationReason::KeyCompromise,
        actor: "test".to_owned(),
        why: String::new(),
    };
    site.authority.revoke(&request, site.now).unwrap();
}

#[test]
fn every_ca_has_lists_and_certificates_point_to_them() {
    let (site, publisher) = site();
    let published = publisher.published();
    let names: Vec<_> = published.issuers().map(|issuer| issuer.name.to_string()).collect();
    for name in ["handfast-root", "handfast-site-ca", "handfast-local-ca"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    let (ca, full, delta) = lists(&published);
    let label = published.issuer("handfast-site-ca").unwrap().label();
    assert_eq!(published.issuer(&label).unwrap().certificate, ca);
    let leaf = server(&site);
    assert_eq!(leaf.crl_urls(), [format!("{BASE}/crl/{label}.crl")]);
    assert_eq!(leaf.freshest_crl_urls(), [format!("{BASE}/crl/{label}-delta.crl")]);
    assert_eq!(leaf.ocsp_urls(), [format!("{BASE}/ocsp")]);
    assert_eq!(leaf.issuer_urls(), [format!("{BASE}/ca/{label}.crt")]);
    assert_eq!(full.freshest(), leaf.freshest_crl_urls(), "the full list says where its delta is");
    assert!(full.is_empty() && delta.is_empty());
    let root = published.issuer("handfast-root").unwrap();
    assert_eq!(ca.crl_urls(), [format!("{BASE}/crl/{}.crl", root.label())]);
    for list in [&full, &delta] {
        let life = list.next_update().duration_since(list.this_update());
        assert!(life >= (Publisher::INTERVAL * 2).try_into().unwrap());
    }
}

#[test]
fn nothing_is_published_unless_a_place_is_declared() {
    let site = Site::new("west");
    site.settled();
    let publisher = Publisher::new(Publisher::INTERVAL);
    site.authority.publish_revocation(&publisher, site.now);
    assert_eq!(publisher.published().issuers().count(), 0);
    assert!(server(&site).crl_urls().is_empty());
}

#[test]
fn a_revocation_is_in_the_lists_at_once_and_numbers_go_up() {
    let (mut site, publisher) = site();
    let leaf = server(&site);
    let (_, first, _) = lists(&publisher.published());
    site.pass(60);
    let report = site.authority.publish_revocation(&publisher, site.now);
    assert!(report.next < site.now + Publisher::INTERVAL);
    assert_eq!(lists(&publisher.published()).1, first, "nothing is due");

    revoke(&site, &leaf);
    site.authority.publish_revocation(&publisher, site.now);
    let (_, full, delta) = lists(&publisher.published());
    let entry = full.lookup(leaf.serial()).unwrap();
    assert_eq!(entry.reason, RevocationReason::KeyCompromise);
    assert!(full.number() > first.number());
    assert_eq!((delta.number(), delta.base_number()), (full.number(), Some(&first.number())));
    let view = CrlView::new(first).unwrap().with_delta(delta).unwrap();
    assert_eq!(view.lookup(leaf.serial()), Some(entry.clone()), "the delta alone says it too");

    // On schedule: whoever has the full list of the time before gets along with the delta.
    site.pass(3600);
    site.authority.publish_revocation(&publisher, site.now);
    let (_, next, delta) = lists(&publisher.published());
    assert!(next.number() > full.number());
    assert_eq!(delta.lookup(leaf.serial()), Some(entry));

    // Numbers go on after a restart, and the list is whole again.
    let site = site.restarted();
    site.settled();
    let publisher = Publisher::new(Publisher::INTERVAL);
    site.authority.publish_revocation(&publisher, site.now);
    let (_, again, _) = lists(&publisher.published());
    assert!(again.number() > next.number());
    assert!(again.lookup(leaf.serial()).is_some());
}

#[test]
fn what_has_expired_leaves_the_list_after_standing_in_one_more() {
    let (mut site, publisher) = site();
    let leaf = server(&site);
    revoke(&site, &leaf);
    site.authority.publish_revocation(&publisher, site.now);
    site.pass(25 * 3600);
    site.settled();
    site.authority.publish_revocation(&publisher, site.now);
    let listed = |publisher: &Publisher| lists(&publisher.published()).1.lookup(leaf.serial());
    assert!(listed(&publisher).is_some(), "in the first list made after its expiry");
    site.pass(3600);
    site.authority.publish_revocation(&publisher, site.now);
    assert!(listed(&publisher).is_none());
}

#[test]
fn what_a_ca_signed_elsewhere_is_listed_and_answered_for_like_its_own() {
    let (mut site, publisher) = site();
    let (ca, _, _) = lists(&publisher.published());
    let serial: handfast_pki::Serial = "0badcafe".parse().unwrap();
    let question = |hash| OcspRequest { cert_id: CertId::new(hash, &ca, &serial), nonce: None };
    assert_eq!(ask(&site, &publisher, &question(IdHash::Sha256)).1, CertStatus::Unknown);

    // Nobody is taken at his word by chance: without saying so, what is unknown is not revoked.
    let (name, key) = site.authority.issuer_meant("handfast-site-ca").unwrap();
    assert_eq!((name.as_str(), key), ("handfast-site-ca", ca.key_id()));
    let certificate = CertificateId { issuer_key_id: key, serial: serial.clone() };
    assert_eq!(site.authority.issuer_meant(&certificate.issuer_hex()).unwrap().1, key);
    let named = RevokeRequest {
        what: Revocable::Exactly(certificate.clone()),
        reason: RevocationReason::KeyCompromise,
        actor: "test".to_owned(),
        why: String::new(),
    };
    let unknown = site.authority.revoke(&named, site.now).unwrap_err();
    assert!(unknown.to_string().contains("--not-issued-here"), "{unknown}");

    let foreign = |certificate: CertificateId| RevokeForeign {
        certificate,
        reason: RevocationReason::KeyCompromise,
        actor: "test".to_owned(),
        why: "from the old CA's index.txt".to_owned(),
    };
    site.pass(60);
    let done = site.authority.revoke_foreign(&foreign(certificate.clone()), site.now).unwrap();
    assert!(!done.already);
    site.authority.publish_revocation(&publisher, site.now);
    let (_, full, delta) = lists(&publisher.published());
    assert_eq!(full.lookup(&serial).unwrap().reason, RevocationReason::KeyCompromise);
    assert!(delta.lookup(&serial).is_some());
    let (_, status) = ask(&site, &publisher, &question(IdHash::Sha256));
    assert!(matches!(status, CertStatus::Revoked { .. }), "{status:?}");
    let rows = site.authority.ledger().audit_rows(&AuditRange::after(0, 10_000)).unwrap();
    let last = &rows.last().unwrap().row;
    assert!(
        last.subject.contains("of handfast-site-ca") && last.detail.contains("not issued here"),
        "{last:?}"
    );
    assert_eq!(last.why, "from the old CA's index.txt");

    // Once more changes nothing; what is known is revoked as what is known, and the CA itself not at all.
    site.pass(60);
    let again = site.authority.revoke_foreign(&foreign(certificate), site.now).unwrap();
    assert_eq!((again.already, again.at, again.sequence), (true, done.at, done.sequence));
    let of = |name: &str, certificate: &Certificate| CertificateId {
        issuer_key_id: site.authority.issuer_meant(name).unwrap().1,
        serial: certificate.serial().clone(),
    };
    let known = foreign(of("handfast-site-ca", &server(&site)));
    let known = site.authority.revoke_foreign(&known, site.now).unwrap_err();
    assert!(matches!(known, ForeignError::IssuedHere { .. }), "{known}");
    for nobody in ["handfast-other-ca", &"0".repeat(64)] {
        let error = site.authority.issuer_meant(nobody).unwrap_err();
        assert!(matches!(error, ForeignError::UnknownIssuer { .. }), "{error}");
    }
    // It is listed still when everything that was issued then has expired.
    site.pass(48 * 3600);
    site.settled();
    site.authority.publish_revocation(&publisher, site.now);
    assert!(lists(&publisher.published()).1.lookup(&serial).is_some());
}

fn ask(site: &Site, publisher: &Publisher, request: &OcspRequest) -> (OcspAnswer, CertStatus) {
    let answer = site.authority.answer_ocsp(publisher, request, site.now);
    let (ca, ..) = lists(&publisher.published());
    let response = OcspResponse::from_der(&answer.der).unwrap();
    let status = response.verify(request, &ca, site.now).unwrap().status;
    (answer, status)
}

#[test]
fn ocsp_says_good_revoked_or_unknown_and_keeps_what_it_may() {
    let (mut site, publisher) = site();
    let leaf = server(&site);
    let (ca, ..) = lists(&publisher.published());
    let request = |hash, serial: &str, nonce| OcspRequest {
        cert_id: CertId::new(hash, &ca, &serial.parse().unwrap()),
        nonce,
    };
    for hash in IdHash::ALL {
        let known = request(hash, &leaf.serial().to_string(), None);
        assert_eq!(publisher.kept_answer(&known, site.now), None);
        let (answer, status) = ask(&site, &publisher, &known);
        assert_eq!(status, CertStatus::Good);
        assert_eq!(answer.good, Some((site.now, site.now + Publisher::INTERVAL * 2)));
        assert_eq!(publisher.kept_answer(&known, site.now), Some(answer));
        let late = site.now + Publisher::INTERVAL;
        assert_eq!(publisher.kept_answer(&known, late), None, "made anew at half of its life");

        let nonce = request(hash, &leaf.serial().to_string(), Some(vec![9; 32]));
        let (answer, status) = ask(&site, &publisher, &nonce);
        assert_eq!((answer.good, status), (None, CertStatus::Good));
        assert_eq!(publisher.kept_answer(&nonce, site.now), None, "never kept");

        let unknown = request(hash, "1234", None);
        assert_eq!(ask(&site, &publisher, &unknown).1, CertStatus::Unknown);
        assert_eq!(publisher.kept_answer(&unknown, site.now), None);
    }
    assert!(site.authority.staple(&publisher, &leaf, site.now).is_some());
    revoke(&site, &leaf);
    site.pass(1);
    site.authority.publish_revocation(&publisher, site.now);
    let known = request(IdHash::Sha1, &leaf.serial().to_string(), None);
    assert_eq!(publisher.kept_answer(&known, site.now), None, "forgotten with the revocation");
    let (_, status) = ask(&site, &publisher, &known);
    let CertStatus::Revoked { reason, .. } = status else { panic!("{status:?}") };
    assert_eq!(reason, RevocationReason::KeyCompromise);

    let other = Site::new("east");
    other.settled();
    let stranger = other.live("handfast-site-server");
    let foreign = OcspRequest {
        cert_id: CertId::new(IdHash::Sha1, &stranger.chain().rest()[0], stranger.leaf().serial()),
        nonce: None,
    };
    let answer = site.authority.answer_ocsp(&publisher, &foreign, site.now);
    let refused = OcspResponse::from_der(&answer.der).unwrap_err();
    assert!(refused.to_string().contains("unauthorized"), "{refused}");
    assert_eq!(site.authority.staple(&publisher, stranger.leaf(), site.now), None);
}

#[test]
fn the_responders_certificate_is_recorded_and_made_anew_in_time() {
    let (mut site, publisher) = site();
    let responders = |site: &Site| {
        let issued = site.authority.ledger().issued(&IssuedFilter::default()).unwrap();
        issued.iter().filter(|i| i.profile == handfast_pki::Profile::OcspSigner).count()
    };
    let first = responders(&site);
    assert_eq!(first, publisher.published().issuers().count());
    site.pass(11 * 3600);
    site.authority.publish_revocation(&publisher, site.now);
    assert_eq!(responders(&site), first);
    let listed = publisher.responders(site.now);
    assert_eq!(listed.len(), first);
    assert!(listed.iter().all(|one| one.state == CredentialState::Ready), "{listed:#?}");
    site.pass(2 * 3600);
    let due = publisher.responders(site.now);
    assert!(due.iter().all(|one| one.state == CredentialState::Expiring), "{due:#?}");
    site.settled();
    site.authority.publish_revocation(&publisher, site.now);
    assert_eq!(responders(&site), 2 * first);
    let anew = publisher.responders(site.now);
    for (before, after) in listed.iter().zip(&anew) {
        assert_eq!((before.name.clone(), after.key), (after.name.clone(), Some(KeyPlace::Memory)));
        assert!(after.name.as_str().ends_with("-ocsp") && before.serial != after.serial);
        assert!(after.not_after > before.not_after && after.renew_at < after.not_after);
        assert_eq!((after.tally.renewed, after.failure.as_ref()), (2, None));
    }
    let request = OcspRequest {
        cert_id: CertId::new(
            IdHash::Sha256,
            &lists(&publisher.published()).0,
            server(&site).serial(),
        ),
        nonce: None,
    };
    assert_eq!(ask(&site, &publisher, &request).1, CertStatus::Good);
}

/// Renews the site CA, with a new key, and what stands below it; answers with the label of the key before.
fn made_anew(site: &Site, publisher: &Publisher) -> String {
    let label = publisher.published().issuer("handfast-site-ca").unwrap().label();
    let names = handfast_authority::Selection::Named(vec!["handfast-site-ca".parse().unwrap()]);
    site.authority.renew_now(&site.declared, &names, site.now).unwrap();
    site.settled();
    site.authority.publish_revocation(publisher, site.now);
    label
}

/// Whether the list of this key that is handed out now is good and has this certificate.
fn listed(site: &Site, publisher: &Publisher, label: &str, certificate: &Certificate) -> bool {
    let published = publisher.published();
    let issuer = published.issuer(label).unwrap_or_else(|| panic!("no list of {label}"));
    let crl = Crl::from_der(&issuer.full.der[..]).unwrap();
    assert_eq!(crl.verify_signed_by(&issuer.certificate), Ok(()));
    assert!(crl.next_update() > site.now, "{label}: out of date");
    crl.lookup(certificate.serial()).is_some()
}

#[test]
fn a_key_that_signs_no_more_answers_for_what_it_signed_until_that_has_expired() {
    let (mut site, publisher) = site();
    let old = server(&site);
    site.pass(60);
    let first = made_anew(&site, &publisher);
    let second_leaf = server(&site);
    let published = publisher.published();
    let newest = published.issuer("handfast-site-ca").unwrap();
    assert_ne!(newest.label(), first);
    assert_eq!(Crl::from_der(&newest.full.der[..]).unwrap().number(), CrlNumber::from(1));

    // Hours later its list is made anew, and what it signed can be revoked still.
    site.pass(5 * 3600);
    site.authority.publish_revocation(&publisher, site.now);
    assert!(!listed(&site, &publisher, &first, &old));
    revoke(&site, &old);
    site.authority.publish_revocation(&publisher, site.now);
    assert!(listed(&site, &publisher, &first, &old));
    let ca = publisher.published().issuer(&first).unwrap().certificate.clone();
    let request =
        OcspRequest { cert_id: CertId::new(IdHash::Sha256, &ca, old.serial()), nonce: None };
    let status = |site: &Site| {
        let answer = site.authority.answer_ocsp(&publisher, &request, site.now);
        OcspResponse::from_der(&answer.der).unwrap().verify(&request, &ca, site.now).unwrap().status
    };
    assert!(matches!(status(&site), CertStatus::Revoked { .. }));

    // Two keys later it is no revision any more, and answers all the same; also after a restart.
    let second = made_anew(&site, &publisher);
    made_anew(&site, &publisher);
    let store = site.authority.store();
    let ca_name = "handfast-site-ca".parse().unwrap();
    assert_eq!(store.aside(Kind::Issuer, &ca_name).unwrap().len(), 2);
    let standing = |site: &Site| {
        let all = site.authority.authorities(&site.declared, site.now).unwrap();
        all.into_iter().find(|one| one.name == ca_name).unwrap()
    };
    assert_eq!(standing(&site).kept[0].until, old.not_after());
    revoke(&site, &second_leaf);
    let site = site.restarted();
    site.settled();
    let publisher = Publisher::new(Publisher::INTERVAL);
    site.authority.publish_revocation(&publisher, site.now);
    assert!(listed(&site, &publisher, &first, &old));
    assert!(listed(&site, &publisher, &second, &second_leaf));
    // What it says over links is signed by it too.
    let signs = |site: &Site| {
        let signers = site.authority.signers();
        signers.iter().any(|signer| signer.certificate() == &ca)
    };
    assert!(signs(&site));

    // When nothing of it is valid any more, the key goes, and that is on record.
    let mut site = site;
    site.now = old.not_after() + jiff::SignedDuration::from_secs(1);
    site.settled();
    assert_eq!(standing(&site).kept.len(), 1, "one at a time");
    site.now = second_leaf.not_after() + jiff::SignedDuration::from_secs(1);
    site.settled();
    assert_eq!(site.authority.store().aside(Kind::Issuer, &ca_name).unwrap().len(), 0);
    assert!(standing(&site).kept.is_empty() && !signs(&site));
    site.pass(5 * 3600);
    site.authority.publish_revocation(&publisher, site.now);
    assert!(publisher.published().issuer(&first).is_none());
    let rows = site.authority.ledger().audit_rows(&AuditRange::after(0, 1000)).unwrap();
    for action in ["key.keep", "key.discard"] {
        assert!(rows.iter().any(|row| row.row.action == action), "{action}");
    }
}

#[test]
fn after_a_rotation_the_old_key_of_a_site_ca_answers_and_one_in_the_wrong_hands_does_not() {
    for forced in [false, true] {
        let (mut site, publisher) = site();
        let old = server(&site);
        let label = publisher.published().issuer("handfast-site-ca").unwrap().label();
        site.pass(60);
        let order = RotateOrder {
            authority: "handfast-site-ca".parse().unwrap(),
            forced,
            without_laggards: false,
            by: "test".to_owned(),
            why: "test".to_owned(),
        };
        site.authority.rotate(&site.declared, &order, site.now).unwrap();
        site.reconcile();
        let ca_name = "handfast-site-ca".parse().unwrap();
        let store = site.authority.store();
        assert!(store.previous(Kind::Issuer, &ca_name).unwrap().is_none(), "it is over");
        assert_eq!(store.aside(Kind::Issuer, &ca_name).unwrap().len(), usize::from(!forced));
        site.pass(5 * 3600);
        site.authority.publish_revocation(&publisher, site.now);
        if forced {
            // Its certificate is in the root's list; what it signed needs no list any more.
            assert!(publisher.published().issuer(&label).is_none());
            continue;
        }
        revoke(&site, &old);
        site.authority.publish_revocation(&publisher, site.now);
        assert!(listed(&site, &publisher, &label, &old));
    }
}
