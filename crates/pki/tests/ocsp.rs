//! OCSP requests and responses, ours and OpenSSL's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use handfast_pki::ocsp::{
    AnswerTimes, CertId, CertStatus, IdHash, OcspError, OcspRequest, OcspResponse, OcspSigner,
    Refusal,
};
use handfast_pki::{
    Certificate, Eku, IssueRequest, Issuer, KeyAlgorithm, PrivateKey, Profile, RevocationReason,
    Subject, SystemEntropy,
};
use handfast_testkit::authority::{TestAuthority, site_ca};
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn times() -> AnswerTimes {
    AnswerTimes { produced_at: now(), this_update: now(), next_update: now() + HOUR }
}

fn revoked() -> CertStatus {
    CertStatus::Revoked { at: now() - HOUR, reason: RevocationReason::KeyCompromise }
}

fn delegated(ca: &Issuer) -> OcspSigner {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request =
        IssueRequest::new(Profile::OcspSigner, Subject::new("OCSP responder"), key.spki_der());
    let certificate = ca.issue(&request, now(), &mut SystemEntropy).unwrap();
    OcspSigner::new(ca.certificate().clone(), certificate, key).unwrap()
}

struct Place {
    authority: TestAuthority,
    leaf: Certificate,
    signer: OcspSigner,
}

fn place() -> Place {
    let authority = TestAuthority::new("demo.example", now());
    let leaf = authority.client("west").chain().leaf().clone();
    let signer = delegated(authority.site_ca());
    Place { authority, leaf, signer }
}

impl Place {
    fn ca(&self) -> &Certificate {
        self.authority.site_ca().certificate()
    }

    fn request(&self, hash: IdHash, nonce: Option<Vec<u8>>) -> OcspRequest {
        OcspRequest { cert_id: CertId::new(hash, self.ca(), self.leaf.serial()), nonce }
    }
}

#[test]
fn every_answer_is_read_back_and_trusted() {
    let place = place();
    let own = OcspSigner::new(
        place.ca().clone(),
        place.ca().clone(),
        place.authority.site_ca().key().clone(),
    )
    .unwrap();
    for signer in [&place.signer, &own] {
        for hash in IdHash::ALL {
            for nonce in [None, Some(vec![7; 32]), Some(vec![0xff; 128])] {
                for status in [CertStatus::Good, CertStatus::Unknown, revoked()] {
                    let request = place.request(hash, nonce.clone());
                    assert!(request.cert_id.is_of(place.ca()));
                    let read = OcspRequest::from_der(&request.to_der()).unwrap();
                    assert_eq!(read, request);
                    let der = signer.answer(&read, status, times()).unwrap();
                    let response = OcspResponse::from_der(&der).unwrap();
                    let answer = response.verify(&request, place.ca(), now()).unwrap();
                    assert_eq!(answer.status, status);
                    assert_eq!(answer.next_update, Some(times().next_update));
                    assert_eq!(response.nonce(), nonce.as_deref(), "echoed exactly");
                    assert_eq!(response.produced_at(), now());
                }
            }
        }
    }
}

#[test]
fn the_signers_certificate_is_for_that_and_nothing_else() {
    let place = place();
    let certificate = place.signer.certificate();
    assert_eq!(certificate.extended_key_usage(), Some(vec![Eku::OcspSigning]));
    assert!(!certificate.is_ca());
    // id-pkix-ocsp-nocheck with NULL.
    let no_check = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 5, 4, 2, 5, 0];
    assert!(certificate.der().windows(no_check.len()).any(|window| window == no_check));
    let refused = |certificate: Certificate, key| {
        OcspSigner::new(place.ca().clone(), certificate, key).unwrap_err()
    };
    let client = place.authority.client("east");
    let error = refused(client.chain().leaf().clone(), client.key().clone());
    assert!(error.to_string().contains("OCSPSigning"), "{error}");
    let other = site_ca(place.authority.root(), "another CA", now());
    let foreign = delegated(&other);
    let error = refused(foreign.certificate().clone(), client.key().clone());
    assert!(matches!(error, OcspError::BadSigner { .. }), "{error}");
}

