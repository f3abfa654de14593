//! Issuers whose key is elsewhere, and keys that are encrypted where they lie.

use std::sync::Arc;

use handfast_pki::{
    Csr, CsrError, IssueError, IssueRequest, Issuer, KeyAlgorithm, KeyError, Passphrase,
    PrivateKey, Profile, PublicKey, SignError, Signer, SigningKey, Subject, SystemEntropy,
};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

/// A token, as far as an issuer can tell: how it answers is the test's to say.
#[derive(Debug)]
struct Token {
    key: PrivateKey,
    behaviour: Behaviour,
}

#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Gone,
    Honest,
    Lying,
}

impl Signer for Token {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match self.behaviour {
            Behaviour::Gone => Err(SignError::new("the token `vault` is not there: put it back")),
            Behaviour::Honest => Signer::sign(&self.key, message),
            Behaviour::Lying => Signer::sign(&self.key, b"something else"),
        }
    }
}

/// The test authority's site CA, with its key taken out of the process.
fn in_token(authority: &TestAuthority, behaviour: Behaviour) -> Issuer {
    let ca = authority.site_ca();
    let key = ca.key().software().expect("a software key").clone();
    let signer: Arc<dyn Signer> = Arc::new(Token { key, behaviour });
    Issuer::from_parts(ca.chain().clone(), signer, ca.anchors().clone()).expect("an issuer")
}

fn request() -> IssueRequest {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    IssueRequest::new(Profile::ServiceClient, Subject::new("app"), key.spki_der())
}

#[test]
fn an_issuer_signs_with_a_key_that_is_elsewhere() {
    let authority = TestAuthority::new("demo.example", now());
    let issuer = in_token(&authority, Behaviour::Honest);
    let leaf = issuer.issue(&request(), now(), &mut SystemEntropy).unwrap();
    leaf.verify_signed_by(authority.site_ca().certificate()).unwrap();
    assert!(issuer.key().software().is_none());

    // A CA of its own, and a request for another to sign.
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP384).unwrap();
    let signer: Arc<dyn Signer> = Arc::new(Token { key, behaviour: Behaviour::Honest });
    let key = SigningKey::from(signer);
    let root = IssueRequest::new(Profile::Root, Subject::new("root"), key.spki_der());
    let root = Issuer::self_signed(&root, key.clone(), now(), &mut SystemEntropy).unwrap();
    assert!(root.certificate().is_self_signed());
    let csr = Csr::create(&key, &Subject::new("west site CA")).unwrap();
    assert_eq!(csr.spki_der(), key.spki_der());
}

#[test]
fn a_signer_that_is_gone_is_quoted_and_one_that_lies_is_not_believed() {
    let authority = TestAuthority::new("demo.example", now());
    let issue = |behaviour| {
        in_token(&authority, behaviour).issue(&request(), now(), &mut SystemEntropy).unwrap_err()
    };
    let gone = issue(Behaviour::Gone);
    assert!(matches!(gone, IssueError::Signing { .. }), "{gone:?}");
    assert!(gone.to_string().contains("the token `vault` is not there"), "{gone}");
    assert!(matches!(issue(Behaviour::Lying), IssueError::SelfCheck { .. }));

    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let token = Token { key, behaviour: Behaviour::Gone };
    let no = Csr::create(&token, &Subject::new("west")).unwrap_err();
    assert!(matches!(&no, CsrError::Signing { reason } if reason.contains("vault")), "{no:?}");
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_and_with_nothing_else() {
    let passphrase = Passphrase::new("correct horse battery staple");
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048] {
        let key = PrivateKey::generate(algorithm).unwrap();
        let sealed = key.to_encrypted_pem(&passphrase).unwrap();
        assert!(sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        assert!(PrivateKey::is_encrypted(sealed.as_bytes()));
        assert!(!PrivateKey::is_encrypted(key.to_pkcs8_pem().as_bytes()));
        let opened = PrivateKey::from_pem(sealed.as_bytes(), Some(&passphrase)).unwrap();
        assert_eq!(*opened.to_pkcs8_pem(), *key.to_pkcs8_pem());
        let open = |with| PrivateKey::from_pem(sealed.as_bytes(), with).unwrap_err();
        assert_eq!(open(None), KeyError::PassphraseNeeded);
        assert_eq!(open(Some(&Passphrase::new("incorrect"))), KeyError::WrongPassphrase);
    }
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let twice = [(); 2].map(|()| key.to_encrypted_pem(&passphrase).unwrap());
    assert_ne!(*twice[0], *twice[1], "salt and vector are new each time");
    // Half a file is a fault, never a key.
    let half = &twice[0].as_bytes()[..twice[0].len() / 2];
    assert!(matches!(PrivateKey::from_pem(half, Some(&passphrase)), Err(KeyError::Pem(_))));
}

#[test]
fn openssl_opens_what_we_encrypt_and_sees_the_settings() {
    let Some(openssl) = OpenSsl::find("keys encrypted by us") else { return };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let sealed = key.to_encrypted_pem(&Passphrase::new("correct horse")).unwrap();
    openssl.file("sealed.key", sealed.as_bytes());
    let answer = openssl.run([
        "pkey",
        "-in",
        "sealed.key",
        "-passin",
        "pass:correct horse",
        "-pubout",
        "-outform",
        "DER",
        "-out",
        "spki",
    ]);
    assert!(answer.ok, "{}", answer.text);
    assert_eq!(openssl.read("spki"), key.spki_der());
    let text = openssl.must("asn1parse -in sealed.key");
    for expected in ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    // 600,000 in hexadecimal.
    assert!(text.contains("0927C0"), "{text}");
}

#[test]
fn a_file_of_several_requests_is_read_whole_or_refused() {
    let made = ["site CA", "local CA"].map(|name| {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        Csr::create(&key, &Subject::new(name)).unwrap()
    });
    let text = format!("for the root\n{}and\n{}", made[0].to_pem(), made[1].to_pem());
    let read = Csr::several_from_pem(text.as_bytes()).unwrap();
    assert_eq!(read, made);
    let middle = text.find("REQUEST-----\n").unwrap() + 80;
    let mut damaged = text.clone();
    let other = if &text[middle..=middle] == "A" { "B" } else { "A" };
    damaged.replace_range(middle..=middle, other);
    assert!(Csr::several_from_pem(damaged.as_bytes()).is_err());
    let many = made[0].to_pem().repeat(Csr::MAX_REQUESTS + 1);
    assert_eq!(Csr::several_from_pem(many.as_bytes()).unwrap_err(), CsrError::SeveralRequests);
    assert!(Csr::several_from_pem(b"nothing").is_err());
}
