//! Issuing: each profile holds exactly what it should, and the rules of the issuer hold.

use std::time::Duration;

use handfast_pki::{
    Certificate, Chain, Credential, Distribution, Eku, IdentityKind, IssueError, IssueRequest,
    Issuer, IssuerError, KeyAlgorithm, NameConstraints, Overrun, PrivateKey, Profile, Purpose,
    Subject, Subtrees, SystemEntropy, verify_chain,
};
use handfast_testkit::authority::{TestAuthority, site_ca};
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", now())
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key")
}

/// A subject that suits the profile.
fn subject(authority: &TestAuthority, profile: Profile) -> Subject {
    let subject = Subject::new(format!("{profile} subject"));
    let subject = match profile.identity_kinds() {
        [] => subject,
        [kind, ..] => subject.with_identity(authority.identity(*kind, "east")),
    };
    if profile.is_server() {
        subject.with_hosts(
            ["east.example", "127.0.0.1", "::1"].map(|host| host.parse().expect("a host")),
        )
    } else {
        subject
    }
}

fn request(authority: &TestAuthority, profile: Profile) -> IssueRequest {
    IssueRequest::new(profile, subject(authority, profile), key().spki_der())
}

fn issue(issuer: &Issuer, request: &IssueRequest) -> Result<Certificate, IssueError> {
    issuer.issue(request, now(), &mut SystemEntropy)
}

#[test]
fn every_profile_holds_what_it_should_and_nothing_else() {
    let authority = authority();
    for profile in Profile::ALL {
        let (made, issuer) = match profile {
            Profile::Root => (authority.root().certificate().clone(), authority.root()),
            Profile::SiteCa => (authority.site_ca().certificate().clone(), authority.root()),
            _ => {
                let made = issue(authority.site_ca(), &request(&authority, profile)).unwrap();
                (made, authority.site_ca())
            }
        };
        assert_eq!(made.version(), 3, "{profile}");
        assert_eq!(made.is_ca(), profile.is_ca(), "{profile}");
        assert_eq!(made.path_len(), profile.path_len().map(u32::from), "{profile}");
        let usage = made.key_usage().unwrap();
        let expected = if profile.is_ca() { "keyCertSign, cRLSign" } else { "digitalSignature" };
        assert_eq!(usage.to_string(), expected, "{profile}");
        assert_eq!(made.extended_key_usage(), profile.eku().map(|eku| vec![eku]), "{profile}");
        assert_eq!(made.subject_key_id().unwrap().len(), 20);
        assert_eq!(made.authority_key_id(), issuer.certificate().subject_key_id());
        assert_eq!(made.not_before(), now() - Duration::from_secs(60));
        assert_eq!(made.not_after(), now() + profile.default_ttl());
        assert!(made.serial().as_bytes().len() <= 16 && !made.serial().is_negative());
        assert!(made.verify_signed_by(issuer.certificate()).is_ok());
        assert!(made.names_issuer(issuer.certificate()));
        assert_eq!(made.is_self_signed(), profile == Profile::Root);
        if !profile.is_ca() {
            let wanted = subject(&authority, profile);
            assert_eq!(made.common_name(), Some(wanted.common_name.as_str()));
            assert_eq!(made.spiffe_id().unwrap(), wanted.identity);
            let dns: Vec<_> = wanted.dns.iter().map(ToString::to_string).collect();
            assert_eq!(made.dns_names(), dns);
            assert_eq!(made.ip_addresses(), wanted.ips);
        }
        let purpose = match profile {
            _ if profile.is_ca() => Purpose::Ca,
            _ if profile.is_server() => Purpose::Server,
            _ => Purpose::Client,
        };
        let chain = issuer.chain_for(made);
        let verdict = verify_chain(&chain, &authority.anchors(), purpose, now());
        assert_eq!(verdict.is_ok(), profile != Profile::OcspSigner, "{profile}: {verdict:?}");
    }
}