#[test]
fn answers_that_must_not_be_trusted() {
    let place = place();
    let request = place.request(IdHash::Sha256, Some(vec![1; 16]));
    let answer = |signer: &OcspSigner, request: &OcspRequest| {
        let der = signer.answer(request, CertStatus::Good, times()).unwrap();
        OcspResponse::from_der(&der).unwrap()
    };
    let good = answer(&place.signer, &request);
    assert!(good.verify(&request, place.ca(), now()).is_ok());

    let late = good.verify(&request, place.ca(), now() + 2 * HOUR);
    assert!(matches!(late, Err(OcspError::Stale { .. })), "{late:?}");
    let early = good.verify(&request, place.ca(), now() - HOUR);
    assert!(matches!(early, Err(OcspError::UnknownSigner { .. } | OcspError::NotYetValid { .. })));
    let replayed = OcspRequest { nonce: Some(vec![2; 16]), ..request.clone() };
    let error = good.verify(&replayed, place.ca(), now()).unwrap_err();
    assert_eq!(error, OcspError::WrongNonce);
    let other_leaf = place.authority.client("east").chain().leaf().clone();
    let cert_id = CertId::new(IdHash::Sha256, place.ca(), other_leaf.serial());
    let error = good.verify(&OcspRequest { cert_id, ..request.clone() }, place.ca(), now());
    assert!(matches!(error, Err(OcspError::NotAnswered { .. })), "{error:?}");

    // A responder of another CA, and a client certificate of the right one.
    let other = site_ca(place.authority.root(), "another CA", now());
    let foreign = answer(&delegated(&other), &request);
    let error = foreign.verify(&request, place.ca(), now()).unwrap_err();
    assert!(matches!(error, OcspError::UnknownSigner { .. }), "{error}");

    let der = place.signer.answer(&request, CertStatus::Good, times()).unwrap();
    for index in 0..der.len() {
        let mut bent = der.clone();
        bent[index] ^= 0x01;
        let Ok(response) = OcspResponse::from_der(&bent) else { continue };
        if let Ok(answer) = response.verify(&request, place.ca(), now()) {
            // Only what is not under the signature: the certificate sent along is, by its own.
            assert_eq!(answer.status, CertStatus::Good, "octet {index}");
        }
    }
}

#[test]
fn requests_that_are_refused() {
    let place = place();
    let good = place.request(IdHash::Sha1, None);
    let nonce = |octets| place.request(IdHash::Sha1, Some(vec![1; octets])).to_der();
    assert!(OcspRequest::from_der(&nonce(128)).is_ok());
    assert_eq!(OcspRequest::from_der(&nonce(129)), Err(OcspError::Nonce { octets: 129 }));
    assert_eq!(OcspRequest::from_der(&nonce(0)), Err(OcspError::Nonce { octets: 0 }));
    let large = OcspRequest::from_der(&vec![0x30; OcspRequest::MAX_DER + 1]);
    assert!(matches!(large, Err(OcspError::TooLarge { .. })));
    assert_eq!(OcspRequest::from_url_path("****"), Err(OcspError::Base64));
    assert_eq!(OcspRequest::from_url_path("%4"), Err(OcspError::Base64));
    assert!(matches!(OcspRequest::from_url_path(""), Err(OcspError::Malformed { .. })));
    // SHA-384 in the place of SHA-256.
    let mut der = place.request(IdHash::Sha256, None).to_der();
    let oid = der.windows(9).position(|w| w == [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]).unwrap();
    der[oid + 8] = 2;
    let error = OcspRequest::from_der(&der).unwrap_err();
    assert_eq!((&error, Refusal::from(&error)), (&OcspError::UnknownHash, Refusal::Unauthorized));
    // Two certificates in one request.
    let one = good.to_der();
    let single = &one[6..];
    let list = yasna_sequence(&[single, single].concat());
    let two = yasna_sequence(&yasna_sequence(&list));
    let error = OcspRequest::from_der(&two).unwrap_err();
    assert_eq!(error, OcspError::Several { count: 2 });
    assert_eq!(Refusal::from(&error), Refusal::MalformedRequest);
    for refusal in Refusal::ALL {
        let read = OcspResponse::from_der(&refusal.to_der()).unwrap_err();
        assert_eq!(read, OcspError::Refused { status: refusal });
    }
}

