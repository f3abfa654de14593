//! Foreign material: parts in any order and encoding, and what is said about bad ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use handfast_pki::{
    Credential, Encryption, Import, ImportFile, Passphrase, Pkcs12, Purpose, Severity,
    SystemEntropy,
};
use handfast_testkit::authority::TestAuthority;
use jiff::Timestamp;
use proptest::prelude::*;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", now())
}

fn read(files: &[(&str, &[u8])]) -> Import {
    read_with(files, None)
}

fn read_with(files: &[(&str, &[u8])], passphrase: Option<&str>) -> Import {
    let files: Vec<ImportFile<'_>> =
        files.iter().map(|(name, bytes)| ImportFile { name, bytes }).collect();
    let passphrase = passphrase.map(Passphrase::new);
    Import::read(&files, passphrase.as_ref(), None, now())
}

fn codes(import: &Import, severity: Severity) -> Vec<&'static str> {
    import
        .remarks
        .iter()
        .filter(|remark| remark.severity == severity)
        .map(|remark| remark.code)
        .collect()
}

/// The certificates of a credential, leaf first, and its anchors, one PEM each.
fn sections(credential: &Credential) -> Vec<String> {
    let chain = credential.chain().iter().chain(credential.anchors().iter());
    chain.map(handfast_pki::Certificate::to_pem).collect()
}

#[test]
fn parts_in_any_order_and_file_become_one_credential() {
    let credential = authority().server("west", &["west.example"]);
    let key = credential.key().to_pkcs8_pem();
    let parts = sections(&credential);
    let backwards: String = parts.iter().rev().cloned().collect();
    let all = format!("{backwards}{}", &*key);
    let crlf = format!("\u{feff}{}", all.replace('\n', "\r\n"));
    for (what, files) in [
        ("one file, backwards", vec![("all.pem", all.as_bytes())]),
        ("Windows", vec![("all.pem", crlf.as_bytes())]),
        ("two files", vec![("tls.key", key.as_bytes()), ("bundle.pem", backwards.as_bytes())]),
        ("DER", vec![("leaf.der", credential.leaf().der()), ("rest.pem", all.as_bytes())]),
    ] {
        let import = read(&files);
        assert!(import.is_usable(), "{what}: {:#?}", import.remarks);
        let again = import.credential().unwrap();
        assert_eq!(again.chain().leaf(), credential.leaf(), "{what}");
        assert_eq!(again.anchors(), credential.anchors(), "{what}");
        assert_eq!(import.purpose, Purpose::Server, "{what}");
        assert!(
            handfast_pki::verify_chain(again.chain(), again.anchors(), Purpose::Server, now())
                .is_ok(),
            "{what}"
        );
    }
    assert!(
        codes(&read(&[("all.pem", all.as_bytes())]), Severity::Notice).contains(&"wrong-order")
    );
    let windows = read(&[("all.pem", crlf.as_bytes())]);
    let notices = codes(&windows, Severity::Notice);
    assert!(notices.contains(&"crlf") && notices.contains(&"byte-order-mark"), "{notices:?}");
}

#[test]
fn pkcs12_is_imported_with_its_passphrase() {
    let credential = authority().client("payments");
    let passphrase = Passphrase::new("changeit");
    let file =
        Pkcs12::write(&credential, "payments", &passphrase, Encryption::Legacy, &mut SystemEntropy);
    let file = file.unwrap();
    let import = read_with(&[("payments.p12", &file)], Some("changeit"));
    assert!(import.is_usable(), "{:#?}", import.remarks);
    assert_eq!(import.credential().unwrap().key().spki_der(), credential.key().spki_der());
    assert!(codes(&import, Severity::Warning).contains(&"legacy-encryption"));
    for wrong in [None, Some("changeme")] {
        let import = read_with(&[("payments.p12", &file)], wrong);
        assert!(
            codes(&import, Severity::Error).contains(&"encrypted-key"),
            "{:#?}",
            import.remarks
        );
        assert!(!import.is_usable());
    }
}

