//! CRLs made, read, merged and judged.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use handfast_pki::{
    Chain, Crl, CrlBuilder, CrlError, CrlNumber, CrlSet, CrlStatus, CrlView, IssueRequest, Issuer,
    KeyAlgorithm, PrivateKey, Profile, RevocationReason, RevokedEntry, Serial, Subject,
    SystemEntropy,
};
use handfast_testkit::authority::{TestAuthority, site_ca};
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn validity() -> (Timestamp, Timestamp) {
    (now(), now() + 2 * HOUR)
}

fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", now())
}

fn entry(number: u64) -> RevokedEntry {
    let reasons = RevocationReason::ALL;
    let index = usize::try_from(number).unwrap() % reasons.len();
    let serial = format!("{:032x}", 0x1000 + number).parse().unwrap();
    RevokedEntry { serial, at: now() - HOUR, reason: reasons[index] }
}

fn builder(entries: std::ops::Range<u64>) -> CrlBuilder {
    let mut builder = CrlBuilder::new();
    entries.for_each(|number| assert!(builder.push(&entry(number), None)));
    builder
}

fn full(builder: &CrlBuilder, number: u64, issuer: &Issuer) -> Crl {
    Crl::from_der(builder.full(number, validity(), &[], issuer).unwrap()).unwrap()
}

fn delta(builder: &CrlBuilder, number: u64, issuer: &Issuer) -> Crl {
    Crl::from_der(builder.delta(number, validity(), issuer).unwrap().unwrap()).unwrap()
}

#[test]
fn what_is_made_is_read_back_with_every_algorithm() {
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa2048,
    ] {
        let key = PrivateKey::generate(algorithm).unwrap();
        let request = IssueRequest::new(Profile::SiteCa, Subject::new("a CA"), key.spki_der());
        let ca = Issuer::self_signed(&request, key, now(), &mut SystemEntropy).unwrap();
        for entries in [0..0, 0..20] {
            let builder = builder(entries.clone());
            let fresh = ["http://a.example/delta.crl".to_owned()];
            let der = builder.full(7, validity(), &fresh, &ca).unwrap();
            let crl = Crl::read(&der).unwrap();
            assert_eq!(Crl::read(crl.to_pem().as_bytes()).unwrap(), crl);
            assert_eq!(crl.verify_signed_by(ca.certificate()), Ok(()), "{algorithm}");
            assert_eq!(crl.number(), CrlNumber::from(7));
            assert_eq!(crl.authority_key_id(), ca.certificate().subject_key_id());
            assert_eq!((crl.this_update(), crl.next_update()), validity());
            assert_eq!((crl.is_delta(), crl.freshest()), (false, fresh.as_slice()));
            assert_eq!(crl.issuer(), ca.certificate().subject());
            let listed: Vec<_> = crl.entries().collect();
            assert_eq!(listed, entries.clone().map(entry).collect::<Vec<_>>());
            for number in entries {
                assert_eq!(crl.lookup(&entry(number).serial), Some(entry(number)));
            }
            assert_eq!(crl.lookup(&entry(99).serial), None);
        }
    }
}

#[test]
fn the_first_time_and_reason_stay() {
    let mut builder = builder(0..1);
    let again = RevokedEntry { reason: RevocationReason::KeyCompromise, ..entry(0) };
    assert!(!builder.push(&again, None));
    let authority = authority();
    assert_eq!(full(&builder, 1, authority.site_ca()).lookup(&again.serial), Some(entry(0)));
}

#[test]
fn expired_entries_go_once_they_stood_in_a_list_made_after() {
    let authority = authority();
    let mut builder = CrlBuilder::new();
    builder.push(&entry(0), Some(now() - HOUR));
    builder.push(&entry(1), None);
    builder.set_base(1);
    builder.push(&entry(2), Some(now() + HOUR));
    assert_eq!(builder.prune(now() - 2 * HOUR), 0);
    assert_eq!(builder.prune(now()), 1);
    assert_eq!(builder.prune(now()), 0);
    let list = full(&builder, 2, authority.site_ca());
    let serials: Vec<_> = list.entries().map(|entry| entry.serial).collect();
    assert_eq!(serials, [entry(1).serial, entry(2).serial]);
    let changes = delta(&builder, 2, authority.site_ca());
    assert_eq!(changes.entries().collect::<Vec<_>>(), [entry(2)], "the base moved along");
    assert!(builder.push(&entry(0), None), "what is gone can come back");
}

