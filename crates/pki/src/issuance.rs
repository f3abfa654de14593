//! What is asked of an issuer, the rules every certificate of ours keeps, and the border to rcgen: its
//! types and the `time` crate appear nowhere else.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::ocsp::NO_CHECK;
use crate::public_key::rcgen_algorithm;
use crate::{
    Certificate, ConstraintViolation, Distribution, Eku, IdentityKind, KeyWeakness,
    NameConstraints, Profile, PublicKey, PublicKeyError, Serial, Signer, Subject, SubjectError,
    asn1,
};

/// A certificate to be issued.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueRequest {
    /// What the certificate is for; fixes everything but names, key and life.
    pub profile: Profile,
    /// The names that will stand in it.
    pub subject: Subject,
    /// The holder's public key, a DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// How long it is valid from the moment of issue. Whole seconds count.
    pub ttl: Duration,
    /// For CA profiles: which host names the CA may certify.
    pub name_constraints: Option<NameConstraints>,
    /// What to do if it would outlive its issuer.
    pub overrun: Overrun,
    /// Where it will say that its revocation can be looked up.
    pub distribution: Distribution,
}

impl IssueRequest {
    /// A request with the profile's default life, no name constraints, and refusal on overrun.
    pub fn new(profile: Profile, subject: Subject, public_key: impl Into<Vec<u8>>) -> Self {
        Self {
            profile,
            subject,
            public_key: public_key.into(),
            ttl: profile.default_ttl(),
            name_constraints: None,
            overrun: Overrun::Refuse,
            distribution: Distribution::default(),
        }
    }

    /// The same request with this life.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same request with this treatment of an overrun.
    #[must_use]
    pub fn with_overrun(mut self, overrun: Overrun) -> Self {
        self.overrun = overrun;
        self
    }

    /// The same request with these pointers to revocation.
    #[must_use]
    pub fn with_distribution(mut self, distribution: Distribution) -> Self {
        self.distribution = distribution;
        self
    }

    /// The same request with these name constraints.
    #[must_use]
    pub fn with_name_constraints(mut self, constraints: NameConstraints) -> Self {
        self.name_constraints = Some(constraints);
        self
    }

    /// Checks all that does not depend on the issuer, and hands out the parsed key.
    pub(crate) fn check(&self) -> Result<PublicKey, IssueError> {
        let Self { profile, subject, .. } = self;
        subject.check()?;
        if let Some(identity) = &subject.identity {
            let kind = identity.kind();
            if !kind.is_some_and(|kind| profile.identity_kinds().contains(&kind)) {
                let identity = identity.to_string();
                return Err(IssueError::IdentityKind { profile: *profile, identity });
            }
        }
        if profile.is_server() && !subject.has_hosts() {
            return Err(IssueError::NoHosts { profile: *profile });
        }
        if !profile.is_server() && subject.has_hosts() {
            return Err(IssueError::HostsOnNonServer { profile: *profile });
        }
        if let Some(name) = subject.dns.iter().find(|name| name.is_wildcard()) {
            return Err(IssueError::Wildcard { name: name.to_string() });
        }
        if !profile.is_ca() && self.name_constraints.is_some() {
            return Err(IssueError::ConstraintsOnLeaf { profile: *profile });
        }
        self.distribution.check()?;
        if self.ttl < Duration::from_secs(1) {
            return Err(IssueError::NoLife);
        }
        let key = PublicKey::from_spki(&self.public_key)?;
        match key.weakness() {
            Some(weakness) => Err(IssueError::WeakKey { weakness }),
            None => Ok(key),
        }
    }

