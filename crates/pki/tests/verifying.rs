//! Verification: each reason for refusal is found and told apart, with the evidence in it.

use std::time::Duration;

use handfast_pki::{
    Certificate, Chain, ChainError, Credential, IdentityError, Purpose, TrustAnchors, verify_chain,
};
use handfast_testkit::authority::{TestAuthority, site_ca};
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", now())
}

fn verdict(credential: &Credential, purpose: Purpose) -> Result<(), ChainError> {
    verify_chain(credential.chain(), credential.anchors(), purpose, now())
}

#[test]
fn good_ones_pass_for_their_purpose_and_no_other() {
    let authority = authority();
    let client = authority.client("east");
    let server = authority.server("west", &["west.example", "127.0.0.1"]);
    assert_eq!(verdict(&client, Purpose::Client), Ok(()));
    assert_eq!(verdict(&server, Purpose::Server), Ok(()));
    // Rule 4.
    match verdict(&client, Purpose::Server).unwrap_err() {
        ChainError::WrongUsage { subject, needed, stated } => {
            assert_eq!((subject.as_str(), needed.to_string()), ("CN=east", "serverAuth".into()));
            assert_eq!(stated, "clientAuth");
        }
        other => panic!("{other}"),
    }
    assert!(matches!(verdict(&server, Purpose::Client), Err(ChainError::WrongUsage { .. })));
    for purpose in [Purpose::Client, Purpose::Server] {
        let both = authority.leaf("east").both_usages().build();
        assert_eq!(verdict(&both, purpose), Ok(()));
        let none = authority.leaf("east").without_usage().build();
        assert!(matches!(verdict(&none, purpose), Err(ChainError::NoUsage { .. })));
    }
    assert!(matches!(verdict(&client, Purpose::Ca), Err(ChainError::NotCa { .. })));
    let ca = authority.site_ca();
    assert_eq!(verify_chain(ca.chain(), ca.anchors(), Purpose::Ca, now()), Ok(()));
    let ca = authority.root();
    assert_eq!(verify_chain(ca.chain(), ca.anchors(), Purpose::Ca, now()), Ok(()));
}

#[test]
fn bent_leaves_are_told_apart() {
    let authority = authority();
    let client = |credential: Credential| verdict(&credential, Purpose::Client).unwrap_err();

    match client(authority.leaf("east").expired().build()) {
        ChainError::Expired { subject, not_after, now: at } => {
            assert_eq!(subject, "CN=east");
            assert_eq!(not_after, now() - Duration::from_secs(3600));
            assert_eq!(at, now());
        }
        other => panic!("{other}"),
    }
    match client(authority.leaf("east").not_yet_valid().build()) {
        ChainError::NotYetValid { not_before, .. } => {
            assert_eq!(not_before, now() + Duration::from_secs(3600));
        }
        other => panic!("{other}"),
    }
    let error = client(authority.leaf("east").version_1().build());
    assert_eq!(error, ChainError::OldVersion { subject: "CN=east".into(), version: 1 });
    let error = client(authority.leaf("east").ca().build());
    assert_eq!(error, ChainError::CaAsLeaf { subject: "CN=east".into() });
    let error = client(authority.leaf("east").wrong_usage().build());
    assert!(matches!(error, ChainError::WrongUsage { .. }), "{error}");
    // Names and identities are the handshake's business.
    let two = authority.leaf("east").uri("spiffe://demo.example/site/west").build();
    assert_eq!(verdict(&two, Purpose::Client), Ok(()));
    assert!(matches!(
        two.leaf().spiffe_id(),
        Err(IdentityError::SeveralUris { uris }) if uris.len() == 2
    ));
    let other = authority.leaf("east").other_trust_domain("other.example").build();
    let identity = other.leaf().spiffe_id().unwrap().unwrap();
    assert_eq!(identity.trust_domain().as_str(), "other.example");
}

