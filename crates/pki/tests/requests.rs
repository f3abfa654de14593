//! Certificate requests: proof of possession, names against policy, and nothing copied from them.

use handfast_pki::{
    Csr, CsrError, CsrRefusal, IdentityKind, IssueRequest, KeyAlgorithm, PrivateKey, Profile,
    Subject, SystemEntropy,
};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;
use proptest::prelude::*;

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key")
}

fn full_subject() -> Subject {
    Subject::new("east")
        .with_identity("spiffe://demo.example/site/east".parse().expect("an identity"))
        .with_hosts(["east.example", "10.0.0.1", "::1"].map(|host| host.parse().expect("a host")))
}

#[test]
fn names_and_key_round_trip() {
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa2048,
    ] {
        let key = PrivateKey::generate(algorithm).unwrap();
        for subject in [full_subject(), Subject::new("only a name")] {
            let csr = Csr::create(&key, &subject).unwrap();
            let read = Csr::from_pem(csr.to_pem().as_bytes()).unwrap();
            assert_eq!(read, csr);
            assert_eq!(*read.subject(), subject);
            assert_eq!(read.spki_der(), key.spki_der());
            assert!(!read.asks_for_ca());
            assert_eq!(read.check(&subject), Ok(()));
        }
    }
}

#[test]
fn openssl_accepts_ours() {
    let Some(openssl) = OpenSsl::find("requests for OpenSSL") else { return };
    let csr = Csr::create(&key(), &full_subject()).unwrap();
    openssl.file("request.pem", csr.to_pem());
    let text = openssl.must("req -in request.pem -noout -verify -text");
    assert!(text.contains("verify OK"), "{text}");
    assert!(text.contains("URI:spiffe://demo.example/site/east"), "{text}");
}

#[test]
fn whoever_does_not_hold_the_key_is_refused() {
    let der = Csr::create(&key(), &full_subject()).unwrap().der().to_vec();
    // The key of another request under the first one's signature: replace the point.
    let other = key();
    let point = |spki: &[u8]| spki[spki.len() - 65..].to_vec();
    let own = point(Csr::from_der(&der).unwrap().spki_der());
    let at = der.windows(65).position(|window| window == own).unwrap();
    let mut stolen = der.clone();
    stolen[at..at + 65].copy_from_slice(&point(other.spki_der()));
    assert!(matches!(Csr::from_der(&stolen), Err(CsrError::NoProofOfPossession { .. })));
    // Any other name under the same signature.
    let at = der.windows(4).position(|window| window == b"east").unwrap();
    let mut renamed = der;
    renamed[at..at + 4].copy_from_slice(b"west");
    assert!(matches!(Csr::from_der(&renamed), Err(CsrError::NoProofOfPossession { .. })));
}

#[test]
fn names_that_are_not_the_senders_are_refused() {
    let key = key();
    let allowed = full_subject();
    let csr = Csr::create(&key, &allowed).unwrap();
    let kind = |allowed: &Subject| match csr.check(allowed) {
        Err(CsrRefusal::Name { kind, .. }) => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(&Subject { common_name: "west".into(), ..allowed.clone() }), "common name");
    assert_eq!(kind(&Subject { identity: None, ..allowed.clone() }), "identity");
    let west = "spiffe://demo.example/site/west".parse().unwrap();
    assert_eq!(kind(&Subject { identity: Some(west), ..allowed.clone() }), "identity");
    assert_eq!(kind(&Subject { dns: vec![], ..allowed.clone() }), "DNS name");
    assert_eq!(kind(&Subject { ips: vec![], ..allowed.clone() }), "IP address");
    // Less than allowed is fine.
    let less = Csr::create(&key, &Subject::new("east")).unwrap();
    assert_eq!(less.check(&allowed), Ok(()));
}