    /// The certificate's content. `check` has passed.
    pub(crate) fn params(
        &self,
        key: &PublicKey,
        serial: &Serial,
        validity: Validity,
    ) -> Result<CertificateParams, IssueError> {
        let Self { profile, subject, .. } = self;
        let mut params = CertificateParams::default();
        params.not_before = to_time(validity.not_before);
        params.not_after = to_time(validity.not_after);
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.distinguished_name = distinguished_name(&subject.common_name);
        params.subject_alt_names = alternative_names(subject)?;
        params.key_identifier_method = KeyIdMethod::PreSpecified(key.subject_key_id());
        params.use_authority_key_identifier_extension = true;
        if let Some(path_len) = profile.path_len() {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.name_constraints = self
                .name_constraints
                .as_ref()
                .filter(|constraints| !constraints.is_empty())
                .map(NameConstraints::to_rcgen);
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        params.extended_key_usages = match profile.eku() {
            Some(Eku::ServerAuth) => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Some(Eku::OcspSigning) => vec![ExtendedKeyUsagePurpose::OcspSigning],
            Some(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
            None => Vec::new(),
        };
        params.custom_extensions = self.distribution.to_rcgen();
        if *profile == Profile::OcspSigner {
            // Whoever checked its revocation would have to ask it (RFC 6960 section 4.2.2.2.1).
            let null = yasna::construct_der(asn1::write_null);
            params.custom_extensions.push(CustomExtension::from_oid_content(NO_CHECK, null));
        }
        Ok(params)
    }
}

/// What to do when a certificate would be valid longer than its issuer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overrun {
    /// Refuse to issue.
    #[default]
    Refuse,
    /// Let it end with its issuer.
    Truncate,
}

/// From when until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// How long before the moment of issue a certificate is already valid: clocks differ.
pub(crate) const NOT_BEFORE_CUSHION: Duration = Duration::from_secs(60);

/// A leaf may live at most this part of its CA's life (design section 5.5), so that a CA can always be
/// replaced before what it signed becomes a burden.
pub(crate) const CA_LIVES_TIMES_LEAF: u32 = 6;

/// The content of a request: names only.
pub(crate) fn request_params(subject: &Subject) -> Result<CertificateParams, SubjectError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&subject.common_name);
    params.subject_alt_names = alternative_names(subject)?;
    Ok(params)
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn alternative_names(subject: &Subject) -> Result<Vec<SanType>, SubjectError> {
    // Identities and DNS names are ASCII by construction.
    let ascii = |text: String| {
        Ia5String::try_from(text).map_err(|_| SubjectError::CommonNameLength { length: 0 })
    };
    let mut names = Vec::new();
    if let Some(identity) = &subject.identity {
        names.push(SanType::URI(ascii(identity.to_string())?));
    }
    for name in &subject.dns {
        names.push(SanType::DnsName(ascii(name.to_string())?));
    }
    names.extend(subject.ips.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

/// Certificates count whole seconds.
fn to_time(at: Timestamp) -> OffsetDateTime {
    // Every second of a jiff timestamp is one of time's.
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A signing key as rcgen wants it.
pub(crate) struct RcgenKey<S>(pub(crate) S);

impl<S: Signer> rcgen::PublicKeyData for RcgenKey<S> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().raw()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen_algorithm(self.0.public_key().algorithm())
    }
}

impl<S: Signer> rcgen::SigningKey for RcgenKey<S> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // The only variant that could carry what the signer said; `reason_of` takes it out again.
        self.0.sign(message).map_err(|error| rcgen::Error::RingKeyRejected(error.what))
    }
}

/// Why rcgen could not sign: what the key's keeper said, if it was that.
pub(crate) fn reason_of(error: rcgen::Error) -> String {
    match error {
        rcgen::Error::RingKeyRejected(what) => what,
        other => other.to_string(),
    }
}

/// Reads back what was just signed and holds it against what was asked: nothing leaves the house
/// unverified.
pub(crate) fn proven(
    der: &[u8],
    issuer: Option<&Certificate>,
    key: &PublicKey,
) -> Result<Certificate, IssueError> {
    let failed = |what| IssueError::SelfCheck { what };
    let issued = Certificate::from_der(der).map_err(|_| failed("it cannot be read back"))?;
    let issuer = issuer.unwrap_or(&issued);
    if !issued.names_issuer(issuer) {
        // rcgen rebuilds the issuer's name from its parts; a CA of another maker may have a name
        // that it cannot reproduce octet for octet.
        return Err(failed("the issuer's name cannot be reproduced"));
    }
    if issued.spki_der() != key.spki_der() {
        return Err(failed("the holder's key cannot be reproduced"));
    }
    issued
        .verify_signed_by(issuer)
        .map_err(|_| failed("its signature does not match the issuer's key"))?;
    Ok(issued)
}