#[test]
fn every_algorithm_signs_and_is_signed() {
    let algorithms = [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::Rsa2048,
    ];
    let keys: Vec<_> =
        algorithms.iter().map(|algorithm| PrivateKey::generate(*algorithm).unwrap()).collect();
    for ca_key in &keys {
        let subject = Subject::new("standalone CA");
        let request = IssueRequest::new(Profile::SiteCa, subject, ca_key.spki_der());
        let ca = Issuer::self_signed(&request, ca_key.clone(), now(), &mut SystemEntropy).unwrap();
        for leaf_key in &keys {
            let request =
                IssueRequest::new(Profile::ServiceClient, Subject::new("a"), leaf_key.spki_der());
            let chain = ca.chain_for(issue(&ca, &request).unwrap());
            assert_eq!(chain.len(), 1, "a self-signed CA is not sent along");
            assert_eq!(verify_chain(&chain, ca.anchors(), Purpose::Client, now()), Ok(()));
            assert!(Credential::new(chain, leaf_key.clone(), ca.anchors().clone()).is_ok());
        }
    }
}

#[test]
fn the_chain_of_a_leaf_leaves_the_root_out() {
    let credential = authority().client("east");
    assert_eq!(credential.chain().len(), 2);
    assert!(credential.chain().iter().all(|certificate| !certificate.is_self_issued()));
}

#[test]
fn serials_are_all_different() {
    let authority = authority();
    let request = request(&authority, Profile::LinkClient);
    let mut serials: Vec<_> =
        (0..50).map(|_| issue(authority.site_ca(), &request).unwrap().serial().clone()).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 50);
}

#[test]
fn names_must_suit_the_profile() {
    let authority = authority();
    let ca = authority.site_ca();
    for profile in Profile::ALL.into_iter().filter(|profile| !profile.is_ca()) {
        let good = request(&authority, profile);
        for kind in IdentityKind::ALL {
            let mut other = good.clone();
            other.subject.identity = Some(authority.identity(kind, "east"));
            let allowed = profile.identity_kinds().contains(&kind);
            assert_eq!(issue(ca, &other).is_ok(), allowed, "{profile} {kind}");
        }
        let mut foreign = good.clone();
        foreign.subject.identity = Some("spiffe://demo.example/ns/a/sa/b".parse().unwrap());
        assert!(matches!(issue(ca, &foreign), Err(IssueError::IdentityKind { .. })));
        let mut hosts = good.clone();
        if profile.is_server() {
            let mut wild = good.clone();
            wild.subject = wild.subject.with_hosts(["*.a.example".parse().unwrap()]);
            assert!(matches!(issue(ca, &wild), Err(IssueError::Wildcard { .. })));
            (hosts.subject.dns, hosts.subject.ips) = (vec![], vec![]);
            assert_eq!(issue(ca, &hosts), Err(IssueError::NoHosts { profile }));
        } else {
            hosts.subject = hosts.subject.with_hosts(["a.example".parse().unwrap()]);
            assert_eq!(issue(ca, &hosts), Err(IssueError::HostsOnNonServer { profile }));
        }
        let constrained = good.clone().with_name_constraints(NameConstraints::default());
        assert_eq!(issue(ca, &constrained), Err(IssueError::ConstraintsOnLeaf { profile }));
    }
    let mut nameless = request(&authority, Profile::LinkClient);
    nameless.subject.common_name = String::new();
    assert!(matches!(issue(ca, &nameless), Err(IssueError::Subject(_))));
}