#[test]
fn a_delta_is_merged_into_the_full_list_it_continues() {
    let authority = authority();
    let ca = authority.site_ca();
    let mut builder = builder(0..3);
    assert_eq!(builder.delta(5, validity(), ca).unwrap(), None, "there is no base yet");
    let base = full(&builder, 5, ca);
    builder.set_base(5);
    builder.push(&entry(3), None);
    let changes = delta(&builder, 6, ca);
    assert_eq!((changes.len(), changes.base_number()), (1, Some(&CrlNumber::from(5))));
    assert_eq!(changes.verify_signed_by(ca.certificate()), Ok(()));

    let view = CrlView::new(base.clone()).unwrap();
    assert_eq!(view.lookup(&entry(3).serial), None);
    let view = view.with_delta(changes.clone()).unwrap();
    assert_eq!(view.number(), CrlNumber::from(6));
    for number in 0..4 {
        assert_eq!(view.lookup(&entry(number).serial), Some(entry(number)));
    }
    let later = full(&builder, 7, ca);
    let same = CrlView::new(later).unwrap().with_delta(changes.clone()).unwrap();
    assert!(same.delta().is_none(), "the full list is newer");

    // What does not belong together.
    assert!(matches!(CrlView::new(changes.clone()), Err(CrlError::DeltaOnly { .. })));
    let older = CrlView::new(full(&builder, 4, ca)).unwrap();
    let error = older.with_delta(changes.clone()).unwrap_err();
    assert!(matches!(error, CrlError::BaseTooOld { .. }), "{error}");
    let other = site_ca(authority.root(), "another CA", now());
    let stranger = CrlView::new(full(&builder, 5, &other)).unwrap();
    assert!(matches!(stranger.with_delta(changes), Err(CrlError::NotTogether { .. })));
}

/// Serials taken back, by another authority's delta: OpenSSL and we never write them.
#[test]
fn what_a_delta_takes_back_is_not_revoked() {
    let authority = authority();
    let ca = authority.site_ca();
    let base = full(&builder(0..2), 1, ca);
    let taken_back = forge(ca, &[(&entry(0).serial, 8)], Some(1), 2);
    let view = CrlView::new(base).unwrap().with_delta(taken_back).unwrap();
    assert_eq!(view.lookup(&entry(0).serial), None);
    assert_eq!(view.lookup(&entry(1).serial), Some(entry(1)));
    let full = forge_der(ca, &[(&entry(0).serial, 8)], None, 2, &[]);
    assert!(matches!(Crl::from_der(full), Err(CrlError::Malformed { .. })));
}

#[test]
fn the_set_keeps_the_newest_and_says_what_it_knows() {
    let authority = authority();
    let ca = authority.site_ca();
    let issued = authority.client("west").chain().leaf().clone();
    let revoked = RevokedEntry { serial: issued.serial().clone(), ..entry(1) };
    let status = |set: &CrlSet, at| set.status(&issued, ca.certificate(), at);

    let mut set = CrlSet::default();
    assert_eq!(status(&set, now()), CrlStatus::Missing);

    let mut builder = builder(10..12);
    let first = full(&builder, 10, ca);
    builder.set_base(10);
    builder.push(&revoked, None);
    let changes = delta(&builder, 11, ca);

    let mut only_delta = CrlSet::default();
    assert_eq!(only_delta.add(changes.clone(), ca.certificate()), Ok(true));
    let number = CrlNumber::from(11);
    assert_eq!(status(&only_delta, now()), CrlStatus::OnlyDelta { number });

    assert_eq!(set.add(first.clone(), ca.certificate()), Ok(true));
    assert_eq!(status(&set, now()), CrlStatus::Good { number: CrlNumber::from(10) });
    let stale = CrlStatus::Stale { next_update: validity().1 };
    assert_eq!(status(&set, now() + 3 * HOUR), stale);
    assert_eq!(set.add(changes, ca.certificate()), Ok(true));
    assert_eq!(status(&set, now()), CrlStatus::Revoked(revoked.clone()));
    assert_eq!(status(&set, now() + 3 * HOUR), CrlStatus::Revoked(revoked.clone()));
    assert_eq!(set.add(first, ca.certificate()), Ok(false), "an older number is no news");
    assert_eq!(set.views().count(), 1);

    let newest = full(&builder, 12, ca);
    assert_eq!(set.add(newest, ca.certificate()), Ok(true));
    assert_eq!(status(&set, now()), CrlStatus::Revoked(revoked));
}

