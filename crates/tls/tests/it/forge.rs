//! Makes certificates, proper and improper, that no issuer of ours would ever sign. Fixtures are
//! made at run time, relative to [`NOW`]; nothing here expires.

use std::net::IpAddr;
use std::time::Duration;

use handfast_pki::{Certificate, Chain, Credential, Crl, PrivateKey, TrustAnchors};
use handfast_tls::probe::Material;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, RevocationReason, RevokedCertParams, SanType,
    SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// The moment at which all tests take place: 2026-06-01T00:00:00Z.
pub(crate) const NOW_SECOND: i64 = 1_780_272_000;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW_SECOND).expect("within range")
}

pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Time-out of everything that must not hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A CA with its key and the chain of CA certificates up to, and not including, the root.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    above: Vec<CertificateDer<'static>>,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_valid(name, -DAY, 3_650 * DAY)
    }

    pub(crate) fn root_valid(name: &str, from: i64, to: i64) -> Self {
        Self::odd_root(name, |params| (params.not_before, params.not_after) = (at(from), at(to)))
    }

    /// A self-signed certificate that is none of a usual root: `change` says in what.
    pub(crate) fn odd_root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name, None, -DAY, 3_650 * DAY);
        change(&mut params);
        let key = KeyPair::generate().expect("key");
        let der = params.self_signed(&key).expect("root").der().clone();
        Self { issuer: Issuer::new(params, key), der, above: Vec::new() }
    }

    pub(crate) fn intermediate(&self, name: &str, path_len: Option<u8>) -> Self {
        self.sign_ca(ca_params(name, path_len, -DAY, 90 * DAY))
    }

    pub(crate) fn odd_intermediate(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name, None, -DAY, 90 * DAY);
        change(&mut params);
        self.sign_ca(params)
    }

    pub(crate) fn intermediate_valid(&self, name: &str, from: i64, to: i64) -> Self {
        self.sign_ca(ca_params(name, Some(0), from, to))
    }

    /// Another certificate for the same CA, with the same key.
    pub(crate) fn renew(&self, ca: &Self, name: &str) -> CertificateDer<'static> {
        let mut params = ca_params(name, Some(0), -HOUR, 90 * DAY);
        // rcgen would make it of the key again.
        params.serial_number = Some(77_u64.into());
        params.signed_by(ca.issuer.key(), &self.issuer).expect("CA").der().clone()
    }

    /// A full revocation list, made a day ago and good until `until` seconds from now.
    pub(crate) fn list(&self, number: u64, until: i64, revoked: &[&CertificateDer<'_>]) -> Crl {
        let revoked_certs = revoked
            .iter()
            .map(|der| {
                let serial = Certificate::from_der(der.to_vec()).expect("certificate");
                RevokedCertParams {
                    serial_number: serial.serial().as_bytes().to_vec().into(),
                    revocation_time: at(-HOUR),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                }
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: at(-DAY),
            next_update: at(until),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = params.signed_by(&self.issuer).expect("list").der().to_vec();
        Crl::from_der(der).expect("list")
    }

    pub(crate) fn constrained(&self, name: &str, dns: &str) -> Self {
        let mut params = ca_params(name, Some(0), -DAY, 90 * DAY);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(dns.to_owned())],
            excluded_subtrees: vec![],
        });
        self.sign_ca(params)
    }

    fn sign_ca(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("key");
        let der = params.signed_by(&key, &self.issuer).expect("CA").der().clone();
        let mut above = vec![der.clone()];
        above.extend(self.above.iter().cloned());
        Self { issuer: Issuer::new(params, key), der, above }
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new(Certificate::from_der(self.der.to_vec()).expect("own certificate"))
    }

    /// A leaf as `leaf` describes it, with the chain that belongs to it.
    pub(crate) fn issue(&self, leaf: &Leaf) -> Issued {
        let key = KeyPair::generate().expect("key");
        let certificate = leaf.params().signed_by(&key, &self.issuer).expect("leaf");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        Issued { chain, key }
    }

    /// The chain of a leaf for a key whose private half nobody has.
    pub(crate) fn issue_for(
        &self,
        leaf: &Leaf,
        key: &impl PublicKeyData,
    ) -> Vec<CertificateDer<'static>> {
        let certificate = leaf.params().signed_by(key, &self.issuer).expect("leaf");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        chain
    }

    /// The chain of a leaf on a curve that none of the usual libraries offers any more: P-192.
    pub(crate) fn issue_on_old_curve(&self, leaf: &Leaf) -> Vec<CertificateDer<'static>> {
        let mut chain = self.issue(leaf).chain;
        // The last octet of the curve's object identifier tells the two apart.
        chain[0] = self.signed_anew(&chain[0], |part| {
            let mut part = part.to_vec();
            if let Some(begin) = part.windows(CURVE_P256.len()).position(|w| w == CURVE_P256) {
                part[begin + CURVE_P256.len() - 1] = 1;
            }
            Some(part)
        });
        chain
    }

    /// The CA's own certificate and key, presented as if it were a leaf.
    pub(crate) fn as_leaf(&self) -> Issued {
        let key = KeyPair::try_from(self.issuer.key().serialized_der()).expect("own key");
        let mut chain = self.above.clone();
        if chain.is_empty() {
            chain.push(self.der.clone());
        }
        Issued { chain, key }
    }

    /// The same leaf as X.509 v1: no version, no extensions, signed anew.
    pub(crate) fn issue_v1(&self, leaf: &Leaf) -> Issued {
        let mut issued = self.issue(leaf);
        issued.chain[0] = self.downgrade(&issued.chain[0]);
        issued
    }

    fn downgrade(&self, certificate: &[u8]) -> CertificateDer<'static> {
        let kept = |part: &[u8]| (!matches!(part[0], 0xa0 | 0xa3)).then(|| part.to_vec());
        self.signed_anew(certificate, kept)
    }

    /// The certificate with each field as `change` makes it, or without, signed anew.
    fn signed_anew(
        &self,
        certificate: &[u8],
        change: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> CertificateDer<'static> {
        let [whole] = children(certificate)[..] else { panic!("one certificate") };
        let parts = children(content(whole));
        let fields: Vec<u8> =
            children(content(parts[0])).into_iter().filter_map(change).flatten().collect();
        let tbs = wrap(0x30, &fields);
        let mut bits = vec![0];
        bits.extend(self.issuer.key().sign(&tbs).expect("sign"));
        let body = [tbs, parts[1].to_vec(), wrap(0x03, &bits)].concat();
        CertificateDer::from(wrap(0x30, &body))
    }
}