#[test]
fn a_leaf_lives_at_most_a_sixth_of_its_ca() {
    let authority = authority();
    let ca = authority.site_ca();
    assert_eq!(ca.max_leaf_ttl(), (90 * DAY + Duration::from_secs(60)) / 6);
    let longest = request(&authority, Profile::LinkClient).with_ttl(15 * DAY);
    assert!(issue(ca, &longest).is_ok());
    let longer = longest.with_ttl(15 * DAY + Duration::from_secs(11));
    match issue(ca, &longer).unwrap_err() {
        IssueError::LifeTooLong { limit, issuer, .. } => {
            assert_eq!(limit, ca.max_leaf_ttl());
            assert_eq!(issuer, "CN=demo.example site CA");
        }
        other => panic!("{other}"),
    }
    assert_eq!(
        issue(ca, &request(&authority, Profile::LinkClient).with_ttl(30 * DAY + DAY / 2))
            .unwrap_err()
            .to_string(),
        "a life of 30d12h is too long: the CA \"CN=demo.example site CA\" lives 90d, and a leaf may have a sixth of \
         that; ask for 15d at most, or lengthen ca-ttl in the Site and have the CA renewed \
         (`handfast cert renew NAME`)"
    );
    // A CA under the root may live as long as the root has left.
    let sub = IssueRequest::new(Profile::SiteCa, Subject::new("ca"), key().spki_der());
    assert!(issue(authority.root(), &sub.with_ttl(3000 * DAY)).is_ok());
}

#[test]
fn nothing_outlives_its_issuer() {
    let authority = authority();
    let ca = authority.site_ca();
    let request = request(&authority, Profile::LinkClient);
    let end = ca.certificate().not_after();
    let late = end - HOUR;
    assert!(matches!(
        ca.issue(&request, late, &mut SystemEntropy),
        Err(IssueError::BeyondIssuer { issuer_not_after, .. }) if issuer_not_after == end
    ));
    let truncated = request.clone().with_overrun(Overrun::Truncate);
    let made = ca.issue(&truncated, late, &mut SystemEntropy).unwrap();
    assert_eq!(made.not_after(), end);
    let after = end + Duration::from_secs(1);
    assert!(matches!(
        ca.issue(&truncated, after, &mut SystemEntropy),
        Err(IssueError::IssuerExpired { .. })
    ));
    let before = ca.certificate().not_before() - Duration::from_secs(1);
    assert!(matches!(
        ca.issue(&truncated, before, &mut SystemEntropy),
        Err(IssueError::IssuerNotYetValid { .. })
    ));
    // The cushion never reaches back before the issuer's own beginning.
    let first = ca.certificate().not_before();
    let made = ca.issue(&truncated, first, &mut SystemEntropy).unwrap();
    assert_eq!(made.not_before(), first);
}

#[test]
fn impossible_lives_are_refused() {
    let authority = authority();
    let request = request(&authority, Profile::LinkClient);
    for ttl in [Duration::ZERO, Duration::from_millis(999)] {
        let no = issue(authority.site_ca(), &request.clone().with_ttl(ttl));
        assert_eq!(no, Err(IssueError::NoLife));
    }
    let forever = IssueRequest::new(Profile::SiteCa, Subject::new("a"), key().spki_der())
        .with_ttl(Duration::MAX);
    assert_eq!(issue(authority.root(), &forever), Err(IssueError::NoLife));
    let millennia = forever.with_ttl(3_000_000 * DAY).with_overrun(Overrun::Truncate);
    let made = issue(authority.root(), &millennia);
    assert!(
        made.is_err() || made.unwrap().not_after() == authority.root().certificate().not_after()
    );
}

#[test]
fn years_after_2049_are_encoded_as_they_must() {
    let late = "2060-01-01T00:00:00Z".parse().unwrap();
    let authority = TestAuthority::new("demo.example", late);
    let credential = authority.client("east");
    let chain = credential.chain();
    assert_eq!(verify_chain(chain, credential.anchors(), Purpose::Client, late), Ok(()));
    assert_eq!(credential.leaf().not_after(), late + DAY);
}

#[test]
fn a_site_ca_signs_no_ca_and_a_root_only_itself() {
    let authority = authority();
    let sub = request(&authority, Profile::SiteCa);
    assert!(matches!(issue(authority.site_ca(), &sub), Err(IssueError::PathLength { .. })));
    let root = request(&authority, Profile::Root);
    assert_eq!(issue(authority.root(), &root), Err(IssueError::RootByOther));

    let key = key();
    let leaf = IssueRequest::new(Profile::Operator, Subject::new("a"), key.spki_der());
    let no = Issuer::self_signed(&leaf, key.clone(), now(), &mut SystemEntropy).unwrap_err();
    assert_eq!(no, IssueError::NotSelfSigned { profile: Profile::Operator });
    let no = Issuer::self_signed(&root, key, now(), &mut SystemEntropy).unwrap_err();
    assert_eq!(no, IssueError::KeyMismatch);
}