#[test]
fn what_is_missing_is_named() {
    let credential = authority().server("west", &["west.example"]);
    let key = credential.key().to_pkcs8_pem();
    let parts = sections(&credential);
    let [leaf, between, root] = parts.as_slice() else { panic!("a chain of three: {parts:?}") };
    let other = authority().client("east").key().to_pkcs8_pem();
    for (what, text, expect) in [
        ("no issuer", format!("{leaf}{}", &*key), "missing-issuer"),
        ("no intermediate", format!("{leaf}{root}{}", &*key), "missing-issuer"),
        ("no key", format!("{leaf}{between}{root}"), "no-key"),
        ("another key", format!("{leaf}{between}{root}{}", &*other), "key-mismatch"),
        ("only a key", key.to_string(), "no-certificate"),
        ("nothing", "hello".to_owned(), "unreadable"),
        ("cut", leaf[..200].to_owned(), "unreadable"),
    ] {
        let import = read(&[("it.pem", text.as_bytes())]);
        assert!(codes(&import, Severity::Error).contains(&expect), "{what}: {:#?}", import.remarks);
        assert!(!import.is_usable(), "{what}");
        for remark in &import.remarks {
            assert!(!remark.what.is_empty() && !remark.place.is_empty(), "{what}: {remark:?}");
        }
    }
    let missing = read(&[("it.pem", format!("{leaf}{}", &*key).as_bytes())]);
    let issuer = credential.leaf().issuer();
    assert!(missing.remarks.iter().any(|remark| remark.what.contains(issuer)), "{missing:#?}");
    // Without the root the intermediate can be trusted, and that is said.
    let import = read(&[("it.pem", format!("{leaf}{between}{}", &*key).as_bytes())]);
    assert!(import.is_usable(), "{:#?}", import.remarks);
    assert!(codes(&import, Severity::Warning).contains(&"no-root"));
}

#[test]
fn each_known_flaw_has_its_code() {
    let authority = authority();
    let leaf = || authority.leaf("west");
    for (what, credential, expect) in [
        ("version 1", leaf().version_1().build(), "old-version"),
        ("a CA as a leaf", leaf().server(&["h"]).expired().build(), "expired"),
        ("not yet valid", leaf().server(&["h"]).not_yet_valid().build(), "not-yet-valid"),
    ] {
        let pem = credential.to_pem();
        let import = read(&[
            ("tls.crt", pem.tls_crt.as_bytes()),
            ("tls.key", pem.tls_key.as_bytes()),
            ("ca.crt", pem.ca_crt.as_bytes()),
        ]);
        assert!(codes(&import, Severity::Error).contains(&expect), "{what}: {:#?}", import.remarks);
    }
}

#[test]
fn a_ca_is_recognised_with_and_without_its_key() {
    let credential = authority().leaf("sub").ca().build();
    let parts = sections(&credential).concat();
    let key = credential.key().to_pkcs8_pem();
    let with = read(&[("ca.pem", parts.as_bytes()), ("ca.key", key.as_bytes())]);
    assert_eq!(with.purpose, Purpose::Ca);
    assert!(with.chain.is_some() && with.key.is_some() && with.anchors.is_some());
    let root = credential.anchors().iter().next().unwrap().to_pem();
    let without = read(&[("root.pem", root.as_bytes())]);
    assert_eq!(without.purpose, Purpose::Ca);
    assert!(without.is_usable(), "{:#?}", without.remarks);
    assert!(codes(&without, Severity::Notice).contains(&"no-key"));
}

#[test]
fn formats_that_are_not_read_are_named_with_the_way_out() {
    for (bytes, word) in [
        (&[0xfe, 0xed, 0xfe, 0xed, 0, 0][..], "keytool"),
        (&[0xce, 0xce, 0xce, 0xce, 0, 0], "keytool"),
        (b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "pkcs7"),
        (b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n", "openssl x509"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "ssh-keygen"),
        (
            b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "openssl pkcs8 -topk8",
        ),
        (&[0x30, 0x03, 0x02, 0x01, 0x05], "asn1parse"),
    ] {
        let import = read(&[("it", bytes)]);
        assert!(
            import.remarks.iter().any(|remark| remark.remedy.contains(word)),
            "{word}: {:#?}",
            import.remarks
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_never_panic(
        one in prop::collection::vec(any::<u8>(), 0..300),
        two in "(-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY)-----\n|[A-Za-z0-9+/=]{0,64}\n){0,8}",
    ) {
        let import = read(&[("one", &one), ("two", two.as_bytes())]);
        prop_assert!(!import.is_usable());
        prop_assert!(!import.remarks.is_empty());
    }

    /// However the parts are shuffled, the result is the same.
    #[test]
    fn order_does_not_matter(order in Just((0..4_usize).collect::<Vec<_>>()).prop_shuffle()) {
        static PARTS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
            let credential = authority().client("payments");
            let mut parts = sections(&credential);
            parts.push(credential.key().to_pkcs8_pem().to_string());
            parts
        });
        let text: String = order.iter().filter_map(|index| PARTS.get(*index)).map(String::as_str).collect();
        let import = read(&[("all.pem", text.as_bytes())]);
        prop_assert!(import.is_usable(), "{:#?}", import.remarks);
        let chain = import.chain.unwrap();
        prop_assert_eq!(&chain.leaf().to_pem(), &PARTS[0]);
        prop_assert_eq!(chain.len(), 2);
    }
}
