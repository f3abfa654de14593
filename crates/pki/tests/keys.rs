//! Private keys: every encoding in, PKCS#8 out, clear refusals for the rest.

use handfast_pki::{KeyAlgorithm, KeyError, Passphrase, PemError, PrivateKey, PublicKeyError};
use handfast_testkit::openssl::OpenSsl;
use proptest::prelude::*;

/// Making RSA keys is slow; the sizes share their code path.
const QUICK: [KeyAlgorithm; 4] = [
    KeyAlgorithm::EcdsaP256,
    KeyAlgorithm::EcdsaP384,
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::Rsa2048,
];

#[test]
fn every_generated_key_round_trips_through_pem_and_der() {
    for algorithm in QUICK {
        let key = PrivateKey::generate(algorithm).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let read = PrivateKey::from_pem(key.to_pkcs8_pem().as_bytes(), None).unwrap();
        assert_eq!(read.algorithm(), algorithm);
        assert_eq!(read.spki_der(), key.spki_der());
        assert_eq!(read.key_id(), key.key_id());
        assert_eq!(*read.to_pkcs8_pem(), *key.to_pkcs8_pem());
        let read = PrivateKey::read(key.to_pki_types().secret_der(), None).unwrap();
        assert_eq!(read.spki_der(), key.spki_der());
    }
}

#[test]
fn rsa_sizes_are_what_was_asked() {
    for (algorithm, bits) in [(KeyAlgorithm::Rsa3072, 3072), (KeyAlgorithm::Rsa4096, 4096)] {
        let key = PrivateKey::generate(algorithm).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.algorithm().to_string(), format!("rsa-{bits}"));
    }
    let other = KeyAlgorithm::RsaOther(2560);
    assert_eq!(PrivateKey::generate(other).unwrap_err(), KeyError::Generation { algorithm: other });
}

#[test]
fn openssl_reads_ours_and_we_read_openssls() {
    let Some(openssl) = OpenSsl::find("keys of OpenSSL") else { return };
    for algorithm in QUICK {
        let key = PrivateKey::generate(algorithm).unwrap();
        openssl.file("ours.key", key.to_pkcs8_pem().as_bytes());
        openssl.must("pkey -in ours.key -pubout -outform DER -out ours.spki");
        assert_eq!(openssl.read("ours.spki"), key.spki_der(), "{algorithm}");
    }

    openssl.must("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.key");
    openssl.must("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key");
    openssl.must("genpkey -algorithm ED25519 -out ed.key");
    openssl.must("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key");
    openssl.must("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2560 -out rsa2560.key");
    for (name, algorithm) in [
        ("p256", KeyAlgorithm::EcdsaP256),
        ("p384", KeyAlgorithm::EcdsaP384),
        ("ed", KeyAlgorithm::Ed25519),
        ("rsa", KeyAlgorithm::Rsa2048),
        ("rsa2560", KeyAlgorithm::RsaOther(2560)),
    ] {
        openssl.must(&format!("pkey -in {name}.key -pubout -outform DER -out spki"));
        let spki = openssl.read("spki");
        let check = |file: &str, passphrase: Option<&Passphrase>| {
            let key = PrivateKey::read(&openssl.read(file), passphrase)
                .unwrap_or_else(|error| panic!("{name} {file}: {error}"));
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.spki_der(), spki);
        };
        check(&format!("{name}.key"), None);
        openssl.must(&format!("pkcs8 -topk8 -nocrypt -in {name}.key -outform DER -out pkcs8.der"));
        check("pkcs8.der", None);
        if name != "ed" {
            // PKCS#1 for RSA, SEC 1 for curves.
            openssl.must(&format!("pkey -in {name}.key -traditional -out old.pem"));
            check("old.pem", None);
            openssl.must(&format!("pkey -in {name}.key -traditional -outform DER -out old.der"));
            check("old.der", None);
        }
        let secret = Passphrase::new("correct horse");
        for how in ["-v2 aes-256-cbc", "-v2 aes-128-cbc -iter 1000", "-scrypt"] {
            if how == "-scrypt" && name != "p256" {
                // Without optimisation scrypt takes seconds, and once tells all.
                continue;
            }
            let crypt = ["pkcs8", "-topk8", "-in"];
            let key = format!("{name}.key");
            for form in ["PEM", "DER"] {
                let tail = ["-outform", form, "-out", "locked", "-passout", "pass:correct horse"];
                let words =
                    crypt.into_iter().chain([key.as_str()]).chain(how.split(' ')).chain(tail);
                let answer = openssl.run(words);
                assert!(answer.ok, "{}", answer.text);
                check("locked", Some(&secret));
                let locked = openssl.read("locked");
                let no = PrivateKey::read(&locked, None).unwrap_err();
                assert_eq!(no, KeyError::PassphraseNeeded);
                let wrong = Passphrase::new("incorrect");
                let no = PrivateKey::read(&locked, Some(&wrong)).unwrap_err();
                assert_eq!(no, KeyError::WrongPassphrase);
            }
        }
    }
}