#[test]
fn our_own_issuance_obeys_name_constraints() {
    let authority = authority();
    let constraints = NameConstraints {
        permitted: Subtrees {
            dns: vec!["shop.example".parse().unwrap()],
            ips: vec!["10.1.0.0/16".parse().unwrap()],
        },
        excluded: Subtrees { dns: vec!["secret.shop.example".parse().unwrap()], ips: vec![] },
    };
    let key = key();
    let request = IssueRequest::new(Profile::SiteCa, Subject::new("shop CA"), key.spki_der())
        .with_name_constraints(constraints);
    let certificate = issue(authority.root(), &request).unwrap();
    let chain = authority.root().chain_for(certificate);
    let ca = Issuer::from_parts(chain, key, authority.anchors()).unwrap();

    for (host, allowed) in [
        ("shop.example", true),
        ("a.shop.example", true),
        ("a.secret.shop.example", false),
        ("other.example", false),
        ("10.1.2.3", true),
        ("10.2.2.3", false),
        ("::1", false),
    ] {
        let subject = Subject::new("server")
            .with_identity(authority.identity(IdentityKind::Site, "shop"))
            .with_hosts([host.parse().unwrap()]);
        let key = self::key();
        let request = IssueRequest::new(Profile::SiteServer, subject, key.spki_der());
        match issue(&ca, &request) {
            Ok(made) => {
                assert!(allowed, "{host} was certified");
                let chain = ca.chain_for(made);
                let anchors = authority.anchors();
                assert_eq!(verify_chain(&chain, &anchors, Purpose::Server, now()), Ok(()));
            }
            Err(error) => {
                assert!(!allowed, "{host}: {error}");
                assert!(matches!(error, IssueError::Constraint(_)), "{error}");
            }
        }
    }
    // Clients carry no host names; they are not touched.
    let subject =
        Subject::new("east").with_identity(authority.identity(IdentityKind::Site, "east"));
    let request = IssueRequest::new(Profile::LinkClient, subject, self::key().spki_der());
    assert!(issue(&ca, &request).is_ok());
}

#[test]
fn only_usable_cas_become_issuers() {
    let authority = authority();
    let ca = authority.site_ca();
    let take = |chain: &Chain, key: &PrivateKey| {
        Issuer::from_parts(chain.clone(), key.clone(), authority.anchors())
    };
    assert!(take(ca.chain(), ca.key().software().unwrap()).is_ok());
    let leaf = authority.client("east");
    assert!(matches!(take(leaf.chain(), leaf.key()), Err(IssuerError::NotCa { .. })));
    let v1 = authority.leaf("east").version_1().build();
    assert!(matches!(take(v1.chain(), v1.key()), Err(IssuerError::OldVersion { version: 1, .. })));
    assert!(matches!(take(ca.chain(), &key()), Err(IssuerError::KeyMismatch { .. })));
    let stranger = TestAuthority::new("demo.example", now());
    let no = Issuer::from_parts(ca.chain().clone(), ca.key().clone(), stranger.anchors());
    assert!(matches!(no, Err(IssuerError::Chain { .. })));
}

#[test]
fn another_ca_of_the_same_name_does_not_vouch() {
    let authority = authority();
    let old = authority.client("east");
    let renewed = site_ca(authority.root(), "demo.example site CA", now() + DAY);
    let chain = Chain::new(old.leaf().clone(), renewed.chain().iter().cloned().collect());
    // Another key under the same name does not.
    assert!(verify_chain(&chain, old.anchors(), Purpose::Client, now()).is_err());
    assert_eq!(old.leaf().extended_key_usage(), Some(vec![Eku::ClientAuth]));
}

