//! Linting: what a user hands in is told what is wrong with it; what we issue is told nothing.

use std::time::Duration;

use handfast_pki::{
    Certificate, Chain, FindingCode, KeyAlgorithm, LintContext, Purpose, Severity, lint,
};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn codes_at(certificate: &Certificate, purpose: Purpose, now: Timestamp) -> Vec<FindingCode> {
    let findings = lint(certificate, LintContext { purpose, now });
    for finding in &findings {
        assert!(!finding.what.is_empty() && !finding.remedy.is_empty());
    }
    findings.into_iter().map(|finding| finding.code).collect()
}

fn codes(certificate: &Certificate, purpose: Purpose) -> Vec<FindingCode> {
    codes_at(certificate, purpose, now())
}

#[test]
fn ours_have_nothing_wrong() {
    let authority = TestAuthority::new("demo.example", now());
    assert_eq!(codes(authority.root().certificate(), Purpose::Ca), []);
    assert_eq!(codes(authority.site_ca().certificate(), Purpose::Ca), []);
    assert_eq!(codes(authority.client("east").leaf(), Purpose::Client), []);
    assert_eq!(codes(authority.server("west", &["localhost"]).leaf(), Purpose::Server), []);
}

#[test]
fn bent_leaves() {
    let authority = TestAuthority::new("demo.example", now());
    let client =
        |leaf: handfast_testkit::authority::Leaf<'_>| codes(leaf.build().leaf(), Purpose::Client);
    let leaf = || authority.leaf("east");
    assert_eq!(client(leaf()), []);
    assert_eq!(client(leaf().version_1()), [FindingCode::OldVersion]);
    assert_eq!(client(leaf().expired()), [FindingCode::Expired]);
    assert_eq!(client(leaf().not_yet_valid()), [FindingCode::NotYetValid]);
    assert_eq!(client(leaf().ca()), [FindingCode::CaAsLeaf]);
    assert_eq!(client(leaf().without_usage()), [FindingCode::NoUsage]);
    assert_eq!(client(leaf().wrong_usage()), [FindingCode::WrongUsage]);
    assert_eq!(client(leaf().both_usages()), [FindingCode::ClientAndServer]);
    assert_eq!(client(leaf().uri("spiffe://demo.example/site/x")), [FindingCode::Identity]);
    assert_eq!(client(leaf().only_uri("spiffe://Demo/site/x")), [FindingCode::Identity]);
    assert_eq!(client(leaf().without_identity()), [FindingCode::NoSubjectAlternativeName]);
    assert_eq!(client(leaf().algorithm(KeyAlgorithm::Ed25519)), []);
    let day = Duration::from_secs(86_400);
    let decade = leaf().valid(now() - day, now() + 3650 * day);
    assert_eq!(client(decade), [FindingCode::LongValidity]);
    let reversed = leaf().valid(now() + day, now() - day);
    assert_eq!(client(reversed), [FindingCode::ValidityReversed]);
    let ending = leaf().valid(now() - 3 * day, now() + day);
    assert_eq!(client(ending), [FindingCode::ExpiresSoon]);
    // Many wrongs at once: the worst first.
    let bad = leaf().expired().ca().both_usages().build();
    let findings = lint(bad.leaf(), LintContext { purpose: Purpose::Server, now: now() });
    assert!(findings.is_sorted_by(|a, b| a.severity >= b.severity));
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings.iter().any(|finding| finding.code == FindingCode::NameOnlyInCommonName));
    let server = leaf().server(&["bad_name.example"]).build();
    assert_eq!(codes(server.leaf(), Purpose::Server), [FindingCode::MalformedName]);
    let ca = authority.client("east");
    assert_eq!(codes(ca.leaf(), Purpose::Ca), [FindingCode::NotCa]);
}