/// prime256v1, 1.2.840.10045.3.1.7 (RFC 5480, section 2.1.1.1).
const CURVE_P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// An RSA key with a modulus of so many bits, as certificates carry it. Nobody knows its factors.
pub(crate) struct RsaOf {
    der: Vec<u8>,
}

impl RsaOf {
    pub(crate) fn bits(bits: usize) -> Self {
        let mut modulus = vec![0x00, 0xff];
        modulus.resize(bits / 8 + 1, 0x5b);
        let exponent = wrap(0x02, &[1, 0, 1]);
        Self { der: wrap(0x30, &[wrap(0x02, &modulus), exponent].concat()) }
    }
}

impl PublicKeyData for RsaOf {
    fn der_bytes(&self) -> &[u8] {
        &self.der
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

fn ca_params(name: &str, path_len: Option<u8>, from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(match path_len {
        Some(length) => BasicConstraints::Constrained(length),
        None => BasicConstraints::Unconstrained,
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (at(from), at(to));
    params
}

/// What a leaf says. The default is a link client: site `east` of `demo.example`.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) common_name: String,
    pub(crate) dns: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) uris: Vec<String>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) key_usages: Vec<KeyUsagePurpose>,
    /// Validity in seconds relative to now.
    pub(crate) valid: (i64, i64),
}

impl Leaf {
    /// A site's link client certificate.
    pub(crate) fn client(site: &str) -> Self {
        Self {
            common_name: site.to_owned(),
            dns: vec![],
            ips: vec![],
            uris: vec![format!("spiffe://demo.example/site/{site}")],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            valid: (-HOUR, DAY),
        }
    }

    /// A site's server certificate for `localhost` and 127.0.0.1.
    pub(crate) fn server(site: &str) -> Self {
        Self {
            dns: vec!["localhost".to_owned()],
            ips: vec![IpAddr::from([127, 0, 0, 1])],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..Self::client(site)
        }
    }

    pub(crate) fn uris(mut self, uris: &[&str]) -> Self {
        self.uris = uris.iter().map(|&uri| uri.to_owned()).collect();
        self
    }

    pub(crate) fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.usages = usages.to_vec();
        self
    }

    pub(crate) fn named(mut self, common_name: &str) -> Self {
        common_name.clone_into(&mut self.common_name);
        self
    }

    pub(crate) fn hosts(mut self, dns: &[&str], ips: &[IpAddr]) -> Self {
        self.dns = dns.iter().map(|&name| name.to_owned()).collect();
        self.ips = ips.to_vec();
        self
    }

