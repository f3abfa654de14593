//! A test authority: a root, a site CA, and credentials of every kind, good and deliberately bad.
//!
//! Good ones come from `handfast-pki` itself. Bad ones (expired, wrong usage, version 1, CA as leaf, two
//! identities...) cannot be had from it, so they are built here, directly with rcgen. Nothing here
//! reads a clock: the authority is made for a moment, and every certificate is relative to it.

use std::net::IpAddr;
use std::time::Duration;

use handfast_pki::{
    Chain, Credential, Host, IdentityKind, IssueRequest, Issuer, KeyAlgorithm, Name, PrivateKey,
    Profile, SpiffeId, Subject, SystemEntropy, TrustAnchors, TrustDomain,
};
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, SigningKey,
};
use time::OffsetDateTime;

/// A root and a site CA below it, for one trust domain.
#[derive(Clone, Debug)]
pub struct TestAuthority {
    trust_domain: TrustDomain,
    root: Issuer,
    site_ca: Issuer,
    now: Timestamp,
}

impl TestAuthority {
    /// An authority whose CAs are made at `now`. Two of them never trust each other, even with the same
    /// trust domain.
    pub fn new(trust_domain: &str, now: Timestamp) -> Self {
        let trust_domain: TrustDomain = trust_domain.parse().expect("a trust domain");
        let key = ec_key();
        let subject = Subject::new(format!("{trust_domain} root"));
        let request = IssueRequest::new(Profile::Root, subject, key.spki_der());
        let root = Issuer::self_signed(&request, key, now, &mut SystemEntropy).expect("a root");
        let site_ca = site_ca(&root, &format!("{trust_domain} site CA"), now);
        Self { trust_domain, root, site_ca, now }
    }

    /// The moment the authority was made for.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root, which signs the site CA.
    pub fn root(&self) -> &Issuer {
        &self.root
    }

    /// The site CA, which signs everything else.
    pub fn site_ca(&self) -> &Issuer {
        &self.site_ca
    }

    /// The trust bundle: the root.
    pub fn anchors(&self) -> TrustAnchors {
        self.root.anchors().clone()
    }

    /// The identity `spiffe://<trust domain>/<kind>/<name>`.
    pub fn identity(&self, kind: IdentityKind, name: &str) -> SpiffeId {
        let name: Name = name.parse().expect("a name");
        SpiffeId::new(self.trust_domain.clone(), kind, &name)
    }

    /// A good server credential of a site, for these hosts (names or addresses), 24 hours.
    pub fn server(&self, site: &str, hosts: &[&str]) -> Credential {
        let hosts = hosts.iter().map(|host| host.parse::<Host>().expect("a host"));
        let subject = Subject::new(site)
            .with_identity(self.identity(IdentityKind::Site, site))
            .with_hosts(hosts);
        self.issue(Profile::SiteServer, subject)
    }

    /// A good link client credential of a site, 24 hours.
    pub fn client(&self, site: &str) -> Credential {
        let identity = self.identity(IdentityKind::Site, site);
        self.issue(Profile::LinkClient, Subject::new(site).with_identity(identity))
    }

    /// A good credential of any leaf profile, 24 hours.
    pub fn issue(&self, profile: Profile, subject: Subject) -> Credential {
        let key = ec_key();
        let request = IssueRequest::new(profile, subject, key.spki_der());
        let leaf = self.site_ca.issue(&request, self.now, &mut SystemEntropy).expect("a leaf");
        credential(self.site_ca.chain_for(leaf), key, self.anchors())
    }

    /// A leaf to be bent out of shape: begins as a good link client certificate of `name`.
    pub fn leaf(&self, name: &str) -> Leaf<'_> {
        Leaf {
            authority: self,
            common_name: name.to_owned(),
            uris: vec![self.identity(IdentityKind::Site, name).to_string()],
            dns: Vec::new(),
            ips: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            is_ca: IsCa::ExplicitNoCa,
            not_before: self.now - Duration::from_secs(60),
            not_after: self.now + Duration::from_secs(86_400),
            version_1: false,
            algorithm: KeyAlgorithm::EcdsaP256,
        }
    }
}

/// A leaf certificate under construction, signed by the site CA whatever it says.
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `build`"]
pub struct Leaf<'a> {
    authority: &'a TestAuthority,
    common_name: String,
    uris: Vec<String>,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    is_ca: IsCa,
    not_before: Timestamp,
    not_after: Timestamp,
    version_1: bool,
    algorithm: KeyAlgorithm,
}

