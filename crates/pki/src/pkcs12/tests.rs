//! PKCS#12 against itself; OpenSSL and Java are asked by `tests/suites/foreign-ca.sh`.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{IssueRequest, Issuer, KeyAlgorithm, Profile, Subject, SystemEntropy};

/// Key derivation is slow without optimisation: one file of each kind serves all tests.
static FILES: LazyLock<Vec<(Encryption, Zeroizing<Vec<u8>>)>> = LazyLock::new(|| {
    [Encryption::Modern, Encryption::Legacy]
        .map(|encryption| {
            let written =
                Pkcs12::write(&CREDENTIAL, "west", &passphrase(), encryption, &mut SystemEntropy);
            (encryption, written.unwrap())
        })
        .into()
});

static CREDENTIAL: LazyLock<Credential> = LazyLock::new(|| {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = IssueRequest::new(Profile::SiteCa, Subject::new("a CA"), key.spki_der());
    let issuer = Issuer::self_signed(&request, key, now, &mut SystemEntropy).unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = IssueRequest::new(Profile::Component, Subject::new("payments"), key.spki_der())
        .with_ttl(Duration::from_secs(3600));
    let leaf = issuer.issue(&request, now, &mut SystemEntropy).unwrap();
    Credential::new(issuer.chain_for(leaf), key, issuer.anchors().clone()).unwrap()
});

fn passphrase() -> Passphrase {
    Passphrase::new("pässword")
}

#[test]
fn what_is_written_is_read() {
    for (encryption, file) in FILES.iter() {
        assert!(Pkcs12::is_one(file));
        let read = Pkcs12::read(file, &passphrase()).unwrap();
        assert_eq!(read.encryption, Some(*encryption));
        assert_eq!(read.certificates.first(), Some(CREDENTIAL.leaf()));
        assert_eq!(read.certificates.len(), 2, "the anchor is in it, once");
        assert_eq!(read.keys.len(), 1);
        assert_eq!(read.keys[0].spki_der(), CREDENTIAL.key().spki_der());
        for wrong in ["", "password", "pässword "] {
            let error = Pkcs12::read(file, &Passphrase::new(wrong)).unwrap_err();
            assert_eq!(error, Pkcs12Error::WrongPassphrase, "{wrong:?}");
        }
    }
}

#[test]
fn a_trust_store_has_no_key() {
    let written = Pkcs12::write_trust(
        CREDENTIAL.anchors(),
        "root",
        &passphrase(),
        Encryption::Legacy,
        &mut SystemEntropy,
    );
    let read = Pkcs12::read(&written.unwrap(), &passphrase()).unwrap();
    assert_eq!((read.certificates.len(), read.keys.len()), (1, 0));
}

#[test]
fn what_is_not_pkcs12_is_said_to_be_malformed() {
    assert!(!Pkcs12::is_one(CREDENTIAL.leaf().der()));
    assert!(!Pkcs12::is_one(b"-----BEGIN CERTIFICATE-----"));
    for bytes in [&b""[..], b"0", b"hello", CREDENTIAL.leaf().der(), &[0x30; 400], &[0x30, 0x80]] {
        assert!(Pkcs12::read(bytes, &passphrase()).is_err());
    }
    let long = vec![0x30; Pkcs12::MAX_LEN + 1];
    assert!(matches!(Pkcs12::read(&long, &passphrase()), Err(Pkcs12Error::TooLarge { .. })));
    // Nested deeper than the stack should follow.
    let deep = [0x30, 0x80].repeat(100_000);
    assert_eq!(Pkcs12::read(&deep, &passphrase()).err(), Some(Pkcs12Error::Malformed));
}

#[test]
fn indefinite_lengths_are_read() {
    // The outermost sequence without a length, as NSS writes it.
    let (_, file) = &FILES[1];
    let content = file.get(4..).unwrap();
    let mut indefinite = vec![0x30, 0x80];
    indefinite.extend_from_slice(content);
    indefinite.extend_from_slice(&[0, 0]);
    assert!(Pkcs12::is_one(&indefinite));
    assert_eq!(Pkcs12::read(&indefinite, &passphrase()).unwrap().keys.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A file that was changed is refused or unchanged in what it says; it never panics.
    #[test]
    fn a_changed_octet_is_noticed(at in any::<prop::sample::Index>(), by in 1_u8..) {
        let (_, file) = &FILES[1];
        let mut changed = file.to_vec();
        let at = at.index(changed.len());
        changed[at] ^= by;
        if let Ok(read) = Pkcs12::read(&changed, &passphrase()) {
            prop_assert_eq!(read.keys.len(), 1);
            prop_assert_eq!(read.keys[0].spki_der(), CREDENTIAL.key().spki_der());
        }
    }

    #[test]
    fn a_file_cut_short_is_refused(keep in any::<prop::sample::Index>()) {
        let (_, file) = &FILES[1];
        let keep = keep.index(file.len());
        prop_assert!(Pkcs12::read(&file[..keep], &passphrase()).is_err());
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Pkcs12::read(&bytes, &passphrase());
        let _ = Pkcs12::is_one(&bytes);
    }
}