#[test]
fn curve_parameters_before_an_ec_key_are_passed_over() {
    let Some(openssl) = OpenSsl::find("EC PARAMETERS") else { return };
    openssl.must("ecparam -name prime256v1 -genkey -out key.pem");
    let text = openssl.read("key.pem");
    assert!(text.starts_with(b"-----BEGIN EC PARAMETERS-----"));
    assert_eq!(PrivateKey::from_pem(&text, None).unwrap().algorithm(), KeyAlgorithm::EcdsaP256);
}

#[test]
fn what_cannot_be_used_is_named() {
    let Some(openssl) = OpenSsl::find("unusable keys") else { return };
    let read = |file: &str| PrivateKey::read(&openssl.read(file), None).unwrap_err();

    openssl.must("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small.key");
    assert_eq!(read("small.key"), PublicKeyError::RsaSize { bits: 1024 }.into());
    openssl.must("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key");
    assert!(read("p521.key").to_string().contains("ECDSA P-521 keys are not supported"));
    openssl.must("pkey -in p521.key -traditional -out p521.old");
    assert_eq!(read("p521.old"), KeyError::UnsupportedOrMalformedEc);
    openssl.must("genpkey -algorithm X25519 -out x.key");
    assert!(read("x.key").to_string().starts_with("X25519 keys are not supported"));
    let sealed = [
        "rsa",
        "-aes128",
        "-traditional",
        "-in",
        "small.key",
        "-out",
        "legacy.key",
        "-passout",
        "pass:abcd",
    ];
    assert!(openssl.run(sealed).ok);
    assert_eq!(read("legacy.key"), KeyError::LegacyEncryption);
}

#[test]
fn files_that_are_not_one_key() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let pem = key.to_pkcs8_pem();
    let twice = format!("{}\n{}", *pem, *pem);
    assert_eq!(
        PrivateKey::from_pem(twice.as_bytes(), None).unwrap_err(),
        KeyError::SeveralKeys { first: 1, second: 7 }
    );
    assert_eq!(PrivateKey::read(b"", None).unwrap_err(), PemError::Empty.into());
    let no = PrivateKey::read(b"hello", None).unwrap_err();
    assert!(no.to_string().contains("no private key section"), "{no}");
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no = PrivateKey::read(certificate.as_bytes(), None).unwrap_err();
    assert!(no.to_string().contains("it holds CERTIFICATE"), "{no}");
    let with_certificate = format!("{certificate}{}", *pem);
    assert!(PrivateKey::read(with_certificate.as_bytes(), None).is_ok());
    let mut long = vec![0x30];
    long.resize(PrivateKey::MAX_DER + 1, 0);
    assert!(matches!(PrivateKey::read(&long, None), Err(KeyError::TooLarge { .. })));
}

#[test]
fn a_key_that_would_take_minutes_to_open_is_refused_at_once() {
    let Some(openssl) = OpenSsl::find("key derivation cost") else { return };
    openssl.must("genpkey -algorithm ED25519 -out key.pem");
    openssl.must(
        "pkcs8 -topk8 -in key.pem -v2 aes-256-cbc -iter 1000 -outform DER -out locked -passout pass:abcd",
    );
    let mut locked = openssl.read("locked");
    // Raise the iteration count from INTEGER 1000 to one of four octets...
    let at = locked.windows(4).position(|window| window == [0x02, 0x02, 0x03, 0xe8]).unwrap();
    locked.splice(at..at + 4, [0x02, 0x04, 0x7f, 0xff, 0xff, 0xff]);
    // ...and make the sequences around it two octets longer.
    for position in 0..at {
        let length = usize::from(locked[position + 1]);
        if locked[position] == 0x30 && length < 0x80 && position + 2 + length >= at + 4 {
            locked[position + 1] += 2;
        } else if locked[position] == 0x30 && locked[position + 1] == 0x81 {
            locked[position + 2] += 2;
        }
    }
    let passphrase = Passphrase::new("abcd");
    assert_eq!(PrivateKey::read(&locked, Some(&passphrase)).unwrap_err(), KeyError::EncryptionCost);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = PrivateKey::read(&bytes, None).map(|key| key.algorithm());
        let passphrase = Passphrase::new("x");
        let _ = PrivateKey::from_der(&bytes, Some(&passphrase)).map(|key| key.algorithm());
    }

    #[test]
    fn damaged_keys_never_panic(position in 0_usize..138, value in any::<u8>()) {
        let key = fixed_key();
        let mut der = key.to_pki_types().secret_der().to_vec();
        let position = position % der.len();
        der[position] = value;
        if let Ok(read) = PrivateKey::from_der(&der, None) {
            // What is read can be used.
            prop_assert!(PrivateKey::from_pem(read.to_pkcs8_pem().as_bytes(), None).is_ok());
        }
    }

    #[test]
    fn cut_keys_never_panic(length in 0_usize..138) {
        let der = fixed_key().to_pki_types().secret_der().to_vec();
        let length = length % der.len();
        prop_assert!(PrivateKey::from_der(&der[..length], None).is_err());
    }
}

fn fixed_key() -> PrivateKey {
    use std::sync::OnceLock;
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key")).clone()
}
