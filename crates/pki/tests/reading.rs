//! Reading certificates: exact, tolerant, and never a panic, whatever the bytes.

use handfast_pki::{
    Certificate, CertificateError, Chain, ChainReadError, Credential, CredentialError, LintContext,
    PemError, Purpose, Serial, TrustAnchors, lint, verify_chain,
};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;
use proptest::prelude::*;

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn fixed() -> &'static (TestAuthority, Credential) {
    use std::sync::OnceLock;
    static FIXED: OnceLock<(TestAuthority, Credential)> = OnceLock::new();
    FIXED.get_or_init(|| {
        let authority = TestAuthority::new("demo.example", now());
        let server = authority.server("west", &["west.example", "api.west.example", "10.0.0.1"]);
        (authority, server)
    })
}

#[test]
fn we_and_openssl_see_the_same_certificate() {
    let Some(openssl) = OpenSsl::find("certificates for OpenSSL") else { return };
    let (_, credential) = fixed();
    let leaf = credential.leaf();
    openssl.file("leaf.crt", leaf.to_pem());
    let show = |what: &str| openssl.must(&format!("x509 -in leaf.crt -noout {what}"));
    assert!(show("-fingerprint -sha256").contains(&leaf.fingerprint().to_string()));
    let serial: Serial = show("-serial").trim().rsplit('=').next().unwrap().parse().unwrap();
    assert_eq!(&serial, leaf.serial());
    let names = show("-subject -issuer -nameopt RFC2253");
    assert!(names.contains(&format!("subject={}", leaf.subject())), "{names}");
    assert!(names.contains(&format!("issuer={}", leaf.issuer())), "{names}");
    openssl.must("x509 -in leaf.crt -pubkey -noout -out leaf.pub");
    openssl.must("pkey -pubin -in leaf.pub -outform DER -out leaf.spki");
    assert_eq!(openssl.read("leaf.spki"), leaf.spki_der());
}

#[test]
fn names_of_many_parts_and_alphabets() {
    let Some(openssl) = OpenSsl::find("distinguished names") else { return };
    openssl.must("ecparam -name prime256v1 -genkey -noout -out key");
    let name = "/C=AT/O=Bücher, Söhne\\+Co./OU=a\\/b/CN=first/CN=se \"cond\"";
    let made = openssl.run([
        "req", "-x509", "-new", "-utf8", "-key", "key", "-days", "3", "-subj", name, "-out", "crt",
    ]);
    assert!(made.ok, "{}", made.text);
    let read = Chain::from_pem(&openssl.read("crt")).unwrap();
    let leaf = read.leaf();
    assert_eq!(leaf.common_name(), Some("se \"cond\""));
    assert_eq!(leaf.subject(), "CN=se \\\"cond\\\",CN=first,OU=a/b,O=Bücher\\, Söhne\\+Co.,C=AT");
    assert!(leaf.is_self_signed());
}

#[test]
fn chains_and_bundles_as_people_keep_them() {
    let (authority, credential) = fixed();
    let pem = credential.chain().to_pem();
    assert_eq!(&Chain::from_pem(pem.as_bytes()).unwrap(), credential.chain());
    let untidy = format!(
        "0 errors in this bundle\r\n\r\n{}\r\n\r\nsubject=x\n{}\n\n",
        authority.root().certificate().to_pem().replace('\n', "\r\n"),
        authority.root().certificate().to_pem(),
    );
    let anchors = TrustAnchors::from_pem(untidy.as_bytes()).unwrap();
    assert_eq!(anchors, authority.anchors());
    assert!(anchors.contains(authority.root().certificate()));
    // Key and certificates in one file, and plain DER.
    let combined = format!("{}{}", *credential.key().to_pkcs8_pem(), pem);
    assert_eq!(&Chain::from_pem(combined.as_bytes()).unwrap(), credential.chain());
    assert_eq!(Chain::from_pem(credential.leaf().der()).unwrap().len(), 1);

    let many = pem.repeat(9);
    assert_eq!(Chain::from_pem(many.as_bytes()), Err(ChainReadError::TooMany { limit: 16 }));
    assert_eq!(Chain::from_pem(b"\n"), Err(PemError::Empty.into()));
    let key_only = credential.key().to_pkcs8_pem();
    let error = Chain::from_pem(key_only.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("it holds PRIVATE KEY"), "{error}");
    let broken = "x\n-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        Chain::from_pem(broken.as_bytes()),
        Err(ChainReadError::AtLine { line: 2, source: CertificateError::Malformed })
    ));
    let trusted = pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    assert!(matches!(
        Chain::from_pem(trusted.as_bytes()),
        Err(ChainReadError::OpensslTrusted { line: 1 })
    ));
    let mut trailing = credential.leaf().der().to_vec();
    trailing.extend([0, 0]);
    assert_eq!(Certificate::from_der(trailing), Err(CertificateError::TrailingData { octets: 2 }));
    assert!(matches!(
        Certificate::from_der(vec![0x30; Certificate::MAX_DER + 1]),
        Err(CertificateError::TooLarge { .. })
    ));
}