#[test]
fn a_list_of_somebody_else_is_refused() {
    let authority = authority();
    let other = site_ca(authority.root(), "another CA", now());
    let same_name = TestAuthority::new("demo.example", now());
    let list = full(&builder(0..1), 1, authority.site_ca());
    let mut set = CrlSet::default();
    let wrong = set.add(list.clone(), other.certificate()).unwrap_err();
    assert!(matches!(wrong, CrlError::WrongIssuer { .. }), "{wrong}");
    let other_key = list.verify_signed_by(same_name.site_ca().certificate()).unwrap_err();
    assert!(matches!(other_key, CrlError::KeyId { .. }), "{other_key}");
    let mut der = list.der().to_vec();
    let reason = der.windows(3).position(|window| window == [0x55, 0x1d, 0x14]).unwrap();
    der[reason + 7] ^= 1;
    let bent = Crl::from_der(der).unwrap();
    let error = bent.verify_signed_by(authority.site_ca().certificate()).unwrap_err();
    assert!(matches!(error, CrlError::Signature { .. }), "{error}");
}

#[test]
fn what_would_change_the_meaning_is_refused() {
    let authority = authority();
    let ca = authority.site_ca();
    let read = |extensions: &[Forged]| {
        Crl::from_der(forge_der(ca, &[(&entry(0).serial, 1)], None, 3, extensions))
    };
    assert!(read(&[]).is_ok());
    let unknown = read(&[Forged { oid: &[1, 2, 3, 4], critical: true, content: vec![5, 0] }]);
    assert!(matches!(unknown, Err(CrlError::UnknownCriticalExtension { .. })), "{unknown:?}");
    assert!(read(&[Forged { oid: &[1, 2, 3, 4], critical: false, content: vec![5, 0] }]).is_ok());
    // issuingDistributionPoint: indirectCRL [4], onlySomeReasons [3], onlyContainsAttributeCerts [5].
    let point = |content: &[u8]| {
        let mut der = vec![0x30, u8::try_from(content.len()).unwrap()];
        der.extend(content);
        read(&[Forged { oid: &[2, 5, 29, 28], critical: true, content: der }])
    };
    assert!(matches!(point(&[0x84, 1, 0xff]), Err(CrlError::Indirect { .. })));
    assert!(matches!(point(&[0x83, 2, 1, 2]), Err(CrlError::Scope { .. })));
    assert!(matches!(point(&[0x85, 1, 0xff]), Err(CrlError::Scope { .. })));
    let leaves = point(&[0x81, 1, 0xff]).unwrap();
    assert!(leaves.covers(authority.client("west").chain().leaf()));
    assert!(!leaves.covers(authority.site_ca().certificate()));
    let cas = point(&[0x82, 1, 0xff]).unwrap();
    assert!(!cas.covers(authority.client("west").chain().leaf()));
    let twice = Forged { oid: &[2, 5, 29, 20], critical: false, content: vec![2, 1, 1] };
    assert!(matches!(read(&[twice]), Err(CrlError::Malformed { .. })));
    assert!(matches!(Crl::read(b"hello"), Err(CrlError::Pem(_))));
    assert!(matches!(Crl::read(&[0x30, 0]), Err(CrlError::Malformed { .. })));
}

/// 100,000 entries are far over the 512 kB at which other products break.
#[test]
fn a_hundred_thousand_entries_are_made_and_read() {
    let authority = authority();
    let mut builder = builder(0..100_000);
    let list = full(&builder, 1, authority.site_ca());
    assert!(list.der().len() > 3 * 1024 * 1024, "{} octets", list.der().len());
    assert_eq!(list.len(), 100_000);
    assert_eq!(list.verify_signed_by(authority.site_ca().certificate()), Ok(()));
    for number in [0, 1, 512, 99_999] {
        assert_eq!(list.lookup(&entry(number).serial), Some(entry(number)));
    }
    assert_eq!(list.lookup(&entry(100_000).serial), None);
    builder.set_base(1);
    builder.push(&entry(100_000), None);
    assert!(delta(&builder, 2, authority.site_ca()).der().len() < 1024);
    // PEM of this size is over the limit for certificates, but not for lists.
    assert_eq!(Crl::read(list.to_pem().as_bytes()).unwrap(), list);
}

