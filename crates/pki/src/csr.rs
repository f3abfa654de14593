//! Certificate requests (PKCS#10, RFC 2986): made with our own names, and checked: whoever sends one
//! must hold its key, and may only ask for names that policy gives him.
//!
//! A request never becomes a certificate by itself. [`crate::Issuer::issue`] takes the public key out of
//! it and nothing else; what the certificate may do comes from the [`crate::Profile`]. A request that asks
//! to be a CA is refused by [`Csr::check`].

use std::fmt;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::FromDer;

use crate::extension::{Defect, Extensions};
use crate::issuance::{self, RcgenKey};
use crate::pem::{self, PemError};
use crate::{
    HostError, KeyError, PublicKey, PublicKeyError, SignatureAlgorithm, SignatureError, Signer,
    SpiffeError, Subject, SubjectError, distinguished_name, signature,
};

/// A certificate request whose signature has been checked.
#[derive(Clone, Eq, PartialEq)]
pub struct Csr {
    der: Vec<u8>,
    subject: Subject,
    public_key: PublicKey,
    asks_for_ca: bool,
}

impl Csr {
    /// The largest request read, in octets.
    pub const MAX_DER: usize = 16 * 1024;
    /// The most requests read from one file.
    pub const MAX_REQUESTS: usize = 16;

    /// Makes a request for these names, signed with `key`.
    pub fn create(key: &dyn Signer, subject: &Subject) -> Result<Self, CsrError> {
        subject.check()?;
        let params = issuance::request_params(subject)?;
        let made = params
            .serialize_request(&RcgenKey(key))
            .map_err(|error| CsrError::Signing { reason: issuance::reason_of(error) })?;
        Self::from_der(made.der())
    }

    /// Reads the one request of a PEM text and checks its signature (proof of possession).
    pub fn from_pem(text: &[u8]) -> Result<Self, CsrError> {
        let sections = pem::sections(text)?;
        let mut requests = sections.iter().filter(|section| {
            matches!(section.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
        });
        match (requests.next(), requests.next()) {
            (Some(one), None) => Self::from_der(&one.der),
            (Some(_), Some(_)) => Err(CsrError::SeveralRequests),
            (None, _) => Err(PemError::none_of("CERTIFICATE REQUEST", &sections).into()),
        }
    }

    /// Reads every request of a PEM text (at most [`Self::MAX_REQUESTS`]) and checks their signatures.
    /// Text around them, as a request file of ours has it, is passed over.
    pub fn several_from_pem(text: &[u8]) -> Result<Vec<Self>, CsrError> {
        let sections = pem::sections(text)?;
        let requests: Vec<_> = sections
            .iter()
            .filter(|section| {
                matches!(section.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
            })
            .collect();
        if requests.is_empty() {
            return Err(PemError::none_of("CERTIFICATE REQUEST", &sections).into());
        }
        if requests.len() > Self::MAX_REQUESTS {
            return Err(CsrError::SeveralRequests);
        }
        requests.into_iter().map(|section| Self::from_der(&section.der)).collect()
    }

    /// Reads a DER request and checks its signature (proof of possession).
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > Self::MAX_DER {
            return Err(CsrError::TooLarge { octets: der.len() });
        }
        let (rest, parsed) =
            X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() || !signature::is_envelope(der) {
            return Err(CsrError::Malformed);
        }
        let info = &parsed.certification_request_info;
        let public_key = PublicKey::from_spki(info.subject_pki.raw)?;
        let algorithm = SignatureAlgorithm::from_identifier(&parsed.signature_algorithm);
        signature::verify(
            public_key.spki_der(),
            &algorithm,
            info.raw,
            &parsed.signature_value.data,
        )
        .map_err(|source| CsrError::NoProofOfPossession { source })?;

        let mut lists =
            info.iter_attributes().filter_map(|attribute| match attribute.parsed_attribute() {
                ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
                _ => None,
            });
        let extensions = lists.next().map(|list| Extensions::read(list)).unwrap_or_default();
        if lists.next().is_some() {
            return Err(CsrError::Malformed);
        }
        let common_name = distinguished_name::common_names(&info.subject).pop().unwrap_or_default();
        let asks_for_ca = extensions.basic_constraints.is_some_and(|constraints| constraints.ca)
            || extensions.key_usage.is_some_and(|(usage, _)| usage.key_cert_sign());
        let subject = subject(common_name, &extensions)?;
        Ok(Self { der: der.to_vec(), subject, public_key, asks_for_ca })
    }

    /// The names asked for. The common name is empty if none is asked for.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The public key as a DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.public_key.spki_der()
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The request as one PEM section.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.der).to_string()
    }

    /// Whether the request asks for a certificate that signs others.
    pub fn asks_for_ca(&self) -> bool {
        self.asks_for_ca
    }

    /// Checks what is asked for against what may be given: no CA, and no name that is not in `allowed`.
    /// Asking for less is fine.
    pub fn check(&self, allowed: &Subject) -> Result<(), CsrRefusal> {
        if self.asks_for_ca {
            return Err(CsrRefusal::AsksForCa);
        }
        let refused = |kind, requested: String, allowed: String| {
            Err(CsrRefusal::Name { kind, requested, allowed })
        };
        let Subject { common_name, identity, dns, ips } = &self.subject;
        if !common_name.is_empty() && *common_name != allowed.common_name {
            return refused("common name", common_name.clone(), allowed.common_name.clone());
        }
        if let Some(identity) = identity
            && allowed.identity.as_ref() != Some(identity)
        {
            let may = allowed.identity.as_ref().map(ToString::to_string).unwrap_or_default();
            return refused("identity", identity.to_string(), may);
        }
        if let Some(name) = dns.iter().find(|name| !allowed.dns.contains(name)) {
            return refused("DNS name", name.to_string(), list(&allowed.dns));
        }
        if let Some(ip) = ips.iter().find(|ip| !allowed.ips.contains(ip)) {
            return refused("IP address", ip.to_string(), list(&allowed.ips));
        }
        Ok(())
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csr")
            .field("subject", &self.subject)
            .field("public_key", &self.public_key)
            .field("asks_for_ca", &self.asks_for_ca)
            .finish_non_exhaustive()
    }
}