#[test]
fn strangers_are_told_apart() {
    let authority = authority();
    let stranger = TestAuthority::new("stranger.example", now());
    let namesake = self::authority();
    let credential = authority.client("east");
    let verdict = |anchors: &TrustAnchors, chain: &Chain| {
        verify_chain(chain, anchors, Purpose::Client, now()).unwrap_err()
    };

    match verdict(&stranger.anchors(), credential.chain()) {
        ChainError::UnknownIssuer { subject, issuer, anchors } => {
            assert_eq!(subject, "CN=demo.example site CA");
            assert_eq!(issuer, "CN=demo.example root");
            assert!(anchors.starts_with("CN=stranger.example root ("), "{anchors}");
        }
        other => panic!("{other}"),
    }
    match verdict(&namesake.anchors(), credential.chain()) {
        ChainError::BadSignature { issuer, issuer_fingerprint, .. } => {
            assert_eq!(issuer, "CN=demo.example root");
            assert_eq!(issuer_fingerprint, namesake.root().certificate().fingerprint());
        }
        other => panic!("{other}"),
    }
    // The intermediate was not sent along.
    let alone = Chain::from(credential.leaf().clone());
    assert!(matches!(
        verdict(&authority.anchors(), &alone),
        ChainError::UnknownIssuer { subject, .. } if subject == "CN=east"
    ));
    let selfish: Chain = stranger.root().certificate().clone().into();
    assert!(matches!(verdict(&authority.anchors(), &selfish), ChainError::SelfSigned { .. }));
    // Filler in the chain vouches for nothing, and does not disturb either.
    let filler = |leaf: &Certificate| {
        let good = credential.chain().iter().cloned();
        Chain::new(leaf.clone(), good.chain(authority.root().chain().iter().cloned()).collect())
    };
    let foreign = stranger.client("east");
    assert!(matches!(
        verdict(&authority.anchors(), &filler(foreign.leaf())),
        ChainError::UnknownIssuer { .. }
    ));
    let padded = filler(credential.leaf());
    assert_eq!(verify_chain(&padded, &authority.anchors(), Purpose::Client, now()), Ok(()));
}

#[test]
fn intermediates_must_be_good_too() {
    let authority = authority();
    // An expired intermediate under a good leaf.
    let day = Duration::from_secs(86_400);
    let credential = authority.leaf("east").valid(now(), now() + 400 * day).build();
    let late = now() + 100 * day;
    let verdict = verify_chain(credential.chain(), credential.anchors(), Purpose::Client, late);
    assert!(matches!(
        verdict,
        Err(ChainError::Expired { subject, .. }) if subject == "CN=demo.example site CA"
    ));
    // Old and new root side by side; the intermediate trusted directly.
    let both = TestAuthority::new("other.example", now()).anchors();
    let both = both.with(authority.root().certificate().clone());
    let chain = authority.client("east").chain().clone();
    assert_eq!(verify_chain(&chain, &both, Purpose::Client, now()), Ok(()));
    let direct = TrustAnchors::new(authority.site_ca().certificate().clone());
    assert_eq!(verify_chain(&chain, &direct, Purpose::Client, now()), Ok(()));
    // A second CA of the same name in the bundle does not hide the first.
    let twin = site_ca(authority.root(), "demo.example site CA", now());
    let twins = TrustAnchors::new(twin.certificate().clone())
        .with(authority.site_ca().certificate().clone());
    assert_eq!(verify_chain(&chain, &twins, Purpose::Client, now()), Ok(()));
}