/// Why a certificate is not issued.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// It would outlive its issuer.
    #[error(
        "the certificate would be valid until {not_after}, but its issuer {issuer:?} ends at {issuer_not_after}: renew the issuer first, or ask for a shorter life"
    )]
    BeyondIssuer {
        /// The issuer's subject.
        issuer: String,
        /// When the issuer ends.
        issuer_not_after: Timestamp,
        /// When the certificate would end.
        not_after: Timestamp,
    },
    /// Name constraints on something that signs nothing.
    #[error("a certificate of profile {profile} cannot carry name constraints: only CAs do")]
    ConstraintsOnLeaf {
        /// The profile asked for.
        profile: Profile,
    },
    /// The issuer's chain does not allow a name.
    #[error(transparent)]
    Constraint(#[from] ConstraintViolation),
    /// A pointer to revocation that nobody could use.
    #[error(
        "the revocation pointer {url:?} cannot stand in a certificate: up to 8 plain http:// URLs of each kind, of 1024 characters at most"
    )]
    Distribution {
        /// The URL at fault, shortened to 128 characters.
        url: String,
    },
    /// Host names on a client or CA certificate, with which it could pass for a server.
    #[error(
        "a certificate of profile {profile} carries no host names: ask for service-server or site-server"
    )]
    HostsOnNonServer {
        /// The profile asked for.
        profile: Profile,
    },
    /// An identity of the wrong kind.
    #[error(
        "a certificate of profile {profile} cannot carry the identity {identity}: {}",
        kinds_text(profile.identity_kinds())
    )]
    IdentityKind {
        /// The profile asked for.
        profile: Profile,
        /// The identity asked for.
        identity: String,
    },
    /// The issuer has expired.
    #[error("the issuer {issuer:?} expired at {not_after}: renew it first")]
    IssuerExpired {
        /// The issuer's subject.
        issuer: String,
        /// When it ended.
        not_after: Timestamp,
    },
    /// The issuer is not valid yet.
    #[error("the issuer {issuer:?} is valid only from {not_before}: check this machine's clock")]
    IssuerNotYetValid {
        /// The issuer's subject.
        issuer: String,
        /// When it begins.
        not_before: Timestamp,
    },
    /// A self-signed certificate must carry the key that signs it.
    #[error("a self-signed certificate must be asked for with the key that signs it")]
    KeyMismatch,
    /// A leaf's life is over a sixth of its CA's.
    #[error(
        "a life of {} is too long: the CA {issuer:?} lives {}, and a leaf may have a sixth of that; ask for {} at most, or lengthen ca-ttl in the Site and have the CA renewed (`handfast cert renew NAME`)",
        written(*asked), written(*issuer_life), written(*limit)
    )]
    LifeTooLong {
        /// The life asked for.
        asked: Duration,
        /// The longest life allowed.
        limit: Duration,
        /// The issuer's subject.
        issuer: String,
        /// The issuer's whole life.
        issuer_life: Duration,
    },
    /// A server certificate without a name.
    #[error("a certificate of profile {profile} needs at least one DNS name or IP address")]
    NoHosts {
        /// The profile asked for.
        profile: Profile,
    },
    /// Under a second, or past the end of time.
    #[error(
        "the life asked for cannot be expressed: give between a second and some thousand years"
    )]
    NoLife,
    /// Only CA profiles can sign themselves.
    #[error("a certificate of profile {profile} cannot sign itself: only root and site-ca can")]
    NotSelfSigned {
        /// The profile asked for.
        profile: Profile,
    },
    /// The issuer may sign leaves only.
    #[error(
        "the CA {issuer:?} may not sign another CA (its path length does not allow one): sign it with the root"
    )]
    PathLength {
        /// The issuer's subject.
        issuer: String,
    },
    /// The holder's key cannot be used.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// A root signed by somebody else is no root.
    #[error("a root signs itself: use a self-signed request for it")]
    RootByOther,
    /// What was signed is not what was asked.
    #[error("the certificate was made but did not pass its check ({what}): it was thrown away")]
    SelfCheck {
        /// What did not hold.
        what: &'static str,
    },
    /// The library could not sign.
    #[error("the certificate could not be signed: {reason}")]
    Signing {
        /// The library's reason.
        reason: String,
    },
    /// The names cannot stand in a certificate.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The holder's key is worth nothing.
    #[error("the key cannot be certified: {weakness}; make a new key with other software")]
    WeakKey {
        /// Why.
        weakness: KeyWeakness,
    },
    /// A wildcard speaks for hosts that do not exist yet, and RFC 5280 has no place for it.
    #[error("the name {name} is a wildcard, which is not issued: name each host")]
    Wildcard {
        /// The name asked for.
        name: String,
    },
}

fn kinds_text(kinds: &[IdentityKind]) -> String {
    if kinds.is_empty() {
        return "a CA has none".to_owned();
    }
    let shapes: Vec<_> =
        kinds.iter().map(|kind| format!("spiffe://<trust domain>/{kind}/<name>")).collect();
    format!("use {}", shapes.join(" or "))
}

/// A duration as it is typed, `15d` or `1d12h`. Its two largest units: what is below them changes no decision.
fn written(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let largest = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, letter) in units.iter().skip(largest).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || text.is_empty() {
            text.push_str(&count.to_string());
            text.push(*letter);
        }
    }
    text
}
