//! Certificate extensions as plain values: what a certificate says it may do, and for whom.

use std::fmt;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};

use crate::constraints::ReadConstraints;
use crate::distribution::{self, FRESHEST_CRL};

/// An extended key usage (RFC 5280 section 4.2.1.12).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Eku {
    /// `anyExtendedKeyUsage`.
    Any,
    /// TLS client authentication.
    ClientAuth,
    /// Code signing.
    CodeSigning,
    /// Mail.
    EmailProtection,
    /// Signing OCSP answers.
    OcspSigning,
    /// Anything else, by its object identifier.
    Other(String),
    /// TLS server authentication.
    ServerAuth,
    /// Time stamping.
    TimeStamping,
}

impl fmt::Display for Eku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Any => "any",
            Self::ClientAuth => "clientAuth",
            Self::CodeSigning => "codeSigning",
            Self::EmailProtection => "emailProtection",
            Self::OcspSigning => "OCSPSigning",
            Self::Other(oid) => oid,
            Self::ServerAuth => "serverAuth",
            Self::TimeStamping => "timeStamping",
        })
    }
}

/// Key usage bits (RFC 5280 section 4.2.1.3). Displays as their names, comma-separated.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct KeyUsage {
    bits: u16,
}

impl KeyUsage {
    /// Signing CRLs.
    pub fn crl_sign(self) -> bool {
        self.bit(6)
    }

    /// Signing handshakes: what every leaf of ours has.
    pub fn digital_signature(self) -> bool {
        self.bit(0)
    }

    /// Signing certificates: what a CA has and a leaf must not have.
    pub fn key_cert_sign(self) -> bool {
        self.bit(5)
    }

    /// RSA key transport, of TLS 1.2 and before.
    pub fn key_encipherment(self) -> bool {
        self.bit(2)
    }

    fn bit(self, number: u16) -> bool {
        self.bits & (1 << number) != 0
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = (0_u16..)
            .zip(KEY_USAGE_NAMES)
            .filter_map(|(number, name)| self.bit(number).then_some(name))
            .collect();
        f.pad(&names.join(", "))
    }
}

const KEY_USAGE_NAMES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

/// Everything read from the extensions of one certificate or request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: Option<(KeyUsage, Critical)>,
    pub(crate) extended_key_usage: Option<Vec<Eku>>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    pub(crate) uris: Vec<String>,
    /// Mail addresses and other kinds of subject alternative name, described.
    pub(crate) other_names: Vec<String>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    /// Whether the authority key identifier also names the issuer and serial.
    pub(crate) authority_by_serial: bool,
    pub(crate) name_constraints: Option<ReadConstraints>,
    pub(crate) crl_urls: Vec<String>,
    pub(crate) freshest_urls: Vec<String>,
    pub(crate) ocsp_urls: Vec<String>,
    pub(crate) issuer_urls: Vec<String>,
    pub(crate) defects: Vec<Defect>,
}

/// Whether an extension is marked critical.
pub(crate) type Critical = bool;

/// Basic constraints (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BasicConstraints {
    pub(crate) critical: Critical,
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
}

/// Something in the extensions that a strict verifier will stumble over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    /// The same extension twice.
    Duplicate(String),
    /// An extension whose content cannot be decoded.
    Malformed(String),
    /// A subject alternative name that cannot be decoded.
    MalformedName(String),
    /// A critical extension nobody here understands: every verifier must refuse it.
    UnknownCritical(String),
}