fn subject(common_name: String, extensions: &Extensions) -> Result<Subject, CsrError> {
    if extensions.defects.iter().any(|defect| !matches!(defect, Defect::UnknownCritical(_))) {
        return Err(CsrError::Malformed);
    }
    if let Some(name) = extensions.other_names.first() {
        return Err(CsrError::UnsupportedName { name: name.clone() });
    }
    let identity = match extensions.uris.as_slice() {
        [] => None,
        [uri] => Some(uri.parse().map_err(|source| CsrError::Identity { source })?),
        _ => return Err(CsrError::SeveralIdentities),
    };
    let dns: Result<_, HostError> = extensions.dns_names.iter().map(|name| name.parse()).collect();
    let subject =
        Subject { common_name, identity, dns: dns?, ips: extensions.ip_addresses.clone() };
    match subject.check() {
        // A request may leave the common name to the issuer.
        Err(SubjectError::CommonNameLength { length: 0 }) | Ok(()) => Ok(subject),
        Err(error) => Err(error.into()),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a request cannot be made or read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// A host name in the request is malformed.
    #[error("the certificate request asks for a name that is none: {0}")]
    Host(#[from] HostError),
    /// The identity in the request is malformed.
    #[error("the certificate request asks for an identity that is none: {source}")]
    Identity {
        /// What is wrong with it.
        source: SpiffeError,
    },
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a request, or damaged.
    #[error(
        "the certificate request is malformed: it is not PKCS#10, or it was damaged in copying"
    )]
    Malformed,
    /// The request is not signed with the key it carries.
    #[error(
        "the certificate request is not signed with its own key ({source}): whoever made it does not hold the key, make a new one"
    )]
    NoProofOfPossession {
        /// What is wrong with the signature.
        source: SignatureError,
    },
    /// The PEM text is faulty.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key in the request cannot be used.
    #[error("in the certificate request, {0}")]
    PublicKey(#[from] PublicKeyError),
    /// More than one URI name.
    #[error("the certificate request asks for several URI names: ask for one SPIFFE ID")]
    SeveralIdentities,
    /// More than one request in a file.
    #[error("the file holds several certificate requests: give them one by one")]
    SeveralRequests,
    /// The key's keeper could not sign.
    #[error("the certificate request could not be signed: {reason}")]
    Signing {
        /// Why.
        reason: String,
    },
    /// The names cannot stand in a certificate.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Over [`Csr::MAX_DER`].
    #[error("{octets} octets are too many for a certificate request: 16 KiB at most")]
    TooLarge {
        /// Size of the input.
        octets: usize,
    },
    /// A mail address or another kind of name that we never certify.
    #[error(
        "the certificate request asks for {name}: ask for DNS names, IP addresses and one SPIFFE ID only"
    )]
    UnsupportedName {
        /// What was asked for.
        name: String,
    },
}

/// Why a well-formed request is not granted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrRefusal {
    /// It asks for CA:TRUE or for the right to sign certificates.
    #[error("the certificate request asks to be a CA: make it without basic constraints")]
    AsksForCa,
    /// It asks for a name that its sender may not have.
    #[error(
        "the certificate request asks for the {kind} {requested:?}, but only {allowed:?} may be given to its sender"
    )]
    Name {
        /// The kind of name.
        kind: &'static str,
        /// What was asked for.
        requested: String,
        /// What may be given; empty for nothing.
        allowed: String,
    },
}