#[test]
fn a_leaf_cannot_sign_and_a_long_line_of_cas_is_cut() {
    let Some(openssl) = OpenSsl::find("chains of OpenSSL") else { return };
    openssl.file(
        "x.cnf",
        "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
         [short]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n\
         [mute]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n\
         [demanding]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n1.2.3.4=critical,ASN1:NULL\n\
         [odd]\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n1.2.3.4=critical,ASN1:NULL\n\
         [nc]\nbasicConstraints=critical,CA:TRUE\nnameConstraints=critical,permitted;DNS:shop.example\n\
         [leaf]\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n\
         [server]\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:a.example\n",
    );
    let make = |name: &str, issuer: Option<&str>, section: &str, digest: &str| {
        openssl.must(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        openssl.must(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        let signer = issuer.map_or_else(
            || format!("-signkey {name}.key"),
            |issuer| format!("-CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial"),
        );
        openssl.must(&format!(
            "x509 -req -in {name}.csr {signer} -days 3 -{digest} -extfile x.cnf -extensions {section} -out {name}.crt"
        ));
    };
    let certificate = |name: &str| {
        let read = Chain::from_pem(&openssl.read(&format!("{name}.crt"))).unwrap();
        read.leaf().clone()
    };
    let verdict = |names: &[&str], anchor: &str, purpose| {
        let mut chain = names.iter().map(|name| certificate(name));
        let chain = Chain::new(chain.next().unwrap(), chain.collect());
        let at = chain.leaf().not_before() + Duration::from_secs(60);
        verify_chain(&chain, &TrustAnchors::new(certificate(anchor)), purpose, at)
    };
    make("root", None, "ca", "sha256");
    make("leaf", Some("root"), "leaf", "sha256");
    assert_eq!(verdict(&["leaf"], "root", Purpose::Client), Ok(()));

    make("below", Some("leaf"), "leaf", "sha256");
    let no = verdict(&["below", "leaf"], "root", Purpose::Client);
    assert_eq!(no, Err(ChainError::NotCa { subject: "CN=leaf".into() }));

    make("short", Some("root"), "short", "sha256");
    make("deep", Some("short"), "ca", "sha256");
    make("end", Some("deep"), "leaf", "sha256");
    let no = verdict(&["end", "deep", "short"], "root", Purpose::Client);
    assert!(matches!(no, Err(ChainError::PathLength { limit: 0, below: 1, .. })), "{no:?}");

    let no = verdict(&["deep", "short"], "root", Purpose::Ca);
    assert!(matches!(no, Err(ChainError::PathLength { limit: 0, below: 1, .. })), "{no:?}");

    make("mute", Some("root"), "mute", "sha256");
    make("end", Some("mute"), "leaf", "sha256");
    // webpki does not look at the key usage of CAs, whether they were sent or are trusted.
    let may_not = Err(ChainError::MayNotSign { subject: "CN=mute".into() });
    assert_eq!(verdict(&["end", "mute"], "root", Purpose::Client), may_not);
    assert_eq!(verdict(&["mute"], "root", Purpose::Ca), may_not);
    assert_eq!(verdict(&["end"], "mute", Purpose::Client), may_not);
    // Nor whether what is trusted is a CA at all.
    make("pinned", None, "leaf", "sha256");
    make("end", Some("pinned"), "leaf", "sha256");
    let no = verdict(&["end"], "pinned", Purpose::Client);
    assert_eq!(no, Err(ChainError::NotCa { subject: "CN=pinned".into() }));
    assert_eq!(verdict(&["pinned"], "pinned", Purpose::Client), Ok(()));
    make("demanding", None, "demanding", "sha256");
    make("end", Some("demanding"), "leaf", "sha256");
    let no = verdict(&["end"], "demanding", Purpose::Client);
    assert!(matches!(no, Err(ChainError::UnknownCriticalExtension { .. })), "{no:?}");

    make("odd", Some("root"), "odd", "sha256");
    let no = verdict(&["odd"], "root", Purpose::Client);
    assert!(matches!(no, Err(ChainError::UnknownCriticalExtension { .. })), "{no:?}");

    make("nc", Some("root"), "nc", "sha256");
    make("outside", Some("nc"), "server", "sha256");
    let no = verdict(&["outside", "nc"], "root", Purpose::Server);
    assert!(matches!(no, Err(ChainError::NameConstraint { .. })), "{no:?}");

    make("old", Some("root"), "leaf", "sha1");
    let no = verdict(&["old"], "root", Purpose::Client);
    assert!(matches!(no, Err(ChainError::UnsupportedSignature { .. })), "{no:?}");

    let mut line = vec!["c0".to_owned()];
    make("c0", Some("root"), "ca", "sha256");
    for depth in 1..10 {
        let (name, above) = (format!("c{depth}"), format!("c{}", depth - 1));
        make(&name, Some(&above), "ca", "sha256");
        line.insert(0, name);
    }
    make("end", Some("c9"), "leaf", "sha256");
    let names: Vec<&str> = std::iter::once("end").chain(line.iter().map(String::as_str)).collect();
    let no = verdict(&names, "root", Purpose::Client);
    assert!(matches!(no, Err(ChainError::TooLong { .. })), "{no:?}");
}

#[test]
fn a_self_signed_server_that_is_its_own_anchor_passes() {
    let Some(openssl) = OpenSsl::find("self-signed leaf") else { return };
    openssl.file(
        "x.cnf",
        "[leaf]\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:a.example\n",
    );
    openssl.must("ecparam -name prime256v1 -genkey -noout -out key");
    openssl.must("req -new -key key -subj /CN=a -out csr");
    openssl.must("x509 -req -in csr -signkey key -days 3 -extfile x.cnf -extensions leaf -out crt");
    let chain = Chain::from_pem(&openssl.read("crt")).unwrap();
    let anchors = TrustAnchors::from_pem(&openssl.read("crt")).unwrap();
    let at = chain.leaf().not_before() + Duration::from_secs(60);
    assert_eq!(verify_chain(&chain, &anchors, Purpose::Server, at), Ok(()));
    let late = chain.leaf().not_after() + Duration::from_secs(60);
    let no = verify_chain(&chain, &anchors, Purpose::Server, late);
    assert!(matches!(no, Err(ChainError::Expired { .. })), "{no:?}");
}

#[test]
fn no_message_is_without_the_name_at_fault() {
    let authority = authority();
    for bent in [
        authority.leaf("east").expired(),
        authority.leaf("east").version_1(),
        authority.leaf("east").ca(),
        authority.leaf("east").without_usage(),
    ] {
        let error = verdict(&bent.build(), Purpose::Client).unwrap_err().to_string();
        assert!(error.contains("CN=east"), "{error}");
    }
}