impl Extensions {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self::read(certificate.extensions())
    }

    /// Reads what is known of `extensions` and notes what is not.
    pub(crate) fn read<'a>(extensions: &'a [X509Extension<'a>]) -> Self {
        let mut read = Self::default();
        for (index, extension) in extensions.iter().enumerate() {
            let earlier = extensions.get(..index).unwrap_or_default();
            if earlier.iter().any(|other| other.oid == extension.oid) {
                read.defects.push(Defect::Duplicate(extension_name(extension)));
            } else {
                read.add(extension);
            }
        }
        read
    }

    fn add(&mut self, extension: &X509Extension<'_>) {
        self.add_pointers(extension);
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(aki) => {
                self.authority_key_id = aki.key_identifier.as_ref().map(|id| id.0.to_vec());
                self.authority_by_serial = aki.authority_cert_serial.is_some();
            }
            ParsedExtension::BasicConstraints(constraints) => {
                self.basic_constraints = Some(BasicConstraints {
                    critical: extension.critical,
                    ca: constraints.ca,
                    path_len: constraints.path_len_constraint,
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = Some(ekus(usage));
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some((KeyUsage { bits: usage.flags }, extension.critical));
            }
            ParsedExtension::NameConstraints(constraints) => {
                self.name_constraints = Some(ReadConstraints::from_extension(constraints));
            }
            ParsedExtension::ParseError { .. } => {
                self.defects.push(Defect::Malformed(extension_name(extension)));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().for_each(|name| self.add_name(name));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => {
                self.subject_key_id = Some(id.0.to_vec());
            }
            // Known to the parser, but neither we nor webpki act on them.
            _ if extension.critical => {
                self.defects.push(Defect::UnknownCritical(extension_name(extension)));
            }
            _ => {}
        }
    }

    /// Where revocation can be looked up. Not something to act on for whoever verifies the certificate.
    fn add_pointers(&mut self, extension: &X509Extension<'_>) {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => {
                (self.ocsp_urls, self.issuer_urls) = distribution::access(access);
            }
            ParsedExtension::CRLDistributionPoints(points) => {
                self.crl_urls = distribution::uris_of(points);
            }
            _ if extension.oid.to_id_string() == FRESHEST_CRL => {
                self.freshest_urls = distribution::uris_of_points(extension.value);
            }
            _ => {}
        }
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(text) => self.dns_names.push((*text).to_owned()),
            GeneralName::IPAddress(octets) => match address(octets) {
                Some(ip) => self.ip_addresses.push(ip),
                None => self.defects.push(Defect::MalformedName(format!(
                    "an IP address of {} octets",
                    octets.len()
                ))),
            },
            GeneralName::Invalid(tag, _) => {
                self.defects.push(Defect::MalformedName(format!("a name of kind {}", tag.0)));
            }
            GeneralName::RFC822Name(mail) => self.other_names.push(format!("mail {mail}")),
            GeneralName::URI(text) => self.uris.push((*text).to_owned()),
            GeneralName::DirectoryName(_) => self.other_names.push("a directory name".to_owned()),
            _ => self.other_names.push("a name of a rare kind".to_owned()),
        }
    }
}

/// The address in the octets of an iPAddress name (RFC 5280 section 4.2.1.6).
fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn ekus(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<Eku> {
    let known = [
        (usage.any, Eku::Any),
        (usage.client_auth, Eku::ClientAuth),
        (usage.code_signing, Eku::CodeSigning),
        (usage.email_protection, Eku::EmailProtection),
        (usage.ocsp_signing, Eku::OcspSigning),
        (usage.server_auth, Eku::ServerAuth),
        (usage.time_stamping, Eku::TimeStamping),
    ];
    let other = usage.other.iter().map(|oid| Eku::Other(oid.to_id_string()));
    known.into_iter().filter_map(|(set, eku)| set.then_some(eku)).chain(other).collect()
}

fn extension_name(extension: &X509Extension<'_>) -> String {
    let oid = extension.oid.to_id_string();
    let name = match oid.as_str() {
        "2.5.29.14" => "subjectKeyIdentifier",
        "2.5.29.15" => "keyUsage",
        "2.5.29.17" => "subjectAltName",
        "2.5.29.18" => "issuerAltName",
        "2.5.29.19" => "basicConstraints",
        "2.5.29.30" => "nameConstraints",
        "2.5.29.31" => "cRLDistributionPoints",
        "2.5.29.32" => "certificatePolicies",
        "2.5.29.33" => "policyMappings",
        "2.5.29.35" => "authorityKeyIdentifier",
        "2.5.29.36" => "policyConstraints",
        "2.5.29.37" => "extendedKeyUsage",
        "2.5.29.54" => "inhibitAnyPolicy",
        "1.3.6.1.5.5.7.1.1" => "authorityInfoAccess",
        _ => return oid,
    };
    name.to_owned()
}
