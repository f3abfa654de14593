//! Rule 6: no private key is printed, and none stays in memory longer than needed.

use handfast_pki::{Credential, Csr, KeyAlgorithm, Passphrase, PrivateKey, Subject};
use handfast_testkit::authority::TestAuthority;
use jiff::Timestamp;
use zeroize::{ZeroizeOnDrop, Zeroizing};

fn credential() -> Credential {
    TestAuthority::new("demo.example", Timestamp::constant(1_800_000_000, 0)).client("east")
}

/// Twelve characters in a row of the key's base64, or eight of its octets, would give it away.
fn assert_hides(shown: &str, key: &PrivateKey) {
    let pem = key.to_pkcs8_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    // The public key stands at the end of PKCS#8 and may be shown; the secret is before it.
    let secret = &body[..100];
    for start in 0..secret.len() - 12 {
        assert!(!shown.contains(&secret[start..start + 12]), "shows the key: {shown}");
    }
    let der = key.to_pki_types();
    let bytes = format!("{:?}", &der.secret_der()[36..44]);
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "shows the key: {shown}");
}

#[test]
fn debug_of_everything_that_holds_a_key_is_redacted() {
    let authority = TestAuthority::new("demo.example", Timestamp::constant(1_800_000_000, 0));
    let credential = authority.client("east");
    let key = credential.key();
    let pem = credential.to_pem();
    for shown in [
        format!("{key:?} {key:#?}"),
        format!("{credential:?} {credential:#?}"),
        format!("{pem:?} {pem:#?}"),
        format!("{:?}", Csr::create(key, &Subject::new("east")).unwrap()),
    ] {
        assert_hides(&shown, key);
    }
    let ca = authority.site_ca();
    assert_hides(&format!("{ca:#?}"), ca.key().software().unwrap());
    assert_eq!(format!("{key:?}"), "<redacted>");
    assert!(format!("{credential:?}").contains("<redacted>"));
    assert!(format!("{pem:?}").contains("tls_key: \"<redacted>\""));
    assert!(!format!("{:?}", Passphrase::new("open sesame")).contains("sesame"));
}

#[test]
fn errors_about_keys_do_not_show_them() {
    let credential = credential();
    let pem = credential.key().to_pkcs8_pem();
    let half = &pem[..pem.len() / 2];
    let error = PrivateKey::from_pem(half.as_bytes(), None).unwrap_err();
    assert_hides(&format!("{error} {error:?}"), credential.key());
    let swapped = pem.replace("PRIVATE KEY", "RSA PRIVATE KEY");
    let error = PrivateKey::from_pem(swapped.as_bytes(), None).unwrap_err();
    assert_hides(&format!("{error} {error:?}"), credential.key());
    let other = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let (chain, anchors) = (credential.chain().clone(), credential.anchors().clone());
    let error = Credential::new(chain, other.clone(), anchors).unwrap_err();
    assert_hides(&format!("{error} {error:?}"), &other);
}

#[test]
fn what_leaves_as_text_is_wiped_when_dropped() {
    fn wiped<T: ZeroizeOnDrop>(_: &T) {}
    let credential = credential();
    let text: Zeroizing<String> = credential.key().to_pkcs8_pem();
    wiped(&text);
    wiped(&credential.to_pem().tls_key);
}

/// `PrivateKey` has neither `Display` nor anything that would print it: the inherent method of the probe
/// is only there if the trait is, and wins over the one of the trait for everything.
#[test]
fn a_private_key_cannot_be_displayed() {
    struct Probe<T>(std::marker::PhantomData<T>);
    trait Otherwise {
        fn displays(&self) -> bool {
            false
        }
    }
    impl<T> Otherwise for Probe<T> {}
    impl<T: std::fmt::Display> Probe<T> {
        #[expect(clippy::unused_self, reason = "must shadow the method of the trait")]
        fn displays(&self) -> bool {
            true
        }
    }
    assert!(Probe::<String>(std::marker::PhantomData).displays());
    assert!(!Probe::<PrivateKey>(std::marker::PhantomData).displays());
    assert!(!Probe::<Passphrase>(std::marker::PhantomData).displays());
    assert!(!Probe::<Credential>(std::marker::PhantomData).displays());
}