fn yasna_sequence(content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 256);
    let mut der = vec![0x30, 0x81, u8::try_from(content.len()).unwrap()];
    if content.len() < 128 {
        der.remove(1);
    }
    der.extend(content);
    der
}

/// `/` and `+` stand in some base64 of some requests: found by trying serial numbers.
#[test]
fn slash_and_plus_in_a_url_are_read_raw_and_encoded() {
    let place = place();
    let mut seen = [false; 3];
    for serial in 1..2000_u32 {
        let serial = format!("{:08x}", serial.wrapping_mul(0x9e37_79b9)).parse().unwrap();
        let request =
            OcspRequest { cert_id: CertId::new(IdHash::Sha1, place.ca(), &serial), nonce: None };
        let encoded = request.to_url_path();
        assert!(!encoded.contains(['/', '+', '=']));
        assert_eq!(OcspRequest::from_url_path(&encoded).as_ref(), Ok(&request));
        let raw = encoded.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        assert_eq!(OcspRequest::from_url_path(&raw).as_ref(), Ok(&request));
        let lower = encoded.replace("%2B", "%2b").replace("%2F", "%2f");
        assert_eq!(OcspRequest::from_url_path(&lower).as_ref(), Ok(&request));
        for (seen, character) in seen.iter_mut().zip(['/', '+', '=']) {
            *seen |= raw.contains(character);
        }
        if seen == [true; 3] {
            return;
        }
    }
    panic!("no request with all of /, + and =: {seen:?}");
}

#[test]
fn openssl_understands_ours_and_we_understand_openssl() {
    let Some(openssl) = OpenSsl::find("OCSP messages for OpenSSL and from it") else { return };
    let place = place();
    openssl.file("ca.crt", place.ca().to_pem());
    openssl.file("root.crt", place.authority.anchors().to_pem());
    openssl.file("leaf.crt", place.leaf.to_pem());
    for (hash, name) in [(IdHash::Sha1, "sha1"), (IdHash::Sha256, "sha256")] {
        for nonce in ["-nonce", "-no_nonce"] {
            openssl.must(&format!(
                "ocsp -issuer ca.crt -{name} -cert leaf.crt {nonce} -reqout request.der"
            ));
            let request = OcspRequest::from_der(&openssl.read("request.der")).unwrap();
            assert_eq!(request.cert_id, CertId::new(hash, place.ca(), place.leaf.serial()));
            assert_eq!(request.nonce.is_some(), nonce == "-nonce");
            for (status, word) in [(CertStatus::Good, "good"), (revoked(), "revoked")] {
                let der = place.signer.answer(&request, status, times()).unwrap();
                openssl.file("response.der", der);
                let text = openssl.must(&format!(
                    "ocsp -reqin request.der -respin response.der -CAfile root.crt -verify_other ca.crt -resp_text -attime {} -partial_chain",
                    now().as_second()
                ));
                assert!(text.contains("Response verify OK"), "{text}");
                assert!(text.contains(&format!("Cert Status: {word}")), "{text}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = OcspRequest::from_der(&bytes);
        let _ = OcspResponse::from_der(&bytes).map(|response| response.answers().len());
    }

    #[test]
    fn any_path_is_read_or_refused(path in "[A-Za-z0-9+/=%]{0,200}") {
        let _ = OcspRequest::from_url_path(&path);
    }

    #[test]
    fn requests_round_trip(serial in 1_u64.., nonce in prop::option::of(prop::collection::vec(any::<u8>(), 1..=128))) {
        let ca = TestAuthority::new("demo.example", now()).site_ca().certificate().clone();
        let cert_id = CertId::new(IdHash::Sha256, &ca, &format!("{serial:x}").parse().unwrap());
        let request = OcspRequest { cert_id, nonce };
        let read = OcspRequest::from_der(&request.to_der());
        prop_assert_eq!(read.as_ref(), Ok(&request));
        let read = OcspRequest::from_url_path(&request.to_url_path());
 prop_assert_eq!(read.as_ref(), Ok(&request));
    }
}