#[test]
fn openssl_reads_ours_and_we_read_openssl() {
    let Some(openssl) = OpenSsl::find("CRLs for OpenSSL and from it") else { return };
    let authority = authority();
    let der = builder(0..3).full(42, validity(), &[], authority.site_ca()).unwrap();
    openssl.file("ours.crl", der);
    openssl.file("ca.crt", authority.site_ca().certificate().to_pem());
    let text = openssl.must("crl -in ours.crl -inform DER -CAfile ca.crt -noout -text");
    assert!(text.contains("verify OK"), "{text}");
    assert!(text.contains("X509v3 CRL Number: \n                42"), "{text}");

    openssl
        .file("index.txt", "R\t301231235959Z\t261101000000Z,keyCompromise\t1000\tunknown\t/CN=a\n");
    openssl.file("number", "0A\n");
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n";
    openssl.file("ca.cnf", config);
    openssl.must("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -out c.pem -subj /O=Other/CN=Root -days 10");
    openssl.must("ca -gencrl -config ca.cnf -cert c.pem -keyfile k.pem -crldays 3 -out theirs.crl");
    let theirs = Crl::read(&openssl.read("theirs.crl")).unwrap();
    let issuer = Chain::from_pem(&openssl.read("c.pem")).unwrap();
    assert_eq!(theirs.verify_signed_by(issuer.leaf()), Ok(()));
    assert_eq!((theirs.number(), theirs.len()), (CrlNumber::from(10), 1));
    let listed = theirs.lookup(&"1000".parse().unwrap()).unwrap();
    assert_eq!(listed.reason, RevocationReason::KeyCompromise);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Crl::read_all(&bytes);
    }

    /// One octet of a good list changed: read or refused, and never genuine.
    #[test]
    fn bent_lists_are_refused_or_not_genuine(at in any::<prop::sample::Index>(), mask in 1_u8..) {
        let ca = TestAuthority::new("demo.example", now()).site_ca().clone();
        let mut der = builder(0..5).full(1, validity(), &[], &ca).unwrap();
        let index = at.index(der.len());
        der[index] ^= mask;
        if let Ok(crl) = Crl::from_der(der) {
            let _ = (crl.entries().count(), crl.lookup(&entry(0).serial));
            prop_assert!(crl.verify_signed_by(ca.certificate()).is_err());
        }
    }

    #[test]
    fn every_serial_pushed_is_found_and_no_other(serials in prop::collection::btree_set(any::<u64>(), 0..40), probe in any::<u64>()) {
        let ca = TestAuthority::new("demo.example", now()).site_ca().clone();
        let serial = |number: u64| format!("{number:x}").parse::<Serial>().unwrap();
        let mut builder = CrlBuilder::new();
        for number in &serials {
            builder.push(&RevokedEntry { serial: serial(*number), at: now(), reason: RevocationReason::Superseded }, None);
        }
        let crl = full(&builder, 1, &ca);
        prop_assert_eq!(crl.len(), serials.len());
        for number in &serials {
            prop_assert!(crl.lookup(&serial(*number)).is_some());
        }
        prop_assert_eq!(crl.lookup(&serial(probe)).is_some(), serials.contains(&probe));
    }
}

/// An extension that our own builder would not write.
struct Forged {
    oid: &'static [u64],
    critical: bool,
    content: Vec<u8>,
}

fn forge(ca: &Issuer, entries: &[(&Serial, u8)], base: Option<u64>, number: u64) -> Crl {
    Crl::from_der(forge_der(ca, entries, base, number, &[])).unwrap()
}

/// A list with whatever reasons and extensions, signed by `ca` with OpenSSL-free means.
fn forge_der(
    ca: &Issuer,
    entries: &[(&Serial, u8)],
    base: Option<u64>,
    number: u64,
    extra: &[Forged],
) -> Vec<u8> {
    handfast_testkit::lists::forge(ca, validity(), |list| {
        list.number(number);
        if let Some(base) = base {
            list.base(base);
        }
        for (serial, reason) in entries {
            list.entry(serial, now(), *reason);
        }
        for forged in extra {
            list.extension(forged.oid, forged.critical, &forged.content);
        }
    })
}