#[test]
fn credentials_say_which_of_their_files_is_wrong() {
    let (authority, credential) = fixed();
    let pem = credential.to_pem();
    let read = |crt: &str, key: &str, ca: &str| {
        Credential::from_pem(crt.as_bytes(), key.as_bytes(), ca.as_bytes(), None)
    };
    let good = read(&pem.tls_crt, &pem.tls_key, &pem.ca_crt).unwrap();
    assert_eq!(good.to_pem(), pem);
    assert_eq!(good.leaf(), credential.leaf());
    for (made, file) in [
        (read("", &pem.tls_key, &pem.ca_crt), "tls.crt"),
        (read(&pem.tls_crt, "", &pem.ca_crt), "tls.key"),
        (read(&pem.tls_crt, &pem.tls_key, ""), "ca.crt"),
    ] {
        let error = made.unwrap_err().to_string();
        assert_eq!(error, format!("{file}: the file is empty"));
    }
    let other = authority.client("east").to_pem();
    assert!(matches!(
        read(&pem.tls_crt, &other.tls_key, &pem.ca_crt),
        Err(CredentialError::KeyMismatch { subject }) if subject == "CN=west"
    ));
    // Leaf and CA in the wrong order are the same mistake.
    let backwards: Vec<_> = credential.chain().iter().map(Certificate::to_pem).collect();
    let backwards: String = backwards.into_iter().rev().collect();
    assert!(matches!(
        read(&backwards, &pem.tls_key, &pem.ca_crt),
        Err(CredentialError::KeyMismatch { .. })
    ));
}

#[test]
fn no_expiry_is_the_end_of_time() {
    let Some(openssl) = OpenSsl::find("the year 9999") else { return };
    openssl.file(
        "x.cnf",
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
         policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n",
    );
    openssl.file("index", "");
    openssl.file("serial", "01\n");
    openssl.must("ecparam -name prime256v1 -genkey -noout -out key");
    openssl.must("req -new -key key -subj /CN=forever -out csr");
    openssl.must(
        "ca -config x.cnf -selfsign -batch -notext -in csr -keyfile key -startdate 20000101000000Z -enddate 99991231235959Z -out crt",
    );
    let read = Chain::from_pem(&openssl.read("crt")).unwrap();
    assert_eq!(read.leaf().not_after(), Timestamp::MAX);
    assert_eq!(read.leaf().not_before(), "2000-01-01T00:00:00Z".parse().unwrap());
}

#[test]
fn a_certificate_with_any_bit_flipped_is_refused_or_not_signed() {
    let (authority, credential) = fixed();
    let der = credential.leaf().der();
    let signed = |der: &[u8]| {
        let read = Certificate::from_der(der)?;
        Ok::<_, CertificateError>(read.verify_signed_by(authority.site_ca().certificate()).is_ok())
    };
    assert_eq!(signed(der), Ok(true));
    for position in 0..der.len() {
        for bit in 0..8 {
            let mut changed = der.to_vec();
            changed[position] ^= 1 << bit;
            assert_ne!(signed(&changed), Ok(true), "octet {position}, bit {bit}");
        }
    }
}

/// Everything one can ask of a certificate.
fn exercise(certificate: &Certificate) {
    let (authority, credential) = fixed();
    let _ = format!("{certificate:?} {}", certificate.serial());
    let _ = certificate.spiffe_id();
    let _ = certificate.is_self_signed();
    let _ = certificate.verify_signed_by(authority.site_ca().certificate());
    let chain = Chain::new(certificate.clone(), credential.chain().rest().to_vec());
    for purpose in [Purpose::Ca, Purpose::Client, Purpose::Server] {
        let findings = lint(certificate, LintContext { purpose, now: now() });
        assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
        let _ = verify_chain(&chain, &authority.anchors(), purpose, now());
        let anchor = TrustAnchors::new(certificate.clone());
        let _ = verify_chain(credential.chain(), &anchor, purpose, now());
    }
    let _ = Credential::new(chain, credential.key().clone(), authority.anchors());
    let again = Certificate::from_der(certificate.der()).expect("reads again");
    assert_eq!(&again, certificate);
    let pem = Chain::from_pem(certificate.to_pem().as_bytes()).expect("reads as PEM");
    assert_eq!(pem.leaf(), certificate);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_changed_certificate_is_refused_or_read_but_never_verified(
        position in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let (authority, credential) = fixed();
        let mut der = credential.leaf().der().to_vec();
        let position = position.index(der.len());
        der[position] ^= change;
        if let Ok(read) = Certificate::from_der(der) {
            exercise(&read);
            let chain = Chain::new(read, credential.chain().rest().to_vec());
            prop_assert!(
                verify_chain(&chain, &authority.anchors(), Purpose::Server, now()).is_err()
            );
        }
    }

    #[test]
    fn a_cut_certificate_is_refused(length in any::<prop::sample::Index>()) {
        let der = fixed().1.leaf().der();
        prop_assert!(Certificate::from_der(&der[..length.index(der.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::from_der(bytes.clone()).map(|read| exercise(&read));
        let _ = Chain::from_pem(&bytes).map(|chain| chain.len());
        let _ = TrustAnchors::from_pem(&bytes).map(|anchors| anchors.len());
    }

    #[test]
    fn spliced_certificates_never_panic(
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 1_usize..40,
    ) {
        let mut der = fixed().1.leaf().der().to_vec();
        let length = length.min(der.len());
        let from = from.index(der.len() - length + 1);
        let to = to.index(der.len() - length + 1);
        der.copy_within(from..from + length, to);
        if let Ok(read) = Certificate::from_der(der) {
            exercise(&read);
        }
    }
}