/// Requests as OpenSSL users make them, greedy ones among them.
#[test]
fn greedy_requests_get_nothing_but_their_key_signed() {
    let Some(openssl) = OpenSsl::find("greedy requests") else { return };
    openssl.must("ecparam -name prime256v1 -genkey -noout -out key.pem");
    let request = |extensions: &[&str]| {
        let mut words = vec!["req", "-new", "-key", "key.pem", "-subj", "/O=Shop/CN=east"];
        for extension in extensions {
            words.extend(["-addext", extension]);
        }
        words.extend(["-out", "request.pem"]);
        let answer = openssl.run(words);
        assert!(answer.ok, "{}", answer.text);
        Csr::from_pem(&openssl.read("request.pem"))
    };
    let authority = TestAuthority::new("demo.example", now());
    let identity = authority.identity(IdentityKind::Site, "east");
    let allowed = Subject::new("east").with_identity(identity);

    for greedy in [
        &["basicConstraints=critical,CA:TRUE"][..],
        &["keyUsage=critical,keyCertSign,cRLSign"],
        &["basicConstraints=CA:TRUE,pathlen:3", "keyUsage=keyCertSign"],
    ] {
        let csr = request(greedy).unwrap();
        assert!(csr.asks_for_ca(), "{greedy:?}");
        assert_eq!(csr.check(&allowed), Err(CsrRefusal::AsksForCa));
        // Even one who forgets to check gets a leaf out of the issuer.
        let issue = IssueRequest::new(Profile::LinkClient, allowed.clone(), csr.spki_der());
        let made = authority.site_ca().issue(&issue, now(), &mut SystemEntropy).unwrap();
        assert!(!made.is_ca());
        assert!(!made.key_usage().unwrap().key_cert_sign());
    }

    // Extensions that real requests carry do not disturb, and are not copied.
    let csr = request(&[
        "extendedKeyUsage=serverAuth,codeSigning,1.2.3.4",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        "subjectKeyIdentifier=hash",
        "nsComment=hello",
        "tlsfeature=status_request",
    ])
    .unwrap();
    assert_eq!(csr.check(&allowed), Ok(()));
    let issue = IssueRequest::new(Profile::LinkClient, allowed.clone(), csr.spki_der());
    let made = authority.site_ca().issue(&issue, now(), &mut SystemEntropy).unwrap();
    assert_eq!(made.extended_key_usage(), Some(vec![handfast_pki::Eku::ClientAuth]));
    assert_eq!(made.subject(), "CN=east");

    for (names, is_it) in [
        (
            "subjectAltName=URI:spiffe://a.example/x,URI:spiffe://b.example/y",
            CsrError::SeveralIdentities.to_string(),
        ),
        ("subjectAltName=email:me@a.example", "mail me@a.example".to_owned()),
        ("subjectAltName=URI:https://a.example/x", "identity that is none".to_owned()),
        ("subjectAltName=DNS:a_b.example", "'_'".to_owned()),
    ] {
        let error = request(&[names]).unwrap_err().to_string();
        assert!(error.contains(&is_it), "{names}: {error}");
    }

    openssl.must("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key.pem");
    let error = request(&[]).unwrap_err();
    assert!(matches!(error, CsrError::PublicKey(_)), "{error}");
}

#[test]
fn files_that_are_not_one_request() {
    let csr = Csr::create(&key(), &Subject::new("a")).unwrap();
    let twice = csr.to_pem().repeat(2);
    assert_eq!(Csr::from_pem(twice.as_bytes()), Err(CsrError::SeveralRequests));
    let certificate = TestAuthority::new("demo.example", now()).client("east").chain().to_pem();
    let error = Csr::from_pem(certificate.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("it holds CERTIFICATE"), "{error}");
    assert!(matches!(Csr::from_der(&vec![0; Csr::MAX_DER + 1]), Err(CsrError::TooLarge { .. })));
    let mut trailing = csr.der().to_vec();
    trailing.push(0);
    assert_eq!(Csr::from_der(&trailing), Err(CsrError::Malformed));
}

fn fixed_request() -> &'static Csr {
    use std::sync::OnceLock;
    static CSR: OnceLock<Csr> = OnceLock::new();
    CSR.get_or_init(|| Csr::create(&key(), &full_subject()).expect("a request"))
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Csr::from_der(&bytes).map(|csr| csr.asks_for_ca());
        let _ = Csr::from_pem(&bytes).map(|csr| csr.asks_for_ca());
    }

    #[test]
    fn a_cut_request_is_never_accepted(length in any::<prop::sample::Index>()) {
        let der = fixed_request().der();
        prop_assert!(Csr::from_der(&der[..length.index(der.len())]).is_err());
    }
}

#[test]
fn a_request_with_any_bit_flipped_is_refused() {
    let der = fixed_request().der();
    for position in 0..der.len() {
        for bit in 0..8 {
            // Everything is under the signature, is the signature, or is the envelope around both.
            let mut changed = der.to_vec();
            changed[position] ^= 1 << bit;
            assert!(Csr::from_der(&changed).is_err(), "octet {position}, bit {bit}");
        }
    }
}