    pub(crate) fn valid(mut self, from: i64, to: i64) -> Self {
        self.valid = (from, to);
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&self.common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages.clone_from(&self.key_usages);
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        let text = |name: &String| name.clone().try_into().expect("ASCII name");
        params.subject_alt_names = self
            .uris
            .iter()
            .map(|uri| SanType::URI(text(uri)))
            .chain(self.dns.iter().map(|name| SanType::DnsName(text(name))))
            .chain(self.ips.iter().map(|ip| SanType::IpAddress(*ip)))
            .collect();
        (params.not_before, params.not_after) = (at(self.valid.0), at(self.valid.1));
        params
    }
}

/// A chain with the key of its leaf.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Issued {
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// To be presented without any check.
    pub(crate) fn material(&self) -> Material {
        Material::new(self.chain.clone(), self.key_der()).expect("usable key")
    }

    /// To be used as a credential that trusts `anchors`.
    pub(crate) fn credential(&self, anchors: &TrustAnchors) -> Credential {
        let mut certificates =
            self.chain.iter().map(|der| Certificate::from_der(der.to_vec()).expect("certificate"));
        let leaf = certificates.next().expect("leaf");
        let key = PrivateKey::from_der(&self.key.serialize_der(), None).expect("key");
        Credential::new(Chain::new(leaf, certificates.collect()), key, anchors.clone())
            .expect("key matches")
    }

    pub(crate) fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| Certificate::from_der(der.to_vec()).expect("certificate").to_pem())
            .collect()
    }

    /// With one bit of the leaf's signature flipped.
    pub(crate) fn with_bad_signature(mut self) -> Self {
        let mut der = self.chain[0].to_vec();
        *der.last_mut().expect("not empty") ^= 1;
        self.chain[0] = CertificateDer::from(der);
        self
    }
}

/// The same certificate under the other signature that ECDSA allows: (r, n - s) for (r, s). Whoever
/// has seen a certificate can make it, without any key.
pub(crate) fn malleated(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    let [whole] = children(certificate)[..] else { panic!("one certificate") };
    let parts = children(content(whole));
    let [pair] = children(&content(parts[2])[1..])[..] else { panic!("one signature") };
    let numbers = children(content(pair));
    let mut s = [0_u8; 32];
    let significant = content(numbers[1]).strip_prefix(&[0]).unwrap_or(content(numbers[1]));
    s[32 - significant.len()..].copy_from_slice(significant);
    let mut difference = vec![0_u8; 33];
    let mut borrow = 0;
    for place in (0..32).rev() {
        let digit = i16::from(P256_ORDER[place]) - i16::from(s[place]) - borrow;
        borrow = i16::from(digit < 0);
        difference[place + 1] = u8::try_from(digit.rem_euclid(256)).expect("a digit");
    }
    while difference.len() > 1 && difference[0] == 0 && difference[1] < 0x80 {
        difference.remove(0);
    }
    let signature = wrap(0x30, &[numbers[0].to_vec(), wrap(0x02, &difference)].concat());
    let bits = [vec![0], signature].concat();
    let body = [parts[0].to_vec(), parts[1].to_vec(), wrap(0x03, &bits)].concat();
    CertificateDer::from(wrap(0x30, &body))
}

/// FIPS 186-5, section D.1.2.3 (SP 800-186, section 3.2.1.3).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Root `handfast-root`, below it the site CA of `west`, as a trust domain has them.
pub(crate) struct Domain {
    pub(crate) root: Ca,
    pub(crate) site: Ca,
}

impl Domain {
    pub(crate) fn new() -> Self {
        let root = Ca::root("handfast-root");
        let site = root.intermediate("handfast-site-ca", Some(0));
        Self { root, site }
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        self.root.anchors()
    }

    /// The server credential of site `west`.
    pub(crate) fn server(&self) -> Credential {
        self.site.issue(&Leaf::server("west")).credential(&self.anchors())
    }

    /// The link credential of site `east`.
    pub(crate) fn client(&self) -> Credential {
        self.site.issue(&Leaf::client("east")).credential(&self.anchors())
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn at(offset: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW_SECOND + offset).expect("within range")
}

// Just enough DER to take a certificate apart and put it together again.

fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        length @ ..=0x7f => (2, usize::from(length)),
        count => {
            let count = usize::from(count & 0x7f);
            let length =
                der[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (2 + count, length)
        }
    }
}

fn content(element: &[u8]) -> &[u8] {
    &element[header(element).0..]
}

fn children(mut der: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    while !der.is_empty() {
        let (start, length) = header(der);
        let (element, rest) = der.split_at(start + length);
        elements.push(element);
        der = rest;
    }
    elements
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("small").to_be_bytes();
    // The shortest form of the length, as DER demands (X.690 section 10.1).
    let head = match (high, low) {
        (0, ..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head, content].concat()
}