#[test]
fn what_people_make_with_openssl() {
    let Some(openssl) = OpenSsl::find("linting OpenSSL's certificates") else { return };
    openssl.file(
        "x.cnf",
        "[empty]\nsubjectKeyIdentifier=none\n\
         [any]\nextendedKeyUsage=anyExtendedKeyUsage\n\
         [sign]\nkeyUsage=keyCertSign,digitalSignature\nextendedKeyUsage=clientAuth\n\
         [ka]\nkeyUsage=critical,keyEncipherment\nextendedKeyUsage=clientAuth\n\
         [odd]\nextendedKeyUsage=clientAuth\n1.2.3.4=critical,ASN1:NULL\n\
         [broken]\nextendedKeyUsage=clientAuth\nsubjectAltName=DER:0102\n\
         [serial]\nextendedKeyUsage=clientAuth\nauthorityKeyIdentifier=keyid,issuer:always\n\
         [client]\nextendedKeyUsage=clientAuth\n\
         [softca]\nbasicConstraints=CA:TRUE\n\
         [ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n",
    );
    openssl.must("ecparam -name prime256v1 -genkey -noout -out ca.key");
    openssl.must("req -x509 -new -key ca.key -subj /CN=ca -days 30 -out ca.crt");
    let make = |section: &str, key: &str, extra: &str| {
        openssl.must(&format!("{key} -out leaf.key"));
        openssl.must("req -new -key leaf.key -subj /CN=localhost -out leaf.csr");
        openssl.must(&format!(
            "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -days 30 -extfile x.cnf -extensions {section} {extra} -out leaf.crt"
        ));
        Chain::from_pem(&openssl.read("leaf.crt")).unwrap().leaf().clone()
    };
    let ec = "ecparam -name prime256v1 -genkey -noout";
    let check = |section: &str, extra: &str, purpose, expected: &[FindingCode]| {
        let leaf = make(section, ec, extra);
        let found = codes_at(&leaf, purpose, leaf.not_before() + Duration::from_secs(60));
        for code in expected {
            assert!(found.contains(code), "{section}: {code} not in {found:?}");
        }
        found
    };
    let serial = "-set_serial 1000";
    check("any", serial, Purpose::Client, &[FindingCode::AnyUsage]);
    check("sign", serial, Purpose::Client, &[FindingCode::KeyUsage]);
    check("ka", serial, Purpose::Client, &[FindingCode::KeyUsage]);
    check("odd", serial, Purpose::Client, &[FindingCode::UnknownCriticalExtension]);
    check("broken", serial, Purpose::Client, &[FindingCode::MalformedExtension]);
    check("client", "-set_serial 0", Purpose::Client, &[FindingCode::Serial]);
    check("client", "-set_serial -5", Purpose::Client, &[FindingCode::Serial]);
    let long = format!("-set_serial 0x{}", "7f".repeat(21));
    check("client", &long, Purpose::Client, &[FindingCode::Serial]);
    check("client", "-sha1 -set_serial 9", Purpose::Client, &[FindingCode::WeakSignature]);
    check(
        "client",
        serial,
        Purpose::Server,
        &[FindingCode::WrongUsage, FindingCode::NameOnlyInCommonName],
    );
    check(
        "softca",
        serial,
        Purpose::Ca,
        &[FindingCode::BasicConstraintsNotCritical, FindingCode::KeyUsage],
    );
    check("ca", serial, Purpose::Ca, &[FindingCode::KeyUsage]);
    check("serial", serial, Purpose::Client, &[FindingCode::NoAuthorityKeyId]);

    let weak = make("client", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", serial);
    assert!(codes(&weak, Purpose::Client).contains(&FindingCode::WeakKey));
    assert_eq!(weak.key_algorithm(), "RSA 1024 bits");
    let odd = make("client", "ecparam -name secp521r1 -genkey -noout", serial);
    assert!(codes(&odd, Purpose::Client).contains(&FindingCode::UnsupportedKey));
    assert_eq!(odd.key_algorithm(), "ECDSA P-521");

    // The sample scripts of the field: `x509 -req` without -extfile makes version 1.
    openssl.must(
        "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -set_serial 1 -days 365 -out v1.crt",
    );
    let v1 = Chain::from_pem(&openssl.read("v1.crt")).unwrap().leaf().clone();
    assert_eq!(v1.version(), 1);
    let findings = lint(&v1, LintContext { purpose: Purpose::Client, now: v1.not_before() });
    assert_eq!(findings.iter().filter(|f| f.code == FindingCode::OldVersion).count(), 1);
    assert!(findings[0].to_string().contains("-extfile"), "{}", findings[0]);
}

#[test]
fn codes_are_unique_kebab_case_and_sorted() {
    let texts: Vec<_> = FindingCode::ALL.iter().map(|code| code.as_str()).collect();
    assert!(
        texts.iter().all(|text| text.chars().all(|c| c.is_ascii_lowercase() || "-13".contains(c)))
    );
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), texts.len());
}