impl Leaf<'_> {
    /// A server certificate for these hosts (names or addresses) instead of a client one.
    pub fn server(mut self, hosts: &[&str]) -> Self {
        for host in hosts {
            match host.parse::<IpAddr>() {
                Ok(ip) => self.ips.push(ip),
                Err(_) => self.dns.push((*host).to_owned()),
            }
        }
        self.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// Valid between these two moments.
    pub fn valid(mut self, not_before: Timestamp, not_after: Timestamp) -> Self {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }

    /// Ended an hour ago.
    pub fn expired(self) -> Self {
        let now = self.authority.now;
        let hour = Duration::from_secs(3600);
        self.valid(now - 24 * hour, now - hour)
    }

    /// Begins in an hour.
    pub fn not_yet_valid(self) -> Self {
        let now = self.authority.now;
        let hour = Duration::from_secs(3600);
        self.valid(now + hour, now + 24 * hour)
    }

    /// Server authentication instead of client authentication, or the other way round; the names stay.
    pub fn wrong_usage(mut self) -> Self {
        let server = self.usages.contains(&ExtendedKeyUsagePurpose::ServerAuth);
        self.usages = vec![if server {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        self
    }

    /// Both client and server authentication.
    pub fn both_usages(mut self) -> Self {
        self.usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// No extended key usage.
    pub fn without_usage(mut self) -> Self {
        self.usages.clear();
        self
    }

    /// CA:TRUE.
    pub fn ca(mut self) -> Self {
        self.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// One more URI name, whatever it says.
    pub fn uri(mut self, uri: &str) -> Self {
        self.uris.push(uri.to_owned());
        self
    }

    /// This URI name only.
    pub fn only_uri(mut self, uri: &str) -> Self {
        self.uris = vec![uri.to_owned()];
        self
    }

    /// No URI name.
    pub fn without_identity(mut self) -> Self {
        self.uris.clear();
        self
    }

    /// The same site name in another trust domain, signed by this authority nonetheless.
    pub fn other_trust_domain(self, trust_domain: &str) -> Self {
        let uri = format!("spiffe://{trust_domain}/site/{}", self.common_name);
        self.only_uri(&uri)
    }

    /// X.509 version 1: no extensions at all, as sample scripts make them.
    pub fn version_1(mut self) -> Self {
        self.version_1 = true;
        self
    }

    /// A key of another algorithm.
    pub fn algorithm(mut self, algorithm: KeyAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Makes the certificate and a credential around it.
    pub fn build(self) -> Credential {
        let issuer = &self.authority.site_ca;
        let key = PrivateKey::generate(self.algorithm).expect("a key");
        let signer = signer(issuer);
        let holder =
            rcgen::SubjectPublicKeyInfo::from_der(key.spki_der()).expect("a public key for rcgen");
        let ca = issuer.certificate().to_pki_types();
        let rcgen_issuer = rcgen::Issuer::from_ca_cert_der(&ca, &signer).expect("an issuer");
        let made = self.params().signed_by(&holder, &rcgen_issuer).expect("a leaf");
        let der = if self.version_1 {
            without_extensions(made.der(), &signer)
        } else {
            made.der().to_vec()
        };
        let leaf = handfast_pki::Certificate::from_der(der).expect("a certificate");
        credential(issuer.chain_for(leaf), key, self.authority.anchors())
    }

    fn params(&self) -> CertificateParams {
        let text = |text: &String| Ia5String::try_from(text.clone()).expect("ASCII");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.subject_alt_names = self
            .uris
            .iter()
            .map(|uri| SanType::URI(text(uri)))
            .chain(self.dns.iter().map(|name| SanType::DnsName(text(name))))
            .chain(self.ips.iter().copied().map(SanType::IpAddress))
            .collect();
        params.not_before = to_time(self.not_before);
        params.not_after = to_time(self.not_after);
        params.is_ca = self.is_ca;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if matches!(self.is_ca, IsCa::Ca(_)) {
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        params
    }
}

/// A site CA below `root` with a fresh key.
pub fn site_ca(root: &Issuer, common_name: &str, now: Timestamp) -> Issuer {
    let key = ec_key();
    let request = IssueRequest::new(Profile::SiteCa, Subject::new(common_name), key.spki_der());
    let certificate = root.issue(&request, now, &mut SystemEntropy).expect("a site CA");
    Issuer::from_parts(root.chain_for(certificate), key, root.anchors().clone())
        .expect("a usable site CA")
}

fn ec_key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key")
}

fn credential(chain: Chain, key: PrivateKey, anchors: TrustAnchors) -> Credential {
    Credential::new(chain, key, anchors).expect("a credential")
}

pub(crate) fn signer(issuer: &Issuer) -> KeyPair {
    let key = issuer.key().software().expect("a key in this process");
    KeyPair::try_from(&key.to_pki_types()).expect("a key for rcgen")
}

fn to_time(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).expect("a moment in range")
}

/// The same certificate as version 1: the first field (version) and the last (extensions) cut out of the
/// signed part, and signed anew.
fn without_extensions(der: &[u8], signer: &KeyPair) -> Vec<u8> {
    let (fields, algorithm) = yasna::parse_der(der, |reader| {
        reader.read_sequence(|certificate| {
            let fields = certificate.next().read_sequence(|signed| {
                // version, serial, algorithm, issuer, validity, subject, key, extensions
                (0..8).map(|_| signed.next().read_der()).collect::<Result<Vec<_>, _>>()
            })?;
            let algorithm = certificate.next().read_der()?;
            certificate.next().read_bitvec_bytes()?;
            Ok((fields, algorithm))
        })
    })
    .expect("a certificate that rcgen made");
    let signed = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for field in &fields[1..7] {
                writer.next().write_der(field);
            }
        });
    });
    let signature = signer.sign(&signed).expect("a signature");
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&signed);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    })
}