#[test]
fn pointers_to_revocation_stand_where_they_are_looked_for() {
    let authority = authority();
    let url = |name: &str| vec![format!("http://a.example:9/{name}")];
    let distribution = Distribution {
        crl: url("west.crl"),
        freshest: url("west-delta.crl"),
        ocsp: url("ocsp"),
        issuers: url("west.crt"),
    };
    let good = request(&authority, Profile::LinkClient).with_distribution(distribution.clone());
    let made = issue(authority.site_ca(), &good).unwrap();
    assert_eq!(made.crl_urls(), distribution.crl);
    assert_eq!(made.freshest_crl_urls(), distribution.freshest);
    assert_eq!(made.ocsp_urls(), distribution.ocsp);
    assert_eq!(made.issuer_urls(), distribution.issuers);
    let chain = authority.site_ca().chain_for(made);
    assert_eq!(verify_chain(&chain, &authority.anchors(), Purpose::Client, now()), Ok(()));

    for bad in ["https://a.example/x", "http://", "http://a.example/ x", "http://\u{e4}.example/"] {
        let distribution = Distribution { crl: vec![bad.to_owned()], ..Distribution::default() };
        let error = issue(authority.site_ca(), &good.clone().with_distribution(distribution));
        assert!(matches!(error, Err(IssueError::Distribution { .. })), "{bad}: {error:?}");
    }
    let many = Distribution { ocsp: vec![url("a").remove(0); 9], ..Distribution::default() };
    let error = issue(authority.site_ca(), &good.with_distribution(many));
    assert!(matches!(error, Err(IssueError::Distribution { .. })), "{error:?}");
}

/// Who knows only root A follows leaf, site CA of B, B certified by A; and OpenSSL does so too.
#[test]
fn a_cross_certificate_bridges_two_roots() {
    let a = authority();
    let b = TestAuthority::new("next.example", now());
    let cross = a.root().cross_sign(b.root().certificate(), now(), &mut SystemEntropy).unwrap();
    assert!(cross.verify_signed_by(a.root().certificate()).is_ok());
    assert_eq!(cross.subject(), b.root().certificate().subject());
    assert_eq!(cross.spki_der(), b.root().certificate().spki_der());
    assert_eq!(cross.subject_key_id(), b.root().certificate().subject_key_id());
    assert_eq!(cross.authority_key_id(), a.root().certificate().subject_key_id());
    assert_eq!((cross.is_ca(), cross.path_len()), (true, Some(1)));
    assert_eq!(cross.key_usage().unwrap().to_string(), "keyCertSign, cRLSign");

    let client = b.client("west");
    let mut rest = client.chain().rest().to_vec();
    assert!(verify_chain(client.chain(), &a.anchors(), Purpose::Client, now()).is_err());
    rest.push(cross.clone());
    let bridged = Chain::new(client.leaf().clone(), rest.clone());
    assert_eq!(verify_chain(&bridged, &a.anchors(), Purpose::Client, now()), Ok(()));
    assert_eq!(verify_chain(&bridged, &b.anchors(), Purpose::Client, now()), Ok(()));
    let taken = Issuer::from_parts(
        Chain::new(b.site_ca().certificate().clone(), vec![cross.clone()]),
        b.site_ca().key().clone(),
        a.anchors(),
    );
    assert!(taken.is_ok(), "{taken:?}");

    if let Some(openssl) = OpenSsl::find("a cross-certificate for OpenSSL") {
        openssl.file("a.pem", a.anchors().to_pem());
        openssl.file("leaf.pem", client.leaf().to_pem());
        openssl.file("rest.pem", rest.iter().map(Certificate::to_pem).collect::<String>());
        openssl.must(&format!(
            "verify -x509_strict -attime {} -CAfile a.pem -untrusted rest.pem leaf.pem",
            now().as_second()
        ));
    }

    let refused = a.site_ca().cross_sign(b.root().certificate(), now(), &mut SystemEntropy);
    assert!(matches!(refused, Err(IssueError::PathLength { .. })), "{refused:?}");
    let refused = a.root().cross_sign(client.leaf(), now(), &mut SystemEntropy);
    assert!(matches!(refused, Err(IssueError::PathLength { .. })), "{refused:?}");
}
